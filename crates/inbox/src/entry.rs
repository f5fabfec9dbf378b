//! What an inbox holds.

use std::time::SystemTime;

use bytes::Bytes;
use bytestring::ByteString;
use presence::Boot;
use ulid::Ulid;

/// A message to append, the same for all inboxes that it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Unique across the cluster: the `message-id` that clients see, and what statuses are asked for by.
    pub id: Ulid,
    /// The process that appends it, which is told what becomes of it.
    pub from: Boot,
    /// The sender's own headers, `content-type` among them.
    pub headers: Vec<(ByteString, ByteString)>,
    /// The body.
    pub body: Bytes,
    /// A second append to the same inbox under the same key, within `idempotency`, does nothing and is answered
    /// as the first was. At most 255 bytes.
    pub key: Option<ByteString>,
    /// In place of an entry of the inbox with the same collapse key that nobody has been given yet, which is
    /// dropped. At most 255 bytes.
    pub collapse: Option<ByteString>,
    /// Nobody gets it before. It takes its place in the inbox then.
    pub deliver_at: Option<SystemTime>,
    /// It expires then. The store's own limit holds besides.
    pub expires_at: Option<SystemTime>,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the inbox.
    pub seq: u64,
    /// As in its [`Draft`].
    pub id: Ulid,
    /// As in its [`Draft`].
    pub from: Boot,
    /// As in its [`Draft`].
    pub headers: Vec<(ByteString, ByteString)>,
    /// As in its [`Draft`].
    pub body: Bytes,
    /// How often it was handed out before: with one or more, it may have been delivered.
    pub attempts: u32,
}

/// A place in an inbox. Positions of different epochs have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Random, and another one whenever the inbox has lost what it had.
    pub epoch: u64,
    /// The sequence number, from 1 on; 0 is before the first.
    pub seq: u64,
}

impl Position {
    /// Behind everything that an inbox will ever hold, in any epoch: what is taken from here on is only what
    /// nobody holds now.
    pub const END: Self = Self { epoch: 0, seq: u64::MAX };
}

impl Draft {
    /// A message from `from` with a new id, no headers, and nothing said of how it is kept.
    #[must_use]
    pub fn new(from: Boot, body: impl Into<Bytes>) -> Self {
        Self {
            id: Ulid::generate(),
            from,
            headers: Vec::new(),
            body: body.into(),
            key: None,
            collapse: None,
            deliver_at: None,
            expires_at: None,
        }
    }

    /// What it counts in an inbox: body, headers, and 128 bytes for all else.
    #[must_use]
    pub fn cost(&self) -> u64 {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        (self.body.len() + headers + 128) as u64
    }
}
