//! Which node holds a session that its client named.
//!
//! Such a client (SockJS) sends each request of a session by itself, and to any node. The node that opens the
//! session claims its name here, for a *lifetime*, and says again and again that it still holds it.
//!
//! Invariants
//! - A name has one owner at a time, from a claim until it is released or its lifetime is over.
//! - A claim that is answered is stored. One that is not may be, and is then over by itself.
//!
//! A store that loses what it had forgets owners: until the next [`Owners::keep`] another node may claim the
//! name, and the one before is told so.
//!
//! Not here: the sessions, and how a request gets to the owner.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Boot, SessionName, Unavailable};

/// Which node holds which of the sessions that clients named.
#[async_trait]
pub trait Owners: Send + Sync {
    /// Makes `boot` the owner for `lifetime` from now, unless another is. Whoever is already gets the new
    /// lifetime.
    async fn claim(
        &self,
        session: &SessionName,
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Claim, Unavailable>;

    /// Who owns it.
    async fn owner(&self, session: &SessionName) -> Result<Option<Boot>, Unavailable>;

    /// Claims all of them, and says which another has.
    async fn keep(
        &self,
        sessions: &[SessionName],
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Vec<SessionName>, Unavailable>;

    /// They have no owner any more, where that was `boot`.
    async fn release(&self, sessions: &[SessionName], boot: Boot) -> Result<(), Unavailable>;
}

/// Whose a session is after a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Whose claim it was.
    Ours,
    /// Another node's.
    Of(Boot),
}

impl Claim {
    /// What `boot` has got where `owner` is.
    pub(crate) fn of(owner: Boot, boot: Boot) -> Self {
        if owner == boot { Self::Ours } else { Self::Of(owner) }
    }
}
