//! What becomes of entries that were taken, or are dropped by an order.

use redb::StorageError;
use ulid::Ulid;

use super::Line;
use crate::disk::record::{Mark, Record};
use crate::disk::span;
use crate::{Change, Entry, Purge, Settled, Settlement, State};

/// After how long it is told again that an entry has failed and is to be buried.
pub(in crate::disk) const TOLD_AGAIN: u64 = 60 * 1000;

impl Line<'_, '_> {
    pub(in crate::disk) fn settle(
        &mut self,
        epoch: u64,
        settlements: &[(u64, Settlement)],
    ) -> Result<Settled, StorageError> {
        let mut settled = Settled::default();
        if epoch != self.head.epoch {
            return Ok(settled);
        }
        for &(seq, settlement) in settlements {
            let Some(mark) = self.tables.mark(&self.key, seq)?.filter(|mark| !mark.failed) else {
                continue;
            };
            let tried_enough = mark.attempts >= self.config.max_attempts;
            match settlement {
                // Of several who had it one was first: its pause goes on.
                Settlement::Nack | Settlement::Release if !mark.held => {}
                Settlement::Ack => settled.changes.extend(self.end(seq, State::Acked)?),
                Settlement::Nack if !tried_enough => {
                    let pause = span(self.config.retry_after(mark.attempts));
                    let until = self.now.saturating_add(pause);
                    self.look_at(until);
                    settled.changes.extend(self.give_back(seq, mark, until)?);
                }
                Settlement::Release => {
                    self.look_at(self.now);
                    // A moment ago, so that it is told as what has become free.
                    settled.changes.extend(self.give_back(seq, mark, self.now)?);
                }
                Settlement::Nack | Settlement::Reject => {
                    let Some(record) = self.tables.record(&self.key, seq)? else { continue };
                    let (change, failed) = self.fail(seq, mark, record)?;
                    settled.changes.push(change);
                    settled.failed.extend(failed);
                }
            }
        }
        Ok(settled)
    }

    fn give_back(
        &mut self,
        seq: u64,
        mark: Mark,
        until: u64,
    ) -> Result<Option<Change>, StorageError> {
        let free = Mark { until, held: false, since: self.now, ..mark };
        self.tables.put_mark(&self.key, seq, &free)?;
        let record = self.tables.record(&self.key, seq)?;
        Ok(record.map(|record| record.change(State::Pending, mark.attempts, self.now)))
    }

    /// Fails an entry: it leaves, unless it is to be buried first.
    pub(in crate::disk) fn fail(
        &mut self,
        seq: u64,
        mark: Mark,
        record: Record,
    ) -> Result<(Change, Option<Entry>), StorageError> {
        let change = record.change(State::Failed, mark.attempts, self.now);
        if !self.config.keeps_failed {
            self.end(seq, State::Failed)?;
            return Ok((change, None));
        }
        let told_again = self.now.saturating_add(TOLD_AGAIN);
        let failed =
            Mark { failed: true, held: false, until: 0, since: self.now, told_again, ..mark };
        self.tables.put_mark(&self.key, seq, &failed)?;
        self.look_at(told_again);
        Ok((change, Some(record.entry(seq, mark.attempts))))
    }

    pub(in crate::disk) fn bury(&mut self, ids: &[Ulid]) -> Result<(), StorageError> {
        for id in ids {
            let Some(place) = self.tables.place(&self.key, (*id).into())? else { continue };
            let mark = self.tables.mark(&self.key, place.seq)?;
            if mark.is_some_and(|mark| mark.failed) {
                self.end(place.seq, State::Failed)?;
            }
        }
        Ok(())
    }

    pub(in crate::disk) fn purge(&mut self, which: &Purge) -> Result<Settled, StorageError> {
        let mut settled = Settled::default();
        match which {
            Purge::Ids(ids) => {
                for id in ids {
                    let id = u128::from(*id);
                    let Some(place) = self.tables.place(&self.key, id)? else { continue };
                    settled.changes.extend(self.end_at(place, id, State::Dropped)?);
                }
            }
            Purge::All => {
                while let Some(change) = self.drop_oldest()? {
                    settled.changes.push(change);
                }
            }
        }
        Ok(settled)
    }
}
