//! What waits for a user: messages that are stored before they are sent, until their user's client has them.
//!
//! An [`Inbox`] is the store of all inboxes. Each is named by an [`Address`], a user and a destination within
//! it, and is a line of [`Entry`]s in the order of their sequence numbers. [`Inbox::append`] puts one at the
//! end, [`Inbox::take`] claims what a subscriber has not had yet, [`Inbox::settle`] says what became of it.
//! What is to come later, or ends by itself, is moved on by [`Inbox::advance`].
//!
//! ```text
//!             deliver-at                 take                      Ack
//! (scheduled) ─────────► (pending) ────────────► (delivered) ──────────► acked
//!                            ▲   Nack, Release, ack_wait │ Reject, too many attempts
//!                            └───────────────────────────┴─────────────► failed
//!  in any of these: time to live over ► expired; purge, collapse, overflow ► dropped
//! ```
//!
//! Invariants
//! - What [`append`](Inbox::append) has answered survives the death of the process and of the machine that
//!   the store is on, as far as the store says so ([`Error::NotDurable`] otherwise).
//! - Within one inbox sequence numbers rise and are never given twice in one epoch. An inbox that lost what it
//!   had begins another epoch, and nothing of it is skipped.
//! - A claim is stored before its entry is handed out, so an entry that may have been delivered before is
//!   always known as such.
//! - Nothing that was accepted leaves the store but by being settled, by its time to live, or by an order.
//!
//! Not here: who may read what, how nodes tell each other that something came, what a client gets.

mod address;
mod config;
#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "disk")]
mod disk;
mod durable;
mod entry;
mod error;
mod inbox;
#[cfg(feature = "redis")]
mod redis;
mod status;

pub use self::address::{Address, MAX_PATH};
pub use self::config::{Config, Invalid, Overflow, Store};
#[cfg(feature = "disk")]
pub use self::disk::DiskInbox;
pub use self::durable::Durable;
pub use self::entry::{Draft, Entry, Position};
pub use self::error::Error;
pub use self::inbox::{Advanced, Appended, Count, Inbox, Purge, Settled, Settlement, Take, Taken};
#[cfg(feature = "redis")]
pub use self::redis::{Durability, RedisInbox};
pub use self::status::{Change, Listed, PREVIEW, State, Status};
