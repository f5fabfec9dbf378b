//! The trait: a store of inboxes.

use std::time::SystemTime;

use async_trait::async_trait;
use bytestring::ByteString;
use presence::{Page, PageRequest, UserName};
use ulid::Ulid;

use crate::{Address, Change, Draft, Entry, Error, Listed, Position, Status};

/// A store of inboxes, which all nodes share or which is one process's own.
///
/// No call waits longer for a store than a bound of the implementation. Calls about one inbox take effect one
/// after the other.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Appends `draft` to each of `to`, at most 1,000 of them and none twice, all of which [fit](Address::fits).
    /// Says what became of it in each, in their order. On return it is durable, and its users are known.
    ///
    /// # Errors
    /// After [`Error::Unknown`] some may have it and others not; with an idempotency key it can be said again.
    /// After any other error none has it.
    async fn append(&self, to: &[Address], draft: &Draft) -> Result<Vec<Appended>, Error>;

    /// Claims and returns what a subscriber may be given, at most [`Take::limit`] entries and (but for the
    /// first) [`Take::max_bytes`]:
    ///
    /// 1. of the entries up to [`Take::after`] those that nobody holds: they were refused and their pause is
    ///    over, or were given back, or were not settled within `ack_wait`;
    /// 2. the entries behind it, whether others hold them or not: each subscriber gets each of them.
    ///
    /// Both in the order of their numbers. A claim on an entry that nobody holds counts one attempt, a claim on
    /// one that is held does not. One that was tried too often is not returned; it has failed.
    ///
    /// # Errors
    /// After [`Error::Unknown`] entries may count as claimed, which marks them the next time.
    async fn take(&self, take: &Take<'_>) -> Result<Taken, Error>;

    /// Says what became of entries of an inbox that were taken from it. What is not there any more, and what is
    /// of another epoch, is left out. Many calls at once share their way to the store.
    async fn settle(
        &self,
        of: &Address,
        epoch: u64,
        settlements: &[(u64, Settlement)],
    ) -> Result<Settled, Error>;

    /// Forgets failed entries that [`Settled::failed`], [`Taken::failed`] or [`Advanced::failed`] told of, once
    /// they are published elsewhere; needed only with `keeps_failed`.
    async fn bury(&self, of: &Address, ids: &[Ulid]) -> Result<(), Error>;

    /// Moves on what time moves on: what was scheduled and is due takes its place, what has lived too long
    /// expires. Many processes may call it at once and again and again; each change is told to one of them. An
    /// outbox in which something can be taken is told as due again after each `ack_wait`, for who was told may
    /// have died; users look for themselves.
    async fn advance(&self) -> Result<Advanced, Error>;

    /// How each of some entries of an inbox stands, in their order; none for one that is not, or no longer,
    /// known.
    async fn status(&self, of: &Address, ids: &[Ulid]) -> Result<Vec<Option<Status>>, Error>;

    /// A page of what is in an inbox: in its order, and then what is scheduled, by its time.
    async fn list(&self, of: &Address, page: &PageRequest) -> Result<Page<Listed>, Error>;

    /// The epoch of an inbox, by which its entries are settled; 0 of one that is not there.
    async fn epoch(&self, of: &Address) -> Result<u64, Error>;

    /// How much is in an inbox.
    async fn count(&self, of: &Address) -> Result<Count, Error>;

    /// The paths at which `user` has inboxes with anything in them, in order.
    async fn paths(&self, user: &UserName) -> Result<Vec<ByteString>, Error>;

    /// Drops entries of an inbox. The changes are those that were made.
    async fn purge(&self, of: &Address, which: &Purge) -> Result<Settled, Error>;

    /// Makes users known: those of whom a message to everybody is for.
    async fn know(&self, users: &[UserName]) -> Result<(), Error>;

    /// A page of the users who are known, in an order that stays.
    async fn known(&self, page: &PageRequest) -> Result<Page<UserName>, Error>;

    /// Forgets a user and all its inboxes with all that is in them.
    async fn forget(&self, user: &UserName) -> Result<(), Error>;
}

/// What became of an append to one inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is in its place.
    Stored {
        /// Where.
        at: Position,
        /// What gave way to it.
        dropped: Vec<Change>,
    },
    /// It waits for its time.
    Scheduled {
        /// What gave way to it.
        dropped: Vec<Change>,
    },
    /// The same idempotency key came before, with the message of this id.
    Known {
        /// The id of the message that is stored.
        id: Ulid,
    },
    /// The inbox is full.
    Full {
        /// How much it may hold and holds.
        count: Count,
    },
}

/// Who takes what.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    /// From which inbox.
    pub of: &'a Address,
    /// Behind what the subscriber had; `None` is from the beginning, and so is a position of another epoch, but
    /// for [`Position::END`].
    pub after: Option<Position>,
    /// How many entries at most, at least 1.
    pub limit: usize,
    /// How many bytes of headers and bodies at most, unless the first entry alone has more.
    pub max_bytes: u64,
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The entries, claimed.
    pub entries: Vec<Entry>,
    /// The epoch of the inbox, by which the entries are settled.
    pub epoch: u64,
    /// Up to where the subscriber has had everything now: what it takes after the next time. After
    /// [`Position::END`] it is that again.
    pub upto: Position,
    /// Whether there is more to take at once.
    pub more: bool,
    /// Which of the entries were nobody's before, and so are delivered now; and what has failed by being tried
    /// too often.
    pub changes: Vec<Change>,
    /// What has failed so and stays until it is buried, with `keeps_failed`; empty otherwise.
    pub failed: Vec<Entry>,
}

/// What became of an entry that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// Done: it leaves the inbox.
    Ack,
    /// Refused for now: it is tried again after a pause, or has failed if it was tried too often.
    Nack,
    /// Refused for good: it has failed.
    Reject,
    /// Given back: it can be taken again at once.
    Release,
}

/// What was settled or dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// The changes that were made.
    pub changes: Vec<Change>,
    /// What has failed and stays until it is buried, with `keeps_failed`; empty otherwise.
    pub failed: Vec<Entry>,
}

/// What time has moved on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advanced {
    /// Inboxes in which there is something to take that was not before.
    pub due: Vec<Address>,
    /// The changes that were made, and in which inboxes.
    pub changes: Vec<(Address, Vec<Change>)>,
    /// What has failed a while ago and nobody has buried.
    pub failed: Vec<(Address, Entry)>,
    /// Whether more is due now, so that it is worth asking again at once.
    pub more: bool,
}

/// How much is in an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Messages that wait for their time.
    pub scheduled: u64,
    /// Messages that nobody holds.
    pub pending: u64,
    /// Messages that were handed out and are not settled.
    pub delivered: u64,
    /// Messages that have failed and are not buried.
    pub failed: u64,
    /// What all of them count, in bytes.
    pub bytes: u64,
    /// When the oldest of them was appended.
    pub oldest: Option<SystemTime>,
}

/// What to drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// These.
    Ids(Vec<Ulid>),
    /// Everything that is in it now.
    All,
}

impl Count {
    /// How many messages there are.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.scheduled + self.pending + self.delivered + self.failed
    }
}
