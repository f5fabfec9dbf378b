//! What a client can do wrong, each with the text of the ERROR frame that says so.

use std::time::Duration;

use bytestring::ByteString;

use crate::{Command, Malformed};

/// Why the protocol ends a session. Its text goes into the ERROR frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that are no STOMP frame, or more of them than allowed.
    #[error("{0}")]
    Malformed(Malformed),
    /// A frame before CONNECT.
    #[error("expected CONNECT or STOMP as the first frame, got {0}")]
    NotConnected(Command),
    /// A second CONNECT.
    #[error("this session is connected already; a second {0} is not allowed")]
    AlreadyConnected(Command),
    /// A frame that only servers send.
    #[error("{0} is a frame that servers send, not clients")]
    ServerFrame(Command),
    /// No version in common.
    #[error("no common version: the client accepts {0:?}, this server speaks 1.0,1.1,1.2")]
    Version(String),
    /// A header that the frame must have.
    #[error("{command} needs the header \"{header}\"")]
    MissingHeader {
        /// The frame's command.
        command: Command,
        /// The header's name.
        header: &'static str,
    },
    /// A header whose value means nothing.
    #[error("{command} has {header}:{value}, which should be {expected}")]
    BadHeader {
        /// The frame's command.
        command: Command,
        /// The header's name.
        header: &'static str,
        /// Its value, cut to 100 characters.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Two live subscriptions with one id.
    #[error("a subscription with the id \"{0}\" exists already in this session")]
    DuplicateSubscription(ByteString),
    /// More subscriptions than allowed.
    #[error("more than {limit} subscriptions in one session")]
    TooManySubscriptions {
        /// How many are allowed.
        limit: usize,
    },
    /// A transaction that was not begun, or is over.
    #[error("{command} names the transaction \"{id}\", which is not open")]
    UnknownTransaction {
        /// The frame's command.
        command: Command,
        /// The transaction's id.
        id: ByteString,
    },
    /// Two open transactions with one id.
    #[error("a transaction with the id \"{0}\" is open already in this session")]
    DuplicateTransaction(ByteString),
    /// More open transactions than allowed.
    #[error("more than {limit} open transactions in one session")]
    TooManyTransactions {
        /// How many are allowed.
        limit: usize,
    },
    /// More in transactions than allowed.
    #[error("more than {limit} frames in one transaction, or {bytes} bytes in all that are open")]
    TransactionTooLong {
        /// How many frames are allowed in one.
        limit: usize,
        /// How many bytes are allowed in all, headers included.
        bytes: usize,
    },
    /// More frames per second than allowed.
    #[error("more than {limit} frames per second")]
    TooManyFrames {
        /// How many are allowed on average.
        limit: u32,
    },
    /// No CONNECT in time.
    #[error("no CONNECT frame within {0:?}")]
    ConnectTimeout(Duration),
    /// A frame begun and not ended in time.
    #[error("a frame was begun and not ended within {0:?}")]
    FrameTimeout(Duration),
    /// Silence beyond the heart-beats agreed on.
    #[error("heard nothing for {0:?}, longer than the heart-beats agreed on")]
    HeartBeatTimeout(Duration),
}
