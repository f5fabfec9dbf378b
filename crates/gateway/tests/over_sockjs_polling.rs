//! Sessions over HTTP, by one response for each frame: the same as over WebSocket.

#![allow(clippy::duplicate_mod, reason = "each suite brings its support along")]

#[path = "acknowledge.rs"]
mod acknowledge;
#[path = "inboxes.rs"]
mod inboxes;
#[path = "queues.rs"]
mod queues;
#[path = "replies.rs"]
mod replies;
#[path = "users.rs"]
mod users;
