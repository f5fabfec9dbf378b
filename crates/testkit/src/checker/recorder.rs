//! The history while it grows, and its figures for those who wait for them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Event, History, MessageId, SessionId, TransactionId};

/// Records what all sessions do and see. Shared by them.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Instant,
    /// Held to add an event or to copy the whole, never over anything that waits.
    open: Mutex<Open>,
    /// Changed with every event.
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Open {
    history: History,
    sessions: u32,
    /// Messages that wait for a receipt, and since when: those in an open transaction do not.
    unanswered: BTreeMap<MessageId, Instant>,
    /// The messages of the transactions that have seen neither COMMIT's receipt nor ABORT's.
    transactions: HashMap<TransactionId, Vec<MessageId>>,
    /// How many messages are in those that are open.
    held: u64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sessions that are open.
    pub sessions: usize,
    /// Sessions that ended otherwise than by DISCONNECT.
    pub closed: usize,
    /// Sessions that have sent their last message.
    pub concluded: usize,
    /// Messages sent, in transactions too.
    pub sent: u64,
    /// Those of them in transactions that are open.
    pub held: u64,
    /// Messages answered: by their own receipt, or by that of their COMMIT or ABORT.
    pub receipted: u64,
    /// Deliveries.
    pub received: u64,
    /// ACKs: those with a receipt, and those in transactions.
    pub acked: u64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), open: Mutex::default(), progress: watch::Sender::default() }
    }

    /// The number of the next session.
    pub(crate) fn next_session(&self) -> SessionId {
        let mut open = self.open.lock();
        let session = SessionId(open.sessions);
        open.sessions += 1;
        session
    }

    pub(crate) fn record(&self, event: Event) {
        let mut open = self.open.lock();
        let now = Instant::now();
        let answered = open.note(&event, now);
        let held = open.held;
        self.progress.send_modify(|progress| {
            progress.count(&event);
            progress.held = held;
            progress.receipted += answered;
        });
        open.history.record(now - self.started, event);
    }

    /// Notes that a session has sent its last message.
    pub(crate) fn conclude(&self) {
        self.progress.send_modify(|progress| progress.concluded += 1);
    }

    /// How far it is, and every change of it.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The history as it stands.
    pub(crate) fn history(&self) -> History {
        self.open.lock().history.clone()
    }

    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().history.len()
    }

    /// How many messages have no receipt, and since when the oldest of them waits.
    pub(crate) fn unanswered(&self) -> (usize, Duration) {
        let open = self.open.lock();
        let oldest = open.unanswered.values().min();
        (open.unanswered.len(), oldest.map(Instant::elapsed).unwrap_or_default())
    }

    /// How long it has been recording.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Open {
    /// Notes what waits for a receipt; says how many messages the event is a receipt of.
    fn note(&mut self, event: &Event, now: Instant) -> u64 {
        match *event {
            Event::Sent { message, transaction: None } => {
                self.unanswered.insert(message, now);
            }
            Event::Sent { message, transaction: Some(transaction) } => {
                self.transactions.entry(transaction).or_default().push(message);
                self.held += 1;
            }
            Event::Receipted(message) => {
                self.unanswered.remove(&message);
                return 1;
            }
            Event::Committing(id) | Event::Aborting(id) => {
                let messages = self.transactions.get(&id).map(Vec::as_slice).unwrap_or_default();
                self.unanswered.extend(messages.iter().map(|message| (*message, now)));
                self.held -= messages.len() as u64;
            }
            Event::Committed(id) | Event::Aborted(id) => {
                let messages = self.transactions.remove(&id).unwrap_or_default();
                for message in &messages {
                    self.unanswered.remove(message);
                }
                return messages.len() as u64;
            }
            Event::Closed { session, .. } => {
                // Its receipts do not come any more, and what is not committed will not be.
                let open = self.transactions.extract_if(|id, _| id.session == session);
                for message in open.flat_map(|(_, messages)| messages) {
                    self.held -= u64::from(!self.unanswered.contains_key(&message));
                }
                self.unanswered.retain(|message, _| message.sender != session);
            }
            _ => {}
        }
        0
    }
}

impl Progress {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Connected { .. } => self.sessions += 1,
            Event::Closed { .. } => {
                self.sessions = self.sessions.saturating_sub(1);
                self.closed += 1;
            }
            Event::Ended(_) => self.sessions = self.sessions.saturating_sub(1),
            Event::Sent { .. } => self.sent += 1,
            Event::Acking { transaction: Some(_), .. } | Event::Acked(_) => self.acked += 1,
            Event::Received { .. } => self.received += 1,
            _ => {}
        }
    }
}
