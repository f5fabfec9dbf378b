//! A message on its way through the broker.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use bytestring::ByteString;
use ulid::Ulid;

use crate::Destination;

/// What one publisher sends and every subscriber receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique across the cluster, given where the message enters it.
    pub id: MessageId,
    /// Where it goes: always exact, never a pattern.
    pub destination: Destination,
    /// The sender's own headers in the sender's order, without those that the protocol or the
    /// server sets. `content-type` stands among them.
    pub headers: Vec<(ByteString, ByteString)>,
    /// The body, as sent.
    pub body: Bytes,
    /// Whether a broker that can keep the message through its own restart must do so.
    pub persistent: bool,
}

impl Message {
    /// A message with a new id, no headers, not persistent.
    pub fn new(destination: Destination, body: impl Into<Bytes>) -> Self {
        Self {
            id: MessageId::new(),
            destination,
            headers: Vec::new(),
            body: body.into(),
            persistent: false,
        }
    }
}

/// A message's id: a ULID, so ids sort by the time they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Ulid);

impl MessageId {
    /// A new id: 48 bits of milliseconds, 80 random bits.
    #[expect(clippy::new_without_default, reason = "each call gives another id")]
    pub fn new() -> Self {
        Self(Ulid::generate())
    }

    /// The id that is that ULID.
    pub const fn of(ulid: Ulid) -> Self {
        Self(ulid)
    }

    /// The ULID that it is.
    pub const fn ulid(self) -> Ulid {
        self.0
    }
}

/// Text that is no message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: 26 characters of Crockford's base 32")]
pub struct NotAMessageId;

impl FromStr for MessageId {
    type Err = NotAMessageId;

    fn from_str(text: &str) -> Result<Self, NotAMessageId> {
        text.parse().map(Self).map_err(|_| NotAMessageId)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
