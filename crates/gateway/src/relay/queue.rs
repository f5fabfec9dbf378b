//! A session's subscription to a queue: deliveries are taken when the mailbox has room, and held
//! until they are settled.
//!
//! With `ack:auto` a delivery is settled when its frame is written; else when the client says so.
//! Dropping the subscription gives back all that is not settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use broker::{Delivery, MessageId, Outcome, Subscription};
use bytestring::ByteString;
use stomp::action::{AckMode, Subscribe, Verdict};
use tokio::time::Instant;

use super::Refused;
use crate::close::CloseReason;
use crate::config::Config;
use crate::mailbox::Mailbox;
use crate::message_frame::{Shape, encode_delivery};
use crate::metrics::Metrics;

/// See the module.
pub(crate) struct Queue {
    number: u32,
    /// Names the session in `ack` tokens, so that a token of another one settles nothing here.
    tag: ByteString,
    ack: AckMode,
    shape: Shape,
    /// `None` once the client has left: then only what is to be written is waited for.
    subscription: Option<Subscription>,
    /// Oldest first; at most the subscription's prefetch.
    unsettled: VecDeque<Unsettled>,
    next: u64,
    metrics: Arc<Metrics>,
}

struct Unsettled {
    /// Counts this subscription's deliveries; the second half of the `ack` token.
    n: u64,
    /// When it was taken from the broker.
    since: Instant,
    /// Once the session has written so many bytes, the frame is written.
    written_at: u64,
    delivery: Delivery,
}

impl Queue {
    pub(super) fn new(
        subscription: Subscription,
        subscribe: &Subscribe,
        shape: Shape,
        tag: ByteString,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (number, ack) = (subscribe.number, subscribe.ack);
        let (subscription, unsettled) = (Some(subscription), VecDeque::new());
        Self { number, tag, ack, shape, subscription, unsettled, next: 0, metrics }
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
        let Some(subscription) = &mut self.subscription else { return Poll::Pending };
        let Some(delivery) = ready!(subscription.poll_next(cx)) else {
            return Poll::Ready(Err(Refused {
                reason: CloseReason::BrokerUnavailable,
                message: "the broker ended a subscription: its queue was deleted".into(),
            }));
        };
        let n = self.next;
        self.next += 1;
        let token = format!("{}.{n}.{}", self.number, self.tag);
        let frame = encode_delivery(&self.shape, &delivery, &token);
        let written_at = mailbox.post(frame, now);
        self.metrics.messages_sent.inc();
        self.unsettled.push_back(Unsettled { n, since: now, written_at, delivery });
        Poll::Ready(Ok(()))
    }

    /// Settles what is written, with `ack:auto`; whether there is anything left to wait for.
    pub(super) fn written(&mut self, ever_written: u64) -> bool {
        if self.ack != AckMode::Auto {
            return true;
        }
        while let Some(first) = self.unsettled.front()
            && first.written_at <= ever_written
        {
            self.settle_at(0, Verdict::Ack);
        }
        self.subscription.is_some() || !self.unsettled.is_empty()
    }

    /// Takes no more deliveries; whether some of those taken are to be written and thereby settled.
    pub(super) fn leave(&mut self) -> bool {
        self.subscription = None;
        self.ack == AckMode::Auto && !self.unsettled.is_empty()
    }

    /// Since when the oldest delivery is unsettled.
    pub(super) fn unsettled_since(&self) -> Option<Instant> {
        self.unsettled.front().map(|oldest| oldest.since)
    }

    /// The place of what a STOMP 1.2 `ack` token names, if it is one of this subscription's.
    pub(super) fn find_token(&self, token: &str) -> Option<usize> {
        let mut parts = token.splitn(3, '.');
        let (number, n, tag) = (parts.next()?, parts.next()?, parts.next()?);
        if self.ack == AckMode::Auto || tag != &*self.tag || number.parse() != Ok(self.number) {
            return None;
        }
        let n: u64 = n.parse().ok()?;
        self.unsettled.binary_search_by_key(&n, |unsettled| unsettled.n).ok()
    }

    /// The place of what a STOMP 1.0 or 1.1 message id names, if it is one of this subscription's.
    pub(super) fn find_message(&self, id: MessageId) -> Option<usize> {
        if self.ack == AckMode::Auto {
            return None;
        }
        self.unsettled.iter().position(|unsettled| unsettled.delivery.message.id == id)
    }

    /// Settles what was found at a place and, where an ACK is cumulative, all before it.
    pub(super) fn settle(&mut self, at: usize, verdict: Verdict) {
        match self.ack {
            AckMode::Client => (0..=at).for_each(|_| self.settle_at(0, verdict)),
            AckMode::Auto | AckMode::ClientIndividual => self.settle_at(at, verdict),
        }
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

/// The `prefetch-count` of a SUBSCRIBE frame, or the configured one.
pub(super) fn prefetch(subscribe: &Subscribe, config: &Config) -> Result<u16, Refused> {
    let Some(text) = subscribe.headers.get("prefetch-count") else { return Ok(config.prefetch) };
    match text.parse::<u16>() {
        // As RabbitMQ has it, zero means no limit of the client's own.
        Ok(0) => Ok(config.prefetch),
        Ok(count) if count <= config.max_prefetch => Ok(count),
        _ => Err(Refused {
            reason: CloseReason::Protocol,
            message: format!(
                "SUBSCRIBE has a prefetch-count that is no number from 0 to {}",
                config.max_prefetch
            ),
        }),
    }
}
