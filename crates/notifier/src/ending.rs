//! When a stream is ended whatever its caller does, and what it is told.

use std::future;
use std::time::SystemTime;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::connection::{NOTICE, Peer};
use crate::deadline;
use crate::door::Allowed;
use crate::node::Node;

/// See the module.
pub(crate) struct Ending {
    pub(crate) stopping: CancellationToken,
    /// When the connection reaches its age.
    pub(crate) aged: Instant,
    /// The call's deadline.
    pub(crate) deadline: Option<Instant>,
    /// When the caller's token expires.
    pub(crate) expires: Option<Instant>,
}

impl Ending {
    /// Of the stream that `request` opens.
    pub(crate) fn of<T>(request: &Request<T>, node: &Node) -> Self {
        let now = Instant::now();
        let opened = request.extensions().get::<Peer>().map_or(now, |peer| peer.opened);
        let allowed = request.extensions().get::<Allowed>();
        let expires = allowed
            .and_then(|allowed| allowed.until)
            .map(|until| now + until.duration_since(SystemTime::now()).unwrap_or_default());
        Self {
            stopping: node.stopping.clone(),
            aged: opened + node.config.max_connection_age + NOTICE,
            deadline: deadline::of_call(request.metadata(), now),
            expires,
        }
    }

    /// Resolves to the stream's last answer; `so` says what that means for its caller.
    pub(crate) async fn come(self, so: &'static str) -> Status {
        let Self { stopping, aged, deadline, expires } = self;
        tokio::select! {
            () = stopping.cancelled() => {
                Status::unavailable(format!("this notifier is stopping: {so}"))
            }
            () = sleep_until(aged) => {
                Status::unavailable(format!("this connection has reached its age: {so}"))
            }
            () = at(deadline) => {
                Status::deadline_exceeded(format!("the stream's deadline is over: {so}"))
            }
            () = at(expires) => {
                Status::unauthenticated(format!("the token has expired: {so}"))
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
    }
}
