//! Messages to users that flow on one stream, sessions that hear them, and whether each got what it is due.
//!
//! Messages are numbered, and number `n` is for user `n % USERS`. A session is due every message for its
//! user that was handed over after the RECEIPT of its SUBSCRIBE and before its end: once, in order; what
//! comes again must say so.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proto::v1::send_request::To;
use proto::v1::send_stream_response::Outcome;
use proto::v1::{SendRequest, SendStreamResponse};
use stomp::{Command, Frame, header};
use testkit::checker::Client;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tonic::Streaming;

use super::cluster::{Service, to_users};
use super::{PATIENCE, POLL};

/// How many users there are.
pub(crate) const USERS: u64 = 60;

/// 200 messages in a second.
const PACE: Duration = Duration::from_millis(5);

/// How many messages may wait for the notifier to read them.
const WAITING: usize = 4096;

/// The body behind which nothing comes that was sent before.
pub(crate) const FENCE: &str = "fence";

/// Messages that flow.
pub(crate) struct Traffic {
    flow: Arc<Flow>,
    sender: JoinHandle<()>,
    reader: JoinHandle<Answers>,
}

/// How far a flow is.
#[derive(Default)]
struct Flow {
    /// The number of the message that is handed over next.
    next: AtomicU64,
    answered: AtomicU64,
    stopping: AtomicBool,
}

/// What the notifier said to the messages.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) sent: u64,
    pub(crate) failures: Vec<String>,
    /// Of how many nobody could say how many they reached.
    uncounted: u64,
    /// How many went to a node besides.
    uncertain: u64,
    /// How long the slowest answer took.
    slowest: Duration,
    took: Duration,
}

/// A session that hears what comes for its user.
pub(crate) struct Listener {
    pub(crate) user: u64,
    pub(crate) id: String,
    leave: Arc<Notify>,
    task: JoinHandle<Heard>,
}

/// What a session heard.
pub(crate) struct Heard {
    user: u64,
    /// It is due what was handed over from this number on.
    from: u64,
    /// Whether it left before the flow ended.
    left: bool,
    /// Numbers, and whether they were marked as redelivered.
    messages: Vec<(u64, bool)>,
    /// Why the session ended before it should.
    broken: Option<String>,
}

/// The name of a user.
pub(crate) fn name(user: u64) -> String {
    format!("user-{user}")
}

impl Traffic {
    /// Begins to send.
    pub(crate) async fn start(mut service: Service) -> Self {
        let (requests, mut waiting) = mpsc::channel(WAITING);
        let waiting = futures_util::stream::poll_fn(move |cx| waiting.poll_recv(cx));
        let answers = service.notifications.send_stream(waiting).await.unwrap().into_inner();
        let flow = Arc::new(Flow::default());
        let (moments, handed) = mpsc::unbounded_channel();
        let sender = tokio::spawn(send(flow.clone(), requests, moments));
        let reader = tokio::spawn(read(flow.clone(), answers, handed));
        Self { flow, sender, reader }
    }

    /// Waits until so many more messages are answered.
    pub(crate) async fn flows(&self, more: u64) {
        let until = self.flow.next.load(Ordering::SeqCst) + more;
        let deadline = Instant::now() + PATIENCE;
        while self.flow.answered.load(Ordering::SeqCst) < until {
            assert!(!self.reader.is_finished(), "the stream has ended");
            assert!(Instant::now() < deadline, "the stream stands");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the flow, and returns when all of it is answered.
    pub(crate) async fn stop(self) -> Answers {
        self.flow.stopping.store(true, Ordering::SeqCst);
        self.sender.await.unwrap();
        timeout(PATIENCE, self.reader).await.expect("the last answers").unwrap()
    }

    /// A session of `user` at `url`. On return it is due what comes.
    pub(crate) async fn listen(&self, url: &str, user: u64) -> Listener {
        let login = name(user);
        let headers = [(header::LOGIN, &*login), (header::HEART_BEAT, "0,0")];
        let client = timeout(PATIENCE, Client::connect_with(url, &headers)).await;
        let mut client = client.expect("an answer to CONNECT").unwrap();
        let subscribe = Frame::new(Command::Subscribe)
            .with_header(header::ID, "x")
            .with_header(header::DESTINATION, "/user/queue/x")
            .with_header(header::RECEIPT, "subscribed");
        client.send(&subscribe).await.unwrap();
        let mut heard = Heard { user, from: 0, left: false, messages: Vec::new(), broken: None };
        loop {
            let frame = timeout(PATIENCE, client.next()).await.expect("a receipt").unwrap();
            if frame.command == Command::Receipt {
                break;
            }
            heard.take(&frame);
        }
        heard.from = self.flow.next.load(Ordering::SeqCst);
        let (id, leave) = (client.session().to_owned(), Arc::new(Notify::new()));
        let task = tokio::spawn(hear(client, heard, leave.clone()));
        Listener { user, id, leave, task }
    }
}

async fn send(
    flow: Arc<Flow>,
    requests: mpsc::Sender<SendRequest>,
    moments: mpsc::UnboundedSender<Instant>,
) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !flow.stopping.load(Ordering::SeqCst) {
        pace.tick().await;
        // Whoever reads the number before is due the message.
        let n = flow.next.fetch_add(1, Ordering::SeqCst);
        let to = to_users(&[&name(n % USERS)], "/queue/x", &n.to_string());
        // Who reads them says why that can fail.
        let _ = moments.send(Instant::now());
        if requests.send(SendRequest { to: Some(To::Users(to)) }).await.is_err() {
            return;
        }
    }
}

async fn read(
    flow: Arc<Flow>,
    mut answers: Streaming<SendStreamResponse>,
    mut handed: mpsc::UnboundedReceiver<Instant>,
) -> Answers {
    let (mut all, began) = (Answers::default(), Instant::now());
    while let Some(answer) = answers.message().await.expect("a stream that goes on") {
        all.sent += 1;
        let handed = handed.recv().await.expect("no answer without a request");
        all.slowest = all.slowest.max(handed.elapsed());
        match answer.outcome.unwrap() {
            Outcome::Sent(sent) => {
                all.uncounted += u64::from(sent.uncounted);
                all.uncertain += u64::from(sent.uncertain_nodes > 0);
            }
            Outcome::Failure(failure) => all.failures.push(failure.message),
        }
        flow.answered.fetch_add(1, Ordering::SeqCst);
    }
    all.took = began.elapsed();
    all
}

/// Hears until the fence comes, or until it is to leave.
async fn hear(mut client: Client, mut heard: Heard, leave: Arc<Notify>) -> Heard {
    let disconnect = Frame::new(Command::Disconnect).with_header(header::RECEIPT, "bye");
    loop {
        let frame = tokio::select! {
            frame = client.next() => frame,
            () = leave.notified(), if !heard.left => {
                heard.left = true;
                match client.send(&disconnect).await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                }
            }
        };
        match frame {
            Ok(frame) if frame.command == Command::Receipt => return heard,
            Ok(frame) if &*frame.body == FENCE.as_bytes() => return heard,
            Ok(frame) => heard.take(&frame),
            Err(error) => {
                heard.broken = Some(error.to_string());
                return heard;
            }
        }
    }
}

impl Listener {
    /// Ends the session in good order.
    pub(crate) async fn leave(self) -> Heard {
        self.leave.notify_one();
        self.end().await
    }

    /// What it heard until the fence.
    pub(crate) async fn end(self) -> Heard {
        let name = name(self.user);
        let heard = timeout(PATIENCE, self.task).await;
        heard.unwrap_or_else(|_| panic!("{name} does not hear the fence")).unwrap()
    }
}

impl Heard {
    fn take(&mut self, frame: &Frame) {
        let number = str::from_utf8(&frame.body).ok().and_then(|body| body.parse().ok());
        let number = number.unwrap_or_else(|| panic!("nobody sent {frame:?}"));
        let is_marked = frame.header(header::REDELIVERED).is_some_and(|value| *value == "true");
        self.messages.push((number, is_marked));
    }

    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    /// What it did not get as it should, of `sent` messages in all.
    pub(crate) fn violations(&self, sent: u64) -> Vec<String> {
        let mut wrong: Vec<_> =
            self.broken.iter().map(|why| format!("the session ended: {why}")).collect();
        let (mut seen, mut last) = (BTreeSet::new(), None);
        for &(n, is_marked) in &self.messages {
            if n % USERS != self.user {
                wrong.push(format!("{n} is for another user"));
            }
            let is_new = seen.insert(n);
            if !is_new && !is_marked {
                wrong.push(format!("{n} came again and did not say so"));
            }
            if is_new && last.is_some_and(|last| n < last) {
                wrong.push(format!("{n} came after {last:?}"));
            }
            last = last.max(Some(n));
        }
        // What was on its way when it left may not have come.
        let end = if self.left { last.map_or(0, |last| last + 1) } else { sent };
        let missed: Vec<_> =
            (self.from..end).filter(|n| n % USERS == self.user && !seen.contains(n)).collect();
        if !missed.is_empty() {
            wrong.push(format!("{missed:?} did not come (due from {} to {end})", self.from));
        }
        wrong
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.sent as f64 / self.took.as_secs_f64();
        write!(
            f,
            "{} messages sent ({rate:.0}/s), {} failed, {} uncounted, {} also to uncertain nodes, slowest \
             answer {:.1?}",
            self.sent,
            self.failures.len(),
            self.uncounted,
            self.uncertain,
            self.slowest
        )
    }
}
