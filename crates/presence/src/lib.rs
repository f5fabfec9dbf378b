//! Who is online, on which node; and groups.
//!
//! [`Presence`] keeps sessions, per user and per node, and tells who comes and goes; [`Groups`] keeps
//! named sets of users and sessions; [`Owners`] says which node holds a session that its client named.
//! [`MemoryPresence`] does all of it for one process, [`RedisPresence`] for all nodes that share a Redis. [`targets`] says to which nodes a message to a user goes, [`Roster`]
//! which nodes there are.
//!
//! Invariants
//! - A registered session is found by every lookup until it ends or its node dies.
//! - A wrong answer is worse than none: an answer says what vouches for it, and [`targets`] believes the
//!   store's silence about a node only if the node and the store agree that the store knows it.
//! - No call waits longer than a bound for a store that does not answer.
//! - Names of users and groups are any text; none collides with the syntax of a store's keys.
//!
//! Not here: who somebody is, how messages and announcements travel, what a session does. Every
//! implementation passes the `contract` suite.

mod boot;
mod config;
#[cfg(feature = "contract")]
pub mod contract;
mod event;
mod group;
mod lookup;
mod memory;
mod name;
mod owners;
mod page;
mod presence;
#[cfg(feature = "redis")]
mod redis;
mod roster;
mod session;
mod state;
mod targets;

pub use boot::Boot;
pub use config::{Config, Invalid};
pub use event::{BACKLOG, Ending, Event, Events, Missed};
pub use group::{GroupError, Groups, MAX_MEMBERS, Member};
pub use lookup::{Epoch, Lookup};
pub use memory::MemoryPresence;
pub use name::{GroupName, MAX_NAME, NotAName, SessionName, UserName};
pub use owners::{Claim, Owners};
pub use page::{Cursor, MAX_PAGE, Page, PageRequest};
pub use presence::{Count, OnlineUser, Presence, RegisterError, Unavailable};
#[cfg(feature = "redis")]
pub use redis::{RedisConfig, RedisPresence, Url};
pub use roster::{ANNOUNCE_EVERY, Announcement, MAX_NODES, Roster, SILENCE};
pub use session::{
    Attributes, MAX_ATTRIBUTES, MAX_DEPTH, MAX_TEXT, NotASessionId, Session, SessionId, TooMuch,
};
pub use state::{Link, State};
pub use targets::targets;
