//! Presence and groups of all nodes that share a Redis.
//!
//! Every node keeps its own sessions here ([`Here`](shared::Here)) and writes them to Redis, which others
//! ask. What Redis has may be lost or out of date at any time, so
//! - a node holds a *lease*, and says in it whether it is registered completely;
//! - a *term* begins whenever a node may not be: after each connection made, each write whose fate is
//!   unknown, each lease lost. In a new term the node writes everything again, and only then says so;
//! - an *epoch* begins with each empty Redis and, where one server is asked, with each run of it, as what
//!   came last may not have survived.
//!
//! Invariants
//! - Every entry of a session stands in the index of its node: that is written before and removed after.
//! - What is written in a term is removed only by its node or by who clears away that term or a later one.
//! - Whoever removes a session tells it: Redis says to one only that it was there.
//! - One task writes sessions ([`writer`]), a batch at a time; so what is said of a session in order is
//!   written in order.
//! - A cut connection, a silent Redis or one that refuses ends nothing here but the question.
//!
//! In a Redis Cluster the epoch is of one shard. Another shard that loses what it had, without the loss of
//! that one or of the connection, is noticed when the sessions are written again, within `reassert`.
//!
//! `keeper` holds the lease and begins terms, `reaper` clears away nodes that died and tells who is offline,
//! `redis-link` is the connection, `script` and the `.lua` files what runs in Redis, `keys` what is where.

mod groups;
mod keeper;
mod keys;
mod owners;
mod reaper;
mod removal;
mod script;
mod shared;
mod stored;
mod writer;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use redis_link::Answers;
pub use redis_link::{RedisConfig, Url};

use self::script::Lua;
use self::shared::Shared;
use self::writer::Write;
use crate::{
    Boot, Config, Count, Events, GroupError, Lookup, OnlineUser, Page, PageRequest, Presence,
    RegisterError, Session, SessionId, State, Unavailable, UserName,
};

/// Presence and groups in Redis, for one node.
pub struct RedisPresence {
    shared: Arc<Shared>,
    /// The tasks that renew the lease; ended before the lease is given up.
    keeping: TaskTracker,
    keep: CancellationToken,
    /// Ends every task.
    _closing: DropGuard,
}

impl RedisPresence {
    /// Presence of the node `boot`, which connects in the background. It must be made within a Tokio
    /// runtime, with configurations that [`Config::check`] and [`RedisConfig::check`] pass.
    ///
    /// Dropping it is like the death of the node: the others clear its sessions away after its lease.
    #[must_use]
    pub fn start(config: Config, redis: RedisConfig, boot: Boot) -> Self {
        Self::begin(config, redis, boot, Holds::Sessions)
    }

    /// Presence as a process sees it that has no sessions, in the same way: it holds no lease and is no node,
    /// but clears away nodes that died as the others do.
    #[must_use]
    pub fn observe(config: Config, redis: RedisConfig, boot: Boot) -> Self {
        Self::begin(config, redis, boot, Holds::Nothing)
    }

    fn begin(config: Config, redis: RedisConfig, boot: Boot, holds: Holds) -> Self {
        let closing = CancellationToken::new();
        let (writes, queue) = mpsc::channel(config.max_waiting);
        let shared = Arc::new(Shared::new(config, redis, boot, writes, closing.clone()));
        let keep = closing.child_token();
        let keeping = TaskTracker::new();
        let run = |token: &CancellationToken| token.clone();
        if holds == Holds::Sessions {
            keeping.spawn(run(&keep).run_until_cancelled_owned(keeper::keep(shared.clone())));
            keeping.spawn(run(&keep).run_until_cancelled_owned(keeper::reassert(shared.clone())));
        }
        keeping.spawn(run(&keep).run_until_cancelled_owned(reaper::reap(shared.clone())));
        keeping.spawn(run(&keep).run_until_cancelled_owned(reaper::tell_offline(shared.clone())));
        keeping.close();
        tokio::spawn(run(&closing).run_until_cancelled_owned(shared.clone().show_link()));
        tokio::spawn(run(&closing).run_until_cancelled_owned(writer::write(shared.clone(), queue)));
        Self { shared, keeping, keep, _closing: closing.drop_guard() }
    }

    /// How often Redis was asked something and waited for, since the start.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.shared.link.round_trips()
    }

    /// Hands a write over and waits for its answer, both until `deadline`. Without an answer in time
    /// nobody knows what is in Redis.
    async fn written<T>(
        &self,
        write: impl FnOnce(oneshot::Sender<Result<T, Unavailable>>) -> Write,
        deadline: Instant,
    ) -> Result<T, NotWritten> {
        let refused = |why: &str| NotWritten::HandedOver(Unavailable(why.to_owned()));
        self.shared.link.line().map_err(|why| NotWritten::Kept(why.into()))?;
        let place = timeout_at(deadline, self.shared.writes.reserve()).await;
        let Ok(Ok(place)) = place else {
            let why = "too many sessions wait to be written to Redis".to_owned();
            return Err(NotWritten::Kept(Unavailable(why)));
        };
        let (done, answer) = oneshot::channel();
        place.send(write(done));
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer.map_err(NotWritten::HandedOver),
            Ok(Err(_)) => Err(refused("the node ends")),
            Err(_) => Err(refused("Redis is behind with what it is told")),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.patience()
    }
}

#[async_trait]
impl Presence for RedisPresence {
    fn boot(&self) -> Boot {
        self.shared.boot
    }

    async fn register(&self, session: Session) -> Result<(), RegisterError> {
        let deadline = self.deadline();
        let session = self.shared.admit(session)?;
        let id = session.id.clone();
        match self.written(|done| Write::Register { id, done }, deadline).await {
            Ok(None) => Ok(()),
            Ok(Some(remaining)) => Err(RegisterError::Banned { remaining }),
            Err(NotWritten::Kept(why) | NotWritten::HandedOver(why)) => {
                self.shared.fault();
                Err(why.into())
            }
        }
    }

    async fn unregister(&self, id: &SessionId) -> Result<(), Unavailable> {
        let deadline = self.deadline();
        let Some(entry) = self.shared.here.lock().sessions.remove(id) else {
            return Ok(());
        };
        let ended = entry.clone();
        match self.written(|done| Write::Unregister { entry: ended, done }, deadline).await {
            Ok(()) => Ok(()),
            Err(NotWritten::Kept(why)) => {
                self.shared.owe(&entry);
                Err(why)
            }
            // The writer does what it can, and owes the rest.
            Err(NotWritten::HandedOver(why)) => Err(why),
        }
    }

    async fn lookup(&self, users: &[UserName]) -> Result<Lookup, Unavailable> {
        let asked: HashSet<_> = users.iter().collect();
        let asked: Vec<_> = asked.into_iter().collect();
        // Not by the script that clears remnants away: it costs Redis twenty times as much.
        let sessions = asked.iter().map(|user| {
            let mut ask = redis::cmd("HGETALL");
            ask.arg(self.shared.keys.sessions_of(user));
            ask
        });
        let sessions = sessions.collect();
        // Silence about a user counts only if what vouches for it held before and after.
        let facts = || vec![self.shared.ask_facts()];
        let line = self.shared.link.line()?;
        let steps = vec![facts(), sessions, facts()];
        let mut answers = self.shared.link.ask_in_order_on(&line, steps).await?;
        let before = Facts::read(&mut answers)?;
        let (mut found, mut with_remnants) = (HashMap::new(), Vec::new());
        for user in asked {
            let mut all = answers.next()?;
            if stored::leave_out_remnants(&mut all, before.now, self.shared.stale()) {
                with_remnants.push(self.shared.ask_sessions_of(user));
            }
            let sessions = stored::sessions(user, all);
            if !sessions.is_empty() {
                found.insert(user.clone(), sessions);
            }
        }
        let (epoch, leased) = before.and(&Facts::read(&mut answers)?);
        if let Err(why) = self.shared.link.ask(with_remnants).await {
            tracing::debug!("remnants could not be cleared away: {why}");
        }
        let epoch = epoch.map(|epoch| shared::epoch_of(&epoch, &line.run));
        Ok(Lookup { epoch, leased, sessions: found })
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Unavailable> {
        if let Some(entry) = self.shared.here.lock().sessions.get(id) {
            return Ok(Some(Session::clone(&entry.session)));
        }
        let boots = self.shared.boots().await?;
        let holders = boots.into_iter().filter(|boot| boot.node_name() == id.node_name());
        for boot in holders {
            let mut ask = redis::cmd("HGET");
            ask.arg(self.shared.keys.sessions_on(boot)).arg(id.as_str());
            let indexed: Option<String> = self.shared.link.ask_one(ask).await?;
            let Some((_, user)) = indexed.as_deref().and_then(stored::indexed) else { continue };
            let answer = self.shared.link.ask_one(self.shared.ask_sessions_of(&user)).await?;
            let sessions = stored::sessions(&user, answer);
            if let Some(session) = sessions.into_iter().find(|session| session.id == *id) {
                return Ok(Some(session));
            }
        }
        Ok(None)
    }

    async fn count(&self) -> Result<Count, Unavailable> {
        let shared = &self.shared;
        let mut boots = shared.boots().await?;
        boots.sort();
        let mut users = redis::cmd("ZCARD");
        users.arg(shared.keys.users());
        let sizes = boots.iter().map(|boot| {
            let mut size = redis::cmd("HLEN");
            size.arg(shared.keys.sessions_on(*boot));
            size
        });
        let mut answers = shared.link.ask(std::iter::once(users).chain(sizes).collect()).await?;
        let users = answers.next()?;
        let nodes = boots.into_iter().map(|boot| Ok((boot, answers.next()?)));
        Ok(Count { users, nodes: nodes.collect::<Result<_, Unavailable>>()? })
    }

    async fn users(&self, page: &PageRequest) -> Result<Page<OnlineUser>, Unavailable> {
        let shared = &self.shared;
        let mut ask = redis::cmd("ZRANGEBYLEX");
        let from = page.after_text().map_or("-".to_owned(), |after| format!("({after}"));
        ask.arg(shared.keys.users()).arg(from).arg("+").arg("LIMIT").arg(0).arg(page.limit() + 1);
        let names: Vec<String> = shared.link.ask_one(ask).await?;
        let user = |name: &String| UserName::new(name.clone()).ok();
        let page = Page::cut(names, page, user);
        let asks = page.items.iter().map(|user| shared.ask_sessions_of(user)).collect();
        let mut answers = shared.link.ask(asks).await?;
        let (mut items, mut without) = (Vec::new(), Vec::new());
        for user in page.items {
            match stored::sessions(&user, answers.next()?).len() as u64 {
                0 => without.push(user),
                sessions => items.push(OnlineUser { user, sessions }),
            }
        }
        // They linger, or were left here by a node that died in the middle.
        if !without.is_empty() {
            shared.link.ask(vec![shared.linger(&without, "NX")]).await?;
        }
        Ok(Page { items, next: page.next })
    }

    async fn ban_for(&self, user: &UserName, duration: Duration) -> Result<(), Unavailable> {
        let mut ban = redis::cmd("SET");
        // Redis takes no end that is past.
        let length = shared::millis(duration).max(1);
        ban.arg(self.shared.keys.ban(user)).arg(1).arg("PX").arg(length);
        Ok(self.shared.link.ask_one(ban).await?)
    }

    async fn lift_ban(&self, user: &UserName) -> Result<bool, Unavailable> {
        let mut lift = redis::cmd("DEL");
        lift.arg(self.shared.keys.ban(user));
        Ok(self.shared.link.ask_one(lift).await?)
    }

    async fn ban_of(&self, user: &UserName) -> Result<Option<Duration>, Unavailable> {
        let mut rest = redis::cmd("PTTL");
        rest.arg(self.shared.keys.ban(user));
        let rest: i64 = self.shared.link.ask_one(rest).await?;
        Ok(u64::try_from(rest).ok().filter(|rest| *rest > 0).map(Duration::from_millis))
    }

    fn events(&self) -> Events {
        self.shared.events.subscribe()
    }

    fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    async fn leave(&self) -> Result<(), Unavailable> {
        let ids: Vec<_> = {
            let mut here = self.shared.here.lock();
            here.gone = true;
            here.sessions.keys().cloned().collect()
        };
        // Nobody may take the lease again once it is given up.
        self.keep.cancel();
        self.keeping.wait().await;
        let mut all_ended = Ok(());
        for some in ids.chunks(self.shared.config.batch) {
            let ended = join_all(some.iter().map(|id| self.unregister(id))).await;
            all_ended = ended.into_iter().fold(all_ended, Result::and);
        }
        // Otherwise the others clear away what is left, after the lease.
        all_ended?;
        let keys = [self.shared.keys.leases(), self.shared.keys.standing()];
        let mut give_up = self.shared.scripts.call(Lua::LeaseDrop, &keys);
        give_up.arg(self.shared.boot.to_string());
        Ok(self.shared.link.ask_one::<u64>(give_up).await.map(drop)?)
    }
}

impl From<redis_link::Failure> for Unavailable {
    fn from(failure: redis_link::Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<redis_link::Failure> for GroupError {
    fn from(failure: redis_link::Failure) -> Self {
        Unavailable::from(failure).into()
    }
}

/// What a process has to tell Redis of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Sessions,
    Nothing,
}

/// Why a write has no answer.
enum NotWritten {
    /// It was not handed to the writer.
    Kept(Unavailable),
    /// The writer has it, or had.
    HandedOver(Unavailable),
}

/// What Redis vouches for at one moment.
struct Facts {
    epoch: Option<String>,
    /// Boots that are registered completely, and in which term.
    full: HashSet<(Boot, u64)>,
    /// The time of Redis, in ms.
    now: u64,
}

impl Facts {
    fn read(answers: &mut Answers) -> Result<Self, Unavailable> {
        let (epoch, full, now): (Option<String>, Vec<(String, u64)>, u64) = answers.next()?;
        let full = full.into_iter().filter_map(|(boot, term)| Some((boot.parse().ok()?, term)));
        Ok(Self { epoch, full: full.collect(), now })
    }

    /// What held from this moment to the other.
    fn and(self, after: &Self) -> (Option<String>, HashSet<Boot>) {
        if self.epoch != after.epoch {
            return (None, HashSet::new());
        }
        let full = self.full.intersection(&after.full).map(|(boot, _)| *boot).collect();
        (self.epoch, full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(epoch: &str, full: &[(Boot, u64)]) -> Facts {
        Facts { epoch: Some(epoch.to_owned()), full: full.iter().copied().collect(), now: 0 }
    }

    #[test]
    fn only_what_held_all_the_time_is_vouched_for() {
        let (one, other, third) = (Boot::generate(), Boot::generate(), Boot::generate());
        let before = facts("e", &[(one, 1), (other, 1)]);
        // The other was cleared away and came back meanwhile; the third came to be complete.
        let after = facts("e", &[(one, 1), (other, 2), (third, 1)]);
        assert_eq!(before.and(&after), (Some("e".to_owned()), HashSet::from([one])));
        let (epoch, full) = facts("e", &[(one, 1)]).and(&facts("f", &[(one, 1)]));
        assert_eq!((epoch, full.len()), (None, 0));
    }
}
