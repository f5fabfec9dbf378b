//! The history while it grows, and its figures for those who wait for them.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Event, History, MessageId, SessionId};

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
    /// Messages without a receipt, and when they were sent.
    unanswered: BTreeMap<MessageId, Instant>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sessions that are open.
    pub sessions: usize,
    /// Sessions that ended otherwise than by DISCONNECT.
    pub closed: usize,
    /// Messages sent.
    pub sent: u64,
    /// Messages receipted.
    pub receipted: u64,
    /// Deliveries.
    pub received: u64,
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
        match &event {
            Event::Sent(message) => drop(open.unanswered.insert(*message, now)),
            Event::Receipted(message) => drop(open.unanswered.remove(message)),
            _ => {}
        }
        self.progress.send_modify(|progress| progress.count(&event));
        open.history.record(now - self.started, event);
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

impl Progress {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Connected { .. } => self.sessions += 1,
            Event::Closed { .. } => {
                self.sessions = self.sessions.saturating_sub(1);
                self.closed += 1;
            }
            Event::Ended(_) => self.sessions = self.sessions.saturating_sub(1),
            Event::Sent(_) => self.sent += 1,
            Event::Receipted(_) => self.receipted += 1,
            Event::Received { .. } => self.received += 1,
            _ => {}
        }
    }
}
