//! Sessions over HTTP, by responses that stream: the same as over WebSocket.

#![allow(clippy::duplicate_mod, reason = "each suite brings its support along")]

#[path = "acknowledge.rs"]
mod acknowledge;
#[path = "application.rs"]
mod application;
#[path = "compat.rs"]
mod compat;
#[path = "groups.rs"]
mod groups;
#[path = "inboxes.rs"]
mod inboxes;
#[path = "queues.rs"]
mod queues;
#[path = "replies.rs"]
mod replies;
#[path = "revocation.rs"]
mod revocation;
#[path = "sessions.rs"]
mod sessions;
#[path = "users.rs"]
mod users;
