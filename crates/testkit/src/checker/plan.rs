//! What a run does, all of it drawn from a seed: the same seed and shape give the same plan.
//!
//! What a run does not fix is who comes first: sessions run side by side, and a fault strikes while
//! they do. So a replay repeats what was tried, not every interleaving of it.
//!
//! A plan counts in messages, not in seconds: faults begin and end when so much has been sent, however
//! fast the machine is.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::{Destination, Fault, Kind};

/// The variable that names the seed to replay.
const SEED: &str = "FOOTBRIDGE_SEED";

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
    /// Messages per session during each fault. Not above `window`, or a fault would not end.
    pub during: u32,
    /// Messages per session after the last fault.
    pub after: u32,
    /// Whether the server may close sessions. They connect again, to the next node, and their queue
    /// subscriptions acknowledge each message.
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

/// How a subscription acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Not at all.
    Auto,
    /// Each message, as soon as it is recorded.
    Prompt,
    /// Each message, while the run lets it; until then no further one comes, so that what is sent
    /// stays in the queue. A run holds these back before each fault, until it is over.
    Lazy,
}

impl Ack {
    /// The `ack` header, and `prefetch-count` if there is one.
    pub(crate) fn headers(self) -> (&'static str, Option<&'static str>) {
        match self {
            Ack::Auto => ("auto", None),
            Ack::Prompt => ("client-individual", None),
            Ack::Lazy => ("client-individual", Some("1")),
        }
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Where to.
    pub destination: Destination,
    /// The length of its body in bytes.
    pub size: usize,
    /// The pause before it.
    pub pause: Duration,
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
        let in_fault = (shape.before + shape.during) as usize;
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
            let ack = match random.random_range(0..3) {
                0 => Ack::Lazy,
                1 if !shape.closes_allowed => Ack::Auto,
                _ => Ack::Prompt,
            };
            for consumer in
                rand::seq::index::sample(&mut random, sessions.len(), sessions.len().min(consumers))
            {
                sessions[consumer].subscriptions.push((destination(Kind::Queue, number), ack));
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
        // The golden ratio spreads neighbouring sessions over all seeds.
        let seed = self.seed ^ (session as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = StdRng::seed_from_u64(seed);
        let destinations = self.sessions[session].sends_to.clone();
        let (sizes, pace) = (self.sizes.clone(), self.pace.clone());
        std::iter::from_fn(move || {
            let destination = *destinations.choose(&mut random)?;
            // Most are short, as messages are.
            let size = match random.random_ratio(1, 8) {
                true => random.random_range(sizes.clone()),
                false => *sizes.start(),
            };
            let pause = random.random_range(pace.clone());
            Some(Planned { destination, size, pause })
        })
    }

    /// How many messages each session sends in the whole run.
    #[must_use]
    pub fn messages_per_session(&self) -> u32 {
        self.stages.iter().map(|stage| stage.before + stage.during).sum::<u32>() + self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            nodes: 2,
            faults: vec![Fault::RabbitMqKilled, Fault::LegCut(0), Fault::LegHalfOpen(1)],
            ..Shape::default()
        }
    }

    fn sent(plan: &Plan) -> Vec<Vec<Planned>> {
        (0..plan.sessions.len()).map(|n| plan.messages(n).take(50).collect()).collect()
    }

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another_one() {
        let (one, same, other) =
            (Plan::new(7, &shape()), Plan::new(7, &shape()), Plan::new(8, &shape()));
        assert_eq!((&one, sent(&one)), (&same, sent(&same)));
        assert_ne!(one.sessions, other.sessions);
        assert_ne!(sent(&one), sent(&other));
        assert_ne!(sent(&one)[0], sent(&one)[1], "no two sessions send alike");
    }

    #[test]
    fn every_destination_has_a_subscriber_and_some_queues_have_several() {
        for seed in 0..20 {
            let plan = Plan::new(seed, &shape());
            let subscribers = |kind, number| {
                let to = Destination { kind, number };
                let all = plan.sessions.iter().flat_map(|session| &session.subscriptions);
                all.filter(|(destination, _)| *destination == to).count()
            };
            assert!((0..20).all(|number| subscribers(Kind::Topic, number) == 5), "seed {seed}");
            let consumers: Vec<_> = (0..20).map(|n| subscribers(Kind::Queue, n)).collect();
            assert!(consumers.iter().all(|count| (1..=3).contains(count)), "{consumers:?}");
            assert!(consumers.contains(&1) && consumers.iter().any(|count| *count > 1));
            let all = plan.sessions.iter().flat_map(|session| &session.subscriptions);
            assert!(all.clone().any(|(_, ack)| *ack == Ack::Lazy), "seed {seed}");
            let on = |node| plan.sessions.iter().filter(|session| session.node == node).count();
            assert_eq!((on(0), on(1)), (50, 50));
        }
    }

    #[test]
    fn faults_are_those_asked_for_in_some_order() {
        let plan = Plan::new(3, &shape());
        assert_eq!(plan.stages.len(), 3);
        for fault in shape().faults {
            assert!(plan.stages.iter().any(|stage| stage.fault == fault), "{fault}");
        }
        assert_eq!(plan.messages_per_session(), 3 * 4 + 10);
    }

    #[test]
    fn where_sessions_may_be_closed_every_consumer_acknowledges() {
        let plan = Plan::new(1, &Shape { closes_allowed: true, ..shape() });
        for (destination, ack) in plan.sessions.iter().flat_map(|session| &session.subscriptions) {
            assert_eq!(*ack != Ack::Auto, destination.kind == Kind::Queue);
        }
    }
}
