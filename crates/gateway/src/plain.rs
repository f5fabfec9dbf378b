//! Sessions without STOMP: WebSocket clients that send and get bare messages, text or binary.
//!
//! Who it is a client shows with its handshake, or not at all. What it sends goes to one application
//! destination; what it gets is the body of whatever is sent to its session, its user, the groups it is in, or to
//! all sessions, and what goes wrong as text. It subscribes to nothing.
//!
//! Invariants
//! - As for every session: one task owns it, it is read no further than its calls are made, a client that does
//!   not read is closed, and so is one whose principal expires.
//! - A client that answers no ping is closed an interval later.
//!
//! Not here: STOMP sessions (`session`), what is handled (`application`).

mod config;
mod session;
mod waiting;

pub use self::config::{Config, Invalid, Ping};
pub(crate) use self::session::PlainSession;
