//! One inbox in a transaction: entries are appended to the line, taken and settled.
//!
//! Invariants
//! - What is counted in the head is what is there.
//! - An entry that leaves is remembered by how it ended, the last `remembered` of them for a day.
//! - The inbox is looked at no later than something in it is due.

mod leaving;
#[cfg(test)]
mod model;
mod settling;
mod taking;

use std::time::SystemTime;

use prost::Message as _;
use redb::{ReadableTable, StorageError};
use ulid::Ulid;

pub(super) use self::settling::TOLD_AGAIN;
use super::record::{Head, Mark, Record, Where, read};
use super::tables::{Tables, address_key, is_outbox};
use super::{millis, span, time};
use crate::{Address, Appended, Change, Config, Count, Draft, Overflow, Position, State};

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
        // Nothing has ever been in it.
        if (self.head.last, self.head.messages, self.head.next_gone) == (0, 0, 0) {
            return Ok(());
        }
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

    /// Whether nobody looks into it but who is told that there is something.
    pub(super) fn is_outbox(&self) -> bool {
        is_outbox(&self.key)
    }

    pub(super) fn append(&mut self, draft: &Draft) -> Result<Appended, StorageError> {
        if let Some(appended) = self.said_before(draft)? {
            return Ok(appended);
        }
        if let Some(id) = self.known(draft)? {
            return Ok(Appended::Known { id });
        }
        let replaced = match &draft.collapse {
            Some(collapse) => self.replaced(collapse)?,
            None => None,
        };
        let (cost, limit) = (draft.cost(), self.config.max_bytes.as_u64());
        // Nothing gives way to one that is refused in the end.
        let spared = replaced.as_ref().map_or(0, |(_, record)| record.cost);
        let messages = self.head.messages.saturating_sub(u64::from(replaced.is_some()));
        let has_room = messages < self.config.max_messages
            && self.head.bytes.saturating_sub(spared) + cost <= limit;
        if !has_room && (self.config.overflow == Overflow::Refuse || cost > limit) {
            return Ok(Appended::Full { count: self.count()? });
        }
        let mut dropped = Vec::new();
        if let Some((place, record)) = replaced {
            dropped.extend(self.end_at(place, record.id().into(), State::Dropped)?);
        }
        while self.head.messages >= self.config.max_messages || self.head.bytes + cost > limit {
            let Some(change) = self.drop_oldest()? else { break };
            dropped.push(change);
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

    /// Where the entry of that collapse key is, if nobody was given it yet.
    fn replaced(&self, collapse: &str) -> Result<Option<(Where, Record)>, StorageError> {
        let last = self.tables.collapses.get((&*self.key, collapse))?.map(|id| id.value());
        let Some(last) = last else { return Ok(None) };
        let Some(place) = self.tables.place(&self.key, last)? else { return Ok(None) };
        let record = if place.seq > 0 {
            let mark = self.tables.mark(&self.key, place.seq)?;
            if mark.is_none_or(|mark| mark.attempts > 0) {
                return Ok(None);
            }
            self.tables.record(&self.key, place.seq)?
        } else {
            let of = (&*self.key, place.deliver, last);
            self.tables.scheduled.get(of)?.map(|record| read(record.value()))
        };
        Ok(record.map(|record| (place, record)))
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
        if self.is_outbox() {
            self.look_at(self.now.saturating_add(span(self.config.ack_wait)));
        }
        self.tables.records.insert((&*self.key, seq), &*record.encode_to_vec())?;
        let mark = Mark { since: self.now, ..Mark::default() };
        self.tables.put_mark(&self.key, seq, &mark)?;
        let place = Where { seq, ..Where::default() };
        self.tables.put_place(&self.key, record.id().into(), &place)?;
        Ok(Position { epoch: self.head.epoch, seq })
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
