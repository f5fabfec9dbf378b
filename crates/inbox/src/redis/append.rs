//! Appends a message to inboxes.
//!
//! Invariants
//! - An inbox is in the index of what is to be looked at before anything is in it, and its user is known. Once
//!   more after it: whoever looked in between took the first mark for its own.
//! - Many inboxes are served a batch at a time, so that no caller has the connection to itself for long.
//! - An error other than [`Error::Unknown`] is given only when no inbox has the message.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use rand::RngExt;
use redis::{Cmd, Value};
use redis_link::{Failure, Line};

use super::keys::{member, shard};
use super::reply::{Reply, length, millis, unreadable};
use super::script::Lua;
use super::{RedisInbox, stored};
use crate::{Address, Appended, Count, Draft, Error, Overflow, Position};

/// How many inboxes are served at a time, and about how many bytes that may be.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 1024 * 1024;
/// What an append to one inbox sends besides the message.
const OVERHEAD: usize = 1_200;

pub(super) async fn append(
    store: &RedisInbox,
    to: &[Address],
    draft: &Draft,
) -> Result<Vec<Appended>, Error> {
    let link = store.appends();
    let line = link.line()?;
    if !store.durability.unsafe_durability {
        let has_replicas = store.durability.wait_replicas > 0;
        store.promise.check(link, &line, has_replicas).await?;
    }
    let message = stored::message(draft);
    let at_a_time = (BATCH_BYTES / (message.len() + OVERHEAD)).clamp(1, BATCH);
    let mut all = Vec::with_capacity(to.len());
    let deadline = store.deadline();
    for some in to.chunks(at_a_time) {
        let appended = match tokio::time::Instant::now() < deadline || all.is_empty() {
            true => batch(store, &line, some, draft, &message).await,
            false => Err(Error::Unknown("Redis is behind with what it is told".to_owned())),
        };
        match appended {
            Ok(some) => all.extend(some),
            Err(error) if all.is_empty() => return Err(error),
            Err(error) => return Err(in_part(&error)),
        }
    }
    Ok(all)
}

fn in_part(error: &Error) -> Error {
    Error::Unknown(format!("some inboxes have it, of others: {error}"))
}

async fn batch(
    store: &RedisInbox,
    line: &Line,
    to: &[Address],
    draft: &Draft,
    message: &Bytes,
) -> Result<Vec<Appended>, Error> {
    let marks = marks(store, to, look_at(store, draft));
    let mut before: Vec<_> = marks.clone();
    before.extend(store.make_known(to.iter().filter_map(Address::user)));
    let scripts: Vec<_> = to.iter().map(|of| script(store, of, draft, message)).collect();
    let mut after = marks;
    let replicas = store.durability.wait_replicas;
    if replicas > 0 {
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas).arg(length(store.link.command_timeout() / 2));
        after.push(wait);
    }
    let (first, last) = (before.len(), before.len() + to.len());
    let steps = vec![before, scripts, after];
    let mut answers = store.appends().ask_each_in_order_on(line, steps).await?;
    let acknowledged = (replicas > 0).then(|| answers.pop());
    let mut rest = answers.split_off(last);
    let results = answers.split_off(first);
    rest.append(&mut answers);
    let appended = weigh(results)?;
    if let Some(failure) = rest.into_iter().find_map(Result::err) {
        return Err(in_part(&failure.into()));
    }
    match acknowledged {
        None => {}
        Some(Some(Ok(Value::Int(count)))) if count >= i64::from(replicas) => {}
        Some(Some(Ok(Value::Int(count)))) => {
            return Err(Error::Unknown(format!(
                "Redis has it, but {count} of its replicas, and not the {replicas} of wait_replicas"
            )));
        }
        Some(_) => return Err(Error::Unknown("Redis did not wait for its replicas".to_owned())),
    }
    appended.into_iter().map(read).collect()
}

/// All answers, or what their failures mean together.
fn weigh(results: Vec<Result<Value, Failure>>) -> Result<Vec<Value>, Error> {
    let asked = results.len();
    let (mut answers, mut refusal) = (Vec::with_capacity(asked), None);
    for result in results {
        match result {
            Ok(answer) => answers.push(answer),
            Err(failure @ Failure::Refused(_)) => refusal = Some(Error::from(failure)),
            Err(failure) => return Err(Error::Unknown(failure.to_string())),
        }
    }
    match refusal {
        None => Ok(answers),
        Some(error) if answers.is_empty() => Err(error),
        Some(error) => Err(in_part(&error)),
    }
}

/// When something is to be done about the message, in ms. Redis knows better once it looks.
fn look_at(store: &RedisInbox, draft: &Draft) -> u64 {
    let now = SystemTime::now();
    let due = draft.deliver_at.filter(|due| *due > now);
    let ends = millis(due.unwrap_or(now)) + length(store.config.ttl);
    let ends = draft.expires_at.map_or(ends, |at| ends.min(millis(at)));
    due.map_or(ends, |due| ends.min(millis(due)))
}

/// Puts the inboxes into the index of what is to be looked at.
fn marks(store: &RedisInbox, to: &[Address], at: u64) -> Vec<Cmd> {
    let mut shards = BTreeMap::<_, Cmd>::new();
    for of in to {
        let name = member(of);
        let mark = shards.entry(shard(&name)).or_insert_with_key(|shard| {
            let mut mark = redis::cmd("ZADD");
            mark.arg(&store.keys.due(*shard)[0]).arg("LT");
            mark
        });
        // Nobody looks into an outbox but who is told.
        let untaken = millis(SystemTime::now()) + length(store.config.ack_wait);
        mark.arg(if of.user().is_none() { at.min(untaken) } else { at }).arg(name);
    }
    shards.into_values().collect()
}

fn script(store: &RedisInbox, of: &Address, draft: &Draft, message: &Bytes) -> Cmd {
    let config = &store.config;
    let key = draft.key.as_ref().map(|key| store.keys.idempotency(of, key));
    let mut append = store.call_with(Lua::Append, of, key);
    let text = |time: Option<SystemTime>| time.map(|at| millis(at).to_string()).unwrap_or_default();
    append.arg(&stored::id(draft.id)).arg(&stored::id(draft.from.ulid()));
    append.arg(rand::rng().random_range(1..=u64::MAX)).arg(draft.cost());
    append.arg(config.max_messages).arg(config.max_bytes.as_u64());
    append.arg(u8::from(config.overflow == Overflow::DropOldest)).arg(length(config.ttl));
    append.arg(text(draft.expires_at)).arg(text(draft.deliver_at));
    append.arg(draft.collapse.as_deref().unwrap_or_default());
    // Redis takes no end that is past.
    append.arg(length(config.idempotency).max(1)).arg(&**message);
    append
}

fn read(answer: Value) -> Result<Appended, Error> {
    let mut answer = Reply::of(answer)?;
    let kind = answer.bytes()?;
    match &*kind {
        b"known" => Ok(Appended::Known { id: answer.ulid()? }),
        b"full" => Ok(Appended::Full { count: count(answer.list()?)? }),
        _ => {
            let (now, epoch, seq) = (answer.time()?, answer.number()?, answer.number()?);
            let dropped = stored::changes(answer.list()?, now)?;
            match &*kind {
                b"stored" => Ok(Appended::Stored { at: Position { epoch, seq }, dropped }),
                b"scheduled" => Ok(Appended::Scheduled { dropped }),
                _ => Err(unreadable("what became of an append")),
            }
        }
    }
}

pub(super) fn count(mut answer: Reply) -> Result<Count, Error> {
    Ok(Count {
        scheduled: answer.number()?,
        pending: answer.number()?,
        delivered: answer.number()?,
        failed: answer.number()?,
        bytes: answer.number()?,
        oldest: answer.time_or_none()?,
    })
}
