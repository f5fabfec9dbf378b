//! The few words by which RabbitMQ's STOMP plugin names a mistake: the `message` of its ERROR frames,
//! which clients written against it look at. Only [`Compat::RabbitMq`](crate::Compat::RabbitMq) shows
//! them.

use crate::{Command, Fault, header};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Title {
    /// A frame at a moment when it is not allowed.
    IllegalCommand,
    /// A frame that is not a client's.
    BadCommand,
    /// A CONNECT that is refused.
    BadConnect,
    /// No version in common.
    VersionMismatch,
    /// A destination of a kind that is known, and wrong.
    InvalidDestination,
    /// A destination of no known kind.
    UnknownDestination,
    /// No destination.
    MissingDestination,
    /// Neither a subscription's `id` nor its destination.
    MissingDestinationOrId,
    /// No transaction's id.
    MissingTransaction,
    /// Another header is missing.
    MissingHeader,
    /// A durable subscription without an `id`, which the plugin spells differently.
    MissingId,
    /// A header whose value means nothing.
    InvalidHeader,
    /// A transaction that is not open, or is so already.
    BadTransaction,
    /// An ACK or NACK of what no subscription waits for.
    SubscriptionNotFound,
    /// A subscription's `id` that is taken.
    DuplicateSubscription,
    /// The broker ended a subscription.
    ServerCancelled,
    /// AMQP: something is not there.
    NotFound,
    /// AMQP: something is there and different.
    PreconditionFailed,
    /// AMQP: it is not allowed.
    AccessRefused,
    /// AMQP: it belongs to somebody else.
    ResourceLocked,
    /// Anything else.
    ProcessingError,
}

impl Title {
    /// The words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IllegalCommand => "Illegal command",
            Self::BadCommand => "Bad command",
            Self::BadConnect => "Bad CONNECT",
            Self::VersionMismatch => "Version mismatch",
            Self::InvalidDestination => "Invalid destination",
            Self::UnknownDestination => "Unknown destination",
            Self::MissingDestination => "Missing destination",
            Self::MissingDestinationOrId => "Missing destination or id",
            Self::MissingTransaction => "Missing transaction",
            Self::MissingHeader => "Missing header",
            Self::MissingId => "Missing Header",
            Self::InvalidHeader => "Invalid header",
            Self::BadTransaction => "Bad transaction",
            Self::SubscriptionNotFound => "Subscription not found",
            Self::DuplicateSubscription => "Duplicated subscription identifier",
            Self::ServerCancelled => "Server cancelled subscription",
            Self::NotFound => "not_found",
            Self::PreconditionFailed => "precondition_failed",
            Self::AccessRefused => "access_refused",
            Self::ResourceLocked => "resource_locked",
            Self::ProcessingError => "Processing error",
        }
    }

    /// Whether the body under it ends in a line feed.
    pub(crate) const fn ends_its_line(self) -> bool {
        !matches!(
            self,
            Self::IllegalCommand
                | Self::MissingDestinationOrId
                | Self::MissingId
                | Self::SubscriptionNotFound
                | Self::DuplicateSubscription
                | Self::NotFound
                | Self::PreconditionFailed
                | Self::AccessRefused
                | Self::ResourceLocked
                | Self::ProcessingError
        )
    }
}

impl From<&Fault> for Title {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::NotConnected(_) | Fault::AlreadyConnected(_) => Self::IllegalCommand,
            Fault::ServerFrame(_) => Self::BadCommand,
            Fault::Version(_) => Self::VersionMismatch,
            Fault::MissingHeader { command: Command::Unsubscribe, .. } => {
                Self::MissingDestinationOrId
            }
            Fault::MissingHeader { header: header::DESTINATION, .. } => Self::MissingDestination,
            Fault::MissingHeader { header: header::TRANSACTION, .. } => Self::MissingTransaction,
            Fault::MissingHeader { .. } => Self::MissingHeader,
            Fault::BadHeader { header: header::ACK, .. } => Self::ProcessingError,
            Fault::BadHeader { .. } => Self::InvalidHeader,
            Fault::DuplicateSubscription(_) => Self::DuplicateSubscription,
            Fault::UnknownTransaction { .. } | Fault::DuplicateTransaction(_) => {
                Self::BadTransaction
            }
            // The plugin knows no such limits, or says nothing.
            Fault::Malformed(_)
            | Fault::TooManySubscriptions { .. }
            | Fault::TooManyTransactions { .. }
            | Fault::TransactionTooLong { .. }
            | Fault::TooManyFrames { .. }
            | Fault::ConnectTimeout(_)
            | Fault::FrameTimeout(_)
            | Fault::HeartBeatTimeout(_) => Self::ProcessingError,
        }
    }
}
