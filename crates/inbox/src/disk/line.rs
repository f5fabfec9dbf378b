//! One inbox in a transaction: entries are appended to the line, taken and settled.
//!
//! Invariants
//! - What is counted in the head is what is there.
//! - An entry that leaves is remembered by how it ended, the last `remembered` of them for a day.
//! - The inbox is looked at no later than something in it is due.

use std::ops::Bound;
use std::time::SystemTime;

use prost::Message as _;
use redb::{ReadableTable, StorageError};
use ulid::Ulid;

use super::record::{Head, Mark, Record, Where, read};
use super::tables::{Tables, address_key};
use super::{millis, span, time};
use crate::{
    Address, Appended, Change, Config, Count, Draft, Entry, Overflow, Position, Purge, Settled,
    Settlement, State, Taken,
};

/// For how long it is remembered how an entry ended.
const REMEMBERED: u64 = 24 * 3600 * 1000;

/// After how long it is told again that an entry has failed and is to be buried.
pub(super) const TOLD_AGAIN: u64 = 60 * 1000;

/// See the module.
pub(super) struct Line<'l, 't> {
    pub(super) tables: &'l mut Tables<'t>,
    pub(super) config: &'l Config,
    pub(super) key: Vec<u8>,
    pub(super) head: Head,
    pub(super) now: u64,
    /// When it is to be looked at, by what was done since it was opened; 0 is never.
    pub(super) look: u64,
}

impl<'l, 't> Line<'l, 't> {
    pub(super) fn open(
        tables: &'l mut Tables<'t>,
        config: &'l Config,
        of: Address,
        now: u64,
    ) -> Result<Self, StorageError> {
        let key = address_key(&of);
        let head = tables.head(&key)?;
        let head = head.unwrap_or_else(|| Head { epoch: rand::random(), ..Head::default() });
        Ok(Self { tables, config, key, look: head.look, head, now })
    }

    /// Keeps what was changed.
    pub(super) fn close(mut self) -> Result<(), StorageError> {
        if self.look != self.head.look {
            if self.head.look != 0 {
                self.tables.looks.remove((self.head.look, &*self.key))?;
            }
            if self.look != 0 {
                self.tables.looks.insert((self.look, &*self.key), ())?;
            }
            self.head.look = self.look;
        }
        self.tables.put_head(&self.key, &self.head)
    }

    /// Sees to it that the inbox is looked at then.
    pub(super) fn look_at(&mut self, when: u64) {
        if self.look == 0 || when < self.look {
            self.look = when;
        }
    }

    pub(super) fn append(&mut self, draft: &Draft) -> Result<Appended, StorageError> {
        if let Some(appended) = self.said_before(draft)? {
            return Ok(appended);
        }
        if let Some(id) = self.known(draft)? {
            return Ok(Appended::Known { id });
        }
        let mut dropped = Vec::new();
        if let Some(collapse) = &draft.collapse {
            dropped.extend(self.collapse(collapse)?);
        }
        let cost = draft.cost();
        let is_full = |head: &Head, config: &Config| {
            head.messages >= config.max_messages || head.bytes + cost > config.max_bytes.as_u64()
        };
        while is_full(&self.head, self.config) {
            let oldest = match self.config.overflow {
                Overflow::DropOldest => self.drop_oldest()?,
                Overflow::Refuse => None,
            };
            match oldest {
                Some(change) => dropped.push(change),
                // What is dropped for the sake of one that is refused would be for nothing: nothing was, for
                // the only way here with something dropped is a collapse, which makes room for one as long.
                None => return Ok(Appended::Full { count: self.count()? }),
            }
        }
        let deliver = draft.deliver_at.map_or(0, millis);
        let deliver = if deliver > self.now { deliver } else { 0 };
        // It waits from when it is due.
        let limit = deliver.max(self.now).saturating_add(span(self.config.ttl));
        let expires = draft.expires_at.map_or(limit, |at| millis(at).min(limit));
        let record = Record::new(draft, self.now, expires, deliver);
        let id = u128::from(draft.id);
        if let Some(key) = &draft.key {
            let until = self.now.saturating_add(span(self.config.idempotency));
            self.tables.keys.insert((&*self.key, &**key), (id, until))?;
            self.tables.key_ends.insert((until, &*self.key, &**key), ())?;
        }
        if let Some(collapse) = &draft.collapse {
            self.tables.collapses.insert((&*self.key, &**collapse), id)?;
        }
        self.head.messages += 1;
        self.head.bytes += cost;
        self.look_at(expires);
        if deliver > 0 {
            self.look_at(deliver);
            self.tables.scheduled.insert((&*self.key, deliver, id), &*record.encode_to_vec())?;
            let place = Where { deliver, since: self.now, ..Where::default() };
            self.tables.put_place(&self.key, id, &place)?;
            return Ok(Appended::Scheduled { dropped });
        }
        let at = self.place(&record)?;
        Ok(Appended::Stored { at, dropped })
    }

    /// What the same message was answered with, if it came before.
    fn said_before(&mut self, draft: &Draft) -> Result<Option<Appended>, StorageError> {
        let place = self.tables.place(&self.key, draft.id.into())?;
        Ok(place.map(|place| match place {
            Where { seq, .. } if seq > 0 => Appended::Stored {
                at: Position { epoch: self.head.epoch, seq },
                dropped: Vec::new(),
            },
            Where { deliver, .. } if deliver > 0 => Appended::Scheduled { dropped: Vec::new() },
            _ => Appended::Known { id: draft.id },
        }))
    }

    /// The id of what was appended under the same key.
    fn known(&mut self, draft: &Draft) -> Result<Option<Ulid>, StorageError> {
        let Some(key) = &draft.key else { return Ok(None) };
        let known = self.tables.keys.get((&*self.key, &**key))?.map(|known| known.value());
        Ok(known.filter(|(_, until)| *until > self.now).map(|(id, _)| Ulid::from(id)))
    }

    /// Drops the entry of that collapse key, if nobody was given it yet.
    fn collapse(&mut self, collapse: &str) -> Result<Option<Change>, StorageError> {
        let last = self.tables.collapses.get((&*self.key, collapse))?.map(|id| id.value());
        let Some(last) = last else { return Ok(None) };
        let Some(place) = self.tables.place(&self.key, last)? else { return Ok(None) };
        if place.seq > 0 {
            let mark = self.tables.mark(&self.key, place.seq)?;
            return match mark.is_some_and(|mark| mark.attempts == 0) {
                true => self.end(place.seq, State::Dropped),
                false => Ok(None),
            };
        }
        match place.deliver > 0 {
            true => self.end_scheduled(place.deliver, last, State::Dropped),
            false => Ok(None),
        }
    }

    fn drop_oldest(&mut self) -> Result<Option<Change>, StorageError> {
        let of = &*self.key;
        let oldest = self.tables.marks.range((of, 0)..=(of, u64::MAX))?.next().transpose()?;
        let oldest = oldest.map(|(key, _)| key.value().1);
        match oldest {
            Some(seq) => self.end(seq, State::Dropped),
            None => {
                let scheduled =
                    self.tables.scheduled.range((of, 0, 0)..=(of, u64::MAX, u128::MAX))?;
                let first = scheduled.into_iter().next().transpose()?;
                let first = first.map(|(key, _)| (key.value().1, key.value().2));
                match first {
                    Some((deliver, id)) => self.end_scheduled(deliver, id, State::Dropped),
                    None => Ok(None),
                }
            }
        }
    }

    /// Gives a record its place at the end.
    pub(super) fn place(&mut self, record: &Record) -> Result<Position, StorageError> {
        self.head.last += 1;
        let seq = self.head.last;
        self.tables.records.insert((&*self.key, seq), &*record.encode_to_vec())?;
        let mark = Mark { since: self.now, ..Mark::default() };
        self.tables.put_mark(&self.key, seq, &mark)?;
        let place = Where { seq, ..Where::default() };
        self.tables.put_place(&self.key, record.id().into(), &place)?;
        Ok(Position { epoch: self.head.epoch, seq })
    }

    pub(super) fn take(
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

    pub(super) fn settle(
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
    pub(super) fn fail(
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

    pub(super) fn bury(&mut self, ids: &[Ulid]) -> Result<(), StorageError> {
        for id in ids {
            let Some(place) = self.tables.place(&self.key, (*id).into())? else { continue };
            let mark = self.tables.mark(&self.key, place.seq)?;
            if mark.is_some_and(|mark| mark.failed) {
                self.end(place.seq, State::Failed)?;
            }
        }
        Ok(())
    }

    pub(super) fn purge(&mut self, which: &Purge) -> Result<Settled, StorageError> {
        let mut settled = Settled::default();
        match which {
            Purge::Ids(ids) => {
                for id in ids {
                    let id = u128::from(*id);
                    let Some(place) = self.tables.place(&self.key, id)? else { continue };
                    settled.changes.extend(match (place.seq, place.deliver) {
                        (0, 0) => None,
                        (0, deliver) => self.end_scheduled(deliver, id, State::Dropped)?,
                        (seq, _) => self.end(seq, State::Dropped)?,
                    });
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

    /// Ends an entry in its place.
    pub(super) fn end(&mut self, seq: u64, state: State) -> Result<Option<Change>, StorageError> {
        let record = self.tables.records.remove((&*self.key, seq))?;
        let record = record.map(|record| read::<Record>(record.value()));
        let mark = self.tables.marks.remove((&*self.key, seq))?;
        let mark = mark.map(|mark| read::<Mark>(mark.value())).unwrap_or_default();
        let Some(record) = record else { return Ok(None) };
        self.gone(&record, mark.attempts, state).map(Some)
    }

    /// Ends one that waits for its time.
    pub(super) fn end_scheduled(
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
        Ok(record.change(state, attempts, self.now))
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
    pub(super) fn forget(mut self) -> Result<(), StorageError> {
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

    fn count(&self) -> Result<Count, StorageError> {
        let of = &*self.key;
        let mut count = Count { bytes: self.head.bytes, ..Count::default() };
        let mut oldest: Option<SystemTime> = None;
        for row in self.tables.marks.range((of, 0)..=(of, u64::MAX))? {
            let (key, mark) = row?;
            let mark: Mark = read(mark.value());
            match mark.state(self.now) {
                State::Delivered => count.delivered += 1,
                State::Failed => count.failed += 1,
                _ => count.pending += 1,
            }
            if oldest.is_none() {
                let record = self.tables.record(of, key.value().1)?;
                oldest = record.map(|record| time(record.appended));
            }
        }
        let scheduled = self.tables.scheduled.range((of, 0, 0)..=(of, u64::MAX, u128::MAX))?;
        count.scheduled = scheduled.count() as u64;
        count.oldest = oldest;
        Ok(count)
    }
}
