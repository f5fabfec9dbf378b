//! The door: who a client is, by what it shows, and how long it waits for a no.
//!
//! Invariants
//! - Whoever showed something wrong waits for the answer, longer each time, and an address with too many
//!   failures is turned away unseen; both by [`Failures`]. What may pass later counts as no failure.
//! - A wait ends before the client's time to connect does, so that it hears why it is refused.
//! - What was shown is kept until it was looked at and no longer, and is in no log.
//!
//! Not here: what a client may do once it is in ([`Access::check`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::{Access, Credentials, Failures, Principal, Refusal};
use parking_lot::Mutex;
use stomp::Title;
use tokio::time::Instant;

use crate::clock::TICK;
use crate::close::CloseReason;
use crate::relay::Refused;

/// So long before the time to connect is over a wait ends: the clock rings within a tick, and a busy
/// node may be late by more.
pub(crate) const IN_TIME: Duration = TICK.saturating_mul(4);

/// See the module.
pub(crate) struct Door {
    access: Arc<Access>,
    /// Held to count, never across an await. At most [`access::MAX_ADDRESSES`] are in it.
    failures: Mutex<Failures>,
}

impl Door {
    pub(crate) fn new(access: Arc<Access>) -> Self {
        let failures = Mutex::new(Failures::new(access.failure_limits()));
        Self { access, failures }
    }

    /// Who shows these credentials. A refusal may wait, but not beyond `connect_by`.
    pub(crate) async fn enter(
        &self,
        address: IpAddr,
        credentials: &Credentials,
        connect_by: Instant,
    ) -> Result<Principal, Refused> {
        let admitted = self.failures.lock().admit(address, Instant::now().into_std());
        if let Err(too_many) = admitted {
            return Err(Refused::new(CloseReason::Limit, too_many.to_string()));
        }
        match self.access.principal(credentials, SystemTime::now()).await {
            Ok(principal) => Ok(principal),
            Err(refusal) => {
                let latest = connect_by.checked_sub(IN_TIME).unwrap_or(connect_by);
                self.make_wait(address, &refusal, Some(latest)).await;
                Err(refused(&refusal, Title::BadConnect))
            }
        }
    }

    /// Whom a session of `current` belongs to by a fresh token, which must be of the same user.
    pub(crate) async fn renew(
        &self,
        address: IpAddr,
        current: &Principal,
        token: &str,
    ) -> Result<Principal, Refused> {
        match self.access.token(token, SystemTime::now()).await {
            Ok(fresh) if current.is_authenticated() && fresh.name == current.name => Ok(fresh),
            Ok(_) => Err(Refused::titled(
                Title::AccessRefused,
                CloseReason::Unauthenticated,
                "the token is of another user than the session: connect anew with it",
            )),
            Err(refusal) => {
                self.make_wait(address, &refusal, None).await;
                Err(refused(&refusal, Title::AccessRefused))
            }
        }
    }

    /// Counts a failure of that address and waits as long as its answer shall, or until `latest`.
    async fn make_wait(&self, address: IpAddr, refusal: &Refusal, latest: Option<Instant>) {
        let now = Instant::now();
        let wait = match refusal.may_pass_later() {
            true => Duration::ZERO,
            false => self.failures.lock().failed(address, now.into_std()),
        };
        tracing::debug!(%address, %refusal, ?wait, "turned away");
        let over = now + wait;
        tokio::time::sleep_until(latest.map_or(over, |latest| over.min(latest))).await;
    }
}

fn refused(refusal: &Refusal, title: Title) -> Refused {
    let reason = match refusal.may_pass_later() {
        true => CloseReason::Overload,
        false => CloseReason::Unauthenticated,
    };
    Refused::titled(title, reason, refusal.to_string())
}
