//! What one caller sends through one gRPC stream, and what of it has arrived.
//!
//! Message `n` to single users goes to user `n * step % users`, so that neighbours are not neighbours in
//! the server; each user gets every `users`-th message, in order.
//!
//! Invariants
//! - A message is on its way from when the stream asks for it until all whom it is for have it; at most
//!   `window` are.
//! - Every request is answered in order; an answer that is a failure ends the run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{anyhow, ensure};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{
    Message, PublishRequest, SendRequest, publish_stream_response, send_stream_response,
};
use tokio::sync::{Notify, Semaphore};

use super::message::Stamp;
use super::tally::{Faults, Tally, latencies};
use crate::grpc::{Notifier, reason};

/// See the module.
pub(super) struct Outflow {
    /// Counted under a lock that is never contended: all tasks are on one thread.
    counted: Mutex<Counted>,
    /// One permit per message that may be sent; one that is done gives its back.
    window: Semaphore,
    /// A message is done.
    message_done: Notify,
}

/// How messages are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flowing {
    /// Bytes of each body.
    pub(super) size: usize,
    pub(super) persistent: Option<bool>,
    /// The number of the message that is not sent any more.
    pub(super) end: u32,
}

/// What one run has got so far.
struct Counted {
    tally: Tally,
    run: u32,
    /// Who gets what; nothing where all get all.
    scatter: Option<Scatter>,
    /// When each message was handed to the stream that is not answered yet. At most `window`, and what the
    /// notifier has not answered of what is done.
    unanswered: VecDeque<Instant>,
    /// How long the answers took, in nanoseconds.
    answering: Histogram<u64>,
    astray: u64,
    miscounted: u64,
}

/// What a run found.
pub(super) struct Found {
    pub(super) deliveries: u64,
    /// When the last of them came.
    pub(super) last: Instant,
    pub(super) latency: Histogram<u64>,
    pub(super) answering: Histogram<u64>,
    pub(super) faults: Faults,
    /// Deliveries to a user whom the message was not for.
    pub(super) astray: u64,
    /// Answers that count another reach than one session on one node.
    pub(super) miscounted: u64,
}

impl Found {
    /// What to tell the user; `None` if nothing went wrong.
    pub(super) fn complaint(&self) -> Option<String> {
        let wrong = (self.astray + self.miscounted > 0).then(|| {
            let Self { astray, miscounted, .. } = self;
            format!(
                "{astray} deliveries to the wrong user, {miscounted} answers with a wrong count"
            )
        });
        let told: Vec<_> = self.faults.complaint().into_iter().chain(wrong).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) sent: u32,
    pub(super) delivered: u64,
    pub(super) unanswered: usize,
}

/// A walk through all users that leaves none out.
#[derive(Debug, Clone, Copy)]
struct Scatter {
    users: u32,
    step: u32,
}

impl Scatter {
    fn over(users: u32) -> Self {
        // About the golden section, which spreads best, and without a divisor in common.
        let golden = (f64::from(users) * 0.618) as u32;
        let step = (golden.max(1)..).find(|step| divisor(*step, users) == 1).unwrap_or(1);
        Self { users, step }
    }

    /// Whose message that is.
    fn user(self, number: u32) -> u32 {
        let walked = u64::from(number % self.users) * u64::from(self.step);
        (walked % u64::from(self.users)) as u32
    }
}

/// The greatest that two numbers have in common.
fn divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { divisor(other, one % other) }
}

impl Outflow {
    pub(super) fn new(window: u32) -> Self {
        let nothing = Counted::new(0, Tally::new(0, Instant::now(), 0, 1, 0), None);
        let window = Semaphore::new(window as usize);
        Self { counted: Mutex::new(nothing), window, message_done: Notify::new() }
    }

    /// Begins a run of messages to one user each.
    pub(super) fn begin_singles(&self, run: u32, users: u32, messages: u32) {
        // To the tally a user's messages are those of one publisher, and have one reader.
        let tally = Tally::new(run, Instant::now(), 1, users, messages);
        *self.counted() = Counted::new(run, tally, Some(Scatter::over(users)));
    }

    /// Begins a run of messages that all of the first `subscribers` get.
    pub(super) fn begin_shared(&self, run: u32, subscribers: u32, messages: u32) {
        let tally = Tally::new(run, Instant::now(), subscribers as usize, 1, messages);
        *self.counted() = Counted::new(run, tally, None);
    }

    /// The measurement begins: what came so far was to warm up.
    pub(super) fn measure(&self) {
        let mut counted = self.counted();
        counted.tally.measure();
        counted.answering.reset();
    }

    /// A session has received `body`.
    pub(super) fn arrived(&self, session: u32, body: &[u8], now: Instant) {
        if self.counted().arrived(session, body, now) {
            self.window.add_permits(1);
            self.message_done.notify_one();
        }
    }

    /// Sends to users, each message to one.
    pub(super) async fn send(
        self: &Arc<Self>,
        notifier: &Notifier,
        flowing: Flowing,
        make: impl Fn(u32, Message) -> SendRequest + Send + 'static,
    ) -> anyhow::Result<()> {
        let call = notifier.call(self.requests(flowing, make));
        let mut client = NotificationsClient::new(notifier.channel());
        let answers = client.send_stream(call).await.map_err(|why| notifier.explain(&why))?;
        let mut answers = answers.into_inner();
        while let Some(answer) = answers.message().await.map_err(|why| notifier.explain(&why))? {
            match answer.outcome {
                Some(send_stream_response::Outcome::Sent(sent)) => {
                    self.answered((sent.sessions, sent.nodes, sent.uncertain_nodes) == (1, 1, 0));
                }
                Some(send_stream_response::Outcome::Failure(why)) => {
                    return Err(anyhow!(reason(&why)));
                }
                None => return Err(anyhow!("an answer without an outcome")),
            }
        }
        self.all_answered()
    }

    /// Publishes, all to the same.
    pub(super) async fn publish(
        self: &Arc<Self>,
        notifier: &Notifier,
        flowing: Flowing,
        make: impl Fn(u32, Message) -> PublishRequest + Send + 'static,
    ) -> anyhow::Result<()> {
        let call = notifier.call(self.requests(flowing, make));
        let mut client = NotificationsClient::new(notifier.channel());
        let answers = client.publish_stream(call).await.map_err(|why| notifier.explain(&why))?;
        let mut answers = answers.into_inner();
        while let Some(answer) = answers.message().await.map_err(|why| notifier.explain(&why))? {
            match answer.outcome {
                Some(publish_stream_response::Outcome::Published(_)) => self.answered(true),
                Some(publish_stream_response::Outcome::Failure(why)) => {
                    return Err(anyhow!(reason(&why)));
                }
                None => return Err(anyhow!("an answer without an outcome")),
            }
        }
        self.all_answered()
    }

    /// The requests from the next message up to `end`, each as soon as it may be sent.
    fn requests<R: 'static>(
        self: &Arc<Self>,
        flowing: Flowing,
        make: impl Fn(u32, Message) -> R + Send + 'static,
    ) -> BoxStream<'static, R> {
        let Flowing { size, persistent, end } = flowing;
        stream::unfold((Arc::clone(self), make), move |(outflow, make)| async move {
            if outflow.counted().tally.sent >= end {
                return None;
            }
            // Never closed.
            if let Ok(turn) = outflow.window.acquire().await {
                turn.forget();
            }
            let (user, stamp) = outflow.counted().next(Instant::now());
            let body = Some(Body::Text(stamp.body(size)));
            let request = make(user, Message { body, persistent, ..Message::default() });
            Some((request, (outflow, make)))
        })
        .boxed()
    }

    fn answered(&self, is_counted_right: bool) {
        let mut counted = self.counted();
        if let Some(handed) = counted.unanswered.pop_front() {
            counted.answering.saturating_record(handed.elapsed().as_nanos() as u64);
        }
        counted.miscounted += u64::from(!is_counted_right);
    }

    fn all_answered(&self) -> anyhow::Result<()> {
        let left = self.counted().unanswered.len();
        ensure!(left == 0, "the notifier ended the stream and left {left} messages unanswered");
        Ok(())
    }

    /// Messages that are done.
    pub(super) fn done(&self) -> u32 {
        self.counted().tally.done
    }

    /// Returns when a message is done.
    pub(super) async fn message_done(&self) {
        self.message_done.notified().await;
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        let counted = self.counted();
        let (sent, delivered) = (counted.tally.sent, counted.tally.deliveries);
        Progress { sent, delivered, unanswered: counted.unanswered.len() }
    }

    /// What the run found.
    pub(super) fn found(&self) -> Found {
        let counted = self.counted();
        let Counted { tally, answering, astray, miscounted, .. } = &*counted;
        Found {
            deliveries: tally.deliveries,
            last: tally.last,
            latency: tally.latency.clone(),
            answering: answering.clone(),
            faults: tally.faults(),
            astray: *astray,
            miscounted: *miscounted,
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock()
    }
}

impl Counted {
    fn new(run: u32, tally: Tally, scatter: Option<Scatter>) -> Self {
        let (unanswered, answering) = (VecDeque::new(), latencies());
        Self { tally, run, scatter, unanswered, answering, astray: 0, miscounted: 0 }
    }

    /// The next message is being sent: to whom, and how it is marked.
    fn next(&mut self, now: Instant) -> (u32, Stamp) {
        let number = self.tally.sent;
        self.tally.sending(std::time::Duration::ZERO);
        self.unanswered.push_back(now);
        let intended = now.saturating_duration_since(self.tally.start).as_nanos() as u64;
        let user = self.scatter.map_or(0, |scatter| scatter.user(number));
        (user, Stamp { run: self.run, number, intended })
    }

    /// True if the message is done with that.
    fn arrived(&mut self, session: u32, body: &[u8], now: Instant) -> bool {
        let Some(scatter) = self.scatter else {
            return self.tally.received(session as usize, body, now);
        };
        let Some(stamp) = Stamp::parse(body).filter(|stamp| stamp.run == self.run) else {
            return false;
        };
        if scatter.user(stamp.number) != session {
            self.astray += 1;
            return false;
        }
        self.tally.received(0, body, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_its_turn_before_any_has_the_next() {
        for users in [1, 2, 3, 7, 10, 1_000, 9_999, 10_000] {
            let scatter = Scatter::over(users);
            let mut turns: Vec<_> = (0..users).map(|number| scatter.user(number)).collect();
            assert_eq!(scatter.user(users), turns[0]);
            turns.sort_unstable();
            assert!(turns.into_iter().eq(0..users), "{users}");
        }
    }

    #[test]
    fn a_message_at_the_wrong_user_is_a_fault_and_not_its_delivery() {
        let outflow = Outflow::new(2);
        outflow.begin_singles(7, 3, 4);
        let now = Instant::now();
        let sent: Vec<_> = (0..4).map(|_| outflow.counted().next(now)).collect();
        for (user, stamp) in &sent[1..] {
            outflow.arrived(*user, stamp.body(60).as_bytes(), now);
        }
        assert_eq!(outflow.progress(), Progress { sent: 4, delivered: 3, unanswered: 4 });
        assert_eq!(outflow.done(), 3);
        let (user, stamp) = sent[0];
        outflow.arrived((user + 1) % 3, stamp.body(60).as_bytes(), now);
        let found = outflow.found();
        assert_eq!((found.astray, found.faults.lost, found.faults.out_of_order), (1, 1, 0));
        assert!(
            found.complaint().is_some_and(|text| text.contains("1 deliveries to the wrong user"))
        );
    }

    #[test]
    fn the_subscribers_of_a_topic_get_the_same() {
        let outflow = Outflow::new(1);
        outflow.begin_shared(7, 2, 1);
        let now = Instant::now();
        let (_, stamp) = outflow.counted().next(now);
        outflow.arrived(0, stamp.body(60).as_bytes(), now);
        assert_eq!(outflow.done(), 0);
        outflow.arrived(1, stamp.body(60).as_bytes(), now);
        assert_eq!((outflow.done(), outflow.found().complaint()), (1, None));
        outflow.answered(false);
        assert!(outflow.found().complaint().is_some());
        outflow.all_answered().unwrap();
    }
}
