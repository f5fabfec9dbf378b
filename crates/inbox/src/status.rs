//! What became of an entry.

use std::time::SystemTime;

use bytes::Bytes;
use presence::Boot;
use ulid::Ulid;

/// How much of a body is in a list, in bytes.
pub const PREVIEW: usize = 256;

/// How an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for its time.
    Scheduled,
    /// Nobody has it, or it was given back.
    Pending,
    /// It was handed out, and nobody has said yet what became of it.
    Delivered,
    /// A client has acknowledged it; or, where clients do not acknowledge, it was written to one.
    Acked,
    /// A client refused it for good, or it was tried too often.
    Failed,
    /// Its time to live was over first.
    Expired,
    /// It was purged, collapsed, or gave way to newer ones.
    Dropped,
}

impl State {
    /// Whether nothing more will become of it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Acked | Self::Failed | Self::Expired | Self::Dropped)
    }
}

/// What is known of an entry, also for a while after it has left its inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// How it stands.
    pub state: State,
    /// How often it was handed out.
    pub attempts: u32,
    /// Since when it stands so.
    pub since: SystemTime,
}

/// An entry that stands otherwise now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The entry's id.
    pub id: Ulid,
    /// Who is to be told.
    pub from: Boot,
    /// How it stands.
    pub status: Status,
}

/// An entry in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The entry's id.
    pub id: Ulid,
    /// Its place; none while it is scheduled.
    pub seq: Option<u64>,
    /// When it was appended.
    pub appended: SystemTime,
    /// When it is due, if it is scheduled.
    pub deliver_at: Option<SystemTime>,
    /// When it expires.
    pub expires_at: SystemTime,
    /// What it counts, in bytes.
    pub cost: u64,
    /// The beginning of its body, at most [`PREVIEW`] bytes: enough to see what it is.
    pub preview: Bytes,
    /// How it stands.
    pub status: Status,
}
