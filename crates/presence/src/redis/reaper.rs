//! Clears away nodes that died, and tells who is offline. Every node does both; Redis sees to it that
//! each thing is done once.
//!
//! Invariants
//! - A node is cleared away only after its lease ran out, and only what it wrote up to the term it had
//!   then.
//! - It is struck only when nothing of it is left, so whoever breaks off is followed by another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::removal::{Removal, remove};
use super::script::Lua;
use super::shared::Shared;
use super::stored;
use crate::{Boot, Ending, Event, SessionId, Unavailable, UserName};

/// For how long a reaper has a node to itself, in ms. Two at once do no harm.
const CLAIM: u64 = 10_000;
/// For how long it is remembered that a node was cleared away, in ms: it may come back.
const REMEMBERED: u64 = 86_400_000;
/// For how long users are taken by who looks whether they are offline, in ms.
const TAKEN: u64 = 30_000;
/// How many sessions of an index are read at once.
const PAGE: usize = 500;

/// Looks for dead nodes, for good.
pub(super) async fn reap(shared: Arc<Shared>) {
    let mut round = tokio::time::interval(shared.config.refresh);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        if shared.link.line().is_ok()
            && let Err(why) = reap_dead(&shared).await
        {
            tracing::debug!("dead nodes could not be cleared away: {why}");
        }
    }
}

async fn reap_dead(shared: &Shared) -> Result<(), Unavailable> {
    let list = shared.scripts.call(Lua::ReapList, &[shared.keys.leases()]);
    let boots: Vec<String> = shared.link.ask_one(list).await?;
    // Of itself a node knows better.
    let boots = boots.iter().filter_map(|boot| boot.parse().ok());
    for boot in boots.filter(|boot| *boot != shared.boot) {
        let keys = [shared.keys.leases(), shared.keys.standing(), shared.keys.reap(boot)];
        let mut claim = shared.scripts.call(Lua::ReapClaim, &keys);
        claim.arg(boot.to_string()).arg(shared.boot.to_string()).arg(CLAIM);
        let Some(term) = shared.link.ask_one::<Option<u64>>(claim).await? else { continue };
        tracing::warn!(%boot, "a node died, its sessions are cleared away");
        sweep(shared, boot, term, None).await?;
        let keys = [
            shared.keys.leases(),
            shared.keys.standing(),
            shared.keys.reaped(),
            shared.keys.reap(boot),
        ];
        let mut finish = shared.scripts.call(Lua::ReapFinish, &keys);
        finish.arg(boot.to_string()).arg(term).arg(REMEMBERED);
        shared.link.ask_one::<u64>(finish).await?;
    }
    Ok(())
}

/// Clears away what a node wrote up to `term`, as far as `which` says so. Of another node each session
/// that goes is told; of this one it was, when it ended.
pub(super) async fn sweep(
    shared: &Shared,
    boot: Boot,
    term: u64,
    which: Option<&(dyn Fn(&SessionId) -> bool + Sync)>,
) -> Result<(), Unavailable> {
    let is_other = boot != shared.boot;
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(shared.keys.sessions_on(boot)).arg(&cursor).arg("COUNT").arg(PAGE);
        let (next, entries): (String, Vec<(String, String)>) = shared.link.ask_one(scan).await?;
        let removals: Vec<_> = entries
            .into_iter()
            .filter_map(|(id, value)| {
                let (written, user) = stored::indexed(&value)?;
                let id = SessionId::new(id).ok()?;
                let goes = written <= term && which.is_none_or(|which| which(&id));
                goes.then(|| Removal::of_term(id, user, term, is_other))
            })
            .collect();
        for some in removals.chunks(shared.config.batch) {
            let removed = remove(shared, boot, some).await?;
            let gone = some.iter().zip(removed).filter(|(_, removed)| *removed && is_other);
            for (Removal { id, user, .. }, _) in gone {
                let (id, user, ending) = (id.clone(), user.clone(), Ending::NodeDied);
                shared.events.tell(Event::SessionClosed { id, user, boot, ending });
            }
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}

/// Tells users offline whose linger is over, for good.
pub(super) async fn tell_offline(shared: Arc<Shared>) {
    let every =
        (shared.config.linger / 10).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut round = tokio::time::interval(every);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        if shared.link.line().is_err() {
            continue;
        }
        loop {
            match strike(&shared).await {
                // There may be more.
                Ok(struck) if struck >= shared.config.batch => {}
                Ok(_) => break,
                Err(why) => {
                    tracing::debug!("users could not be told offline: {why}");
                    break;
                }
            }
        }
    }
}

/// Strikes users that are due, a batch at most, and says how many were.
async fn strike(shared: &Shared) -> Result<usize, Unavailable> {
    let mut claim = shared.scripts.call(Lua::LingerClaim, &[shared.keys.lingering()]);
    claim.arg(shared.config.batch).arg(TAKEN);
    let mut taken: Vec<String> = shared.link.ask_one(claim).await?;
    let names = taken.split_off(taken.len().min(1));
    let Some(time) = taken.pop().filter(|_| !names.is_empty()) else { return Ok(0) };
    let users: Vec<_> = names.into_iter().filter_map(|name| UserName::new(name).ok()).collect();
    let asks = users.iter().map(|user| {
        let keys = [shared.keys.sessions_of(user), shared.keys.online(user)];
        shared.scripts.call(Lua::Offline, &keys)
    });
    let mut answers = shared.link.ask(asks.collect()).await?;
    let mut gone = Vec::new();
    for user in &users {
        let was_told_online = match answers.next::<u8>()? {
            2 => continue,
            mark => mark == 1,
        };
        gone.push(user);
        if was_told_online {
            shared.events.tell(Event::UserOffline(user.clone()));
        }
    }
    unlist(shared, &gone).await?;
    let mut done = shared.scripts.call(Lua::LingerDone, &[shared.keys.lingering()]);
    done.arg(time);
    for user in &users {
        done.arg(user.as_str());
    }
    shared.link.ask_one::<u64>(done).await?;
    Ok(users.len())
}

/// Takes users from the list of those online, and puts those back that came meanwhile: a session sets the
/// mark before it enters the list, so whoever is taken out wrongly has the mark.
async fn unlist(shared: &Shared, users: &[&UserName]) -> Result<(), Unavailable> {
    if users.is_empty() {
        return Ok(());
    }
    let mut remove = redis::cmd("ZREM");
    remove.arg(shared.keys.users());
    let marks = users.iter().map(|user| {
        remove.arg(user.as_str());
        let mut mark = redis::cmd("EXISTS");
        mark.arg(shared.keys.online(user));
        mark
    });
    let marks: Vec<_> = marks.collect();
    let mut answers = shared.link.ask_in_order(vec![vec![remove], marks]).await?;
    answers.next::<u64>()?;
    let mut back = redis::cmd("ZADD");
    back.arg(shared.keys.users());
    let mut is_any_back = false;
    for user in users {
        if answers.next()? {
            is_any_back = true;
            back.arg(0).arg(user.as_str());
        }
    }
    match is_any_back {
        true => Ok(shared.link.ask_one::<u64>(back).await.map(drop)?),
        false => Ok(()),
    }
}
