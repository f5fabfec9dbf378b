//! Sessions over WebSocket with SockJS's framing: the same as without.

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
