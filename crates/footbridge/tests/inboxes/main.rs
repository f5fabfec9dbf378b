//! What is stored for users: by three gateways and a notifier with Redis, whatever is killed or away, and by one
//! node alone, on disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod alone;
mod away;
mod cluster;
mod killed;
mod readers;
mod senders;
#[path = "../support/mod.rs"]
mod support;
