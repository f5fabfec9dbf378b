//! The server of SockJS 0.3.3: WebSocket for browsers, and for pages, proxies and browsers that cannot have
//! it, the same over HTTP.
//!
//! An [`Endpoint`] is everything below one path. A [`Service`] is what its sessions are for: it gets a
//! [`Connection`] for each, whatever the transport. [`filter`] mounts an endpoint in warp.
//!
//! ```text
//! filter -> endpoint -> route
//!             |-> iframe, info, greeting
//!             |-> upgrade ----------------------> websocket --.
//!             '-> sessions -> session <- receiving, turn       |
//!                               '-----------------------> connection -> service
//! ```
//!
//! Invariants
//! - Messages reach the other side in order, each once, or the session ends.
//! - A client's session is bounded in what it holds: one frame's worth for the client, `max_request` from it.
//!   The server's end waits while its client takes nothing; the client waits while its server does not.
//! - An id that a client chose is known to nobody but this crate and [`Service::find`].
//!
//! Not here: what messages mean, who clients are, how several servers share sessions.

mod answer;
mod config;
mod connection;
mod endpoint;
mod filter;
mod frame;
mod framing;
mod iframe;
mod payload;
mod receiving;
mod request;
mod route;
mod service;
mod session;
mod sessions;
mod transport;
mod turn;
mod upgrade;
mod websocket;

pub use answer::Answer;
pub use config::{Config, Invalid};
pub use connection::{Connection, Over as SessionOver, ReceiveError, Received};
pub use endpoint::Endpoint;
pub use filter::{Peer, below, filter};
pub use framing::Framing;
pub use request::{Body, BodyError, Head, Held, Hold, Request};
pub use service::{Found, Over, Service};
pub use transport::Receiving;
