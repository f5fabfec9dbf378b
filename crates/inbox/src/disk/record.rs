//! What is in a row of the file. Numbers of fields are never used for something else.

use bytes::Bytes;
use bytestring::ByteString;
use presence::Boot;
use prost::Message;
use ulid::Ulid;

use super::time;
use crate::{Change, Draft, Entry, PREVIEW, State, Status};

/// What an entry is, from its append to its end.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    from: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
    #[prost(string, optional, tag = "5")]
    pub(super) collapse: Option<String>,
    /// In milliseconds since 1970, as all times here.
    #[prost(uint64, tag = "6")]
    pub(super) appended: u64,
    #[prost(uint64, tag = "7")]
    pub(super) expires: u64,
    /// 0 if it is for now.
    #[prost(uint64, tag = "8")]
    pub(super) deliver: u64,
    #[prost(uint64, tag = "9")]
    pub(super) cost: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// How an entry in its place stands.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Mark {
    #[prost(uint32, tag = "1")]
    pub(super) attempts: u32,
    /// Until when somebody holds it, or it is left alone after a refusal; 0 is neither.
    #[prost(uint64, tag = "2")]
    pub(super) until: u64,
    /// Whether somebody holds it.
    #[prost(bool, tag = "3")]
    pub(super) held: bool,
    /// Whether it has failed and is to be buried.
    #[prost(bool, tag = "4")]
    pub(super) failed: bool,
    /// Since when it stands so.
    #[prost(uint64, tag = "5")]
    pub(super) since: u64,
    /// When it is told again that it has failed.
    #[prost(uint64, tag = "6")]
    pub(super) told_again: u64,
}

/// An inbox.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Head {
    #[prost(fixed64, tag = "1")]
    pub(super) epoch: u64,
    /// The last sequence number that was given.
    #[prost(uint64, tag = "2")]
    pub(super) last: u64,
    /// How many entries there are, scheduled ones included.
    #[prost(uint64, tag = "3")]
    pub(super) messages: u64,
    #[prost(uint64, tag = "4")]
    pub(super) bytes: u64,
    /// When it is looked at next; 0 is never.
    #[prost(uint64, tag = "5")]
    pub(super) look: u64,
    /// Those that have left it are remembered by numbers from here on.
    #[prost(uint64, tag = "6")]
    pub(super) first_gone: u64,
    /// The number of the next that leaves.
    #[prost(uint64, tag = "7")]
    pub(super) next_gone: u64,
}

/// Where the entry of an id is, or how it ended.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Where {
    /// 0 if it is not in its place.
    #[prost(uint64, tag = "1")]
    pub(super) seq: u64,
    /// When it is due, if it is scheduled; 0 otherwise.
    #[prost(uint64, tag = "2")]
    pub(super) deliver: u64,
    /// How it ended: 0 if it has not.
    #[prost(uint32, tag = "3")]
    pub(super) ended: u32,
    #[prost(uint32, tag = "4")]
    pub(super) attempts: u32,
    #[prost(uint64, tag = "5")]
    pub(super) since: u64,
}

/// Ends of entries by what stands for them.
const ENDS: [(u32, State); 4] =
    [(1, State::Acked), (2, State::Failed), (3, State::Expired), (4, State::Dropped)];

impl Record {
    /// The beginning of the body. A copy, for a part would keep the whole in memory.
    pub(super) fn preview(&self) -> Bytes {
        Bytes::copy_from_slice(&self.body[..self.body.len().min(PREVIEW)])
    }

    pub(super) fn new(draft: &Draft, now: u64, expires: u64, deliver: u64) -> Self {
        let header = |(name, value): &(ByteString, ByteString)| Header {
            name: name.to_string(),
            value: value.to_string(),
        };
        Self {
            id: draft.id.to_bytes().to_vec(),
            from: draft.from.ulid().to_bytes().to_vec(),
            headers: draft.headers.iter().map(header).collect(),
            body: draft.body.clone(),
            collapse: draft.collapse.as_ref().map(ToString::to_string),
            appended: now,
            expires,
            deliver,
            cost: draft.cost(),
        }
    }

    pub(super) fn id(&self) -> Ulid {
        ulid(&self.id)
    }

    pub(super) fn from(&self) -> Boot {
        Boot::new(ulid(&self.from))
    }

    pub(super) fn entry(self, seq: u64, attempts: u32) -> Entry {
        let (id, from) = (self.id(), self.from());
        let header = |Header { name, value }: Header| (name.into(), value.into());
        let headers = self.headers.into_iter().map(header).collect();
        Entry { seq, id, from, headers, body: self.body, attempts }
    }

    pub(super) fn change(&self, state: State, attempts: u32, since: u64) -> Change {
        let status = Status { state, attempts, since: time(since) };
        Change { id: self.id(), from: self.from(), status }
    }

    /// How many bytes of headers and body it hands out.
    pub(super) fn size(&self) -> u64 {
        self.cost.saturating_sub(128)
    }
}

fn ulid(bytes: &[u8]) -> Ulid {
    // Another length is not written.
    bytes.try_into().map_or_else(|_| Ulid::nil(), Ulid::from_bytes)
}

impl Mark {
    pub(super) fn state(&self, now: u64) -> State {
        match (self.failed, self.held && self.until > now) {
            (true, _) => State::Failed,
            (false, true) => State::Delivered,
            (false, false) => State::Pending,
        }
    }

    /// Whether somebody holds it.
    pub(super) fn is_held(&self, now: u64) -> bool {
        self.held && self.until > now
    }

    /// Whether whoever comes may have it.
    pub(super) fn is_free(&self, now: u64) -> bool {
        !self.failed && self.until <= now
    }
}

impl Where {
    pub(super) fn ended(state: State, attempts: u32, since: u64) -> Self {
        let ended = ENDS.iter().find(|(_, end)| *end == state).map_or(0, |(number, _)| *number);
        Self { ended, attempts, since, ..Self::default() }
    }

    /// How it ended, if it has.
    pub(super) fn end(&self) -> Option<Status> {
        let (_, state) = ENDS.iter().find(|(number, _)| *number == self.ended)?;
        Some(Status { state: *state, attempts: self.attempts, since: time(self.since) })
    }
}

/// What `bytes` are. Damage to rows is found when the file is opened; a row that cannot be read is as empty.
pub(super) fn read<T: Message + Default>(bytes: &[u8]) -> T {
    T::decode(bytes).unwrap_or_default()
}
