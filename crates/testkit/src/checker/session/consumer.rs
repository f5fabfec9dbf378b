//! What one subscription got and has not answered, and what to say to it.

use std::collections::VecDeque;

use bytestring::ByteString;

use super::super::MessageId;
use super::super::plan::Ack;

/// The unanswered deliveries of one subscription.
#[derive(Debug)]
pub(super) struct Consumer {
    ack: Ack,
    /// In the order they came; at most its prefetch, and what comes again after an outage besides.
    waiting: VecDeque<Delivered>,
    /// How many came so far.
    came: u32,
}

/// A delivery that waits for an ACK or NACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) number: u32,
    /// What its ACK names.
    pub(super) token: ByteString,
    /// None for what an earlier run has left.
    pub(super) message: Option<MessageId>,
    /// Whether it says `redelivered:true`.
    pub(super) marked: bool,
}

/// What to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An ACK that names the last of these, and covers them all.
    Ack(Vec<Delivered>),
    /// A NACK of this one alone.
    Nack(Delivered),
}

/// What a consumer is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    /// Whether lazy ones wait.
    pub(super) hold: bool,
    /// Whether a transaction that is open has an ACK of this subscription. Another ACK that covers the
    /// same deliveries would leave the COMMIT nothing to acknowledge.
    pub(super) within: bool,
    /// Whether nothing more is waited for.
    pub(super) conclude: bool,
}

impl Consumer {
    pub(super) fn new(ack: Ack) -> Self {
        Self { ack, waiting: VecDeque::new(), came: 0 }
    }

    pub(super) fn ack(&self) -> Ack {
        self.ack
    }

    /// The number of the delivery that has come.
    pub(super) fn next_number(&mut self) -> u32 {
        self.came += 1;
        self.came - 1
    }

    /// Takes a delivery that is to be answered.
    pub(super) fn take(&mut self, delivered: Delivered) {
        self.waiting.push_back(delivered);
    }

    /// Takes back what an aborted transaction had acknowledged.
    pub(super) fn take_back(&mut self, delivered: Vec<Delivered>) {
        for delivered in delivered.into_iter().rev() {
            self.waiting.push_front(delivered);
        }
    }

    /// What to say next, if it is time to.
    pub(super) fn answer(
        &mut self,
        orders: Orders,
        refuses: impl Fn(MessageId) -> bool,
    ) -> Option<Answer> {
        let refused = |it: &Delivered| !it.marked && it.message.is_some_and(&refuses);
        let many = match self.ack {
            Ack::Auto => return None,
            Ack::Individual { lazy, .. } if lazy && orders.hold => return None,
            Ack::Cumulative { .. } if orders.within => return None,
            Ack::Cumulative { every, .. } if !orders.conclude => usize::from(every),
            Ack::Individual { .. } | Ack::Cumulative { .. } => 1,
        };
        if refused(self.waiting.front()?) {
            return self.waiting.pop_front().map(Answer::Nack);
        }
        if self.waiting.len() < many {
            return None;
        }
        // A NACK would cover what is before it too, so it waits until nothing is.
        let covered = match self.ack {
            Ack::Cumulative { .. } => self.waiting.iter().take_while(|it| !refused(it)).count(),
            Ack::Auto | Ack::Individual { .. } => 1,
        };
        Some(Answer::Ack(self.waiting.drain(..covered).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Destination, Kind, SessionId};
    use super::*;

    fn message(number: u32) -> MessageId {
        let destination = Destination { kind: Kind::Queue, number: 0 };
        MessageId { sender: SessionId(0), destination, number }
    }

    fn delivered(number: u32, marked: bool) -> Delivered {
        Delivered { number, token: "t".into(), message: Some(message(number)), marked }
    }

    fn consumer(ack: Ack, count: u32) -> Consumer {
        let mut consumer = Consumer::new(ack);
        (0..count).for_each(|number| consumer.take(delivered(number, false)));
        consumer
    }

    fn acks(answer: Option<Answer>) -> Vec<u32> {
        match answer {
            Some(Answer::Ack(covered)) => {
                covered.iter().map(|delivered| delivered.number).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_that_is_lazy_waits_while_it_is_told_to() {
        let mut lazy = consumer(Ack::Individual { prefetch: 2, lazy: true }, 2);
        assert_eq!(lazy.answer(Orders { hold: true, ..Orders::default() }, |_| false), None);
        assert_eq!(acks(lazy.answer(Orders::default(), |_| false)), [0]);
        assert_eq!(acks(lazy.answer(Orders::default(), |_| false)), [1]);
        assert_eq!(lazy.answer(Orders::default(), |_| false), None);
    }

    #[test]
    fn a_cumulative_one_waits_for_enough_or_for_the_end() {
        let ack = Ack::Cumulative { prefetch: 5, every: 3 };
        assert_eq!(acks(consumer(ack, 3).answer(Orders::default(), |_| false)), [0, 1, 2]);
        let mut few = consumer(ack, 2);
        assert_eq!(few.answer(Orders::default(), |_| false), None);
        assert_eq!(
            acks(few.answer(Orders { conclude: true, ..Orders::default() }, |_| false)),
            [0, 1]
        );
    }

    #[test]
    fn a_cumulative_one_acknowledges_nothing_beside_a_transaction() {
        let mut consumer = consumer(Ack::Cumulative { prefetch: 5, every: 2 }, 3);
        let orders = Orders { within: true, ..Orders::default() };
        assert_eq!(consumer.answer(orders, |_| true), None);
        consumer.take_back(vec![delivered(7, true), delivered(8, true)]);
        assert_eq!(acks(consumer.answer(Orders::default(), |_| false)), [7, 8, 0, 1, 2]);
    }

    #[test]
    fn a_refusal_covers_nothing_else_and_comes_once() {
        let refuses = |refused: MessageId| refused.number == 1;
        for ack in [
            Ack::Individual { prefetch: 5, lazy: false },
            Ack::Cumulative { prefetch: 5, every: 3 },
        ] {
            let mut consumer = consumer(ack, 3);
            assert_eq!(acks(consumer.answer(Orders::default(), refuses)), [0]);
            let refused = Some(Answer::Nack(delivered(1, false)));
            assert_eq!(consumer.answer(Orders::default(), refuses), refused);
            consumer.take(delivered(1, true));
            let orders = Orders { conclude: true, ..Orders::default() };
            while let Some(answer) = consumer.answer(orders, refuses) {
                assert!(matches!(answer, Answer::Ack(_)), "{answer:?}");
            }
        }
    }
}
