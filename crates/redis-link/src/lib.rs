//! The way to Redis: one connection that all of a process share, and whoever opens the next when it ends.
//!
//! A [`Link`] keeps a connection open and sends over it whatever many callers ask at once. [`Scripts`] are
//! what runs in Redis; each connection has them loaded before anybody gets it.
//!
//! Invariants
//! - No question waits longer than `command_timeout`, and none is sent twice to a single server. (A Cluster's
//!   connection sends it a second time where the node went away.)
//! - An error tells what was certainly not sent, what a server refused, and what nobody knows.
//! - A password is in no text.
//!
//! Not here: what is stored in Redis, under which keys.

mod config;
mod failure;
mod link;
mod script;

pub use config::{Invalid, RedisConfig, Url};
pub use failure::Failure;
pub use link::{Answers, Line, Link};
pub use script::{Lua, Scripts};
