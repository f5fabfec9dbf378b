//! Moves on what time moves on.
//!
//! An index, spread over [`SHARDS`] keys, says when each inbox is to be looked at. Who looks takes it out for
//! [`LEASE`], so that others look at other inboxes, and puts it back for the time that the inbox names.
//!
//! Invariants
//! - An inbox with anything in it is in the index, not later than its first end, due time or claim, or
//!   somebody looks at it; one whose looker died is looked at again after the lease.
//! - What an inbox changes, its script changes at once, so each change is told to one looker.

use std::time::Duration;

use futures_util::future::join_all;

use super::keys::{SHARDS, address, shard};
use super::reply::{self, Reply, length, unreadable};
use super::script::Lua;
use super::{RedisInbox, TOLD_AGAIN, stored};
use crate::{Address, Advanced, Change, Entry, Error};

/// For how long an inbox is its looker's.
const LEASE: Duration = Duration::from_secs(30);
/// How many inboxes of a shard are looked at in one round.
const AT_A_TIME: usize = 16;
/// How many entries of an inbox are moved on at a time.
const ENTRIES: usize = 200;

/// An inbox that is looked at.
struct Looked {
    of: Address,
    member: Vec<u8>,
}

pub(super) async fn advance(store: &RedisInbox) -> Result<Advanced, Error> {
    let claims = (0..SHARDS).map(|shard| {
        let mut claim = store.scripts.call(Lua::DueClaim, &store.keys.due(shard));
        claim.arg(length(LEASE)).arg(AT_A_TIME);
        claim
    });
    let mut answers = store.link.ask(claims.collect()).await?;
    let mut advanced = Advanced::default();
    let mut looked = Vec::new();
    let mut done = vec![Vec::new(); SHARDS];
    for unreadable in &mut done {
        let mut taken = answers.next::<Vec<Vec<u8>>>()?.into_iter();
        advanced.more |= taken.next().is_some_and(|more| more == b"1");
        for member in taken {
            match address(&member) {
                Some(of) => looked.push(Looked { of, member }),
                None => {
                    tracing::warn!("the name of an inbox in Redis cannot be read");
                    unreadable.push((member, 0));
                }
            }
        }
    }
    // A few at a time, as answers hold what has failed.
    let mut failure = None;
    let mut any = looked.is_empty();
    for some in looked.chunks(32) {
        let looks = join_all(some.iter().map(|looked| look(store, &looked.of))).await;
        for (looked, look) in some.iter().zip(looks) {
            match look {
                Ok(look) => {
                    any = true;
                    advanced.more |= look.again > 0 && look.again <= look.now;
                    done[shard(&looked.member)].push((looked.member.clone(), look.again));
                    merge(&mut advanced, &looked.of, look);
                }
                // It is looked at again after the lease.
                Err(error) => failure = Some(error),
            }
        }
    }
    let dones = done.into_iter().enumerate().filter(|(_, inboxes)| !inboxes.is_empty());
    let dones = dones.map(|(shard, inboxes)| {
        let mut give_back = store.scripts.call(Lua::DueDone, &store.keys.due(shard));
        for (member, again) in inboxes {
            give_back.arg(member).arg(again);
        }
        give_back
    });
    if let Err(why) = store.link.ask(dones.collect()).await {
        tracing::debug!("inboxes that were looked at are looked at again: {why}");
    }
    match failure {
        Some(error) if !any => Err(error),
        _ => Ok(advanced),
    }
}

/// What came of a look at one inbox.
struct Look {
    now: u64,
    /// When it is to be looked at again, in ms; 0 is never.
    again: u64,
    is_due: bool,
    changes: Vec<Change>,
    failed: Vec<Entry>,
}

async fn look(store: &RedisInbox, of: &Address) -> Result<Look, Error> {
    let mut look = store.call(Lua::Look, of);
    look.arg(length(TOLD_AGAIN)).arg(ENTRIES);
    look.arg(if of.user().is_none() { length(store.config.ack_wait) } else { 0 });
    let mut answer = Reply::of(store.link.ask_one(look).await?)?;
    let (now, again) = (answer.number()?, answer.number()?);
    let is_due = answer.number()? == 1;
    let since = reply::time(now).ok_or_else(|| unreadable("a time"))?;
    let changes = stored::changes(answer.list()?, since)?;
    let failed = stored::entries(answer.list()?)?.into_iter().map(|(entry, _)| entry).collect();
    Ok(Look { now, again, is_due, changes, failed })
}

fn merge(advanced: &mut Advanced, of: &Address, look: Look) {
    if look.is_due {
        advanced.due.push(of.clone());
    }
    if !look.changes.is_empty() {
        advanced.changes.push((of.clone(), look.changes));
    }
    advanced.failed.extend(look.failed.into_iter().map(|entry| (of.clone(), entry)));
}
