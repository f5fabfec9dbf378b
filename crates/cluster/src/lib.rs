//! How the nodes of a cluster reach each other's sessions.
//!
//! ```text
//! a service, a client ── Router ── letter ──► the broker ──► Inlet ── a node's sessions
//!                          │                     ▲
//!                 Presence, Nodes ───────────────┘ announcements
//! ```
//!
//! Letters travel as the bodies of topic messages: each node has a topic of its own, all have one
//! together, and each group has one. So they have what topics have: confirms, order, repeats that are
//! marked, and a node's queue that outlives its connection.
//!
//! What must not be lost is stored for its user first, and then a doorbell rings ([`Dispatcher`]).
//!
//! Nodes also tell each other, and whoever else listens, who comes and goes ([`events`]).
//!
//! Invariants
//! - A message to a user reaches every node that may hold one of its sessions, whatever the store of
//!   presence says or does not say.
//! - No queue, binding or connection in the broker is a user's own.
//!
//! Not here: who is online (crate `presence`), what is stored (crate `inbox`), which broker, what a node does with what it gets.

mod address;
mod dispatcher;
pub mod events;
mod heard_of_us;
mod hearing;
mod inlet;
mod letter;
mod nodes;
mod router;

pub use address::{EVENTS, GROUPS, NODES, NameTooLong, group};
pub use dispatcher::{Dispatcher, DispatcherParts, NOBODY};
pub use inlet::{Inlet, Received, read};
pub use letter::{Addressed, Content, Doorbell, Letter, Ring, Target, Told, Unreadable};
pub use nodes::{Nodes, Unheard};
pub use router::{Known, Outbound, Router, SendError, Sent, meets};
