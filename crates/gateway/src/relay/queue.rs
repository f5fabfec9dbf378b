//! A session's subscription to a queue, or to an inbox: deliveries are taken when the mailbox has room, and
//! held until they are settled.
//!
//! With `ack:auto` a delivery is settled when its frame is written; else when the client says so.
//! Dropping the subscription gives back all that is not settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use broker::{Delivery, Destination, MessageId, Outcome, Subscription};
use bytestring::ByteString;
use stomp::Title;
use stomp::action::AckMode;
use tokio::time::Instant;

use super::Refused;
use super::subscribe::{Counted, Subscriber};
use crate::close::CloseReason;
use crate::inboxes::Reader;
use crate::mailbox::Mailbox;
use crate::message_frame::{Shape, encode_delivery};
use crate::metrics::Metrics;

/// See the module.
pub(crate) struct Queue {
    /// The session's number for the subscription; none if the client did not ask for it by SUBSCRIBE.
    number: Option<u32>,
    /// Names the session in `ack` tokens, so that a token of another one settles nothing here.
    tag: ByteString,
    ack: AckMode,
    shape: Shape,
    source: Source,
    destination: Destination,
    /// `None` once the client has left: then only what is to be written is waited for.
    supply: Option<Supply>,
    /// Oldest first; at most the subscription's prefetch.
    unsettled: VecDeque<Unsettled>,
    metrics: Arc<Metrics>,
    /// None of an inbox, for what comes live to the same subscription counts already.
    _counted: Option<Counted>,
}

/// Where deliveries come from.
pub(crate) enum Supply {
    /// A queue of the broker's.
    Queue(Subscription),
    /// What is stored for the session's user.
    Inbox(Box<Reader>),
}

/// Whose the queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Anybody's: the destination names it.
    Others,
    /// The subscription's own, which ends with it or in time.
    Own,
    /// The subscription's own, which outlives it: UNSUBSCRIBE may say that it is not wanted any more.
    Kept,
    /// The session's own, for answers.
    Replies {
        /// The temp-queue, as the client spells it.
        temp_queue: ByteString,
        /// What its messages are answered to.
        reply_to: ByteString,
    },
}

struct Unsettled {
    /// Counts the session's deliveries from queues; the second part of the `ack` token.
    n: u64,
    /// When it was taken from the broker.
    since: Instant,
    /// Once the session has written so many bytes, the frame is written.
    written_at: u64,
    delivery: Delivery,
}

impl Queue {
    pub(super) fn new(
        subscriber: &Subscriber,
        supply: Supply,
        number: Option<u32>,
        ack: AckMode,
        shape: Shape,
        source: Source,
        destination: Destination,
    ) -> Self {
        let metrics = Arc::clone(&subscriber.node.metrics);
        let _counted = matches!(supply, Supply::Queue(_)).then(|| Counted::new(&metrics));
        let (tag, supply) = (subscriber.tag.clone(), Some(supply));
        let unsettled = VecDeque::new();
        Self { number, tag, ack, shape, source, destination, supply, unsettled, metrics, _counted }
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.number
    }

    pub(super) fn ack(&self) -> AckMode {
        self.ack
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Whether the client acknowledges what it gets.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.ack != AckMode::Auto
    }

    /// Whether it is to that destination.
    pub(super) fn is_of(&self, destination: &Destination) -> bool {
        self.destination == *destination
    }

    /// Whether the client has not left it.
    pub(super) fn is_live(&self) -> bool {
        self.supply.is_some()
    }

    /// The name by which its queue can be deleted, where it outlives the subscription.
    pub(super) fn kept(&self) -> Option<&ByteString> {
        match self.source {
            Source::Kept => match self.supply.as_ref()? {
                Supply::Queue(subscription) => subscription.queue(),
                Supply::Inbox(_) => None,
            },
            Source::Others | Source::Own | Source::Replies { .. } => None,
        }
    }

    /// Posts the next delivery to `mailbox`, which has room; `count` of the session's were before.
    pub(super) fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        mailbox: &Mailbox,
        now: Instant,
        count: &mut u64,
    ) -> Poll<Result<(), Refused>> {
        let taken = match &mut self.supply {
            Some(Supply::Queue(subscription)) => subscription.poll_next(cx),
            Some(Supply::Inbox(reader)) => reader.poll_next(cx, self.unsettled.len()).map(Some),
            None => return Poll::Pending,
        };
        let Some(delivery) = ready!(taken) else {
            return Poll::Ready(Err(Refused::titled(
                Title::ServerCancelled,
                CloseReason::BrokerUnavailable,
                format!("the broker ended {}: its queue was deleted", self.shape.name()),
            )));
        };
        let n = *count;
        *count += 1;
        let token = self
            .number
            .filter(|_| self.is_acknowledged())
            .map(|number| format!("{number}.{n}.{}", self.tag));
        let frame = encode_delivery(&self.shape, &delivery, token.as_deref());
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
            self.settle_at(0, Outcome::Ack);
        }
        self.supply.is_some() || !self.unsettled.is_empty()
    }

    /// Takes no more deliveries; whether some of those taken are to be written and thereby settled.
    pub(super) fn leave(&mut self) -> bool {
        self.supply = None;
        self.ack == AckMode::Auto && !self.unsettled.is_empty()
    }

    /// Since when the oldest delivery is unsettled.
    pub(super) fn unsettled_since(&self) -> Option<Instant> {
        self.unsettled.front().map(|oldest| oldest.since)
    }

    /// The place of the delivery that the session counted as `n`, if it waits to be settled.
    pub(super) fn find(&self, n: u64) -> Option<usize> {
        if !self.is_acknowledged() {
            return None;
        }
        self.unsettled.binary_search_by_key(&n, |unsettled| unsettled.n).ok()
    }

    /// The place of what a STOMP 1.0 or 1.1 message id names, if it is one of this subscription's.
    pub(super) fn find_message(&self, id: MessageId) -> Option<usize> {
        if !self.is_acknowledged() {
            return None;
        }
        self.unsettled.iter().position(|unsettled| unsettled.delivery.message.id == id)
    }

    /// What the session counted the delivery at a place as.
    pub(super) fn count(&self, at: usize) -> Option<u64> {
        self.unsettled.get(at).map(|unsettled| unsettled.n)
    }

    /// Settles all that the client acknowledges, up to the delivery that the session counted as `n`.
    pub(super) fn settle_until(&mut self, n: u64, outcome: Outcome) {
        while self.is_acknowledged() && self.unsettled.front().is_some_and(|oldest| oldest.n <= n) {
            self.settle_at(0, outcome);
        }
    }

    /// Settles the delivery at a place.
    pub(super) fn settle_at(&mut self, at: usize, outcome: Outcome) {
        if let Some(Unsettled { delivery, .. }) = self.unsettled.remove(at) {
            delivery.settle(outcome);
        }
    }
}
