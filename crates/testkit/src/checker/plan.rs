//! What a run does, all of it drawn from a seed: the same seed and shape give the same plan.
//!
//! What a run does not fix is who comes first: sessions run side by side, and a fault strikes while
//! they do. So a replay repeats what was tried, not every interleaving of it.
//!
//! A plan counts in messages, not in seconds: faults begin and end when so much has been sent, however
//! fast the machine is.
//!
//! All consumers of a queue acknowledge alike, and are on one node: that nothing acknowledged comes
//! again after RabbitMQ was killed is what that node remembers. Senders are anywhere.

mod ack;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

pub use self::ack::Ack;
use self::script::Script;
pub use self::script::{Fate, Part, Planned};
use super::{Destination, Fault, Kind, MessageId};

/// The variable that names the seed to replay.
const SEED: &str = "FOOTBRIDGE_SEED";
/// Consumers refuse one message in so many when it first comes.
const REFUSED: u32 = 8;
/// How many queues one session looks at in the end; a gateway may allow it no more than 100.
const LOOKED_AT: usize = 50;
/// While its session has a transaction open, one ACK in so many is in it.
const WITHIN: u32 = 2;

/// How large a run is; the seed decides the rest.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Sessions, spread evenly over the nodes.
    pub sessions: u32,
    /// Nodes.
    pub nodes: usize,
    /// Topics; each session subscribes to one.
    pub topics: u32,
    /// Queues; two of three have one consumer, the others two or three.
    pub queues: u32,
    /// One session in so many leaves its topic and subscribes again, after every second message it
    /// sends; 0 for none.
    pub churn: u32,
    /// The pause between two messages of a session, without waiting for a receipt.
    pub pace: RangeInclusive<Duration>,
    /// The messages of a session that may lack their receipts; with more it pauses.
    pub window: usize,
    /// The length of bodies in bytes; at least [`Shape::MIN_BODY`] is written.
    pub sizes: RangeInclusive<usize>,
    /// The faults, one after the other; the seed puts them in order.
    pub faults: Vec<Fault>,
    /// Messages per session before each fault.
    pub before: u32,
    /// Messages per session during each fault. With `before`, and with what a COMMIT lets go that was
    /// sent earlier, not above `window`, or a fault would not end.
    pub during: u32,
    /// Messages per session after the last fault.
    pub after: u32,
    /// Whether the server may close sessions. They connect again, to the next node, and all their queue
    /// subscriptions acknowledge.
    pub closes_allowed: bool,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the plan was drawn from.
    pub seed: u64,
    /// What each session does.
    pub sessions: Vec<SessionPlan>,
    /// One after the other.
    pub stages: Vec<Stage>,
    /// Messages per session after the last stage.
    pub after: u32,
    /// As in [`Shape`].
    pub pace: RangeInclusive<Duration>,
    /// As in [`Shape`].
    pub window: usize,
    /// As in [`Shape`].
    pub sizes: RangeInclusive<usize>,
    /// As in [`Shape`].
    pub closes_allowed: bool,
}

/// A fault, and how many messages each session sends around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Before the fault; it begins in the midst of them.
    pub before: u32,
    /// The fault.
    pub fault: Fault,
    /// While the fault is in force; it ends when all of them are sent.
    pub during: u32,
}

/// What one session does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPlan {
    /// The node it is with, by its place in the list.
    pub node: usize,
    /// What it subscribes to before anybody sends.
    pub subscriptions: Vec<(Destination, Ack)>,
    /// What it sends to.
    pub sends_to: Vec<Destination>,
    /// Whether it leaves its topic and subscribes again now and then.
    pub churns: bool,
}

/// The seed of `FOOTBRIDGE_SEED`, or a new one.
///
/// # Panics
/// When the variable holds no number.
#[must_use]
pub fn seed() -> u64 {
    match std::env::var(SEED) {
        Ok(text) => match text.parse() {
            Ok(seed) => seed,
            Err(_) => panic!("{SEED}={text} is no seed: give the number that a run has printed"),
        },
        Err(_) => rand::random(),
    }
}

impl Shape {
    /// What a body holds at least, in bytes: what it is.
    pub const MIN_BODY: usize = 64;
}

impl Default for Shape {
    /// A hundred sessions on one node, ten messages each, no fault.
    fn default() -> Self {
        Self {
            sessions: 100,
            nodes: 1,
            topics: 20,
            queues: 20,
            churn: 10,
            pace: Duration::from_millis(100)..=Duration::from_millis(300),
            window: 64,
            // RabbitMQ keeps bodies of 4 KiB and more apart from shorter ones.
            sizes: Shape::MIN_BODY..=6_000,
            faults: Vec::new(),
            before: 2,
            during: 2,
            after: 10,
            closes_allowed: false,
        }
    }
}

impl Plan {
    /// Draws a plan.
    ///
    /// # Panics
    /// When the shape has no session, node, topic or queue, or more messages during a fault than its
    /// window.
    #[must_use]
    pub fn new(seed: u64, shape: &Shape) -> Plan {
        assert!(shape.sessions > 0 && shape.nodes > 0, "no sessions, or no nodes");
        assert!(shape.topics > 0 && shape.queues > 0, "no topics, or no queues");
        let in_fault = (shape.before + shape.during + *script::TRANSACTION.end()) as usize;
        assert!(in_fault <= shape.window, "the window is full before a fault could end");
        let mut random = StdRng::seed_from_u64(seed);
        let destination = |kind, number| Destination { kind, number };
        let mut sessions: Vec<SessionPlan> = (0..shape.sessions)
            .map(|number| SessionPlan {
                node: number as usize % shape.nodes,
                // Shuffled below, so that neither kind goes with a node.
                subscriptions: vec![(destination(Kind::Topic, number % shape.topics), Ack::Auto)],
                sends_to: vec![
                    destination(Kind::Topic, random.random_range(0..shape.topics)),
                    destination(Kind::Queue, random.random_range(0..shape.queues)),
                ],
                churns: shape.churn > 0 && random.random_ratio(1, shape.churn),
            })
            .collect();
        let mut nodes: Vec<usize> = sessions.iter().map(|session| session.node).collect();
        nodes.shuffle(&mut random);
        for (session, node) in sessions.iter_mut().zip(nodes) {
            session.node = node;
        }
        for number in 0..shape.queues {
            let consumers = if number % 3 == 2 { random.random_range(2..=3) } else { 1 };
            let ack = draw_ack(&mut random, shape.closes_allowed);
            // No node is without a session: there may be fewer sessions than nodes.
            let node = sessions[random.random_range(0..sessions.len())].node;
            let mut near: Vec<&mut SessionPlan> =
                sessions.iter_mut().filter(|session| session.node == node).collect();
            near.shuffle(&mut random);
            for session in near.into_iter().take(consumers) {
                session.subscriptions.push((destination(Kind::Queue, number), ack));
            }
        }
        let mut faults = shape.faults.clone();
        faults.shuffle(&mut random);
        let stage = |fault| Stage { before: shape.before, fault, during: shape.during };
        Plan {
            seed,
            sessions,
            stages: faults.into_iter().map(stage).collect(),
            after: shape.after,
            pace: shape.pace.clone(),
            window: shape.window,
            sizes: shape.sizes.clone(),
            closes_allowed: shape.closes_allowed,
        }
    }

    /// What a session sends, in order, without end: it goes as far as the run lets it.
    pub fn messages(&self, session: usize) -> impl Iterator<Item = Planned> + Send + use<> {
        Script {
            random: self.random(session as u64 + 1),
            destinations: self.sessions[session].sends_to.clone(),
            sizes: self.sizes.clone(),
            pace: self.pace.clone(),
            open: None,
        }
    }

    /// Whether a consumer refuses the message when it comes for the first time. It acknowledges it when
    /// it comes again, so that it gives back none that another delivery of it has acknowledged.
    pub(crate) fn refuses(&self, message: MessageId) -> bool {
        self.random_for(message).random_ratio(1, REFUSED)
    }

    /// Whether an ACK of the message goes into the transaction that is open.
    pub(crate) fn acknowledges_within(&self, message: MessageId) -> bool {
        let mut random = self.random_for(message);
        random.random_ratio(1, REFUSED);
        random.random_ratio(1, WITHIN)
    }

    /// The same draws for the same message, whenever and wherever it comes.
    fn random_for(&self, message: MessageId) -> StdRng {
        let MessageId { sender, destination, number } = message;
        let kind = matches!(destination.kind, Kind::Queue);
        let to = u64::from(destination.number) << 1 | u64::from(kind);
        self.random(!(u64::from(sender.0) << 40 ^ to << 20 ^ u64::from(number)))
    }

    /// One of many sequences of draws.
    fn random(&self, which: u64) -> StdRng {
        // The golden ratio spreads neighbouring numbers over all seeds.
        StdRng::seed_from_u64(self.seed ^ which.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// How many messages each session sends until the run concludes.
    #[must_use]
    pub fn messages_per_session(&self) -> u32 {
        self.stages.iter().map(|stage| stage.before + stage.during).sum::<u32>() + self.after
    }

    /// How many messages there are in a run that no session is closed in: in the end each consumer, and
    /// who looks what is left, sends a last word to its queues.
    #[must_use]
    pub fn messages_in_all(&self) -> usize {
        let consumers = self.consumers().count();
        let queues: BTreeSet<_> = self.consumers().map(|(_, queue)| queue).collect();
        self.messages_per_session() as usize * self.sessions.len() + consumers + queues.len()
    }

    /// The sessions that look what is left in the queues in the end: each queue is looked at from the
    /// node next to that of its consumers, which may remember what RabbitMQ has forgotten.
    pub(crate) fn looks(&self, nodes: usize) -> Vec<SessionPlan> {
        let mut queues: BTreeMap<usize, BTreeSet<Destination>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (node, queue) in self.consumers() {
            if seen.insert(queue) {
                queues.entry((node + 1) % nodes).or_default().insert(queue);
            }
        }
        let mut looks = Vec::new();
        for (node, queues) in queues {
            let queues: Vec<_> = queues.into_iter().map(|queue| (queue, Ack::Auto)).collect();
            for some in queues.chunks(LOOKED_AT) {
                let (subscriptions, sends_to) = (some.to_vec(), Vec::new());
                looks.push(SessionPlan { node, subscriptions, sends_to, churns: false });
            }
        }
        looks
    }

    /// The consumers of queues: the node, and the queue.
    fn consumers(&self) -> impl Iterator<Item = (usize, Destination)> {
        self.sessions.iter().flat_map(|session| {
            let queues = session.subscriptions.iter().map(|(destination, _)| *destination);
            let queues = queues.filter(|destination| destination.kind == Kind::Queue);
            queues.map(move |queue| (session.node, queue))
        })
    }
}

fn draw_ack(random: &mut StdRng, closes_allowed: bool) -> Ack {
    match random.random_range(0..6) {
        0 if !closes_allowed => Ack::Auto,
        0 | 1 => Ack::Individual { prefetch: random.random_range(1..=8), lazy: false },
        2 | 3 => Ack::Individual { prefetch: random.random_range(1..=2), lazy: true },
        _ => {
            let prefetch = random.random_range(2..=10);
            Ack::Cumulative { prefetch, every: random.random_range(2..=prefetch) }
        }
    }
}

#[cfg(test)]
mod tests;
