//! ACK and NACK: which delivery is meant, and what else they cover.
//!
//! Invariants
//! - Only what was delivered in this session is settled here; anything else is an error.
//! - What its subscription took with it when it ended may still be named: the frame and an UNSUBSCRIBE
//!   may have crossed. It is accepted, and does nothing.

use broker::{MessageId, Outcome};
use stomp::Title;
use stomp::action::{AckMode, Acknowledge, Acknowledged, Verdict};

use super::{Refused, Relay};
use crate::close::CloseReason;
use crate::config::AckScope;
use crate::message_frame::SHARED_TOKEN;

/// What an ACK or NACK names.
pub(super) enum Found {
    /// The unsettled delivery at this place of this queue subscription.
    Delivery { queue: usize, at: usize },
    /// Something that there is nothing to settle of: a shared message, or one whose subscription is
    /// over.
    Nothing,
}

impl Relay {
    /// Settles what an ACK or NACK names.
    pub(crate) fn acknowledge(&mut self, acknowledge: &Acknowledge) -> Result<(), Refused> {
        match self.find(&acknowledge.of) {
            Some(Found::Nothing) => Ok(()),
            Some(Found::Delivery { queue, at }) => {
                self.settle(queue, at, self.outcome(acknowledge.verdict));
                Ok(())
            }
            None => Err(nothing_to_acknowledge(&acknowledge.of)),
        }
    }

    /// What `of` names, if it is anything of this session's.
    pub(super) fn find(&self, of: &Acknowledged) -> Option<Found> {
        match of {
            Acknowledged::Token(token) if token.starts_with(SHARED_TOKEN) => {
                let shared = self.shared.iter().any(|shared| shared.acknowledged)
                    || self.asked.iter().any(|asked| asked.shape.acknowledged);
                (shared || self.acknowledging_ended).then_some(Found::Nothing)
            }
            Acknowledged::Token(token) => {
                let (number, n) = self.read(token)?;
                let queue = self.queues.iter().position(|queue| queue.number() == Some(number));
                match queue.filter(|queue| self.queues[*queue].is_live()) {
                    Some(queue) => {
                        self.queues[queue].find(n).map(|at| Found::Delivery { queue, at })
                    }
                    None => self.has_ended(number).then_some(Found::Nothing),
                }
            }
            Acknowledged::Message { id, subscription } => {
                self.find_message(id.parse().ok()?, *subscription)
            }
        }
    }

    /// The delivery of a message, by the subscription where one is named. Queues come first: on what is
    /// shared there is nothing to settle, so any message of it counts as found.
    fn find_message(&self, id: MessageId, subscription: Option<u32>) -> Option<Found> {
        let meant = |number: u32| subscription.is_none_or(|subscription| subscription == number);
        let delivery = self.queues.iter().enumerate().find_map(|(queue, held)| {
            let at = held.number().filter(|number| meant(*number)).and(held.find_message(id))?;
            Some(Found::Delivery { queue, at })
        });
        delivery.or_else(|| {
            let mut shared = self.shared.iter().filter(|shared| shared.acknowledged);
            let mut asked = self.asked.iter().filter(|asked| asked.shape.acknowledged);
            let nothing = shared.any(|shared| meant(shared.number))
                || asked.any(|asked| meant(asked.number))
                || match subscription {
                    Some(number) => self.has_ended(number),
                    None => self.acknowledging_ended,
                };
            nothing.then_some(Found::Nothing)
        })
    }

    /// The number of the subscription, and the count of the delivery, in a token of this session's.
    fn read(&self, token: &str) -> Option<(u32, u64)> {
        let mut parts = token.splitn(3, '.');
        let (number, n, tag) = (parts.next()?, parts.next()?, parts.next()?);
        (tag == &*self.tag).then_some(())?;
        Some((number.parse().ok()?, n.parse().ok()?))
    }

    /// Whether there was a subscription of that number and is no more.
    fn has_ended(&self, number: u32) -> bool {
        let mut queues = self.queues.iter().filter(|queue| queue.is_live());
        number < self.next_number
            && !queues.any(|queue| queue.number() == Some(number))
            && !self.shared.iter().any(|shared| shared.number == number)
            && !self.asked.iter().any(|asked| asked.number == number)
    }

    /// Settles a delivery and, where an ACK is cumulative, those before it.
    fn settle(&mut self, queue: usize, at: usize, outcome: Outcome) {
        let held = &mut self.queues[queue];
        let Some(n) = held.count(at) else { return };
        match (held.ack(), self.node.config.ack_scope()) {
            (AckMode::Client, AckScope::Subscription) => held.settle_until(n, outcome),
            (AckMode::Client, AckScope::Session) => {
                self.queues.iter_mut().for_each(|queue| queue.settle_until(n, outcome));
            }
            (AckMode::ClientIndividual | AckMode::Auto, _) => held.settle_at(at, outcome),
        }
    }

    fn outcome(&self, verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Ack => Outcome::Ack,
            Verdict::Nack { requeue } if requeue.unwrap_or(self.node.config.nack_requeue) => {
                Outcome::Requeue
            }
            Verdict::Nack { .. } => Outcome::Reject,
        }
    }
}

pub(super) fn nothing_to_acknowledge(of: &Acknowledged) -> Refused {
    let (Acknowledged::Token(id) | Acknowledged::Message { id, .. }) = of;
    let id: String = id.chars().take(100).collect();
    Refused::titled(
        Title::SubscriptionNotFound,
        CloseReason::Protocol,
        format!(
            "nothing to acknowledge under \"{id}\": it was not delivered in this session, is \
             settled already, or its subscription has ack:auto"
        ),
    )
}
