//! What an endpoint is mounted for.

use async_trait::async_trait;

use crate::answer::Answer;
use crate::connection::Connection;
use crate::request::{Head, Request};
use crate::transport::Receiving;

/// How a session's client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Over {
    /// One WebSocket.
    WebSocket,
    /// Requests of this transport, at least the first.
    Http(Receiving),
}

/// Where a session is that is not here.
pub enum Found {
    /// Nowhere else: it may begin here.
    Here,
    /// Nowhere, and it may not begin.
    Nowhere,
    /// Elsewhere, and this is what was said there; or it cannot be known now.
    Answered(Answer),
}

/// What sessions are for. Several servers may share one namespace of sessions: [`find`](Service::find) is asked
/// before one begins.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// A place for a session that is about to begin.
    type Ticket: Send + 'static;

    /// Whose session it is.
    type Owner: Send + Sync + 'static;

    /// Whether a session may begin; if not, the answer that says why.
    fn admit(&self, head: &Head, over: Over) -> Result<Self::Ticket, Box<Answer>>;

    /// Begins the session. Must not wait: it takes the connection into a task of its own.
    fn run(&self, ticket: Self::Ticket, connection: Connection);

    /// Whose a session is that begins with this request.
    fn owner(&self, head: &Head) -> Self::Owner;

    /// Whether a further request is of the session's owner: if not there is no such session for it.
    async fn is_owner(&self, owner: &Self::Owner, head: &Head) -> bool;

    /// Where a session is that a request names and that is not here. `opens` says that the request would begin
    /// it.
    async fn find(&self, id: &str, opens: bool, request: &mut Request) -> Found {
        let _ = (id, request);
        if opens { Found::Here } else { Found::Nowhere }
    }

    /// A session over HTTP that was [found](Service::find) to be here is over, or did not begin. On return its id may
    /// begin another.
    async fn forgotten(&self, id: &str) {
        let _ = id;
    }
}
