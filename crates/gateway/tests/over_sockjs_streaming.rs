//! Sessions over HTTP, by responses that stream: the same as over WebSocket.

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
