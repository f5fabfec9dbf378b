//! Sessions that are on another node: whose they are, and how a request gets there.
//!
//! A client that names its session itself (SockJS) sends each request to any node. [`Peers::owner`] says whose
//! the session is; [`Peers::forward`] hands a request over to that node's internal [`port`], and its answer back
//! as it streams. Who signs it, and how that is checked, is [`signature`]'s.
//!
//! Invariants
//! - A session opens only once the store has said that its name is this node's.
//! - A request is handed over once: whoever got it from another node answers it.
//! - A node says every [`Times::every`] which names it still holds, so that one that died has none after
//!   [`Times::lifetime`].
//! - What this node has claimed is in `held`, at most `limit` names; nothing more is claimed while it is full.
//!
//! Not here: the sessions, and what a request means.

mod config;
pub(crate) mod forwarding;
pub(crate) mod port;
pub(crate) mod signature;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use cluster::Nodes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use presence::{ANNOUNCE_EVERY, Boot, Claim, Owners, SessionName, Unavailable};
use tokio::time::{Instant, MissedTickBehavior};

pub use self::config::{Config, Invalid};
use self::forwarding::Forwarding;
pub(crate) use self::forwarding::Unreachable;
use self::signature::Key;
use crate::metrics::Metrics;

/// By when a node has heard of the others that are there: each says how it is every [`ANNOUNCE_EVERY`].
const HEARD_BY: Duration = ANNOUNCE_EVERY.saturating_mul(2);

/// How soon it is looked again whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A body that comes in pieces.
pub(crate) type BoxBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Where the client of a request is, among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Among the extensions of a request that another node handed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded;

/// See the module.
pub(crate) struct Peers {
    boot: Boot,
    owners: Arc<dyn Owners>,
    nodes: Arc<Nodes>,
    /// None where this node has no secret in common with others.
    forwarding: Option<Forwarding>,
    times: Times,
    limit: usize,
    /// The names that are claimed for this node, by when. Held for a lookup or a change, never across a wait.
    held: Mutex<HashMap<SessionName, Instant>>,
    metrics: Arc<Metrics>,
}

/// How long a claim lasts, and how often it is said again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) lifetime: Duration,
    pub(crate) every: Duration,
}

/// Whose a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This node's.
    Us,
    /// No node's.
    Nobody,
    /// That node's.
    Peer(Peer),
}

/// Another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(Boot);

impl Default for Times {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(30), every: Duration::from_secs(10) }
    }
}

impl Peers {
    /// Of the node that `owners` knows as `boot`, for at most `limit` sessions of its own.
    pub(crate) fn new(
        config: &Config,
        boot: Boot,
        owners: Arc<dyn Owners>,
        nodes: Arc<Nodes>,
        limit: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        // Whoever did not check it gets no port that strangers could sign for.
        let fit = config.listen.filter(|_| config.check().is_ok());
        let secret = fit.and_then(|_| config.secret.bytes().ok());
        let forwarding = secret.map(|secret| Forwarding::new(Key::new(&secret)));
        let (times, held) = (Times::default(), Mutex::default());
        Self { boot, owners, nodes, forwarding, times, limit, held, metrics }
    }

    /// Whose session it is. Where it is nobody's and the request `opens` it, it is this node's from now on.
    ///
    /// # Errors
    /// When the store does not say. Sessions that are on this node already need not be asked for.
    pub(crate) async fn owner(&self, session: &str, opens: bool) -> Result<Owner, Unavailable> {
        let Ok(session) = SessionName::new(session) else { return Ok(Owner::Nobody) };
        if !opens {
            let owner = self.owners.owner(&session).await?;
            return Ok(owner.map_or(Owner::Nobody, |boot| self.named(boot)));
        }
        let new = self.hold(&session)?;
        let claim = self.owners.claim(&session, self.boot, self.times.lifetime).await;
        if new.is_some() && claim != Ok(Claim::Ours) {
            let mut held = self.held.lock();
            // Another request may have claimed it meanwhile. Where none has, what may have been claimed all the
            // same is over by itself.
            if held.get(&session) == new.as_ref() {
                held.remove(&session);
            }
        }
        Ok(match claim? {
            Claim::Ours => Owner::Us,
            Claim::Of(boot) => self.named(boot),
        })
    }

    /// Sends a request to the node whose session it is about, and gives its answer back as it streams. To
    /// drop the answer, or this call, ends the request there, too.
    ///
    /// # Errors
    /// When the other node did not answer, see [`Unreachable::status`].
    pub(crate) async fn forward(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        client: IpAddr,
    ) -> Result<Response<BoxBody>, Unreachable> {
        let answer = self.try_forward(peer, request, client).await;
        match &answer {
            Ok(_) => self.metrics.forwarded_out(),
            Err(why) => {
                self.metrics.unreachable();
                tracing::debug!(node = %peer.0, %why, "a request cannot be forwarded");
            }
        }
        answer
    }

    async fn try_forward(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        client: IpAddr,
    ) -> Result<Response<BoxBody>, Unreachable> {
        if request.extensions().get::<Forwarded>().is_some() {
            return Err(Unreachable::Twice);
        }
        let forwarding = self.forwarding.as_ref().ok_or(Unreachable::Unknown)?;
        let address = self.address_of(peer.0).await.ok_or(Unreachable::Unknown)?;
        forwarding.forward(&address, request, client).await
    }

    /// Where that node takes requests. One that has come just now hears within an announcement's time where the
    /// others do, and clients would not wait for another try.
    async fn address_of(&self, boot: Boot) -> Option<ByteString> {
        let latest = Instant::now() + HEARD_BY;
        loop {
            let address = self.nodes.forward_address(boot);
            if address.is_some() || Instant::now() >= latest {
                return address;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A session of this node is over: its name is nobody's.
    pub(crate) async fn release(&self, session: &str) {
        if let Ok(session) = SessionName::new(session) {
            self.release_all(&[session]).await;
        }
    }

    /// This node has no session any more.
    pub(crate) async fn leave(&self) {
        let held: Vec<_> = self.held.lock().keys().cloned().collect();
        self.release_all(&held).await;
    }

    async fn release_all(&self, sessions: &[SessionName]) {
        {
            let mut held = self.held.lock();
            sessions.iter().for_each(|session| _ = held.remove(session));
        }
        if let Err(error) = self.owners.release(sessions, self.boot).await {
            // They are over by themselves.
            tracing::debug!(%error, "names of sessions are not given up");
        }
    }

    /// Says for ever which names this node holds, gives up those whose session is not there, and tells `lost`
    /// of those that another node has meanwhile.
    pub(crate) async fn keep(&self, is_there: impl Fn(&str) -> bool, lost: impl Fn(&str)) {
        let mut ticks = tokio::time::interval(self.times.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A session that was claimed just now may be about to begin.
            let now = Instant::now();
            let is_young = |claimed: Instant| now.duration_since(claimed) < self.times.every;
            let (kept, over): (Vec<_>, Vec<_>) = {
                let held = self.held.lock();
                let all = held.iter().map(|(session, claimed)| (session.clone(), *claimed));
                all.partition(|(session, at)| is_young(*at) || is_there(session.as_str()))
            };
            let names = |some: Vec<(SessionName, Instant)>| -> Vec<_> {
                some.into_iter().map(|(session, _)| session).collect()
            };
            self.release_all(&names(over)).await;
            let kept = names(kept);
            match self.owners.keep(&kept, self.boot, self.times.lifetime).await {
                Ok(others) => {
                    for session in others {
                        tracing::info!(session = session.as_str(), "another node has this session");
                        self.held.lock().remove(&session);
                        lost(session.as_str());
                    }
                }
                Err(error) => tracing::debug!(%error, "the names of sessions are not kept"),
            }
        }
    }

    fn named(&self, boot: Boot) -> Owner {
        if boot == self.boot { Owner::Us } else { Owner::Peer(Peer(boot)) }
    }

    /// Since when it is held, if it was not before.
    fn hold(&self, session: &SessionName) -> Result<Option<Instant>, Unavailable> {
        let mut held = self.held.lock();
        let is_new = !held.contains_key(session);
        if is_new && held.len() >= self.limit {
            return Err(Unavailable("this node has claimed as many sessions as it may".to_owned()));
        }
        let now = Instant::now();
        held.insert(session.clone(), now);
        Ok(is_new.then_some(now))
    }
}
