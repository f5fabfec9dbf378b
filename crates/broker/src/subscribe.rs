//! What a subscriber asks for, and why it does not get it.

use bytestring::ByteString;

use crate::{Arguments, Destination, PublisherId, QueueOptions};

/// What to subscribe to, and how.
#[derive(Debug, Clone)]
pub struct SubscribeRequest {
    /// An exact destination or, for topics and exchanges, a pattern.
    pub destination: Destination,
    /// How many unsettled deliveries of a queue may be outstanding, at least 1.
    /// Shared topics settle themselves; for them it is the length of the subscription's own queue.
    pub prefetch: u16,
    /// Where the messages of a topic or an exchange come from. Nothing to all other kinds, which name
    /// their queue.
    pub feed: Feed,
    /// How the queue is declared, where it is.
    pub queue: QueueOptions,
    /// What the consumer is to be, such as `x-priority`.
    pub consumer: Arguments,
    /// Who asks: the session's publisher. An exclusive queue is that session's alone.
    pub subscriber: PublisherId,
}

/// Where the messages of a topic or an exchange come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Feed {
    /// From what the broker has for all: deliveries settle themselves, and nothing is kept.
    #[default]
    Shared,
    /// From a queue of the subscription's own, which ends with it.
    Own,
    /// From a queue that stays while the subscriber is away, and is found again by these two.
    Kept {
        /// The user, or nothing where such queues are not a user's own.
        owner: Option<ByteString>,
        /// What the subscriber calls the subscription.
        id: ByteString,
    },
    /// From the queue of that name.
    Named(ByteString),
}

impl SubscribeRequest {
    /// A request that says no more than what to subscribe to.
    pub fn new(destination: Destination, prefetch: u16) -> Self {
        Self {
            destination,
            prefetch,
            feed: Feed::Shared,
            queue: QueueOptions::default(),
            consumer: Arguments::new(),
            subscriber: PublisherId(0),
        }
    }
}

/// Why a subscription was not made, or a queue not declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// As [`PublishError::Unsupported`](crate::PublishError::Unsupported).
    #[error("{kind} destinations are not available on this broker: {instead}")]
    Unsupported {
        /// The kind of destination, as in the configuration's table of prefixes.
        kind: &'static str,
        /// What the subscriber can do.
        instead: &'static str,
    },
    /// This broker has the destination, but not what was asked of it: what, and what to do instead.
    #[error("{what} is not available on this broker: {instead}")]
    UnsupportedOption {
        /// The option, as the client names it.
        what: String,
        /// What the subscriber can do.
        instead: &'static str,
    },
    /// As [`PublishError::Misnamed`](crate::PublishError::Misnamed).
    #[error("{0}")]
    Misnamed(&'static str),
    /// As [`PublishError::LimitReached`](crate::PublishError::LimitReached).
    #[error("{what} limit of {limit} reached")]
    LimitReached {
        /// What there would be too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The broker does not want to, for the reason given, and will not if it is asked again:
    /// `NOT_FOUND - ...`, `PRECONDITION_FAILED - ...`, `RESOURCE_LOCKED - ...`, `ACCESS_REFUSED - ...`.
    #[error("{0}")]
    Refused(String),
    /// The broker is not to be had now; trying later may work.
    #[error("broker is unavailable: {0}")]
    Unavailable(String),
}
