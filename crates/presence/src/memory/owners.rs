//! Owners of sessions in memory.
//!
//! Invariant: what is over counts as not there, and is swept away whenever there are twice as many as were
//! left by the sweep before.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{MemoryPresence, until};
use crate::owners::{Claim, Owners};
use crate::{Boot, SessionName, Unavailable};

#[derive(Debug, Default)]
pub(super) struct MemoryOwners {
    owners: HashMap<SessionName, (Boot, Instant)>,
    /// How many there may be before those that are over are swept away.
    swept_at: usize,
}

impl MemoryOwners {
    fn owner(&self, session: &SessionName, now: Instant) -> Option<Boot> {
        self.owners.get(session).filter(|(_, end)| *end > now).map(|(boot, _)| *boot)
    }

    fn claim(&mut self, session: &SessionName, boot: Boot, lifetime: Duration) -> Claim {
        let now = Instant::now();
        let owner = self.owner(session, now).unwrap_or(boot);
        if owner == boot {
            if self.owners.len() >= self.swept_at {
                self.owners.retain(|_, (_, end)| *end > now);
                self.swept_at = (self.owners.len() * 2).max(1_024);
            }
            self.owners.insert(session.clone(), (boot, until(now, lifetime)));
        }
        Claim::of(owner, boot)
    }
}

#[async_trait]
impl Owners for MemoryPresence {
    async fn claim(
        &self,
        session: &SessionName,
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Claim, Unavailable> {
        Ok(self.shared.owners.lock().claim(session, boot, lifetime))
    }

    async fn owner(&self, session: &SessionName) -> Result<Option<Boot>, Unavailable> {
        Ok(self.shared.owners.lock().owner(session, Instant::now()))
    }

    async fn keep(
        &self,
        sessions: &[SessionName],
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Vec<SessionName>, Unavailable> {
        let mut owners = self.shared.owners.lock();
        let mut lost = sessions.to_vec();
        lost.retain(|session| owners.claim(session, boot, lifetime) != Claim::Ours);
        Ok(lost)
    }

    async fn release(&self, sessions: &[SessionName], boot: Boot) -> Result<(), Unavailable> {
        let mut owners = self.shared.owners.lock();
        for session in sessions {
            if owners.owners.get(session).is_some_and(|(owner, _)| *owner == boot) {
                owners.owners.remove(session);
            }
        }
        Ok(())
    }
}
