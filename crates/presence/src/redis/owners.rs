//! Owners of sessions in Redis.
//!
//! Invariant: a name's owner is one key, changed by one script, so that a Cluster has it in one slot.

use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;

use super::RedisPresence;
use super::script::Lua;
use super::shared::{Shared, millis};
use crate::owners::{Claim, Owners};
use crate::{Boot, SessionName, Unavailable};

impl Shared {
    fn claim(&self, session: &SessionName, boot: Boot, lifetime: Duration) -> Cmd {
        let mut claim = self.scripts.call(Lua::OwnerClaim, &[self.keys.owner(session)]);
        // Redis takes no end that is past.
        claim.arg(boot.to_string()).arg(millis(lifetime).max(1));
        claim
    }
}

/// Whoever wrote something else there is no node.
fn boot_of(text: &str) -> Result<Boot, Unavailable> {
    text.parse().map_err(|_| Unavailable("the owner of a session is no boot".to_owned()))
}

#[async_trait]
impl Owners for RedisPresence {
    async fn claim(
        &self,
        session: &SessionName,
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Claim, Unavailable> {
        let claim = self.shared.claim(session, boot, lifetime);
        let owner: String = self.shared.link.ask_one(claim).await?;
        Ok(Claim::of(boot_of(&owner)?, boot))
    }

    async fn owner(&self, session: &SessionName) -> Result<Option<Boot>, Unavailable> {
        let mut ask = redis::cmd("GET");
        ask.arg(self.shared.keys.owner(session));
        let owner: Option<String> = self.shared.link.ask_one(ask).await?;
        owner.as_deref().map(boot_of).transpose()
    }

    async fn keep(
        &self,
        sessions: &[SessionName],
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Vec<SessionName>, Unavailable> {
        let claims = sessions.iter().map(|session| self.shared.claim(session, boot, lifetime));
        let claims = claims.collect();
        let mut owners = self.shared.link.ask_many(claims, self.shared.config.batch).await?;
        let mut lost = Vec::new();
        for session in sessions {
            if owners.next::<String>()? != boot.to_string() {
                lost.push(session.clone());
            }
        }
        Ok(lost)
    }

    async fn release(&self, sessions: &[SessionName], boot: Boot) -> Result<(), Unavailable> {
        let releases = sessions.iter().map(|session| {
            let key = self.shared.keys.owner(session);
            let mut release = self.shared.scripts.call(Lua::OwnerRelease, &[key]);
            release.arg(boot.to_string());
            release
        });
        let releases = releases.collect();
        let mut released = self.shared.link.ask_many(releases, self.shared.config.batch).await?;
        for _ in sessions {
            released.next::<u64>()?;
        }
        Ok(())
    }
}
