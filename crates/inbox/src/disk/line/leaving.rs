//! How entries leave a line, and what is remembered of them.

use redb::{ReadableTable, StorageError};

use super::Line;
use crate::disk::record::{Mark, Record, Where, read};
use crate::{Change, State};

/// For how long it is remembered how an entry ended.
const REMEMBERED: u64 = 24 * 3600 * 1000;

impl Line<'_, '_> {
    /// Ends an entry in its place.
    pub(in crate::disk) fn end(
        &mut self,
        seq: u64,
        state: State,
    ) -> Result<Option<Change>, StorageError> {
        let record = self.tables.records.remove((&*self.key, seq))?;
        let record = record.map(|record| read::<Record>(record.value()));
        let mark = self.tables.marks.remove((&*self.key, seq))?;
        let mark = mark.map(|mark| read::<Mark>(mark.value())).unwrap_or_default();
        let Some(record) = record else { return Ok(None) };
        self.gone(&record, mark.attempts, state).map(Some)
    }

    /// Ends one that waits for its time.
    pub(in crate::disk) fn end_scheduled(
        &mut self,
        deliver: u64,
        id: u128,
        state: State,
    ) -> Result<Option<Change>, StorageError> {
        let record = self.tables.scheduled.remove((&*self.key, deliver, id))?;
        let record = record.map(|record| read::<Record>(record.value()));
        let Some(record) = record else { return Ok(None) };
        self.gone(&record, 0, state).map(Some)
    }

    /// Ends one wherever it is.
    pub(in crate::disk) fn end_at(
        &mut self,
        place: Where,
        id: u128,
        state: State,
    ) -> Result<Option<Change>, StorageError> {
        match (place.seq, place.deliver) {
            (0, 0) => Ok(None),
            (0, deliver) => self.end_scheduled(deliver, id, state),
            (seq, _) => self.end(seq, state),
        }
    }

    fn gone(
        &mut self,
        record: &Record,
        attempts: u32,
        state: State,
    ) -> Result<Change, StorageError> {
        let id = u128::from(record.id());
        self.head.messages = self.head.messages.saturating_sub(1);
        self.head.bytes = self.head.bytes.saturating_sub(record.cost);
        if let Some(collapse) = &record.collapse {
            let last = self.tables.collapses.get((&*self.key, &**collapse))?.map(|id| id.value());
            if last == Some(id) {
                self.tables.collapses.remove((&*self.key, &**collapse))?;
            }
        }
        let place = Where::ended(state, attempts, self.now);
        self.tables.put_place(&self.key, id, &place)?;
        self.tables.gone.insert((&*self.key, self.head.next_gone), id)?;
        self.head.next_gone += 1;
        self.forget_old()?;
        self.look_at(self.now.saturating_add(REMEMBERED));
        Ok(record.change(state, attempts, self.now))
    }

    /// Forgets what is long ago; whether nothing is left to be known of the inbox.
    pub(in crate::disk) fn forget_in_time(&mut self) -> Result<bool, StorageError> {
        self.forget_old()?;
        if self.head.messages > 0 {
            return Ok(false);
        }
        let first = self.tables.keys.range((&*self.key, "")..)?.next().transpose()?;
        let has_keys = first.is_some_and(|(key, _)| key.value().0 == &*self.key);
        let is_over = !has_keys && self.head.first_gone == self.head.next_gone;
        if !is_over {
            self.look_at(self.now.saturating_add(REMEMBERED));
        }
        Ok(is_over)
    }

    /// Forgets how entries ended, if there are too many or it is long ago.
    fn forget_old(&mut self) -> Result<(), StorageError> {
        while self.head.first_gone < self.head.next_gone {
            let number = self.head.first_gone;
            let id = self.tables.gone.get((&*self.key, number))?.map(|id| id.value());
            if let Some(id) = id {
                let place = self.tables.place(&self.key, id)?.unwrap_or_default();
                let many = self.head.next_gone - number > self.config.remembered;
                if !many && place.since.saturating_add(REMEMBERED) > self.now {
                    return Ok(());
                }
                self.tables.wheres.remove((&*self.key, id))?;
                self.tables.gone.remove((&*self.key, number))?;
            }
            self.head.first_gone += 1;
        }
        Ok(())
    }

    /// Drops all there is and all that is known of it.
    pub(in crate::disk) fn forget(mut self) -> Result<(), StorageError> {
        while self.drop_oldest()?.is_some() {}
        while self.head.first_gone < self.head.next_gone {
            let gone = self.tables.gone.remove((&*self.key, self.head.first_gone))?;
            if let Some(id) = gone.map(|id| id.value()) {
                self.tables.wheres.remove((&*self.key, id))?;
            }
            self.head.first_gone += 1;
        }
        // When they end is forgotten in its time.
        let keys = self.tables.keys.range((&*self.key, "")..)?;
        let own = keys.map_while(|row| match row {
            Ok((key, _)) => {
                let (of, key) = key.value();
                (of == &*self.key).then(|| Ok(key.to_owned()))
            }
            Err(error) => Some(Err(error)),
        });
        for key in own.collect::<Result<Vec<_>, _>>()? {
            self.tables.keys.remove((&*self.key, &*key))?;
        }
        if self.head.look != 0 {
            self.tables.looks.remove((self.head.look, &*self.key))?;
        }
        self.tables.heads.remove(&*self.key)?;
        Ok(())
    }
}
