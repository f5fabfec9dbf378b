//! A session's subscription to a queue: deliveries are taken when the mailbox has room, and held
//! until they are settled.
//!
//! With `ack:auto` a delivery is settled when its frame is written; else when the client says so.
//! Dropping the subscription gives back all that is not settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use broker::{Delivery, Outcome, Subscription};
use stomp::action::{AckMode, Subscribe, Verdict};
use tokio::time::Instant;

use super::Refused;
use crate::close::CloseReason;
use crate::mailbox::Mailbox;
use crate::message_frame::{Shape, encode_delivery};
use crate::metrics::Metrics;

/// See the module.
pub(crate) struct Queue {
    number: u32,
    ack: AckMode,
    shape: Shape,
    subscription: Subscription,
    /// Oldest first; at most the subscription's prefetch.
    unsettled: VecDeque<Unsettled>,
    next: u64,
    metrics: Arc<Metrics>,
}

struct Unsettled {
    /// Counts this subscription's deliveries; the second half of the `ack` token.
    n: u64,
    /// Once the session has written so many bytes, the frame is written.
    written_at: u64,
    delivery: Delivery,
}

impl Queue {
    pub(super) fn new(
        subscription: Subscription,
        subscribe: &Subscribe,
        shape: Shape,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (number, ack) = (subscribe.number, subscribe.ack);
        Self { number, ack, shape, subscription, unsettled: VecDeque::new(), next: 0, metrics }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Posts the next delivery to `mailbox`, which has room.
    pub(super) fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        mailbox: &Mailbox,
        now: Instant,
    ) -> Poll<Result<(), Refused>> {
        let Some(delivery) = ready!(self.subscription.poll_next(cx)) else {
            return Poll::Ready(Err(Refused {
                reason: CloseReason::BrokerUnavailable,
                message: "the broker ended a subscription: its queue was deleted".into(),
            }));
        };
        let n = self.next;
        self.next += 1;
        let frame = encode_delivery(&self.shape, &delivery, &format!("{}.{n}", self.number));
        let written_at = mailbox.post(frame, now);
        self.metrics.messages_sent.inc();
        self.unsettled.push_back(Unsettled { n, written_at, delivery });
        Poll::Ready(Ok(()))
    }

    /// Settles what is written, with `ack:auto`.
    pub(super) fn written(&mut self, ever_written: u64) {
        if self.ack != AckMode::Auto {
            return;
        }
        while let Some(first) = self.unsettled.front()
            && first.written_at <= ever_written
        {
            self.settle_at(0, Verdict::Ack);
        }
    }

    /// Settles what a STOMP 1.2 `ack` token names; whether it is one of this subscription's.
    pub(super) fn settle_token(&mut self, token: &str, verdict: Verdict) -> bool {
        let Some((number, n)) = token.split_once('.') else { return false };
        if number.parse() != Ok(self.number) {
            return false;
        }
        let Ok(n) = n.parse::<u64>() else { return false };
        let found = self.unsettled.binary_search_by_key(&n, |unsettled| unsettled.n);
        self.settle_found(found.ok(), verdict)
    }

    /// Settles what a STOMP 1.0 or 1.1 message id names; whether it is one of this subscription's.
    pub(super) fn settle_message(&mut self, id: &str, verdict: Verdict) -> bool {
        let found = self
            .unsettled
            .iter()
            .position(|unsettled| unsettled.delivery.message.id.to_string() == id);
        self.settle_found(found, verdict)
    }

    fn settle_found(&mut self, found: Option<usize>, verdict: Verdict) -> bool {
        match (found, self.ack) {
            (None, _) | (_, AckMode::Auto) => return false,
            (Some(at), AckMode::ClientIndividual) => self.settle_at(at, verdict),
            // Cumulative: all that was delivered before is meant as well.
            (Some(at), AckMode::Client) => {
                (0..=at).for_each(|_| self.settle_at(0, verdict));
            }
        }
        true
    }

    fn settle_at(&mut self, at: usize, verdict: Verdict) {
        if let Some(Unsettled { delivery, .. }) = self.unsettled.remove(at) {
            delivery.settle(match verdict {
                Verdict::Ack => Outcome::Ack,
                Verdict::Nack { requeue: true } => Outcome::Requeue,
                Verdict::Nack { requeue: false } => Outcome::Reject,
            });
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.metrics.subscriptions.dec();
    }
}

/// The `prefetch-count` of a SUBSCRIBE frame, or `default`.
pub(super) fn prefetch(subscribe: &Subscribe, default: u16) -> Result<u16, Refused> {
    let Some(text) = subscribe.headers.get("prefetch-count") else { return Ok(default) };
    match text.parse::<u16>() {
        // As RabbitMQ has it, zero means no limit of the client's own.
        Ok(0) => Ok(default),
        Ok(count) => Ok(count),
        Err(_) => Err(Refused {
            reason: CloseReason::Protocol,
            message: "SUBSCRIBE has a prefetch-count that is no number from 0 to 65535".into(),
        }),
    }
}
