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
use tokio::time::Instant;

use crate::declarations::Target;
use crate::metrics::{Oldest, Share};

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
    /// When it was handed over.
    pub(crate) since: Instant,
    /// When its publisher has waited long enough.
    pub(crate) deadline: Instant,
    /// Its share of what may be retained; comes free with it.
    pub(crate) _share: Share,
}

/// What waits for the broker's word.
#[derive(Debug)]
pub(crate) struct Retained {
    /// By number, in the order of acceptance.
    entries: BTreeMap<u64, Entry>,
    /// The number of the next message.
    next: u64,
    /// Everything before it was written on the channel of the moment.
    unwritten: u64,
    /// Told of the oldest whenever it is another.
    oldest: Arc<Oldest>,
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

/// What was given up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) messages: usize,
    /// Whether some of it was written on the channel of the moment.
    pub(crate) written: bool,
}

impl Retained {
    pub(crate) fn new(oldest: Arc<Oldest>) -> Self {
        Self { entries: BTreeMap::new(), next: 0, unwritten: 0, oldest }
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        if self.entries.is_empty() {
            self.oldest.set(Some(pending.since));
        }
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
        let was_first = self.first() == Some(number);
        if let Some(entry) = self.entries.remove(&number) {
            entry.pending.confirmer.confirm(word);
        }
        if was_first {
            self.tell_oldest();
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

    /// Gives up on those whose deadline is past, for the reason given.
    pub(crate) fn expire(&mut self, now: Instant, why: &str) -> Expired {
        let mut expired = Expired::default();
        while let Some(entry) = self.entries.first_entry()
            && entry.get().pending.deadline <= now
        {
            expired.messages += 1;
            expired.written |= *entry.key() < self.unwritten;
            entry.remove().pending.confirmer.confirm(Err(ConfirmError::Lost(why.to_owned())));
        }
        self.tell_oldest();
        expired
    }

    fn tell_oldest(&self) {
        self.oldest.set(self.entries.first_key_value().map(|(_, entry)| entry.pending.since));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Unconfirmed;
    use broker::Confirm;

    fn retained() -> Retained {
        Retained::new(Arc::new(Oldest::new()))
    }

    async fn push(retained: &mut Retained, deadline: Instant) -> Confirm {
        let (confirmer, confirm) = Confirm::pending();
        let outgoing = Arc::new(Outgoing {
            id: MessageId::new(),
            target: Target::Queue("q".into()),
            exchange: "".into(),
            routing_key: "q".into(),
            properties: BasicProperties::default(),
            body: Bytes::new(),
        });
        let share = Unconfirmed::new(1, 0).share(1).await.unwrap();
        retained.push(Pending { outgoing, confirmer, since: deadline, deadline, _share: share });
        confirm
    }

    async fn three() -> (Retained, Vec<Confirm>) {
        let mut retained = retained();
        let mut confirms = Vec::new();
        for _ in 0..3 {
            confirms.push(push(&mut retained, Instant::now()).await);
        }
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
        let (mut retained, mut confirms) = three().await;
        assert_eq!(write_all(&mut retained), [(0, false), (1, false), (2, false)]);
        retained.settle(1, Ok(()));
        assert_eq!(confirms.remove(1).await, Ok(()));
        let _fourth = push(&mut retained, Instant::now()).await;
        retained.rewind();
        assert_eq!(write_all(&mut retained), [(0, true), (2, true), (3, false)]);
        assert_eq!(write_all(&mut retained), []);
    }

    #[tokio::test]
    async fn a_returned_message_goes_before_the_later_ones_once() {
        let (mut retained, mut confirms) = three().await;
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
        let mut retained = retained();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let early = push(&mut retained, now + second).await;
        let _late = push(&mut retained, now + 2 * second).await;
        assert_eq!(retained.deadline(), Some(now + second));
        assert_eq!(retained.expire(now, "away"), Expired::default());
        let one = |written| Expired { messages: 1, written };
        assert_eq!(retained.expire(now + second, "away"), one(false));
        assert_eq!(early.await, Err(ConfirmError::Lost("away".to_owned())));
        retained.settle(0, Ok(()));
        assert_eq!(retained.first(), Some(1));
        assert_eq!(write_all(&mut retained), [(1, false)]);
        assert_eq!(retained.expire(now + 2 * second, "away"), one(true));
    }
}
