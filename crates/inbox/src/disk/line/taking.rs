//! What is taken from a line, and by whom it is held.

use std::ops::Bound;

use redb::{ReadableTable, StorageError};

use super::Line;
use crate::disk::record::{Mark, Record, read};
use crate::disk::span;
use crate::{Change, Position, State, Taken};

impl Line<'_, '_> {
    pub(in crate::disk) fn take(
        &mut self,
        after: Option<Position>,
        limit: usize,
        max_bytes: u64,
    ) -> Result<Taken, StorageError> {
        let before = match after {
            Some(Position::END) => u64::MAX,
            Some(after) if after.epoch == self.head.epoch => after.seq,
            Some(_) | None => 0,
        };
        let mut taken = Taken {
            entries: Vec::new(),
            epoch: self.head.epoch,
            upto: after
                .filter(|after| *after == Position::END)
                .unwrap_or(Position { epoch: self.head.epoch, seq: before }),
            more: false,
            changes: Vec::new(),
            failed: Vec::new(),
        };
        let mut bytes = 0;
        let mut from = 1;
        loop {
            let Some((seq, mark)) = self.next_mark(from)? else {
                if before < u64::MAX {
                    taken.upto.seq = self.head.last.max(before);
                }
                return Ok(taken);
            };
            from = seq + 1;
            let is_fresh = seq > before;
            if mark.failed || !(is_fresh || mark.is_free(self.now)) {
                continue;
            }
            let Some(record) = self.tables.record(&self.key, seq)? else { continue };
            if record.expires <= self.now {
                continue;
            }
            if mark.attempts >= self.config.max_attempts && !mark.is_held(self.now) {
                let (change, failed) = self.fail(seq, mark, record)?;
                taken.changes.push(change);
                taken.failed.extend(failed);
                continue;
            }
            let fits = bytes + record.size() <= max_bytes || taken.entries.is_empty();
            if taken.entries.len() >= limit.max(1) || !fits {
                taken.more = true;
                return Ok(taken);
            }
            bytes += record.size();
            taken.changes.extend(self.claim(seq, mark, &record)?);
            taken.entries.push(record.entry(seq, mark.attempts));
            if is_fresh {
                taken.upto.seq = seq;
            }
        }
    }

    /// The mark of the first entry from `seq` on.
    fn next_mark(&self, seq: u64) -> Result<Option<(u64, Mark)>, StorageError> {
        let of = &*self.key;
        let from = Bound::Included((of, seq));
        let range = (from, Bound::Included((of, u64::MAX)));
        let next = self.tables.marks.range::<(&[u8], u64)>(range)?.next().transpose()?;
        Ok(next.map(|(key, mark)| (key.value().1, read(mark.value()))))
    }

    /// Claims an entry, if nobody holds it.
    fn claim(
        &mut self,
        seq: u64,
        mark: Mark,
        record: &Record,
    ) -> Result<Option<Change>, StorageError> {
        if mark.is_held(self.now) {
            return Ok(None);
        }
        let until = self.now.saturating_add(span(self.config.ack_wait));
        let attempts = mark.attempts.saturating_add(1);
        let claimed = Mark { attempts, until, held: true, since: self.now, ..mark };
        self.tables.put_mark(&self.key, seq, &claimed)?;
        self.look_at(until);
        Ok(Some(record.change(State::Delivered, attempts, self.now)))
    }
}
