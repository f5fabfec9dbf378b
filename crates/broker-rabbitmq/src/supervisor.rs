//! Keeps one connection: opens it, watches it, and opens the next when it ends.
//!
//! Invariants
//! - There is at most one live link at a time, and everyone sees it change through [`Links`].
//! - No error ends the supervisor: each is named in the state and the log, and tried again. The same
//!   error again is nothing new.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use broker::Link as State;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::link::{Link, Links, News};
use crate::metrics::Metrics;
use crate::status::{Part, Status};

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How many reasons are told of one outage: of several addresses each may have its own.
const TOLD: usize = 16;

/// What opens one connection again and again.
pub(crate) struct Supervisor {
    pub(crate) config: Arc<Config>,
    pub(crate) status: Arc<Status>,
    pub(crate) metrics: Arc<Metrics>,
    /// Which connection it is: [`Part::Publish`], [`Part::Consume`] or [`Part::Apart`].
    pub(crate) part: Part,
    /// What RabbitMQ shows as the connection's name.
    pub(crate) name: String,
    pub(crate) closing: CancellationToken,
    /// The reasons that were told since the connection was up. Held for a lookup.
    pub(crate) told: Mutex<HashSet<String>>,
}

/// Pauses that double from [`FIRST_PAUSE`] up to a longest, each shortened at random by up to half,
/// so that nodes that lost RabbitMQ together do not come back together.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Supervisor {
    /// Starts it; it ends with `closing`, after its good-bye.
    pub(crate) fn start(self, tasks: &TaskTracker) -> Links {
        let (links, receiver) = watch::channel(None);
        tasks.spawn(self.run(links));
        receiver
    }

    async fn run(self, links: watch::Sender<Option<Arc<Link>>>) {
        let mut pauses = Pauses::new(self.config.reconnect_pause);
        let mut generation = 0;
        let mut opened_before = false;
        loop {
            generation += 1;
            let link = tokio::select! {
                link = self.open(generation) => link,
                () = self.closing.cancelled() => return,
            };
            if let Some(link) = link.map(Arc::new) {
                let since = Instant::now();
                if std::mem::replace(&mut opened_before, true) {
                    self.metrics.reconnected(self.part);
                }
                links.send_replace(Some(link.clone()));
                tokio::select! {
                    () = link.watch(|news| self.tell(news)) => {}
                    () = self.closing.cancelled() => {
                        link.close().await;
                        return;
                    }
                }
                links.send_replace(None);
                // One that ended at once is as good as none.
                if since.elapsed() > self.config.reconnect_pause {
                    pauses.reset();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pauses.next()) => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// Tries each URI once.
    async fn open(&self, generation: u64) -> Option<Link> {
        let missed = |why| self.down(why);
        let (link, place) = Link::open_any(&self.config, &self.name, generation, missed).await?;
        tracing::info!(rabbitmq = place, connection = self.name, "connected");
        self.told.lock().clear();
        self.status.set(self.part, State::Up);
        Some(link)
    }

    fn tell(&self, news: News) {
        match news {
            News::Blocked(reason) => {
                tracing::warn!(connection = self.name, reason, "RabbitMQ takes no publishes");
                self.status.set(self.part, State::Blocked(reason));
            }
            News::Unblocked => {
                tracing::info!(connection = self.name, "RabbitMQ takes publishes again");
                self.status.set(self.part, State::Up);
            }
            News::Ended(why) => self.down(format!("lost the connection to RabbitMQ: {why}")),
        }
    }

    fn down(&self, reason: String) {
        let is_news = {
            let mut told = self.told.lock();
            told.len() < TOLD && told.insert(reason.clone())
        };
        if is_news {
            tracing::warn!(connection = self.name, "{reason}");
        } else {
            tracing::debug!(connection = self.name, "{reason}");
        }
        self.status.set(self.part, State::Down(reason));
    }
}

impl Pauses {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { next: FIRST_PAUSE.min(longest), longest }
    }

    pub(crate) fn reset(&mut self) {
        self.next = FIRST_PAUSE.min(self.longest);
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let longest = Duration::from_millis(350);
        let mut pauses = Pauses::new(longest);
        for full in [100, 200, 350, 350].map(Duration::from_millis) {
            let pause = pauses.next();
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
        pauses.reset();
        assert!(pauses.next() <= FIRST_PAUSE);
    }
}
