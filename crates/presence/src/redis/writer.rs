//! Writes this node's sessions to Redis, many at a time.
//!
//! Invariants
//! - One batch is under way at a time, so what comes while it is shares the next one: a round trip serves
//!   all who arrive during the one before.
//! - A session that is not in `here` when its batch is made is not written.
//! - Of one batch, sessions are written before others are removed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::removal::{Removal, remove};
use super::script::Lua;
use super::shared::{Entry, Shared};
use super::stored;
use crate::{Ending, Event, Session, SessionId, Unavailable};

/// Something to write, and who is told when it is written.
pub(super) enum Write {
    /// A session that came. The answer is the rest of a ban that it met.
    Register { id: SessionId, done: oneshot::Sender<Result<Option<Duration>, Unavailable>> },
    /// A session that ended.
    Unregister { entry: Entry, done: oneshot::Sender<Result<(), Unavailable>> },
    /// Sessions that are to be in Redis already. `is_back` when others were told that they are gone.
    Assert { ids: Vec<SessionId>, is_back: bool, done: oneshot::Sender<Result<(), Unavailable>> },
}

/// A session in a batch, and why it is written.
struct Line {
    entry: Entry,
    reason: Reason,
}

enum Reason {
    Came(oneshot::Sender<Result<Option<Duration>, Unavailable>>),
    Again { is_back: bool },
}

/// What Redis said to a session: the rest of a ban, and whether it and its user are new.
type Answer = (u64, bool, bool);

/// Writes what comes until there is no more.
pub(super) async fn write(shared: Arc<Shared>, mut queue: mpsc::Receiver<Write>) {
    let mut writes = Vec::new();
    while queue.recv_many(&mut writes, shared.config.batch).await > 0 {
        batch(&shared, writes.drain(..)).await;
    }
}

async fn batch(shared: &Shared, writes: impl Iterator<Item = Write>) {
    let (mut lines, mut asserted, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let term = {
        let here = shared.here.lock();
        for write in writes {
            match write {
                Write::Register { id, done } => match here.sessions.get(&id) {
                    Some(entry) => {
                        lines.push(Line { entry: entry.clone(), reason: Reason::Came(done) });
                    }
                    // It has ended already. Whoever waited has gone, too.
                    None => _ = done.send(Ok(None)),
                },
                Write::Assert { ids, is_back, done } => {
                    let entries = ids.iter().filter_map(|id| here.sessions.get(id).cloned());
                    lines.extend(
                        entries.map(|entry| Line { entry, reason: Reason::Again { is_back } }),
                    );
                    asserted.push(done);
                }
                Write::Unregister { entry, done } => ended.push((entry, done)),
            }
        }
        here.term
    };
    let written = write_sessions(shared, &lines, term).await;
    let is_written = written.as_ref().map(|_| ()).map_err(Unavailable::clone);
    if is_written.is_err() {
        shared.fault();
    }
    let banned = tell(shared, lines, written);
    for done in asserted {
        let _ = done.send(is_written.clone());
    }
    let mut removals: Vec<_> =
        ended.iter().map(|(entry, _)| Removal::ended(entry.session.clone())).collect();
    // Their index was written.
    removals.extend(banned.into_iter().map(Removal::ended));
    if removals.is_empty() {
        return;
    }
    match remove(shared, shared.boot, &removals).await {
        Ok(removed) => {
            for ((entry, done), removed) in ended.into_iter().zip(removed) {
                if removed || entry.is_told() {
                    shared.tell_closed(&entry.session, Ending::Left);
                }
                let _ = done.send(Ok(()));
            }
        }
        Err(unavailable) => {
            shared.fault();
            for (entry, done) in ended {
                shared.owe(&entry);
                let _ = done.send(Err(unavailable.clone()));
            }
        }
    }
}

/// Writes the sessions, each into the index of this node first.
async fn write_sessions(
    shared: &Shared,
    lines: &[Line],
    term: u64,
) -> Result<Vec<Answer>, Unavailable> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let mut index = redis::cmd("HSET");
    index.arg(shared.keys.sessions_on(shared.boot));
    let mut users = redis::cmd("ZADD");
    users.arg(shared.keys.users());
    let mut written = Vec::with_capacity(lines.len() + 1);
    let boot = shared.boot.to_string();
    for Line { entry: Entry { session, .. }, reason } in lines {
        let user = &session.user;
        index.arg(session.id.as_str()).arg(stored::index(term, user));
        users.arg(0).arg(user.as_str());
        let keys = [shared.keys.sessions_of(user), shared.keys.online(user), shared.keys.ban(user)];
        let mut write = shared.scripts.call(Lua::Register, &keys);
        let asks_for_ban = u8::from(matches!(reason, Reason::Came(_)));
        write.arg(session.id.as_str()).arg(term).arg(&boot).arg(session.to_json());
        write.arg(shared.stale()).arg(asks_for_ban);
        written.push(write);
    }
    written.push(users);
    let mut answers = shared.link.ask_in_order(vec![vec![index], written]).await?;
    answers.next::<u64>()?;
    lines.iter().map(|_| Ok(answers.next()?)).collect()
}

/// Tells everybody what became of the lines, and returns the sessions that met a ban.
fn tell(
    shared: &Shared,
    lines: Vec<Line>,
    written: Result<Vec<Answer>, Unavailable>,
) -> Vec<Arc<Session>> {
    let answers = match written {
        Ok(answers) => answers,
        Err(unavailable) => {
            for line in lines {
                if let Reason::Came(done) = line.reason {
                    let _ = done.send(Err(unavailable.clone()));
                }
            }
            return Vec::new();
        }
    };
    let mut banned = Vec::new();
    for (Line { entry, reason }, (ban, is_new, is_online)) in lines.into_iter().zip(answers) {
        if ban > 0 {
            shared.here.lock().sessions.remove(&entry.session.id);
            if let Reason::Came(done) = reason {
                let _ = done.send(Ok(Some(Duration::from_millis(ban))));
            }
            banned.push(entry.session);
            continue;
        }
        let (came, done) = match reason {
            Reason::Came(done) => (true, Some(done)),
            // One whose registration failed is told now.
            Reason::Again { is_back } => (!entry.is_told() || (is_back && is_new), None),
        };
        if came {
            shared.tell_opened(&entry);
            if is_online {
                shared.events.tell(Event::UserOnline(entry.session.user.clone()));
            }
        }
        if let Some(done) = done {
            let _ = done.send(Ok(None));
        }
    }
    banned
}
