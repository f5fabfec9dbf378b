//! The keys that an issuer publishes at a URL.
//!
//! One task fetches them: at the start, after `max_age`, and when somebody asks because a token names a key
//! that is not known. Whoever asks waits for the one fetch that answers all.
//!
//! Invariants
//! - There is never more than one fetch at once.
//! - Two fetches are at least `min_interval` apart, whoever asks and whatever tokens say.
//! - The last good set stays in use until there is another one, however long the URL is away.
//!
//! The one queue, of those who ask, has one place: an asker that finds it taken is answered with the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::fetch::Fetch;
use super::key::{KeySet, Secrets};

/// The published keys. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Published {
    known: watch::Receiver<Known>,
    ask: mpsc::Sender<()>,
    min_interval: Duration,
    task: JoinHandle<()>,
}

/// What is known of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The last good set.
    pub(crate) keys: Option<Arc<KeySet>>,
    /// Why the last fetch failed, if it did.
    pub(crate) failure: Option<Arc<str>>,
    /// How many fetches there were.
    fetches: u64,
    /// When the last one ended.
    at: Option<Instant>,
}

/// How often to fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// When a good set is fetched again without being asked.
    pub(crate) max_age: Duration,
    /// The least time between two fetches, and the pause after one that failed. More than nothing.
    pub(crate) min_interval: Duration,
}

impl Published {
    /// Begins to fetch.
    pub(crate) fn start(fetch: Fetch, pace: Pace) -> Self {
        let (publish, known) = watch::channel(Known::default());
        let (ask, asked) = mpsc::channel(1);
        let task = tokio::spawn(follow(fetch, pace, asked, publish));
        Self { known, ask, min_interval: pace.min_interval, task }
    }

    /// What is known, after the first fetch has ended.
    pub(crate) async fn known(&self) -> Known {
        self.after(0).await
    }

    /// What is known once it is newer than `seen`; the same if it is too early to ask again.
    pub(crate) async fn newer(&self, seen: &Known) -> Known {
        let latest = self.known.borrow().clone();
        if latest.fetches > seen.fetches {
            return latest;
        }
        if seen.at.is_some_and(|at| at.elapsed() < self.min_interval) {
            return latest;
        }
        // If it is full somebody asked already, and the answer is for all.
        let _ = self.ask.try_send(());
        self.after(seen.fetches).await
    }

    /// Why the last fetch failed, if it did.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.known.borrow().failure.clone()
    }

    async fn after(&self, fetches: u64) -> Known {
        let mut known = self.known.clone();
        // The task ends with this; if it died, what was known last must do.
        match known.wait_for(|known| known.fetches > fetches).await {
            Ok(known) => known.clone(),
            Err(_) => self.known.borrow().clone(),
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    fetch: Fetch,
    pace: Pace,
    mut asked: mpsc::Receiver<()>,
    publish: watch::Sender<Known>,
) {
    loop {
        let answer = match fetch.get().await {
            Ok(json) => KeySet::of_jwks(&json, Secrets::Published),
            Err(why) => Err(why.to_string()),
        };
        // Whoever asked meanwhile is answered with this.
        while asked.try_recv().is_ok() {}
        let now = Instant::now();
        let failed = answer.is_err();
        publish.send_modify(|known| {
            known.fetches += 1;
            known.at = Some(now);
            match answer {
                Ok(keys) => {
                    if !keys.skipped.is_empty() {
                        tracing::debug!(skipped = ?keys.skipped, "jwks_url has keys of no use here");
                    }
                    known.keys = Some(Arc::new(keys));
                    known.failure = None;
                }
                Err(why) => {
                    tracing::warn!(%why, kept = known.keys.is_some(), "jwks_url gave no keys");
                    known.failure = Some(why.into());
                }
            }
        });
        let rest = if failed { pace.min_interval } else { pace.max_age.max(pace.min_interval) };
        tokio::select! {
            () = sleep_until(now + rest) => {}
            asked = asked.recv() => {
                if asked.is_none() {
                    return;
                }
                sleep_until(now + pace.min_interval).await;
            }
        }
    }
}
