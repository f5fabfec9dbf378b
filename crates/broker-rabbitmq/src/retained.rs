//! The messages of one lane that are not confirmed yet, in the order they were accepted.
//!
//! Invariants
//! - A message stays until the broker's word on it is given to its publisher, or its deadline is past.
//! - They are written in order; after a [`rewind`](Retained::rewind) all are written again, in order.
//! - A message that was written before and is written again after a rewind is marked so.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::{ConfirmError, Confirmer, MessageId};
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::declarations::Target;

/// A message as it goes over AMQP.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) target: Target,
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// A message that was accepted.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) confirmer: Confirmer,
    /// When its publisher has waited long enough.
    pub(crate) deadline: Instant,
    /// Its share of what may be retained; comes free with it.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// What waits for the broker's word.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    /// By number, in the order of acceptance.
    entries: BTreeMap<u64, Entry>,
    /// The number of the next message.
    next: u64,
    /// Everything before it was written on the channel of the moment.
    unwritten: u64,
}

#[derive(Debug)]
struct Entry {
    pending: Pending,
    written: bool,
    returned: bool,
}

/// What to write next.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) number: u64,
    pub(crate) outgoing: Arc<Outgoing>,
    /// Whether it may be there already.
    pub(crate) again: bool,
}

impl Retained {
    pub(crate) fn push(&mut self, pending: Pending) {
        let entry = Entry { pending, written: false, returned: false };
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    /// The number that the next message will have.
    pub(crate) fn end(&self) -> u64 {
        self.next
    }

    /// The number of the oldest message.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(number, _)| *number)
    }

    /// When the oldest message has waited long enough. Later ones have later deadlines.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(_, entry)| entry.pending.deadline)
    }

    /// The oldest message that is not written yet.
    pub(crate) fn next(&self) -> Option<Next> {
        let (&number, entry) = self.entries.range(self.unwritten..).next()?;
        Some(Next { number, outgoing: entry.pending.outgoing.clone(), again: entry.written })
    }

    /// Says that `number`, the one that `next` gave, was written.
    pub(crate) fn wrote(&mut self, number: u64) {
        self.unwritten = number + 1;
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.written = true;
        }
    }

    /// There is a new channel: everything is to be written once more.
    pub(crate) fn rewind(&mut self) {
        self.unwritten = self.first().unwrap_or(self.next);
    }

    /// Gives the publisher of `number` the broker's word, if it still waits for it.
    pub(crate) fn settle(&mut self, number: u64, word: Result<(), ConfirmError>) {
        if let Some(entry) = self.entries.remove(&number) {
            entry.pending.confirmer.confirm(word);
        }
    }

    /// `number` came back because there was no queue: it is to be written once more, and what it
    /// needs is returned. The second time its publisher is told.
    pub(crate) fn returned(&mut self, number: u64) -> Option<Target> {
        let entry = self.entries.get_mut(&number)?;
        if entry.returned {
            self.settle(number, Err(ConfirmError::Unroutable));
            return None;
        }
        entry.returned = true;
        // Nobody has seen it.
        entry.written = false;
        self.unwritten = self.unwritten.min(number);
        Some(entry.pending.outgoing.target.clone())
    }

    pub(crate) fn id(&self, number: u64) -> Option<MessageId> {
        self.entries.get(&number).map(|entry| entry.pending.outgoing.id)
    }

    /// Gives up on those whose deadline is past, and says how many.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while let Some(entry) = self.entries.first_entry()
            && entry.get().pending.deadline <= now
        {
            entry.remove().pending.confirmer.confirm(Err(ConfirmError::Lost));
            expired += 1;
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use broker::Confirm;
    use tokio::sync::Semaphore;

    use super::*;

    fn push(retained: &mut Retained, deadline: Instant) -> Confirm {
        let (confirmer, confirm) = Confirm::pending();
        let outgoing = Arc::new(Outgoing {
            id: MessageId::new(),
            target: Target::Queue("q".into()),
            exchange: "".into(),
            routing_key: "q".into(),
            properties: BasicProperties::default(),
            body: Bytes::new(),
        });
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        retained.push(Pending { outgoing, confirmer, deadline, _room: room });
        confirm
    }

    fn three() -> (Retained, Vec<Confirm>) {
        let mut retained = Retained::default();
        let confirms = (0..3).map(|_| push(&mut retained, Instant::now())).collect();
        (retained, confirms)
    }

    fn write_all(retained: &mut Retained) -> Vec<(u64, bool)> {
        std::iter::from_fn(|| {
            let Next { number, again, .. } = retained.next()?;
            retained.wrote(number);
            Some((number, again))
        })
        .collect()
    }

    #[tokio::test]
    async fn after_a_rewind_what_is_not_confirmed_is_written_again_in_order_and_marked() {
        let (mut retained, mut confirms) = three();
        assert_eq!(write_all(&mut retained), [(0, false), (1, false), (2, false)]);
        retained.settle(1, Ok(()));
        assert_eq!(confirms.remove(1).await, Ok(()));
        let _fourth = push(&mut retained, Instant::now());
        retained.rewind();
        assert_eq!(write_all(&mut retained), [(0, true), (2, true), (3, false)]);
        assert_eq!(write_all(&mut retained), []);
    }

    #[tokio::test]
    async fn a_returned_message_goes_before_the_later_ones_once() {
        let (mut retained, mut confirms) = three();
        retained.wrote(0);
        retained.wrote(1);
        retained.settle(0, Ok(()));
        assert_eq!(retained.returned(1), Some(Target::Queue("q".into())));
        assert_eq!(write_all(&mut retained), [(1, false), (2, false)]);
        assert_eq!(retained.returned(1), None);
        assert_eq!(confirms.remove(1).await, Err(ConfirmError::Unroutable));
        assert_eq!(retained.first(), Some(2));
    }

    #[tokio::test]
    async fn what_waited_too_long_is_lost_and_a_late_word_on_it_says_nothing() {
        let mut retained = Retained::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let early = push(&mut retained, now + second);
        let _late = push(&mut retained, now + 2 * second);
        assert_eq!(retained.deadline(), Some(now + second));
        assert_eq!(retained.expire(now), 0);
        assert_eq!(retained.expire(now + second), 1);
        assert_eq!(early.await, Err(ConfirmError::Lost));
        retained.settle(0, Ok(()));
        assert_eq!(retained.first(), Some(1));
        assert_eq!(write_all(&mut retained), [(1, false)]);
    }
}
