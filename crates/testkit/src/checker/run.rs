//! A run: opens the sessions, lets them send, has the faults happen in between, and ends when all is
//! there and acknowledged that shall be, or when nothing has come for long. Then it looks whether the
//! queues are empty.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::client::ClientError;
use super::fault::{FaultError, Rig};
use super::judge::{Rules, judge};
use super::recorder::{Progress, Recorder};
use super::session::{Leave, Session, Shared};
use super::verdict::Verdict;
use super::{Event, Plan, SessionPlan};

/// How long nothing at all may happen before the run gives up: longer than a node lets a SEND wait.
const PATIENCE: Duration = Duration::from_secs(150);
/// The same once every SEND is answered: what is left is in RabbitMQ or on its way.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// The same once the verdict can only be that something was wrong.
const WRONG_PATIENCE: Duration = Duration::from_secs(5);
/// The same once nothing is outstanding: a session that was about to send when it was told to stop
/// sends yet.
const QUIET: Duration = Duration::from_secs(1);
/// How many sessions connect at once.
const CONNECTING: usize = 32;
/// For a session to say good-bye, or to be connected again.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// A run whose sessions are open and subscribed.
pub struct Checker {
    shared: Arc<Shared>,
    leave: watch::Sender<Leave>,
    sessions: JoinSet<()>,
    /// How many messages each session may have sent.
    allowed: u32,
}

/// Why a run could not be made; what a server does wrong is in the verdict instead.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A session could not be opened at the start.
    #[error("session {session} cannot be opened at {url}: {error}")]
    Open {
        /// The session, by its place in the plan.
        session: usize,
        /// The node.
        url: String,
        /// Why not.
        error: ClientError,
    },
    /// A fault could not be done or undone.
    #[error("{0}")]
    Fault(#[from] FaultError),
}

/// Runs a plan with its faults on nodes, and judges it.
///
/// # Errors
/// When a session cannot be opened, or a fault cannot be done.
pub async fn check(plan: Plan, urls: Vec<String>, rig: &mut Rig) -> Result<Verdict, CheckError> {
    let stages = plan.stages.clone();
    let after = plan.after;
    let mut checker = Checker::open(plan, urls, "check").await?;
    for stage in stages {
        // What the last fault held back is through ...
        let all = checker.sent_when_all(checker.allowed);
        let through = checker.wait(|now| now.sent >= all && now.receipted + now.held >= now.sent);
        if !through.await {
            break;
        }
        // ... and the next one strikes in the midst of what comes before it.
        checker.hold_acks(true);
        checker.allow(stage.before);
        let midst = checker.sent_when_all(checker.allowed) - checker.half(stage.before);
        if !checker.wait(|now| now.sent >= midst).await {
            break;
        }
        checker.record(Event::FaultBegins(stage.fault));
        rig.begin(stage.fault).await?;
        checker.allow(stage.during);
        let all = checker.sent_when_all(checker.allowed);
        let going_on = checker.wait(|now| now.sent >= all).await;
        rig.end(stage.fault).await?;
        checker.record(Event::FaultEnded(stage.fault));
        checker.hold_acks(false);
        if !going_on {
            break;
        }
    }
    checker.allow(after);
    let all = checker.sent_when_all(checker.allowed);
    checker.wait(|now| now.sent >= all).await;
    Ok(checker.finish().await)
}

impl Checker {
    /// Opens the sessions of a plan on nodes; on return every subscription is confirmed. `prefix`
    /// begins the name of every destination.
    ///
    /// # Errors
    /// When one cannot be opened.
    ///
    /// # Panics
    /// When the plan has other nodes than there are URLs.
    pub async fn open(plan: Plan, urls: Vec<String>, prefix: &str) -> Result<Checker, CheckError> {
        assert!(plan.sessions.iter().all(|session| session.node < urls.len()), "too few URLs");
        let shared = Arc::new(Shared {
            plan,
            urls,
            prefix: prefix.to_owned(),
            run: rand::random(),
            recorder: Recorder::new(),
        });
        let opening = shared.plan.sessions.iter().cloned().enumerate().map(|(number, plan)| {
            let shared = shared.clone();
            async move {
                let url = shared.urls[plan.node].clone();
                let opened = Session::open(shared, plan).await;
                opened.map_err(|error| CheckError::Open { session: number, url, error })
            }
        });
        let opened: Vec<Session> = stream::iter(opening).buffered(CONNECTING).try_collect().await?;
        let (leave, _) = watch::channel(Leave::default());
        let mut sessions = JoinSet::new();
        for (number, session) in opened.into_iter().enumerate() {
            sessions.spawn(keep(shared.clone(), number, session, leave.subscribe()));
        }
        Ok(Checker { shared, leave, sessions, allowed: 0 })
    }

    /// Lets each session send so many messages more.
    pub fn allow(&mut self, messages: u32) {
        self.allowed = self.allowed.saturating_add(messages);
        let messages = self.allowed;
        self.leave.send_modify(|leave| leave.messages = messages);
    }

    /// Lets no session send any more.
    pub fn hold(&mut self) {
        self.leave.send_modify(|leave| leave.messages = 0);
    }

    /// Whether lazy subscriptions keep their ACKs to themselves, so that queues fill.
    pub fn hold_acks(&self, hold: bool) {
        self.leave.send_modify(|leave| leave.hold_acks = hold);
    }

    /// How far it is, and every change of it.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.recorder.progress()
    }

    /// How many messages wait for their receipts, and how long the oldest of them does.
    #[must_use]
    pub fn unanswered(&self) -> (usize, Duration) {
        self.shared.recorder.unanswered()
    }

    /// How long the run lasts so far.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.recorder.elapsed()
    }

    /// Waits until the progress is as wanted. False when it will not be: a session was closed that
    /// should not have been, or nothing happened for long.
    pub async fn wait(&self, wanted: impl Fn(&Progress) -> bool) -> bool {
        let mut progress = self.progress();
        let closes_allowed = self.shared.plan.closes_allowed;
        loop {
            let now = *progress.borrow_and_update();
            if wanted(&now) {
                return true;
            }
            if now.closed > 0 && !closes_allowed {
                return false;
            }
            if !matches!(timeout(PATIENCE, progress.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// Waits until all that is to come has come and is acknowledged, ends the sessions, looks what is
    /// left in the queues, and judges.
    pub async fn finish(mut self) -> Verdict {
        self.hold_acks(false);
        self.leave.send_modify(|leave| leave.conclude = true);
        self.wait(|now| now.concluded >= now.sessions).await;
        self.settle().await;
        self.record(Event::Settled);
        self.end().await;
        if self.judge().holds() {
            let before = self.progress().borrow().concluded;
            let looks = self.look().await;
            self.wait(|now| now.concluded >= before + looks).await;
            self.settle().await;
            self.end().await;
        }
        self.judge()
    }

    /// Ends all sessions.
    async fn end(&mut self) {
        self.leave.send_modify(|leave| leave.end = true);
        let ended =
            timeout(END_PATIENCE, async { while self.sessions.join_next().await.is_some() {} });
        if ended.await.is_err() {
            self.sessions.shutdown().await;
        }
    }

    /// Has sessions consume every queue that was consumed, each from the node next to that of its
    /// consumers, and send a last word to each: when that has come, all that was left before it has.
    /// Says how many sessions there are.
    async fn look(&mut self) -> usize {
        self.leave.send_modify(|leave| leave.end = false);
        let looks = self.shared.plan.looks(self.shared.urls.len());
        let count = looks.len();
        for look in looks {
            match self.open_anywhere(look).await {
                Ok(session) => {
                    let leave = self.leave.subscribe();
                    self.sessions.spawn(async move {
                        session.run(&mut std::iter::empty(), 0, leave).await;
                    });
                }
                Err(error) => {
                    let session = self.shared.recorder.next_session();
                    let what = format!("the queues cannot be looked at: {error}");
                    self.record(Event::Unexpected { session, what });
                    return self.sessions.len();
                }
            }
        }
        count
    }

    /// Opens a session on its node or, where that is away, on the next that is there.
    async fn open_anywhere(&self, mut plan: SessionPlan) -> Result<Session, ClientError> {
        let nodes = self.shared.urls.len();
        for _ in 1..nodes {
            if let Ok(session) = Session::open(self.shared.clone(), plan.clone()).await {
                return Ok(session);
            }
            plan.node = (plan.node + 1) % nodes;
        }
        Session::open(self.shared.clone(), plan).await
    }

    /// Waits until nothing happens any more: for a moment once nothing is outstanding, longer before,
    /// and less long when something is wrong that time does not heal.
    async fn settle(&self) {
        let (mut seen, mut since, mut patience) = (0, Instant::now(), PATIENCE);
        loop {
            let events = self.shared.recorder.len();
            if events > seen {
                (seen, since) = (events, Instant::now());
                let verdict = self.judge();
                let outstanding = verdict.outstanding();
                patience = if outstanding == 0 {
                    QUIET
                } else if verdict.violations.len() > outstanding {
                    WRONG_PATIENCE
                } else if self.unanswered().0 > 0 {
                    PATIENCE
                } else {
                    LAST_PATIENCE
                };
            } else if since.elapsed() > patience {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn judge(&self) -> Verdict {
        let rules = Rules { closes_allowed: self.shared.plan.closes_allowed };
        judge(&self.shared.recorder.history(), rules)
    }

    fn record(&self, event: Event) {
        self.shared.recorder.record(event);
    }

    /// How many messages are sent when each session has sent so many.
    fn sent_when_all(&self, messages: u32) -> u64 {
        self.shared.plan.sessions.len() as u64 * u64::from(messages)
    }

    /// How many messages are half of so many per session.
    fn half(&self, messages: u32) -> u64 {
        self.sent_when_all(messages) / 2
    }
}

/// Runs a session, and where closes are allowed, those that take its place.
async fn keep(shared: Arc<Shared>, number: usize, session: Session, leave: watch::Receiver<Leave>) {
    let mut messages = shared.plan.messages(number);
    let mut plan = shared.plan.sessions[number].clone();
    let (mut sent, mut ended) = session.run(&mut messages, 0, leave.clone()).await;
    while !ended && shared.plan.closes_allowed && !leave.borrow().end {
        plan.node = (plan.node + 1) % shared.urls.len();
        match Session::open(shared.clone(), plan.clone()).await {
            Ok(session) => (sent, ended) = session.run(&mut messages, sent, leave.clone()).await,
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    }
}
