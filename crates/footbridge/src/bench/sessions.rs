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
    /// Where: session `n` at target `n`, round and round.
    pub(super) targets: &'a [Target],
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
        let Plan { targets, sessions, concurrency, destinations } = plan;
        let start = Instant::now();
        let mut opening = stream::iter((0..sessions).zip(targets.iter().cycle()))
            .map(|(index, target)| async move {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::super::floor::{Arguments, Floor, PUBLISH_PATH, serve};
    use super::super::target::{HeartBeat, Login};
    use super::*;

    /// A server of its own at `/ws`, and where to publish to its subscribers alone.
    fn node() -> [Target; 2] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let arguments = Arguments { floor: Floor::Each, destination: "/topic/a".to_owned() };
        std::thread::spawn(move || serve(&listener, arguments));
        let heart_beat = HeartBeat(0, 0);
        let login = Login { login: None, passcode: None, host: "/".to_owned(), heart_beat };
        ["/ws", PUBLISH_PATH]
            .map(|path| Target::new(&format!("ws://{address}{path}"), &login).unwrap())
    }

    #[tokio::test]
    async fn sessions_are_spread_over_the_nodes_in_turn() {
        let [(first, publish_first), (second, publish_second)] =
            [node(), node()].map(|[subscribe, publish]| (subscribe, publish));
        let received: Arc<[AtomicUsize; 5]> = Arc::default();
        let arrived = Arc::new(Notify::new());
        let plan = Plan {
            targets: &[first, second],
            sessions: 5,
            concurrency: 2,
            destinations: &["/topic/a".to_owned()],
        };
        let bar = ProgressBar::hidden();
        let _sessions = Sessions::open(plan, &bar, |session| {
            let (received, arrived) = (Arc::clone(&received), Arc::clone(&arrived));
            move |frame: &StompFrame<'_>| {
                if frame.command == b"MESSAGE" {
                    received[session].fetch_add(frame.body.len(), Ordering::Relaxed);
                    arrived.notify_one();
                }
            }
        })
        .await
        .unwrap();
        for (publish, body) in [(publish_first, "1"), (publish_second, "22")] {
            let mut publisher = Client::connect(&publish, 0, 1).await.unwrap();
            let send = format!("SEND\ndestination:/topic/a\n\n{body}\0");
            publisher.send(send.as_bytes()).await.unwrap();
        }
        let bytes = || received.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        let all = async {
            while bytes().contains(&0) {
                arrived.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("a message for each");
        assert_eq!(bytes(), [1, 2, 1, 2, 1]);
    }
}
