//! What the tasks of a node share: its own sessions, and how it stands.
//!
//! Invariants
//! - A session is in `here` from before it is first written until it ends; what is not in `here` is not
//!   written.
//! - `State::registered` names an epoch only while nothing has gone wrong since everything in `here` was
//!   written in it. It is changed under the lock of `here` alone, as is the count of what went wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Cmd;
use redis_link::{Line, Link, RedisConfig};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::keys::Keys;
use super::script::{Lua, Scripts};
use super::writer::Write;
use crate::event::Source;
use crate::{
    Boot, Config, Ending, Epoch, Event, Link as LinkState, RegisterError, Session, SessionId,
    State, Unavailable, UserName,
};

/// A session that was not written for so many rounds is a remnant.
const ROUNDS: u32 = 10;

pub(super) struct Shared {
    pub(super) boot: Boot,
    pub(super) config: Config,
    pub(super) keys: Keys,
    pub(super) scripts: Scripts,
    pub(super) link: Link,
    pub(super) events: Source,
    pub(super) state: watch::Sender<State>,
    /// What is to be written, `max_waiting` at most; who would add to it when it is full waits.
    pub(super) writes: mpsc::Sender<Write>,
    /// Told when something went wrong.
    pub(super) faulted: Notify,
    /// Held for a lookup or a change, never across a wait.
    pub(super) here: Mutex<Here>,
}

/// The sessions of this node.
#[derive(Debug, Default)]
pub(super) struct Here {
    pub(super) sessions: HashMap<SessionId, Entry>,
    /// The term in which this node writes.
    pub(super) term: u64,
    /// How often nobody could say any more what is in Redis.
    pub(super) faults: u64,
    /// Sessions that ended while Redis could not be told, `max_waiting` at most. What is beyond is
    /// cleared away with the term, and its user may miss an offline event.
    pub(super) owed: Vec<Arc<Session>>,
    pub(super) gone: bool,
}

/// A session of this node.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) session: Arc<Session>,
    /// Whether it was told as opened. Whoever ends it may have it before the writer tells it, so they
    /// share it.
    told: Arc<AtomicBool>,
}

impl Entry {
    fn new(session: Arc<Session>) -> Self {
        Self { session, told: Arc::default() }
    }

    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }
}

impl Shared {
    pub(super) fn new(
        config: Config,
        redis: RedisConfig,
        boot: Boot,
        writes: mpsc::Sender<Write>,
        closing: CancellationToken,
    ) -> Self {
        let link = LinkState::Down("not connected yet".to_owned());
        let scripts = Scripts::new();
        Self {
            boot,
            config,
            keys: Keys::new(&redis.namespace),
            link: Link::start(redis, &scripts, closing),
            scripts,
            events: Source::new(),
            state: watch::Sender::new(State { link, registered: None }),
            writes,
            faulted: Notify::new(),
            here: Mutex::default(),
        }
    }

    /// The longest that a change may wait for its answer: for its place in line, and for the two steps it
    /// takes at most.
    pub(super) fn patience(&self) -> Duration {
        self.link.command_timeout() * 3
    }

    /// Shows the state of the link as it changes.
    pub(super) async fn show_link(self: Arc<Self>) {
        let mut changes = self.link.changes();
        loop {
            let link = state_of(&changes.borrow_and_update());
            self.state.send_if_modified(|state| {
                let is_new = state.link != link;
                state.link = link;
                is_new
            });
            // The sender ends with this value.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes a session in, if it is fit.
    pub(super) fn admit(&self, session: Session) -> Result<Arc<Session>, RegisterError> {
        session.check()?;
        if session.boot != self.boot || session.id.node_name() != self.boot.node_name() {
            return Err(RegisterError::Foreign(session.id));
        }
        let mut here = self.here.lock();
        if here.gone {
            return Err(RegisterError::Left);
        }
        if here.sessions.contains_key(&session.id) {
            return Err(RegisterError::Taken(session.id));
        }
        let session = Arc::new(session);
        let entry = Entry::new(session.clone());
        here.sessions.insert(session.id.clone(), entry);
        Ok(session)
    }

    /// Nobody knows what is in Redis: a new term begins.
    pub(super) fn fault(&self) {
        let mut here = self.here.lock();
        here.faults += 1;
        self.set_registered(None);
        drop(here);
        self.faulted.notify_one();
    }

    /// To be called under the lock of `here`.
    pub(super) fn set_registered(&self, epoch: Option<Epoch>) {
        self.state.send_if_modified(|state| {
            let is_new = state.registered != epoch;
            state.registered = epoch;
            is_new
        });
    }

    /// A session ended, and Redis could not be told.
    pub(super) fn owe(&self, entry: &Entry) {
        if entry.is_told() {
            let mut here = self.here.lock();
            if here.owed.len() < self.config.max_waiting {
                here.owed.push(entry.session.clone());
            }
            drop(here);
            self.tell_closed(&entry.session, Ending::Left);
        }
        self.fault();
    }

    pub(super) fn tell_opened(&self, entry: &Entry) {
        entry.told.store(true, Ordering::Release);
        let Session { id, user, boot, .. } = Session::clone(&entry.session);
        self.events.tell(Event::SessionOpened { id, user, boot });
    }

    pub(super) fn tell_closed(&self, session: &Session, ending: Ending) {
        let (id, user) = (session.id.clone(), session.user.clone());
        self.events.tell(Event::SessionClosed { id, user, boot: session.boot, ending });
    }

    /// After how long a session that is not written again counts as gone, in ms.
    pub(super) fn stale(&self) -> u64 {
        millis(self.config.reassert * ROUNDS)
    }

    pub(super) fn ask_sessions_of(&self, user: &UserName) -> Cmd {
        let mut ask = self.scripts.call(Lua::Sessions, &[self.keys.sessions_of(user)]);
        ask.arg(self.stale());
        ask
    }

    pub(super) fn ask_facts(&self) -> Cmd {
        let keys = [self.keys.epoch(), self.keys.leases(), self.keys.standing()];
        self.scripts.call(Lua::Facts, &keys)
    }

    /// Notes that `users` may be offline after the linger; `how` is what it means for those that are
    /// noted already.
    pub(super) fn linger<'a>(
        &self,
        users: impl IntoIterator<Item = &'a UserName>,
        how: &str,
    ) -> Cmd {
        let mut note = self.scripts.call(Lua::LingerAdd, &[self.keys.lingering()]);
        note.arg(millis(self.config.linger)).arg(how);
        for user in users {
            note.arg(user.as_str());
        }
        note
    }

    /// The nodes that have a lease, or had one and were not cleared away yet.
    pub(super) async fn boots(&self) -> Result<Vec<Boot>, Unavailable> {
        let mut ask = redis::cmd("ZRANGE");
        ask.arg(self.keys.leases()).arg(0).arg(-1);
        let boots: Vec<String> = self.link.ask_one(ask).await?;
        Ok(boots.iter().filter_map(|boot| boot.parse().ok()).collect())
    }
}

/// The epoch of a Redis: what is stored in it, and which run of the server it is.
pub(super) fn epoch_of(stored: &str, run: &str) -> Epoch {
    match run {
        "" => Epoch::new(stored),
        run => Epoch::new(&format!("{stored}.{run}")),
    }
}

/// What Redis takes for never is a hundred years.
pub(super) fn millis(duration: Duration) -> u64 {
    const NEVER: u64 = 100 * 365 * 86_400 * 1_000;
    u64::try_from(duration.as_millis()).unwrap_or(NEVER).min(NEVER)
}

/// How the link stands, as others see it.
fn state_of(line: &Result<Arc<Line>, String>) -> LinkState {
    match line {
        Ok(_) => LinkState::Up,
        Err(why) => LinkState::Down(why.clone()),
    }
}
