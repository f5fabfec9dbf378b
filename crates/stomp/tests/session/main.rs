//! The server's session, told as transcripts.
//!
//! `>` a frame from the client (`|` before its body), `+` milliseconds pass, `!` what the gateway
//! decides; everything else is what the session does: `<` a frame to the client, `=` an action.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod acknowledge;
mod compat;
mod connect;
mod frames;
mod script;
mod time;
mod transactions;
