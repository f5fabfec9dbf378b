//! The published description of SockJS 0.3.3, point by point, on the services of the example. PROTOCOL.md says which
//! test stands for what.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod closing;
mod cookies;
mod encoding;
mod hostile;
mod http;
mod polling;
mod resources;
mod session_urls;
mod streaming;
mod support;
mod table;
mod websockets;

#[path = "../../examples/services/routes.rs"]
mod routes;
