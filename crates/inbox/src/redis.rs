//! Inboxes that all processes with the same Redis share.
//!
//! Each operation on an inbox is one script, so it is done or not. What a script may touch is in one slot of a
//! Cluster: an inbox, and the list of its user's inboxes. Two things are elsewhere, and so may be told twice:
//! who is known, and an index of when each inbox is to be looked at.
//!
//! Invariants
//! - The time is Redis's own.
//! - An inbox that is empty is forgotten after a day (or as long as idempotency keys are known, if that is
//!   longer). The next one of that name has another epoch, as has one in a Redis that came back empty.
//! - A full Redis takes no appends, and goes on to hand out and to settle what is in it.
//! - At most [`UNDER_WAY`] calls are under way; who comes then waits, `command_timeout` at most. No answer is
//!   waited for longer than that. A call takes a few round trips; an append one or three for each 128 inboxes,
//!   and ten times `command_timeout` at most; a purge one for each 500 entries.
//!
//! Claims and settlements are as durable as Redis makes them by itself; a replica that takes over may have
//! missed the last. Then something is handed out again that was handed out or acknowledged just before.
//!
//! `append`, `due` and `pages` are the longer operations, `keys` what is where, `script` and the `.lua` files
//! what runs in Redis, `durability` what Redis must promise, `redis-link` the connection.

mod append;
mod due;
mod durability;
mod failure;
mod keys;
mod pages;
mod reply;
mod script;
mod stored;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use presence::{Page, PageRequest, UserName};
use redis::{Cmd, Value};
use redis_link::{Link, RedisConfig};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;

pub use self::durability::Durability;
use self::durability::Promise;
use self::keys::{ABOUT, FAILED, Keys, LINE, SCHEDULED, member, shard};
use self::reply::{Reply, length, unreadable};
use self::script::{Lua, Scripts};
use crate::{
    Address, Advanced, Appended, Change, Config, Count, Draft, Entry, Error, Inbox, Listed,
    Position, Purge, Settled, Settlement, State, Status, Take, Taken,
};

/// How many calls are under way at a time.
const UNDER_WAY: usize = 1_024;
/// After how long a failed entry that nobody has buried is told again.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// For how long an inbox is known after the last entry has left it, at least.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// How many entries of an inbox a script settles or drops at a time.
const AT_A_TIME: usize = 500;

/// A store of inboxes in Redis.
pub struct RedisInbox {
    config: Config,
    durability: Durability,
    keys: Keys,
    scripts: Scripts,
    link: Link,
    /// Where appends wait for replicas, they wait on a connection of their own.
    waiting: Option<Link>,
    promise: Promise,
    /// A permit for each call that may be under way.
    under_way: Semaphore,
    /// Ends the connections.
    _closing: DropGuard,
}

impl RedisInbox {
    /// The inboxes in that Redis, to which a connection is opened in the background. It must be made within a
    /// Tokio runtime, with configurations that [`Config::check`] and [`RedisConfig::check`] pass.
    #[must_use]
    pub fn start(config: Config, redis: RedisConfig, durability: Durability) -> Self {
        let closing = CancellationToken::new();
        let scripts = Scripts::new();
        let waiting = (durability.wait_replicas > 0)
            .then(|| Link::start(redis.clone(), &scripts, closing.clone()));
        Self {
            config,
            durability,
            keys: Keys::new(&redis.namespace),
            link: Link::start(redis, &scripts, closing.clone()),
            scripts,
            waiting,
            promise: Promise::default(),
            under_way: Semaphore::new(UNDER_WAY),
            _closing: closing.drop_guard(),
        }
    }

    /// Waits until Redis is connected.
    ///
    /// # Errors
    /// Why it is not, after `patience`.
    pub async fn connected(&self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        for link in [&self.link, self.appends()] {
            let mut changes = link.changes();
            let _ = tokio::time::timeout_at(deadline, changes.wait_for(Result::is_ok)).await;
            link.line()?;
        }
        Ok(())
    }

    fn appends(&self) -> &Link {
        self.waiting.as_ref().unwrap_or(&self.link)
    }

    /// When a call that takes many round trips is given up.
    fn deadline(&self) -> Instant {
        Instant::now() + self.link.command_timeout() * 10
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        match timeout(self.link.command_timeout(), self.under_way.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Error::Unavailable("too many calls wait for Redis".to_owned())),
        }
    }

    /// The call of a script on an inbox, with the arguments that all of them have.
    fn call(&self, script: Lua, of: &Address) -> Cmd {
        self.call_with(script, of, None)
    }

    fn call_with(&self, script: Lua, of: &Address, key: Option<String>) -> Cmd {
        let mut keys = self.keys.inbox(of);
        keys.extend(key);
        let mut call = self.scripts.call(script, &keys);
        let known = REMEMBERED.max(self.config.idempotency);
        call.arg(self.config.remembered).arg(length(known)).arg(&**of.path());
        call
    }

    async fn ask(&self, question: Cmd) -> Result<Reply, Error> {
        let answer: Value = self.link.ask_one(question).await?;
        Reply::of(answer)
    }

    /// Puts an inbox into the index of what is to be looked at, unless `at` is 0.
    async fn look_at(&self, of: &Address, at: u64) {
        if at == 0 {
            return;
        }
        let name = member(of);
        let mut mark = redis::cmd("ZADD");
        mark.arg(&self.keys.due(shard(&name))[0]).arg("LT").arg(at).arg(name);
        // Its end is there, and so is whoever takes from it next.
        if let Err(why) = self.link.ask_one::<u64>(mark).await {
            tracing::debug!("an inbox is looked at later than it should be: {why}");
        }
    }

    fn make_known<'a>(&self, users: impl Iterator<Item = &'a UserName>) -> Vec<Cmd> {
        let mut shards = BTreeMap::<_, Cmd>::new();
        for user in users {
            let known = shards.entry(shard(user.as_str().as_bytes()));
            let known = known.or_insert_with_key(|shard| {
                let mut known = redis::cmd("ZADD");
                known.arg(self.keys.known(*shard));
                known
            });
            known.arg(0).arg(user.as_str());
        }
        shards.into_values().collect()
    }

    async fn drop_entries(&self, of: &Address, ids: &[Ulid]) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        for ids in ids.chunks(AT_A_TIME) {
            let mut drop = self.call(Lua::Drop, of);
            ids.iter().for_each(|id| _ = drop.arg(&stored::id(*id)));
            let mut answer = self.ask(drop).await?;
            let now = answer.time()?;
            changes.extend(stored::changes(answer.list()?, now)?);
        }
        Ok(changes)
    }

    /// The ids of all that is in an inbox.
    async fn contents(&self, of: &Address) -> Result<Vec<Ulid>, Error> {
        let keys = self.keys.inbox(of);
        let asks = [LINE, SCHEDULED, FAILED].map(|part| {
            let mut ask = redis::cmd("ZRANGE");
            ask.arg(&keys[part]).arg(0).arg(-1);
            ask
        });
        let mut answers = self.link.ask(asks.into()).await?;
        let mut all = Vec::new();
        for _ in 0..3 {
            let ids: Vec<Vec<u8>> = answers.next()?;
            all.extend(ids.iter().filter_map(|id| reply::ulid(id)));
        }
        Ok(all)
    }
}

#[async_trait]
impl Inbox for RedisInbox {
    async fn append(&self, to: &[Address], draft: &Draft) -> Result<Vec<Appended>, Error> {
        let _permit = self.permit().await?;
        append::append(self, to, draft).await
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, Error> {
        let _permit = self.permit().await?;
        let mut call = self.call(Lua::Take, take.of);
        match take.after {
            None => call.arg("").arg(0),
            Some(Position::END) => call.arg("").arg("end"),
            Some(Position { epoch, seq }) => call.arg(epoch).arg(seq),
        };
        // More than Redis counts exactly is more than any inbox has.
        call.arg(take.limit.clamp(1, 10_000)).arg(take.max_bytes.min(1 << 48));
        call.arg(length(self.config.ack_wait)).arg(self.config.max_attempts);
        call.arg(u8::from(self.config.keeps_failed)).arg(length(TOLD_AGAIN));
        let mut answer = self.ask(call).await?;
        let now = answer.time()?;
        let epoch = answer.bytes()?;
        let epoch = match &*epoch {
            b"" => 0,
            epoch => std::str::from_utf8(epoch)
                .ok()
                .and_then(|epoch| epoch.parse().ok())
                .ok_or_else(|| unreadable("an epoch"))?,
        };
        let upto = Position { epoch, seq: answer.number()? };
        let more = answer.number()? == 1;
        let again = answer.number()?;
        let taken = stored::entries(answer.list()?)?;
        let failed: Vec<Entry> =
            stored::entries(answer.list()?)?.into_iter().map(|(entry, _)| entry).collect();
        self.look_at(take.of, again).await;
        let changed = |entry: &Entry, state, attempts| {
            let status = Status { state, attempts, since: now };
            Change { id: entry.id, from: entry.from, status }
        };
        let fresh = taken.iter().filter(|(_, is_fresh)| *is_fresh);
        let delivered = fresh
            .map(|(entry, _)| changed(entry, State::Delivered, entry.attempts.saturating_add(1)));
        let spent = failed.iter().map(|entry| changed(entry, State::Failed, entry.attempts));
        let changes = delivered.chain(spent).collect();
        Ok(Taken {
            epoch,
            upto: if take.after == Some(Position::END) { Position::END } else { upto },
            more,
            changes,
            failed: if self.config.keeps_failed { failed } else { Vec::new() },
            entries: taken.into_iter().map(|(entry, _)| entry).collect(),
        })
    }

    async fn settle(
        &self,
        of: &Address,
        epoch: u64,
        settlements: &[(u64, Settlement)],
    ) -> Result<Settled, Error> {
        let _permit = self.permit().await?;
        let mut settled = Settled::default();
        for some in settlements.chunks(AT_A_TIME) {
            let mut call = self.call(Lua::Settle, of);
            call.arg(epoch).arg(length(self.config.retry)).arg(self.config.max_attempts);
            call.arg(u8::from(self.config.keeps_failed)).arg(length(TOLD_AGAIN));
            for (seq, settlement) in some {
                call.arg(*seq).arg(match settlement {
                    Settlement::Ack => "ack",
                    Settlement::Nack => "nack",
                    Settlement::Reject => "reject",
                    Settlement::Release => "release",
                });
            }
            let mut answer = self.ask(call).await?;
            let (now, again) = (answer.time()?, answer.number()?);
            settled.changes.extend(stored::changes(answer.list()?, now)?);
            let failed = stored::entries(answer.list()?)?;
            settled.failed.extend(failed.into_iter().map(|(entry, _)| entry));
            self.look_at(of, again).await;
        }
        Ok(settled)
    }

    async fn bury(&self, of: &Address, ids: &[Ulid]) -> Result<(), Error> {
        let _permit = self.permit().await?;
        for ids in ids.chunks(AT_A_TIME) {
            let mut bury = self.call(Lua::Bury, of);
            ids.iter().for_each(|id| _ = bury.arg(&stored::id(*id)));
            self.link.ask_one::<u64>(bury).await?;
        }
        Ok(())
    }

    async fn advance(&self) -> Result<Advanced, Error> {
        let _permit = self.permit().await?;
        due::advance(self).await
    }

    async fn status(&self, of: &Address, ids: &[Ulid]) -> Result<Vec<Option<Status>>, Error> {
        let _permit = self.permit().await?;
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(AT_A_TIME) {
            let mut ask = self.call(Lua::Status, of);
            ids.iter().for_each(|id| _ = ask.arg(&stored::id(*id)));
            let mut answer = self.ask(ask).await?;
            for _ in ids {
                let state = stored::state(&answer.bytes()?);
                let (attempts, since) = (answer.small()?, answer.time()?);
                all.push(state.map(|state| Status { state, attempts, since }));
            }
        }
        Ok(all)
    }

    async fn list(&self, of: &Address, page: &PageRequest) -> Result<Page<Listed>, Error> {
        let _permit = self.permit().await?;
        pages::list(self, of, page).await
    }

    async fn epoch(&self, of: &Address) -> Result<u64, Error> {
        let _permit = self.permit().await?;
        let mut ask = redis::cmd("HGET");
        ask.arg(&self.keys.inbox(of)[ABOUT]).arg("epoch");
        let epoch: Option<u64> = self.link.ask_one(ask).await?;
        Ok(epoch.unwrap_or_default())
    }

    async fn count(&self, of: &Address) -> Result<Count, Error> {
        let _permit = self.permit().await?;
        append::count(self.ask(self.call(Lua::Count, of)).await?)
    }

    async fn paths(&self, user: &UserName) -> Result<Vec<ByteString>, Error> {
        let _permit = self.permit().await?;
        let mut ask = redis::cmd("ZRANGEBYSCORE");
        ask.arg(self.keys.inboxes_of(user)).arg(0).arg(0);
        let paths: Vec<String> = self.link.ask_one(ask).await?;
        Ok(paths.into_iter().map(ByteString::from).collect())
    }

    async fn purge(&self, of: &Address, which: &Purge) -> Result<Settled, Error> {
        let _permit = self.permit().await?;
        let changes = match which {
            Purge::Ids(ids) => self.drop_entries(of, ids).await?,
            Purge::All => self.drop_entries(of, &self.contents(of).await?).await?,
        };
        Ok(Settled { changes, failed: Vec::new() })
    }

    async fn know(&self, users: &[UserName]) -> Result<(), Error> {
        let _permit = self.permit().await?;
        for users in users.chunks(AT_A_TIME) {
            self.link.ask(self.make_known(users.iter())).await?;
        }
        Ok(())
    }

    async fn known(&self, page: &PageRequest) -> Result<Page<UserName>, Error> {
        let _permit = self.permit().await?;
        pages::known(self, page).await
    }

    async fn forget(&self, user: &UserName) -> Result<(), Error> {
        let _permit = self.permit().await?;
        let mut ask = redis::cmd("ZRANGE");
        ask.arg(self.keys.inboxes_of(user)).arg(0).arg(-1);
        let paths: Vec<String> = self.link.ask_one(ask).await?;
        let of = |path: String| Address::of_user(user.clone(), path.into());
        let forgets = paths.into_iter().map(|path| self.call(Lua::Forget, &of(path))).collect();
        self.link.ask_many(forgets, AT_A_TIME).await?;
        let mut unknown = redis::cmd("ZREM");
        let name = user.as_str();
        unknown.arg(self.keys.known(shard(name.as_bytes()))).arg(name);
        self.link.ask_one::<u64>(unknown).await?;
        Ok(())
    }
}
