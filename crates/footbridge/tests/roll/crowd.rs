//! Clients that stay connected as stomp.js does, send to queues and to each other and consume that, whatever
//! nodes do.
//!
//! Each consumes one queue, and what is stored for its user, and acknowledges what comes one by one. Senders ask for a receipt with each
//! message, and send again, on the next connection, what they have none for: only that may come twice
//! without saying so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::SliceRandom;
use stomp::{Command, Frame, header};
use testkit::checker::{Client, ClientError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::support::{PATIENCE, POLL};

/// How many of a sender's messages may be without a receipt.
const WINDOW: usize = 64;

/// How many consumers a queue has.
const CONSUMERS: usize = 10;

/// What a crowd consists of.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Where clients connect: at any that is there, as a load balancer would have it.
    pub(crate) urls: Vec<String>,
    /// Begins the name of every queue and every user.
    pub(crate) prefix: String,
    pub(crate) clients: usize,
    /// How many of them send.
    pub(crate) senders: usize,
    /// Of all senders together.
    pub(crate) messages_per_second: u32,
    /// What stomp.js calls so: how long a client waits before it tries to connect again.
    pub(crate) reconnect_delay: Duration,
}

/// See the module.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    clients: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sending,
    /// What has no receipt is still sent again.
    Quiet,
    Over,
}

struct Shared {
    shape: Shape,
    connected: AtomicUsize,
    record: Mutex<Record>,
}

/// A message: its sender and its place in the sender's order.
type Number = (usize, u32);

#[derive(Default)]
struct Record {
    /// With how often each was sent.
    sent: HashMap<Number, u32>,
    receipted: BTreeSet<Number>,
    /// How often each came without saying that it may have come before, and how often it said so.
    received: HashMap<Number, (u32, u32)>,
    /// How often connections ended, by what the server said.
    ends: BTreeMap<String, usize>,
    /// How often one could not be had, by the reason.
    failures: BTreeMap<String, usize>,
    /// How long each was without a subscription, whenever it was.
    away: Vec<Duration>,
}

/// What a crowd went through.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) sent: usize,
    pub(crate) receipted: usize,
    /// Messages with a receipt that never came.
    pub(crate) lost: Vec<Number>,
    /// Messages that came again, were sent once, and did not say so.
    pub(crate) doubled: Vec<Number>,
    /// Messages that said that they may have come before.
    pub(crate) redelivered: usize,
    /// Messages that were sent again for want of a receipt.
    pub(crate) sent_again: usize,
    pub(crate) ends: BTreeMap<String, usize>,
    pub(crate) failures: BTreeMap<String, usize>,
    /// Sorted.
    pub(crate) away: Vec<Duration>,
}

impl Crowd {
    /// Connects all of them, and returns when each has subscribed and messages flow.
    pub(crate) async fn gather(shape: Shape) -> Self {
        let (stage, watching) = watch::channel(Stage::Sending);
        let shared = Shared { connected: AtomicUsize::new(0), record: Mutex::default(), shape };
        let shared = Arc::new(shared);
        let mut clients = JoinSet::new();
        for n in 0..shared.shape.clients {
            clients.spawn(live(Arc::clone(&shared), n, watching.clone()));
        }
        let crowd = Self { shared, stage, clients };
        crowd.wait_all_connected().await;
        crowd.wait_flow(crowd.shared.shape.senders).await;
        // Connecting for the first time is not coming back.
        crowd.shared.record().away.clear();
        crowd
    }

    /// Waits until every client is connected.
    pub(crate) async fn wait_all_connected(&self) {
        let all = || self.shared.connected.load(Ordering::SeqCst) == self.shared.shape.clients;
        self.wait("all clients are connected", all).await;
    }

    /// Waits until so many more messages have come.
    pub(crate) async fn wait_flow(&self, more: usize) {
        let until = self.shared.record().received.len() + more;
        self.wait("messages flow", || self.shared.record().received.len() >= until).await;
    }

    async fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not so: {what}: {}", self.story());
            sleep(POLL).await;
        }
    }

    /// Ends the sending, waits until every message has its receipt and has come, or patience is over, and
    /// disconnects.
    pub(crate) async fn disperse(mut self) -> Story {
        self.stage.send_replace(Stage::Quiet);
        self.wait_all_connected().await;
        let deadline = Instant::now() + PATIENCE;
        let is_complete = || {
            let record = self.shared.record();
            record.receipted.len() == record.sent.len()
                && record.receipted.iter().all(|number| record.received.contains_key(number))
        };
        while !is_complete() && Instant::now() < deadline {
            sleep(POLL).await;
        }
        let story = self.story();
        self.stage.send_replace(Stage::Over);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        story
    }

    /// What happened so far.
    pub(crate) fn story(&self) -> Story {
        let record = self.shared.record();
        let doubled = record.received.iter().filter(|(number, (plain, _))| {
            *plain > record.sent.get(number).copied().unwrap_or_default()
        });
        let mut away = record.away.clone();
        away.sort();
        let lost =
            record.receipted.iter().filter(|number| !record.received.contains_key(number)).copied();
        Story {
            sent: record.sent.len(),
            receipted: record.receipted.len(),
            lost: lost.collect(),
            doubled: doubled.map(|(number, _)| *number).collect(),
            redelivered: record.received.values().map(|(_, marked)| *marked as usize).sum(),
            sent_again: record.sent.values().map(|times| *times as usize - 1).sum(),
            ends: record.ends.clone(),
            failures: record.failures.clone(),
            away,
        }
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, n: usize) -> String {
        let queues = self.shape.clients.div_ceil(CONSUMERS);
        format!("/queue/{}-{}", self.shape.prefix, n % queues)
    }

    fn user(&self, n: usize) -> String {
        format!("{}-{}", self.shape.prefix, n % self.shape.clients)
    }

    /// A session at whichever node is there first, and subscribed.
    async fn connect(&self, n: usize) -> Result<Client, ClientError> {
        let mut urls = self.shape.urls.clone();
        urls.shuffle(&mut rand::rng());
        let mut last = ClientError::Url(String::new());
        for url in urls {
            match self.subscribe(&url, n).await {
                Ok(client) => return Ok(client),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn subscribe(&self, url: &str, n: usize) -> Result<Client, ClientError> {
        let user = self.user(n);
        let headers = [(header::LOGIN, &*user), (header::HEART_BEAT, "0,0")];
        let mut client = Client::connect_with(url, &headers).await?;
        let subscribe = |id: &'static str, destination| {
            Frame::new(Command::Subscribe)
                .with_header(header::ID, id)
                .with_header(header::DESTINATION, destination)
                .with_header(header::ACK, "client-individual")
        };
        client.send(&subscribe("u", "/user/queue/x".to_owned())).await?;
        let last = subscribe("q", self.queue(n)).with_header(header::RECEIPT, "subscribed");
        client.send(&last).await?;
        loop {
            let frame = client.next().await?;
            if frame.command == Command::Receipt {
                return Ok(client);
            }
            self.take(&mut client, &frame).await?;
        }
    }

    /// Notes a message, and acknowledges it.
    async fn take(&self, client: &mut Client, frame: &Frame) -> Result<(), ClientError> {
        let number = str::from_utf8(&frame.body).ok().and_then(|body| {
            let (sender, n) = body.split_once('.')?;
            Some((sender.parse().ok()?, n.parse().ok()?))
        });
        let number = number.unwrap_or_else(|| panic!("nobody sent {frame:?}"));
        let marked = frame.header(header::REDELIVERED).is_some_and(|value| *value == "true");
        {
            let mut record = self.record();
            let (plain, again) = record.received.entry(number).or_default();
            *(if marked { again } else { plain }) += 1;
        }
        let id = frame.header(header::ACK).unwrap().to_string();
        client.send(&Frame::new(Command::Ack).with_header(header::ID, id)).await
    }

    /// Sends a message to a queue or to a user, which it chooses by its number.
    async fn send(&self, client: &mut Client, number: Number) -> Result<(), ClientError> {
        let (sender, n) = number;
        *self.record().sent.entry(number).or_default() += 1;
        let to = sender + n as usize;
        let destination = match n % 2 {
            0 => self.queue(to),
            _ => format!("/user/{}/queue/x", self.user(to)),
        };
        let frame = Frame::new(Command::Send)
            .with_header(header::DESTINATION, destination)
            .with_header("persistent", "true")
            .with_header(header::RECEIPT, n.to_string())
            .with_body(format!("{sender}.{n}"));
        client.send(&frame).await
    }
}

/// One client, from connection to connection.
async fn live(shared: Arc<Shared>, n: usize, mut stage: watch::Receiver<Stage>) {
    let (mut next, mut unreceipted, mut since) = (0, BTreeSet::new(), Instant::now());
    loop {
        let connected = timeout(PATIENCE, shared.connect(n)).await.expect("an answer to CONNECT");
        let ended = match connected {
            Ok(client) => {
                shared.record().away.push(since.elapsed());
                shared.connected.fetch_add(1, Ordering::SeqCst);
                let ended =
                    serve(&shared, n, client, &mut next, &mut unreceipted, &mut stage).await;
                shared.connected.fetch_sub(1, Ordering::SeqCst);
                since = Instant::now();
                ended
            }
            Err(error) => {
                *shared.record().failures.entry(error.to_string()).or_default() += 1;
                sleep(shared.shape.reconnect_delay).await;
                continue;
            }
        };
        let Err(error) = ended else { return };
        *shared.record().ends.entry(error.to_string()).or_default() += 1;
        sleep(shared.shape.reconnect_delay).await;
    }
}

/// One connection of a client's, to its end.
async fn serve(
    shared: &Shared,
    n: usize,
    mut client: Client,
    next: &mut u32,
    unreceipted: &mut BTreeSet<u32>,
    stage: &mut watch::Receiver<Stage>,
) -> Result<(), ClientError> {
    let Shape { senders, messages_per_second, .. } = shared.shape;
    for &number in unreceipted.iter() {
        shared.send(&mut client, (n, number)).await?;
    }
    let pace = Duration::from_secs(1) * u32::try_from(senders).unwrap() / messages_per_second;
    let first = Instant::now() + pace.mul_f64(rand::random());
    let mut pace = interval_at(first, pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let now = *stage.borrow_and_update();
        if now == Stage::Over {
            let bye = Frame::new(Command::Disconnect).with_header(header::RECEIPT, "bye");
            // It came to its end, whatever becomes of that.
            let _ = client.send(&bye).await;
            return Ok(());
        }
        let may_send = n < senders && now == Stage::Sending && unreceipted.len() < WINDOW;
        tokio::select! {
            frame = client.next() => {
                let frame = frame?;
                match frame.command {
                    Command::Message => shared.take(&mut client, &frame).await?,
                    _ => {
                        let id = frame.header(header::RECEIPT_ID).unwrap();
                        let number = id.parse().unwrap();
                        unreceipted.remove(&number);
                        shared.record().receipted.insert((n, number));
                    }
                }
            }
            _ = pace.tick(), if may_send => {
                unreceipted.insert(*next);
                *next += 1;
                shared.send(&mut client, (n, *next - 1)).await?;
            }
            _ = stage.changed() => {}
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, receipted, sent_again, redelivered, ends, failures, .. } = self;
        writeln!(
            f,
            "{sent} messages sent, {receipted} confirmed; {} lost, {} came twice unmarked; {redelivered} \
             marked as redelivered, {sent_again} sent again for want of a receipt",
            self.lost.len(),
            self.doubled.len(),
        )?;
        writeln!(f, "connections that ended: {ends:?}; that could not be had: {failures:?}")?;
        let at = |share: usize| self.away.get((self.away.len() * share / 100).saturating_sub(1));
        let (half, most, last) = (at(50), at(99), self.away.last());
        write!(
            f,
            "away {} times: median {half:.1?}, 99% {most:.1?}, slowest {last:.1?}",
            self.away.len()
        )
    }
}
