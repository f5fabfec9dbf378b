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
//! - **Transactions.** A message in a transaction is sent when its COMMIT is, behind those sent before
//!   and in the order of their SENDs, and is receipted by the COMMIT's receipt. Without a COMMIT, and
//!   after an ABORT, it comes to nobody. Each COMMIT and ABORT gets its receipt. A COMMIT without one
//!   may have taken effect in part.
//! - **Acknowledgements.** A delivery is acknowledged once its ACK's receipt came, or that of the COMMIT
//!   which the ACK was in. Its message does not come again. What a consumer gave back, by NACK or
//!   because its session was closed, comes again, unless another delivery of it is acknowledged. In the
//!   end every delivery that is to be acknowledged is.
//! - **Nothing else.** No message that was not sent, none at a subscription to another destination,
//!   none before its SUBSCRIBE was written or after its UNSUBSCRIBE was receipted; no session closes.
//!
//! That nothing comes again is promised per node, which remembers what its sessions have acknowledged:
//! RabbitMQ forgets, when it is killed, ACKs that it had not written yet. So it is judged among the
//! consumers on a node; of what comes to a session that looks what is left in the queues once all is
//! settled, wherever it looks; and not of what a session acknowledged that was closed where that is
//! allowed, for its node may be gone. Only what surely left the node after the acknowledgement counts:
//! it came to the same session behind the receipt, or to another one behind the receipt of something
//! that was asked for when the acknowledgement was receipted already.
//!
//! Not judged: that a topic message receipted before a SUBSCRIBE was written does not reach it. A
//! receipt says that the broker has the message, not that every node has passed it on.

mod conclusion;
mod message;
mod subscription;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use self::message::{Acknowledgement, Fate, Message, Release, Transaction};
use self::subscription::{Answer, Subscription};
use super::verdict::{Counts, FaultSpan, Verdict};
use super::violation::Violation;
use super::{
    DeliveryId, Event, History, Kind, MessageId, SessionId, SubscriptionId, TransactionId,
};

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
    transactions: BTreeMap<TransactionId, Transaction>,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    sessions: HashMap<SessionId, Session>,
    closed: HashSet<SessionId>,
    settled: bool,
    /// How many messages were let go.
    released: u64,
    violations: Vec<Violation>,
    counts: Counts,
}

#[derive(Clone, Copy)]
struct Session {
    node: usize,
    /// The place of the last of its frames that is known to have been read: what comes now left the node
    /// after it.
    heard: usize,
}

impl Judge {
    fn see(&mut self, place: usize, at: Duration, event: &Event) {
        match *event {
            Event::Connected { session, node } => {
                self.counts.sessions += 1;
                self.sessions.insert(session, Session { node, heard: 0 });
            }
            Event::Subscribing { subscription, destination, ack } => {
                let made = Subscription::new(destination, ack, place, self.settled);
                self.subscriptions.insert(subscription, made);
            }
            Event::Subscribed(id) => {
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    subscription.subscribed = Some(place);
                    let subscribing = subscription.subscribing;
                    self.heard(id.session, subscribing);
                }
            }
            Event::Unsubscribing(id) => {
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    subscription.unsubscribing = true;
                }
            }
            Event::Unsubscribed(id) => {
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    subscription.unsubscribed = true;
                }
            }
            Event::Sent { message, transaction } => self.sent(message, transaction, place, at),
            Event::Receipted(id) => {
                self.receipted(id, at);
                let release = self.messages.get(&id).and_then(|message| message.release);
                if let Some(release) = release {
                    self.heard(id.sender, release.place);
                }
            }
            Event::Committing(id) => self.commit(id, place, at),
            Event::Committed(id) => self.committed(id, place, at),
            Event::Aborting(id) => self.abort(id, at),
            Event::Aborted(id) => {
                let transaction = self.transactions.entry(id).or_default();
                transaction.fate = Fate::Aborted;
                self.counts.aborted += transaction.messages.len();
            }
            Event::Acking { delivery, transaction } => self.ack(delivery, transaction, place),
            Event::Acked(id) => {
                self.settle(id, Answer::Acking(id.number), Answer::Acked, place, at)
            }
            Event::Nacking(DeliveryId { subscription, number }) => {
                if let Some(subscription) = self.subscriptions.get_mut(&subscription) {
                    subscription.answer(number, Answer::Nacking(number), place);
                }
            }
            Event::Nacked(id) => {
                self.settle(id, Answer::Nacking(id.number), Answer::Nacked, place, at);
            }
            Event::Received { delivery, message, redelivered } => {
                self.received(delivery, message, redelivered, place, at);
            }
            Event::Stray(_) => self.counts.strays += 1,
            Event::Unexpected { session, ref what } => {
                let what = what.clone();
                self.violations.push(Violation::Unexpected { session, what, at });
            }
            Event::Closed { session, ref why } => {
                // After the end a socket that breaks loses nothing, but it should not.
                if !self.settled {
                    self.closed.insert(session);
                }
                self.counts.closed += 1;
                if !self.rules.closes_allowed {
                    let why = why.clone();
                    self.violations.push(Violation::Closed { session, why, at });
                }
            }
            Event::Settled => self.settled = true,
            Event::Ended(session) => {
                // Who leaves earlier takes its subscriptions along.
                if !self.settled {
                    self.closed.insert(session);
                }
            }
            Event::FaultBegins(fault) => self.counts.faults.push(FaultSpan {
                fault,
                begun: at,
                ended: None,
                sent: 0,
                receipted: 0,
            }),
            Event::FaultEnded(fault) => {
                if let Some(span) = self.in_force().find(|span| span.fault == fault) {
                    span.ended = Some(at);
                }
            }
        }
    }

    /// The faults that have not ended.
    fn in_force(&mut self) -> impl Iterator<Item = &mut FaultSpan> {
        self.counts.faults.iter_mut().filter(|span| span.ended.is_none())
    }

    /// Notes that the frame at `place` was read by the session's node.
    fn heard(&mut self, session: SessionId, place: usize) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.heard = session.heard.max(place);
        }
    }

    fn sent(
        &mut self,
        id: MessageId,
        transaction: Option<TransactionId>,
        place: usize,
        at: Duration,
    ) {
        self.counts.sent += 1;
        self.in_force().for_each(|span| span.sent += 1);
        self.messages.insert(id, Message::new(at, transaction));
        match transaction {
            Some(transaction) => {
                self.transactions.entry(transaction).or_default().messages.push(id)
            }
            None => self.release(id, place),
        }
    }

    /// From now on the message may come.
    fn release(&mut self, id: MessageId, place: usize) {
        let rank = self.released;
        self.released += 1;
        if let Some(message) = self.messages.get_mut(&id) {
            message.release = Some(Release { place, rank });
        }
    }

    fn receipted(&mut self, id: MessageId, at: Duration) {
        self.counts.receipted += 1;
        self.in_force().for_each(|span| span.receipted += 1);
        if let Some(message) = self.messages.get_mut(&id) {
            message.receipted_at.get_or_insert(at);
        }
    }

    fn commit(&mut self, id: TransactionId, place: usize, at: Duration) {
        let transaction = self.transactions.entry(id).or_default();
        transaction.fate = Fate::Committing { place, at };
        for message in transaction.messages.clone() {
            self.release(message, place);
        }
    }

    fn committed(&mut self, id: TransactionId, place: usize, at: Duration) {
        let transaction = self.transactions.entry(id).or_default();
        let asked = match std::mem::replace(&mut transaction.fate, Fate::Committed) {
            Fate::Committing { place, .. } => place,
            _ => 0,
        };
        self.counts.committed += 1;
        let (messages, subscriptions) =
            (transaction.messages.clone(), transaction.subscriptions.clone());
        for message in messages {
            self.receipted(message, at);
        }
        for by in subscriptions {
            let Some(subscription) = self.subscriptions.get_mut(&by) else { continue };
            let messages = subscription.turn(Answer::Within(id), Answer::Acked);
            self.acknowledged(messages, Acknowledgement { by, place, at });
        }
        self.heard(id.session, asked);
    }

    fn abort(&mut self, id: TransactionId, at: Duration) {
        let transaction = self.transactions.entry(id).or_default();
        transaction.fate = Fate::Aborting { at };
        for subscription in &transaction.subscriptions {
            if let Some(subscription) = self.subscriptions.get_mut(subscription) {
                subscription.turn(Answer::Within(id), Answer::Nothing);
            }
        }
    }

    fn ack(&mut self, delivery: DeliveryId, transaction: Option<TransactionId>, place: usize) {
        let DeliveryId { subscription: by, number } = delivery;
        let Some(subscription) = self.subscriptions.get_mut(&by) else { return };
        let answer = match transaction {
            Some(transaction) => {
                self.transactions.entry(transaction).or_default().subscriptions.insert(by);
                Answer::Within(transaction)
            }
            None => Answer::Acking(number),
        };
        subscription.answer(number, answer, place);
    }

    /// Notes the receipt of an ACK or NACK.
    fn settle(&mut self, id: DeliveryId, from: Answer, into: Answer, place: usize, at: Duration) {
        let by = id.subscription;
        let Some(subscription) = self.subscriptions.get_mut(&by) else { return };
        let (asked, messages) = (subscription.asked(id.number), subscription.turn(from, into));
        match into {
            Answer::Acked => self.acknowledged(messages, Acknowledgement { by, place, at }),
            _ => self.counts.nacked += messages.len(),
        }
        self.heard(by.session, asked.unwrap_or_default());
    }

    fn acknowledged(&mut self, messages: Vec<MessageId>, acknowledgement: Acknowledgement) {
        self.counts.acked += messages.len();
        for message in messages {
            if let Some(message) = self.messages.get_mut(&message) {
                message.acknowledged.get_or_insert(acknowledgement);
            }
        }
    }

    fn received(
        &mut self,
        delivery: DeliveryId,
        message: MessageId,
        redelivered: bool,
        place: usize,
        at: Duration,
    ) {
        let id = delivery.subscription;
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
        subscription.note_delivery(delivery, message, place, at);
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
        sent.came = Some(place);
        sent.unmarked += u32::from(!redelivered);
        match (sent.release, sent.transaction) {
            (Some(Release { rank, .. }), _) if !again => {
                subscription.note_order(id, message, rank, redelivered, at);
            }
            (None, Some(transaction)) => {
                let fate = self.transactions.get(&transaction).map(|transaction| transaction.fate);
                let aborted = matches!(fate, Some(Fate::Aborting { .. } | Fate::Aborted));
                let subscription = id;
                self.violations.push(Violation::Uncommitted {
                    message,
                    transaction,
                    aborted,
                    subscription,
                    at,
                });
            }
            _ => {}
        }
        if let Some(acknowledgement) = sent.acknowledged
            && self.forbids(acknowledgement, id.session)
        {
            let Acknowledgement { by, at: acknowledged_at, .. } = acknowledgement;
            let subscription = id;
            self.violations.push(Violation::Acknowledged {
                message,
                by,
                acknowledged_at,
                subscription,
                at,
            });
        }
    }

    /// Whether what comes to `session` now must not be what was acknowledged, see above.
    fn forbids(&self, acknowledgement: Acknowledgement, session: SessionId) -> bool {
        let Acknowledgement { by: SubscriptionId { session: by, .. }, place, .. } = acknowledgement;
        if self.rules.closes_allowed && self.closed.contains(&by) {
            return false;
        }
        let (Some(here), Some(there)) = (self.sessions.get(&session), self.sessions.get(&by))
        else {
            return false;
        };
        let promised = self.settled || here.node == there.node;
        promised && (session == by || here.heard > place)
    }
}

#[cfg(test)]
mod tests;
