//! The judge: a pure function from what happened to what was wrong with it.
//!
//! What it holds a server to:
//! - **Loss.** A receipted message to a topic reaches every subscription that was confirmed before
//!   the message was sent and is still there at the end. A receipted message to a queue that has a
//!   consumer at the end has reached some consumer. Each SEND gets its receipt. A message without one
//!   may have arrived or not.
//! - **Order.** What counts is the first time that a message reaches a subscription. To a topic's
//!   subscriber, and to a queue's consumer that is the only one it ever had, the messages of a sender
//!   come in the order sent. Of several consumers of a queue, each gets those of a sender that are not
//!   marked `redelivered:true` in that order; a marked one may have been given back by another
//!   consumer, so it may come later.
//! - **Repeats.** A message that comes to a subscription again is marked `redelivered:true`. Of all the
//!   times that it comes to the consumers of a queue, one at most is unmarked; which consumer reads
//!   first says nothing. A mark on a message that comes once is no mistake: it says "maybe".
//! - **Nothing else.** No message that was not sent, none at a subscription to another destination,
//!   none before its SUBSCRIBE was written or after its UNSUBSCRIBE was receipted; no session closes.
//!
//! Not judged: that a topic message receipted before a SUBSCRIBE was written does not reach it. A
//! receipt says that the broker has the message, not that every node has passed it on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::verdict::{Counts, FaultSpan, Verdict, Violation};
use super::{Destination, Event, History, Kind, MessageId, SessionId, SubscriptionId};

/// What the run permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether sessions may be closed by the server, as when nodes are stopped. What a closed session
    /// sent and has no receipt for is not missed, nor what it subscribed to.
    pub closes_allowed: bool,
}

/// Judges a history, whole or as it stands.
#[must_use]
pub fn judge(history: &History, rules: Rules) -> Verdict {
    let mut judge = Judge { rules, ..Judge::default() };
    for (place, (at, event)) in history.iter().enumerate() {
        judge.see(place, at, event);
    }
    judge.conclude()
}

#[derive(Default)]
struct Judge {
    rules: Rules,
    /// Ordered, so that the same history always gives the same text.
    messages: BTreeMap<MessageId, Message>,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    closed: HashSet<SessionId>,
    settled: bool,
    violations: Vec<Violation>,
    counts: Counts,
}

struct Message {
    sent: usize,
    sent_at: Duration,
    receipted_at: Option<Duration>,
    /// How often it reached a consumer unmarked. Of a topic's message nothing is noted here.
    unmarked: u32,
    /// Whether a consumer of its queue has got it.
    consumed: bool,
}

struct Subscription {
    destination: Destination,
    subscribed: Option<usize>,
    unsubscribing: bool,
    unsubscribed: bool,
    got: HashSet<MessageId>,
    /// The latest first delivery from each sender, with its number.
    latest: HashMap<SessionId, MessageId>,
    /// The same of those that were not marked.
    latest_unmarked: HashMap<SessionId, MessageId>,
    /// First deliveries out of the senders' order; a violation if it is the only consumer.
    late: Vec<Violation>,
    /// Unmarked first deliveries out of the senders' order; a violation in any case.
    late_unmarked: Vec<Violation>,
}

impl Judge {
    fn see(&mut self, place: usize, at: Duration, event: &Event) {
        match event {
            Event::Connected { .. } => self.counts.sessions += 1,
            Event::Subscribing { subscription, destination } => {
                self.subscriptions.insert(*subscription, Subscription::new(*destination));
            }
            Event::Subscribed(id) => {
                if let Some(subscription) = self.subscriptions.get_mut(id) {
                    subscription.subscribed = Some(place);
                }
            }
            Event::Unsubscribing(id) => {
                if let Some(subscription) = self.subscriptions.get_mut(id) {
                    subscription.unsubscribing = true;
                }
            }
            Event::Unsubscribed(id) => {
                if let Some(subscription) = self.subscriptions.get_mut(id) {
                    subscription.unsubscribed = true;
                }
            }
            Event::Sent(id) => {
                self.counts.sent += 1;
                self.in_force().for_each(|span| span.sent += 1);
                let message = Message {
                    sent: place,
                    sent_at: at,
                    receipted_at: None,
                    unmarked: 0,
                    consumed: false,
                };
                self.messages.insert(*id, message);
            }
            Event::Receipted(id) => {
                self.counts.receipted += 1;
                self.in_force().for_each(|span| span.receipted += 1);
                if let Some(message) = self.messages.get_mut(id) {
                    message.receipted_at.get_or_insert(at);
                }
            }
            Event::Received { subscription, message, redelivered } => {
                self.received(*subscription, *message, *redelivered, at);
            }
            Event::Stray(_) => self.counts.strays += 1,
            Event::Unexpected { session, what } => {
                let what = what.clone();
                self.violations.push(Violation::Unexpected { session: *session, what, at });
            }
            Event::Closed { session, why } => {
                // After the end a socket that breaks loses nothing, but it should not.
                if !self.settled {
                    self.closed.insert(*session);
                }
                self.counts.closed += 1;
                if !self.rules.closes_allowed {
                    let why = why.clone();
                    self.violations.push(Violation::Closed { session: *session, why, at });
                }
            }
            Event::Settled => self.settled = true,
            Event::Ended(session) => {
                // Who leaves earlier takes its subscriptions along.
                if !self.settled {
                    self.closed.insert(*session);
                }
            }
            Event::FaultBegins(fault) => self.counts.faults.push(FaultSpan {
                fault: *fault,
                begun: at,
                ended: None,
                sent: 0,
                receipted: 0,
            }),
            Event::FaultEnded(fault) => {
                if let Some(span) = self.in_force().find(|span| span.fault == *fault) {
                    span.ended = Some(at);
                }
            }
        }
    }

    /// The faults that have not ended.
    fn in_force(&mut self) -> impl Iterator<Item = &mut FaultSpan> {
        self.counts.faults.iter_mut().filter(|span| span.ended.is_none())
    }

    fn received(
        &mut self,
        id: SubscriptionId,
        message: MessageId,
        redelivered: bool,
        at: Duration,
    ) {
        self.counts.received += 1;
        let Some(sent) = self.messages.get_mut(&message) else {
            let violation = Violation::NeverSent { message, subscription: id, at };
            return self.violations.push(violation);
        };
        let subscription = match self.subscriptions.get_mut(&id) {
            Some(subscription) if !subscription.unsubscribed => subscription,
            _ => {
                let violation = Violation::NotSubscribed { message, subscription: id, at };
                return self.violations.push(violation);
            }
        };
        if subscription.destination != message.destination {
            let destination = subscription.destination;
            return self.violations.push(Violation::Misdirected { message, destination, at });
        }
        let again = !subscription.got.insert(message);
        if again {
            match message.destination.kind {
                Kind::Topic => self.counts.topic_repeats += 1,
                Kind::Queue => self.counts.queue_repeats += 1,
            }
        }
        let elsewhere = message.destination.kind == Kind::Queue && sent.unmarked > 0;
        if !redelivered && (again || elsewhere) {
            self.violations.push(Violation::UnmarkedRepeat { message, subscription: id, at });
        }
        sent.consumed = true;
        sent.unmarked += u32::from(!redelivered);
        if !again {
            subscription.note_order(id, message, redelivered, at);
        }
    }

    fn conclude(mut self) -> Verdict {
        self.judge_order();
        self.judge_loss();
        Verdict { violations: self.violations, counts: self.counts }
    }

    fn judge_order(&mut self) {
        let mut consumers: HashMap<Destination, usize> = HashMap::new();
        for subscription in self.subscriptions.values() {
            *consumers.entry(subscription.destination).or_default() += 1;
        }
        for subscription in self.subscriptions.values_mut() {
            let destination = subscription.destination;
            let alone = destination.kind == Kind::Topic || consumers[&destination] == 1;
            self.violations.append(match alone {
                true => &mut subscription.late,
                false => &mut subscription.late_unmarked,
            });
        }
    }

    fn judge_loss(&mut self) {
        let mut open: HashMap<Destination, Vec<(SubscriptionId, &Subscription)>> = HashMap::new();
        for (&id, subscription) in &self.subscriptions {
            let is_open = !subscription.unsubscribing && !self.closed.contains(&id.session);
            if is_open && subscription.subscribed.is_some() {
                open.entry(subscription.destination).or_default().push((id, subscription));
            }
        }
        for (&id, message) in &self.messages {
            let sent_at = message.sent_at;
            let Some(receipted_at) = message.receipted_at else {
                if !(self.rules.closes_allowed && self.closed.contains(&id.sender)) {
                    self.violations.push(Violation::Unanswered { message: id, sent_at });
                }
                continue;
            };
            let subscriptions = open.get(&id.destination).map(Vec::as_slice).unwrap_or_default();
            let lost =
                |subscription| Violation::Lost { message: id, subscription, sent_at, receipted_at };
            match id.destination.kind {
                Kind::Topic => {
                    let missing = subscriptions.iter().filter(|(_, subscription)| {
                        subscription.subscribed.is_some_and(|place| place < message.sent)
                            && !subscription.got.contains(&id)
                    });
                    self.violations.extend(missing.map(|&(id, _)| lost(Some(id))));
                }
                Kind::Queue => {
                    if !message.consumed && !subscriptions.is_empty() {
                        self.violations.push(lost(None));
                    }
                }
            }
        }
    }
}

impl Subscription {
    fn new(destination: Destination) -> Self {
        Self {
            destination,
            subscribed: None,
            unsubscribing: false,
            unsubscribed: false,
            got: HashSet::new(),
            latest: HashMap::new(),
            latest_unmarked: HashMap::new(),
            late: Vec::new(),
            late_unmarked: Vec::new(),
        }
    }

    /// Notes the first delivery of a message.
    fn note_order(
        &mut self,
        subscription: SubscriptionId,
        message: MessageId,
        redelivered: bool,
        at: Duration,
    ) {
        let late = |latest: &mut HashMap<_, MessageId>| {
            let latest = latest.entry(message.sender).or_insert(message);
            if message.number < latest.number {
                return Some(Violation::OutOfOrder { message, after: *latest, subscription, at });
            }
            *latest = message;
            None
        };
        self.late.extend(late(&mut self.latest));
        if !redelivered {
            self.late_unmarked.extend(late(&mut self.latest_unmarked));
        }
    }
}

#[cfg(test)]
mod tests;
