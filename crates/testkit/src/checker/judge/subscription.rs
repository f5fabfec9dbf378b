//! What a subscription got, in which order, and what became of each delivery.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use stomp::action::AckMode;

use super::super::violation::Violation;
use super::super::{DeliveryId, Destination, MessageId, SessionId, SubscriptionId, TransactionId};

/// A subscription, as far as it got.
pub(super) struct Subscription {
    pub(super) destination: Destination,
    ack: AckMode,
    /// The place of its SUBSCRIBE.
    pub(super) subscribing: usize,
    /// The place of the receipt.
    pub(super) subscribed: Option<usize>,
    pub(super) unsubscribing: bool,
    pub(super) unsubscribed: bool,
    /// Whether it was made after all was settled, to look what is left.
    pub(super) looks: bool,
    pub(super) got: HashSet<MessageId>,
    /// The latest first delivery from each sender.
    latest: HashMap<SessionId, Ranked>,
    /// The same of those that were not marked.
    latest_unmarked: HashMap<SessionId, Ranked>,
    /// First deliveries out of the senders' order; a violation if it is the only consumer.
    pub(super) late: Vec<Violation>,
    /// Unmarked first deliveries out of the senders' order; a violation in any case.
    pub(super) late_unmarked: Vec<Violation>,
    /// What has to be acknowledged, in order; nothing with `ack:auto`.
    pub(super) deliveries: Vec<Delivered>,
    /// The places of those that nothing was said to.
    open: BTreeSet<usize>,
    /// The places of those that something was said to, by what, until it has its receipt.
    said: HashMap<Answer, Vec<usize>>,
    /// By the delivery that they name, the places of its ACKs and NACKs that ask for a receipt.
    asked: HashMap<u32, usize>,
}

/// A message and its place in the order of all that was let go.
#[derive(Clone, Copy)]
struct Ranked {
    message: MessageId,
    rank: u64,
}

/// A delivery that has to be acknowledged.
pub(super) struct Delivered {
    number: u32,
    pub(super) message: MessageId,
    pub(super) place: usize,
    pub(super) at: Duration,
    pub(super) answer: Answer,
}

/// What its consumer has said to a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Nothing,
    /// An ACK that names this delivery has no receipt yet.
    Acking(u32),
    /// An ACK is in a transaction that is not committed.
    Within(TransactionId),
    Acked,
    /// A NACK that names this delivery has no receipt yet.
    Nacking(u32),
    Nacked,
}

impl Subscription {
    pub(super) fn new(
        destination: Destination,
        ack: AckMode,
        subscribing: usize,
        looks: bool,
    ) -> Self {
        Self {
            destination,
            ack,
            subscribing,
            subscribed: None,
            unsubscribing: false,
            unsubscribed: false,
            looks,
            got: HashSet::new(),
            latest: HashMap::new(),
            latest_unmarked: HashMap::new(),
            late: Vec::new(),
            late_unmarked: Vec::new(),
            deliveries: Vec::new(),
            open: BTreeSet::new(),
            said: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    /// Notes the first delivery of a message.
    pub(super) fn note_order(
        &mut self,
        subscription: SubscriptionId,
        message: MessageId,
        rank: u64,
        redelivered: bool,
        at: Duration,
    ) {
        let this = Ranked { message, rank };
        let late = |latest: &mut HashMap<_, Ranked>| {
            let latest = latest.entry(message.sender).or_insert(this);
            if rank < latest.rank {
                let after = latest.message;
                return Some(Violation::OutOfOrder { message, after, subscription, at });
            }
            *latest = this;
            None
        };
        self.late.extend(late(&mut self.latest));
        if !redelivered {
            self.late_unmarked.extend(late(&mut self.latest_unmarked));
        }
    }

    /// Notes a delivery that has to be acknowledged, if it has to.
    pub(super) fn note_delivery(
        &mut self,
        delivery: DeliveryId,
        message: MessageId,
        place: usize,
        at: Duration,
    ) {
        if self.ack != AckMode::Auto {
            let (number, answer) = (delivery.number, Answer::Nothing);
            self.open.insert(self.deliveries.len());
            self.deliveries.push(Delivered { number, message, place, at, answer });
        }
    }

    /// Notes an ACK or NACK that names `number`: `answer` holds for all that it covers.
    pub(super) fn answer(&mut self, number: u32, answer: Answer, place: usize) {
        if !matches!(answer, Answer::Within(_)) {
            self.asked.insert(number, place);
        }
        let end = self.deliveries.partition_point(|delivery| delivery.number <= number);
        let start = match self.ack {
            AckMode::Client => 0,
            AckMode::Auto | AckMode::ClientIndividual => {
                self.deliveries.partition_point(|delivery| delivery.number < number)
            }
        };
        let covered: Vec<usize> = self.open.range(start..end).copied().collect();
        for &place in &covered {
            self.open.remove(&place);
            self.deliveries[place].answer = answer;
        }
        self.said.entry(answer).or_default().extend(covered);
    }

    /// Turns an answer that has no receipt into what came of it; says whose.
    pub(super) fn turn(&mut self, from: Answer, into: Answer) -> Vec<MessageId> {
        let places = self.said.remove(&from).unwrap_or_default();
        if into == Answer::Nothing {
            self.open.extend(&places);
        }
        let turned = places.into_iter().map(|place| {
            let delivery = &mut self.deliveries[place];
            delivery.answer = into;
            delivery.message
        });
        turned.collect()
    }

    /// The place of the ACK or NACK that names `number` and has a receipt now.
    pub(super) fn asked(&mut self, number: u32) -> Option<usize> {
        self.asked.remove(&number)
    }
}
