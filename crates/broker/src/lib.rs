//! What a gateway needs from any broker.
//!
//! A [`Broker`] takes [`Message`]s and hands out owned [`Subscription`]s; how it stores, routes and
//! survives is its own affair. The gateway's hub holds one subscription per topic destination,
//! its relay one per queue subscription.
//!
//! Invariants
//! - Messages of one [`PublisherId`] to one destination reach each subscriber in publish order.
//! - Dropping a [`Subscription`] cancels it. Dropping a [`Delivery`] that was not settled gives it back.
//! - A [`Confirm`] speaks of responsibility taken, never of a write made.
//!
//! Not here: STOMP frames, client libraries, who may do what. Backends are crates of their own
//! and pass the `contract` suite.

mod confirm;
#[cfg(feature = "contract")]
pub mod contract;
mod delivery;
pub mod destination;
pub mod header;
pub mod internal;
mod message;
mod queue_options;
mod state;
mod subscribe;
pub mod topic;

use async_trait::async_trait;
use bytestring::ByteString;
use tokio::sync::watch;

pub use confirm::{Confirm, ConfirmError, Confirmer};
pub use delivery::{Delivery, Outcome, Settle, Subscription};
pub use destination::{Destination, Destinations};
pub use message::{Message, MessageId, NotAMessageId};
pub use queue_options::{Argument, Arguments, QueueOptions};
pub use state::{BrokerState, Link};
pub use subscribe::{Feed, SubscribeError, SubscribeRequest};

/// Names a publisher whose messages must keep their order, such as one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublisherId(pub u64);

/// A broker as the gateway sees it.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Hands `message` over and returns once it has its place in line: calls of one `publisher`
    /// keep their order. Waits while the broker has no room. The [`Confirm`] resolves when the
    /// broker has taken responsibility, or says why it did not.
    async fn publish(
        &self,
        publisher: PublisherId,
        message: Message,
    ) -> Result<Confirm, PublishError>;

    /// Subscribes. On return the subscription is live: whatever is published from now on reaches it.
    async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, SubscribeError>;

    /// Sees to it that the queue of that name is there and is as `options` say, for `publisher`. What it
    /// says of a queue stays so for those who publish to it without options.
    async fn declare(
        &self,
        publisher: PublisherId,
        queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError>;

    /// Deletes what `destination` names and what it still holds; its consumers' subscriptions end.
    /// Deleting what is not there succeeds.
    async fn delete(&self, destination: &Destination) -> Result<(), DeleteError>;

    /// The broker's state, and every change of it.
    fn state(&self) -> watch::Receiver<BrokerState>;
}

/// Why a message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// This broker has no such kind of destination; `instead` says what to use.
    #[error("{kind} destinations are not available on this broker: {instead}")]
    Unsupported {
        /// The kind of destination, as in the configuration's table of prefixes.
        kind: &'static str,
        /// What the sender can do.
        instead: &'static str,
    },
    /// The broker takes no destination of that name: why, and what to use instead.
    #[error("{0}")]
    Misnamed(&'static str),
    /// The broker cannot carry such a message: what of it, and what it takes instead.
    #[error("{0}")]
    Unfit(String),
    /// The body is longer than the broker takes.
    #[error("message of {size} bytes is longer than the limit of {limit}")]
    TooLarge {
        /// The body's length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The broker would need more room than it is allowed, such as another queue.
    #[error("{what} limit of {limit} reached")]
    LimitReached {
        /// What there would be too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The broker is not to be had now; trying later may work.
    #[error("broker is unavailable: {0}")]
    Unavailable(String),
}

/// Why something was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// Only queues can be deleted.
    #[error("{kind} destinations cannot be deleted")]
    Unsupported {
        /// The kind of destination, as in the configuration's table of prefixes.
        kind: &'static str,
    },
    /// The broker is not to be had now; trying later may work.
    #[error("broker is unavailable: {0}")]
    Unavailable(String),
}
