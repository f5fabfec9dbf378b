//! What a subscriber receives.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytestring::ByteString;
use tokio::sync::mpsc;

use crate::Message;

/// A live subscription. Dropping it cancels it and gives back what was not taken from it.
pub struct Subscription {
    /// Bounded by the subscription's prefetch; the broker decides what a full one means.
    deliveries: mpsc::Receiver<Delivery>,
    /// The queue they come from, where it has a name for others.
    queue: Option<ByteString>,
    cancel: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// One message for one subscription. Dropping it unsettled gives it back.
#[derive(Debug)]
pub struct Delivery {
    /// The message, shared by all its subscribers.
    pub message: Arc<Message>,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    settlement: Option<Settlement>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the broker may forget it.
    Ack,
    /// Not done; the broker delivers it again, marked redelivered.
    Requeue,
    /// Not done and not wanted again; the broker drops it, or dead-letters it if so configured.
    Reject,
}

/// The broker's end of settling: one of `settle` and `give_back` is called exactly once per tag.
pub trait Settle: Send + Sync {
    /// Takes the outcome of the delivery that `tag` names. Never waits.
    fn settle(&self, tag: u64, outcome: Outcome);

    /// Takes back the delivery that `tag` names, of which nobody said anything. Never waits.
    fn give_back(&self, tag: u64) {
        self.settle(tag, Outcome::Requeue);
    }

    /// What became, meanwhile, of the message that `tag` names; asked when it is taken. A delivery of which
    /// that is known is settled so, and not handed over.
    fn known_outcome(&self, _tag: u64) -> Option<Outcome> {
        None
    }
}

struct Settlement {
    with: Arc<dyn Settle>,
    tag: u64,
}

impl Subscription {
    /// A subscription that yields `deliveries` and runs `cancel` once it is dropped.
    pub fn new(
        deliveries: mpsc::Receiver<Delivery>,
        cancel: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { deliveries, queue: None, cancel: Some(Box::new(cancel)) }
    }

    /// The same, saying by what name its queue can be reached, or deleted.
    pub fn of_queue(mut self, queue: ByteString) -> Self {
        self.queue = Some(queue);
        self
    }

    /// The queue that the deliveries come from, where it is known.
    pub fn queue(&self) -> Option<&ByteString> {
        self.queue.as_ref()
    }

    /// The next delivery, or `None` once the broker has ended the subscription.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = self.deliveries.recv().await?;
            if let Some(delivery) = delivery.due() {
                return Some(delivery);
            }
        }
    }

    /// As [`next`](Self::next), for callers that poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            let Some(delivery) = ready!(self.deliveries.poll_recv(cx)) else {
                return Poll::Ready(None);
            };
            if let Some(delivery) = delivery.due() {
                return Poll::Ready(Some(delivery));
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Cancelled first, so that what the closing receiver gives back is not delivered here again.
        if let Some(cancel) = self.cancel.take() {
            cancel();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Delivery {
    /// A delivery that needs no settling, as topics give.
    pub fn settled(message: Arc<Message>) -> Self {
        Self { message, redelivered: false, settlement: None }
    }

    /// A delivery whose outcome goes to `with` under `tag`.
    pub fn unsettled(
        message: Arc<Message>,
        redelivered: bool,
        with: Arc<dyn Settle>,
        tag: u64,
    ) -> Self {
        Self { message, redelivered, settlement: Some(Settlement { with, tag }) }
    }

    /// Itself, unless it is known by now what became of its message: then it is settled so.
    fn due(self) -> Option<Self> {
        let known = self.settlement.as_ref().and_then(|it| it.with.known_outcome(it.tag));
        let Some(outcome) = known else { return Some(self) };
        self.settle(outcome);
        None
    }

    /// Says what became of it.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(Settlement { with, tag }) = self.settlement.take() {
            with.settle(tag, outcome);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Settlement { with, tag }) = self.settlement.take() {
            with.give_back(tag);
        }
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settlement({})", self.tag)
    }
}
