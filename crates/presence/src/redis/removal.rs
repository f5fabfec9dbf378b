//! Takes sessions out of Redis: those that ended here, and those of nodes that died.
//!
//! Invariant: if it breaks off anywhere, the index still names the session, and doing it again completes
//! it.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;

use super::script::Lua;
use super::shared::{Shared, millis};
use crate::{Boot, GroupName, Member, Session, SessionId, Unavailable, UserName};

/// How long the memberships of a session outlive its node, in case that was only cut off.
const GRACE: Duration = Duration::from_secs(600);

/// A session that is to go.
pub(super) struct Removal {
    pub(super) id: SessionId,
    pub(super) user: UserName,
    /// What was written in a later term stays.
    term: u64,
    /// Whether the user is to be told offline though Redis may not remember it online.
    is_owed: bool,
    /// Whether the session may come back with its node.
    may_return: bool,
}

impl Removal {
    /// Of a session that ended at its node.
    pub(super) fn ended(session: Arc<Session>) -> Self {
        Self {
            id: session.id.clone(),
            user: session.user.clone(),
            term: u64::from(u32::MAX),
            is_owed: false,
            may_return: false,
        }
    }

    /// Of a session that ended at its node, which Redis could not be told then.
    pub(super) fn owed(session: Arc<Session>) -> Self {
        Self { is_owed: true, ..Self::ended(session) }
    }

    /// Of what stands in an index of that term or before.
    pub(super) fn of_term(id: SessionId, user: UserName, term: u64, may_return: bool) -> Self {
        Self { id, user, term, is_owed: false, may_return }
    }
}

/// Removes sessions of the node `boot`. Says of each whether it was there; of two who remove one, Redis
/// says so to one.
pub(super) async fn remove(
    shared: &Shared,
    boot: Boot,
    removals: &[Removal],
) -> Result<Vec<bool>, Unavailable> {
    let asks = removals.iter().flat_map(|removal| {
        let mut groups = redis::cmd("ZRANGE");
        groups.arg(shared.keys.groups_of_session(&removal.id)).arg(0).arg(-1);
        [unregister(shared, removal), groups]
    });
    let mut answers = shared.link.ask(asks.collect()).await?;
    let (mut removed, mut without, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for removal in removals {
        let (was_there, is_last): (bool, bool) = answers.next()?;
        removed.push(was_there);
        if is_last {
            without.push(&removal.user);
        }
        let of: Vec<String> = answers.next()?;
        let of = of.into_iter().filter_map(|group| GroupName::new(group).ok());
        leave_groups(shared, removal, of.collect(), &mut groups);
    }
    if !without.is_empty() {
        groups.push(shared.linger(without, "GT"));
    }
    // All of a call are of one term.
    let index = removals.iter().map(|removal| removal.term).max().map(|term| {
        let mut index = shared.scripts.call(Lua::IndexRemove, &[shared.keys.sessions_on(boot)]);
        index.arg(term);
        for removal in removals {
            index.arg(removal.id.as_str());
        }
        index
    });
    shared.link.ask_in_order(vec![groups, index.into_iter().collect()]).await?;
    Ok(removed)
}

fn unregister(shared: &Shared, removal: &Removal) -> Cmd {
    let keys = [shared.keys.sessions_of(&removal.user), shared.keys.online(&removal.user)];
    let mut call = shared.scripts.call(Lua::Unregister, &keys);
    call.arg(removal.id.as_str()).arg(removal.term).arg(shared.stale());
    call.arg(u8::from(removal.is_owed));
    call
}

/// Adds to `commands` what ends the session's memberships.
fn leave_groups(
    shared: &Shared,
    removal: &Removal,
    groups: Vec<GroupName>,
    commands: &mut Vec<Cmd>,
) {
    if groups.is_empty() {
        return;
    }
    let member = Member::Session(removal.id.clone()).to_text();
    for group in &groups {
        let keys = [shared.keys.members(group), shared.keys.ends(group)];
        let script = if removal.may_return { Lua::GroupShorten } else { Lua::GroupRemove };
        let mut end = shared.scripts.call(script, &keys);
        end.arg(&member);
        if removal.may_return {
            end.arg(millis(GRACE));
        }
        commands.push(end);
    }
    let key = shared.keys.groups_of_session(&removal.id);
    let mut forget = match removal.may_return {
        true => redis::cmd("PEXPIRE"),
        false => redis::cmd("DEL"),
    };
    forget.arg(key);
    if removal.may_return {
        forget.arg(millis(GRACE));
    }
    commands.push(forget);
}
