//! What time moves on: looks at the inboxes in which something is due.
//!
//! Invariants
//! - An inbox is told as due once for each time that something in it has become free, or has come; an outbox
//!   again after each `ack_wait` in which nobody has taken what is in it.
//! - An inbox in which nothing is, and of which nothing is remembered, is forgotten within two days, or as long as its
//!   idempotency keys are known.
//! - At most [`AT_ONCE`] inboxes are looked at in one commit.

use redb::{ReadTransaction, ReadableTable, StorageError};

use super::line::{Line, TOLD_AGAIN};
use super::record::{Mark, Record, read};
use super::span;
use super::tables::{LOOKS, Tables, address_of};
use crate::{Advanced, Change, Config, Entry, State};

/// How many inboxes are looked at in one commit.
const AT_ONCE: usize = 64;

/// How many idempotency keys are forgotten in one commit.
const KEYS: usize = 1024;

/// What came of a look.
#[derive(Default)]
struct Looked {
    is_due: bool,
    changes: Vec<Change>,
    failed: Vec<Entry>,
}

/// Whether an inbox is to be looked at.
pub(super) fn is_due(transaction: &ReadTransaction, now: u64) -> Result<bool, redb::Error> {
    let looks = transaction.open_table(LOOKS)?;
    let first = looks.first()?;
    Ok(first.is_some_and(|(key, _)| key.value().0 <= now))
}

pub(super) fn advance(
    tables: &mut Tables<'_>,
    config: &Config,
    now: u64,
) -> Result<Advanced, StorageError> {
    let mut advanced = Advanced::default();
    forget_keys(tables, now)?;
    for _ in 0..AT_ONCE {
        let first = tables.looks.first()?.map(|(key, _)| {
            let (when, of) = key.value();
            (when, of.to_vec())
        });
        let Some((when, of)) = first.filter(|(when, _)| *when <= now) else { return Ok(advanced) };
        let Some(address) = address_of(&of) else {
            tables.looks.remove((when, &*of))?;
            continue;
        };
        let mut line = Line::open(tables, config, address.clone(), now)?;
        let looked = look(&mut line)?;
        match line.forget_in_time()? {
            true => line.forget()?,
            false => line.close()?,
        }
        if looked.is_due {
            advanced.due.push(address.clone());
        }
        if !looked.changes.is_empty() {
            advanced.changes.push((address.clone(), looked.changes));
        }
        advanced.failed.extend(looked.failed.into_iter().map(|entry| (address.clone(), entry)));
    }
    advanced.more = true;
    Ok(advanced)
}

/// Looks at an inbox, and says when to look again.
fn look(line: &mut Line<'_, '_>) -> Result<Looked, StorageError> {
    let mut looked = Looked::default();
    line.look = 0;
    settle_scheduled(line, &mut looked)?;
    let of = line.key.clone();
    let rows = line.tables.marks.range((&*of, 0)..=(&*of, u64::MAX))?;
    let marks = rows.map(|row| row.map(|(key, mark)| (key.value().1, read::<Mark>(mark.value()))));
    let marks = marks.collect::<Result<Vec<_>, _>>()?;
    for (seq, mark) in marks {
        let Some(record) = line.tables.record(&of, seq)? else { continue };
        if mark.failed {
            if mark.told_again <= line.now {
                let told_again = line.now.saturating_add(TOLD_AGAIN);
                line.tables.put_mark(&of, seq, &Mark { told_again, ..mark })?;
                line.look_at(told_again);
                looked.failed.push(record.entry(seq, mark.attempts));
            } else {
                line.look_at(mark.told_again);
            }
            continue;
        }
        if record.expires <= line.now {
            looked.changes.extend(line.end(seq, State::Expired)?);
            continue;
        }
        line.look_at(record.expires);
        if mark.until > line.now {
            line.look_at(mark.until);
        } else if mark.until > 0 {
            looked.is_due = true;
            if mark.held {
                looked.changes.push(record.change(State::Pending, mark.attempts, line.now));
            }
            let since = if mark.held { line.now } else { mark.since };
            let free = Mark { until: 0, held: false, since, ..mark };
            line.tables.put_mark(&of, seq, &free)?;
        } else if line.is_outbox() {
            looked.is_due = true;
            line.look_at(line.now.saturating_add(span(line.config.ack_wait)));
        }
    }
    Ok(looked)
}

/// Gives those their place that are due, and ends those whose time is over.
fn settle_scheduled(line: &mut Line<'_, '_>, looked: &mut Looked) -> Result<(), StorageError> {
    let of = line.key.clone();
    let rows = line.tables.scheduled.range((&*of, 0, 0)..=(&*of, u64::MAX, u128::MAX))?;
    let scheduled = rows.map(|row| {
        row.map(|(key, record)| (key.value().1, key.value().2, read::<Record>(record.value())))
    });
    let scheduled = scheduled.collect::<Result<Vec<_>, _>>()?;
    for (deliver, id, record) in scheduled {
        if record.expires <= line.now {
            looked.changes.extend(line.end_scheduled(deliver, id, State::Expired)?);
        } else if deliver <= line.now {
            line.tables.scheduled.remove((&*of, deliver, id))?;
            line.place(&record)?;
            looked.is_due = true;
            looked.changes.push(record.change(State::Pending, 0, line.now));
        } else {
            line.look_at(deliver);
            line.look_at(record.expires);
        }
    }
    Ok(())
}

fn forget_keys(tables: &mut Tables<'_>, now: u64) -> Result<(), StorageError> {
    for _ in 0..KEYS {
        let first = tables.key_ends.first()?.map(|(key, _)| {
            let (until, of, key) = key.value();
            (until, of.to_vec(), key.to_owned())
        });
        let Some((until, of, key)) = first.filter(|(until, ..)| *until <= now) else { break };
        tables.key_ends.remove((until, &*of, &*key))?;
        // It may have been said again since.
        let known = tables.keys.get((&*of, &*key))?.map(|known| known.value().1);
        if known.is_some_and(|until| until <= now) {
            tables.keys.remove((&*of, &*key))?;
        }
    }
    Ok(())
}
