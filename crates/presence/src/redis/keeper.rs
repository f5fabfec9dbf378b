//! Holds this node's lease, and sees to it that Redis has all its sessions.
//!
//! Invariants
//! - A lease says "full" only after every session that was in `here` has been written in its term, and
//!   nothing went wrong meanwhile.
//! - A term begins with each line, each fault and each lease that was lost; in a term that is under way
//!   the lease is renewed, as partial.
//! - What is left of terms before is cleared away after the new one is complete, so no session is missing
//!   meanwhile.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use redis_link::{Answers, Line};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};
use ulid::Ulid;

use super::reaper::sweep;
use super::removal::{Removal, remove};
use super::script::Lua;
use super::shared::{Shared, epoch_of, millis};
use super::writer::Write;
use crate::{Epoch, GroupName, Member, SessionId, Unavailable};

/// After a term that failed comes another one not sooner than this.
const PAUSE: Duration = Duration::from_millis(500);

/// A term that is complete.
struct Term {
    number: u64,
    line: u64,
    faults: u64,
    epoch: Epoch,
}

/// Renews the lease, for good.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut lines = shared.link.changes();
    let mut refresh = tokio::time::interval(shared.config.refresh);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut term: Option<Term> = None;
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = refresh.tick() => {}
            () = shared.faulted.notified() => {}
            // The sender lives as long as `shared`.
            _ = lines.changed() => {}
        }
        let Ok(line) = shared.link.line() else { continue };
        let is_good = match &term {
            Some(term) => renew(&shared, term, &line).await,
            None => Ok(false),
        };
        match is_good {
            Ok(true) => continue,
            Ok(false) => {}
            // A line that was lost is followed by another.
            Err(_) => continue,
        }
        term = match begin(&shared, &line).await {
            Ok(term) => {
                told.clear();
                Some(term)
            }
            Err(Unavailable(why)) => {
                // The same again is nothing new.
                if told != why {
                    tracing::warn!("this node could not be registered: {why}");
                    told = why;
                }
                tokio::time::sleep(PAUSE.min(shared.config.refresh)).await;
                shared.faulted.notify_one();
                None
            }
        };
    }
}

/// Whether the term goes on.
async fn renew(shared: &Shared, term: &Term, line: &Line) -> Result<bool, Unavailable> {
    if term.line != line.number || term.faults != shared.here.lock().faults {
        return Ok(false);
    }
    let epoch = shared.link.ask_on(line, vec![lease(shared, term.number, "full")]).await?;
    Ok(read_epoch(epoch, line)? == Some(term.epoch.clone()))
}

fn read_epoch(mut answers: Answers, line: &Line) -> Result<Option<Epoch>, Unavailable> {
    let stored: Option<String> = answers.next()?;
    Ok(stored.map(|stored| epoch_of(&stored, &line.run)))
}

fn lease(shared: &Shared, term: u64, standing: &str) -> Cmd {
    let keys = [shared.keys.epoch(), shared.keys.leases(), shared.keys.standing()];
    let mut keep = shared.scripts.call(Lua::LeaseKeep, &keys);
    keep.arg(shared.boot.to_string()).arg(term).arg(millis(shared.config.lease)).arg(standing);
    keep
}

/// Begins a term and registers everything in it.
async fn begin(shared: &Shared, line: &Line) -> Result<Term, Unavailable> {
    let (number, faults, ids, owed) = {
        let mut here = shared.here.lock();
        here.term += 1;
        shared.set_registered(None);
        let ids: Vec<_> = here.sessions.keys().cloned().collect();
        (here.term, here.faults, ids, std::mem::take(&mut here.owed))
    };
    let filled = fill(shared, line, number, &ids, &owed).await;
    let epoch = match filled {
        Ok(epoch) => epoch,
        Err(unavailable) => {
            let mut here = shared.here.lock();
            let room = shared.config.max_waiting.saturating_sub(here.owed.len());
            here.owed.extend(owed.into_iter().take(room));
            return Err(unavailable);
        }
    };
    let is_full = shared.link.ask_on(line, vec![lease(shared, number, "full")]).await?;
    if read_epoch(is_full, line)?.as_ref() != Some(&epoch) {
        return Err(Unavailable("the lease was lost while it registered".to_owned()));
    }
    {
        let here = shared.here.lock();
        if here.faults != faults {
            return Err(Unavailable("something went wrong while it registered".to_owned()));
        }
        shared.set_registered(Some(epoch.clone()));
    }
    tracing::info!(sessions = ids.len(), term = number, %epoch, "this node is registered");
    // Nobody waits for that, and the next round comes anyway.
    if let Err(why) = sweep(shared, shared.boot, number - 1, None).await {
        tracing::debug!("remnants could not be cleared away: {why}");
    }
    Ok(Term { number, line: line.number, faults, epoch })
}

async fn fill(
    shared: &Shared,
    line: &Line,
    term: u64,
    ids: &[SessionId],
    owed: &[Arc<crate::Session>],
) -> Result<Epoch, Unavailable> {
    let keys =
        [shared.keys.epoch(), shared.keys.leases(), shared.keys.standing(), shared.keys.reaped()];
    let mut take = shared.scripts.call(Lua::LeaseTake, &keys);
    take.arg(shared.boot.to_string()).arg(term).arg(millis(shared.config.lease));
    take.arg(Ulid::generate().to_string());
    let (stored, is_back): (String, bool) = shared.link.ask_on(line, vec![take]).await?.next()?;
    let epoch = epoch_of(&stored, &line.run);
    let mut renewed = Instant::now();
    for some in ids.chunks(shared.config.batch) {
        assert(shared, some, is_back).await?;
        if is_back {
            restore_memberships(shared, some).await?;
        }
        if renewed.elapsed() > shared.config.refresh {
            renewed = Instant::now();
            shared.link.ask_on(line, vec![lease(shared, term, "partial")]).await?;
        }
    }
    for some in owed.chunks(shared.config.batch) {
        let removals: Vec<_> = some.iter().cloned().map(Removal::owed).collect();
        remove(shared, shared.boot, &removals).await?;
    }
    Ok(epoch)
}

/// Writes sessions again, by the writer, as only that keeps them in order with their ends.
async fn assert(shared: &Shared, ids: &[SessionId], is_back: bool) -> Result<(), Unavailable> {
    let (done, answer) = oneshot::channel();
    let write = Write::Assert { ids: ids.to_vec(), is_back, done };
    let gone = || Unavailable("the node ends".to_owned());
    shared.writes.send(write).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// The sessions were thought dead with this node, and their memberships were to end.
async fn restore_memberships(shared: &Shared, ids: &[SessionId]) -> Result<(), Unavailable> {
    let asks = ids.iter().map(|id| {
        let mut ask = redis::cmd("ZRANGE");
        ask.arg(shared.keys.groups_of_session(id)).arg(0).arg(-1).arg("WITHSCORES");
        ask
    });
    let mut answers = shared.link.ask(asks.collect()).await?;
    let mut restores = Vec::new();
    for id in ids {
        let groups: Vec<(String, String)> = answers.next()?;
        if groups.is_empty() {
            continue;
        }
        let mut keep = redis::cmd("PERSIST");
        keep.arg(shared.keys.groups_of_session(id));
        restores.push(keep);
        for (group, end) in groups {
            let Ok(group) = GroupName::new(group) else { continue };
            let keys = [shared.keys.members(&group), shared.keys.ends(&group)];
            let mut restore = shared.scripts.call(Lua::GroupRestore, &keys);
            restore.arg(Member::Session(id.clone()).to_text()).arg(end);
            restores.push(restore);
        }
    }
    shared.link.ask_many(restores, shared.config.batch).await?;
    Ok(())
}

/// Writes all sessions again and again, a few at a time, and clears away what is not one of them: for
/// what nobody noticed, such as a write that a failover lost.
pub(super) async fn reassert(shared: Arc<Shared>) {
    let whole = shared.config.reassert;
    loop {
        let ids: Vec<_> = shared.here.lock().sessions.keys().cloned().collect();
        let some = ids.chunks(shared.config.batch);
        let pause = whole / u32::try_from(some.len() + 1).unwrap_or(u32::MAX);
        let round = async {
            for ids in some {
                tokio::time::sleep(pause).await;
                // Without Redis there is nothing to do, and a term will begin.
                if shared.link.line().is_ok() {
                    let _ = assert(&shared, ids, false).await;
                }
            }
        };
        // Half of the time after which others would take the sessions for remnants.
        if tokio::time::timeout(whole * 5, round).await.is_err() {
            shared.fault();
        }
        tokio::time::sleep(pause).await;
        if shared.link.line().is_ok()
            && let Err(why) = sweep_strays(&shared).await
        {
            tracing::debug!("strays could not be cleared away: {why}");
        }
    }
}

/// Clears away what the index of this node has and the node has not: a write that came late, after its
/// session's end.
async fn sweep_strays(shared: &Shared) -> Result<(), Unavailable> {
    let is_stray = |id: &SessionId| !shared.here.lock().sessions.contains_key(id);
    sweep(shared, shared.boot, u64::from(u32::MAX), Some(&is_stray)).await
}
