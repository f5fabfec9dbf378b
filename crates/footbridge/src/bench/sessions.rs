//! Many sessions, opened with bounded concurrency and then read until dropped.
//!
//! A session is read from the moment it is open, so that its heart-beats and pongs go out while
//! the others are still connecting (RabbitMQ closes one that is silent for 60 s).

use std::future::pending;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

use super::client::{Client, ClientError};
use super::frame::StompFrame;
use super::tally::latencies;
use super::target::Target;

/// What to open.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// Where.
    pub(super) target: &'a Target,
    /// How many sessions.
    pub(super) sessions: usize,
    /// How many may be connecting at a time.
    pub(super) concurrency: usize,
    /// What each subscribes to.
    pub(super) destinations: &'a [String],
}

/// Open sessions. Dropping it closes their sockets.
#[derive(Debug)]
pub(super) struct Sessions {
    /// One task per session; it ends only when the session fails.
    tasks: JoinSet<(usize, ClientError)>,
    /// From TCP connect to the last RECEIPT of each, in nanoseconds.
    pub(super) opening: Histogram<u64>,
    /// From the first connect until all were open.
    pub(super) elapsed: Duration,
}

impl Sessions {
    /// Opens them; `show(n)` makes what session `n` does with its STOMP frames. The first
    /// failure ends it.
    pub(super) async fn open<Show, Each>(
        plan: Plan<'_>,
        progress: &ProgressBar,
        show: Show,
    ) -> anyhow::Result<Self>
    where
        Show: Fn(usize) -> Each,
        Each: FnMut(&StompFrame<'_>) + Send + 'static,
    {
        let Plan { target, sessions, concurrency, destinations } = plan;
        let start = Instant::now();
        let mut opening = stream::iter(0..sessions)
            .map(|index| async move {
                let start = Instant::now();
                let opened = async {
                    let mut client = Client::connect(target, index, sessions).await?;
                    client.subscribe(destinations).await?;
                    Ok::<_, ClientError>(client)
                };
                (index, opened.await, start.elapsed())
            })
            .buffer_unordered(concurrency);
        let mut open =
            Self { tasks: JoinSet::new(), opening: latencies(), elapsed: Duration::ZERO };
        loop {
            let opened = tokio::select! {
                opened = opening.next() => opened,
                error = open.failure() => return Err(error),
            };
            let Some((index, client, took)) = opened else { break };
            let mut client =
                client.with_context(|| format!("opening session {} of {sessions}", index + 1))?;
            open.opening.saturating_record(took.as_nanos() as u64);
            let mut show = show(index);
            open.tasks.spawn(async move { (index, client.read_on(&mut show).await) });
            progress.inc(1);
        }
        open.elapsed = start.elapsed();
        Ok(open)
    }

    /// Waits until a session fails. Dropping the future loses nothing.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((index, error))) => {
                anyhow::Error::new(error).context(format!("session {} ended", index + 1))
            }
            Some(Err(panic)) => panic.into(),
            None => pending().await,
        }
    }
}
