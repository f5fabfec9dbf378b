//! The trait: who is online, where.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::session::TooMuch;
use crate::{Boot, Events, Lookup, Page, PageRequest, Session, SessionId, State, UserName};

/// Who is online, on which node, as one node sees and tells it.
///
/// No call waits longer for a store than a bound of the implementation: in Redis `command_timeout` for each
/// round trip, and three times that for a change.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// The node for which this one registers.
    fn boot(&self) -> Boot;

    /// Registers a session of this node. On return every lookup finds it. Many calls at once share
    /// their way to the store. Whoever gives up waiting has to [`unregister`](Presence::unregister) it
    /// as after a success.
    ///
    /// # Errors
    /// After [`RegisterError::Unavailable`] the session is kept and will be registered when the store
    /// is back; [`State::registered`] is `None` before it is told, and until then. With any other error
    /// it is not kept.
    async fn register(&self, session: Session) -> Result<(), RegisterError>;

    /// Ends a session of this node; one that is not registered has ended. The session is gone from this
    /// node when the call begins to wait: what the store did not take in time is made up for when it
    /// is back, so there is nothing to repeat after an error.
    async fn unregister(&self, id: &SessionId) -> Result<(), Unavailable>;

    /// Where these users are, in one round trip, with what is needed to judge the answer (see
    /// [`targets`](crate::targets())).
    async fn lookup(&self, users: &[UserName]) -> Result<Lookup, Unavailable>;

    /// The session of that id.
    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Unavailable>;

    /// How many are online.
    async fn count(&self) -> Result<Count, Unavailable>;

    /// A page of the users who are online, in an order that stays.
    async fn users(&self, page: &PageRequest) -> Result<Page<OnlineUser>, Unavailable>;

    /// Refuses new sessions of `user` for `duration` from now, in place of what was said before. Those
    /// that are open are not touched.
    async fn ban_for(&self, user: &UserName, duration: Duration) -> Result<(), Unavailable>;

    /// Ends a ban. Says whether there was one.
    async fn lift_ban(&self, user: &UserName) -> Result<bool, Unavailable>;

    /// How long `user` is banned yet; `None` if it is not. Registering asks too.
    async fn ban_of(&self, user: &UserName) -> Result<Option<Duration>, Unavailable>;

    /// What happens from now on, as far as it is this node's to tell.
    fn events(&self) -> Events;

    /// How this node stands with the store, and every change of it.
    fn state(&self) -> watch::Receiver<State>;

    /// Says good-bye: all sessions of this node end, and with them its lease. Registers nothing any more.
    ///
    /// # Errors
    /// Then the other nodes clear away what is left, as of a node that died.
    async fn leave(&self) -> Result<(), Unavailable>;
}

/// How many are online.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Count {
    /// Users, those included who have left just now.
    pub users: u64,
    /// The sessions of each node that has a lease, in the order of the nodes.
    pub nodes: Vec<(Boot, u64)>,
}

/// A user in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineUser {
    /// Its name.
    pub user: UserName,
    /// How many sessions it has, at least one.
    pub sessions: u64,
}

/// The store did not answer, for the reason given; trying later may work. A change that was asked for
/// may or may not have been made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("presence is unavailable: {0}")]
pub struct Unavailable(pub String);

/// Why a session was not registered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RegisterError {
    /// Its user is banned.
    #[error("the user is banned for another {} s", remaining.as_secs() + 1)]
    Banned {
        /// How long yet.
        remaining: Duration,
    },
    /// Its id or its boot is not of this node.
    #[error("the session {0} is not of this node")]
    Foreign(SessionId),
    /// There is a session of that id.
    #[error("the session {0} is registered already")]
    Taken(SessionId),
    /// Something about it is longer than what is kept.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// The node has said good-bye.
    #[error("the node has left")]
    Left,
    /// The store did not take it yet; it will.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Count {
    /// How many sessions there are on all nodes.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.nodes.iter().map(|(_, sessions)| sessions).sum()
    }
}
