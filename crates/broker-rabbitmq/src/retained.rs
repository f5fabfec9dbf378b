//! The messages of one lane that are not confirmed yet, in the order they were accepted.
//!
//! Invariants
//! - A message stays until the broker's word on it is given to its publisher, or its deadline is past.
//! - They are written in order; after a [`rewind`](Retained::rewind) all are written again, in order.
//!   But those whose target is [parked](Retained::park) stand aside, and go in their order after it.
//! - A message that was written before and is written again after a rewind is marked so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// The numbers of those to be written on the channel of the moment.
    unwritten: BTreeSet<u64>,
    /// The numbers of those that wait for their target, none of them in `unwritten`. No set is empty.
    parked: HashMap<Target, BTreeSet<u64>>,
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
        let (entries, unwritten, parked) = (<_>::default(), <_>::default(), <_>::default());
        Self { entries, next: 0, unwritten, parked, oldest }
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        if self.entries.is_empty() {
            self.oldest.set(Some(pending.since));
        }
        let entry = Entry { pending, written: false, returned: false };
        self.entries.insert(self.next, entry);
        self.unwritten.insert(self.next);
        self.next += 1;
    }

    /// The number that the next message will have.
    pub(crate) fn end(&self) -> u64 {
        self.next
    }

    /// When the oldest message has waited long enough. Later ones have later deadlines.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(_, entry)| entry.pending.deadline)
    }

    /// The oldest message to be written. It stays so until it is [written](Self::wrote),
    /// [parked](Self::park) or [settled](Self::settle).
    pub(crate) fn next(&mut self) -> Option<Next> {
        loop {
            let number = *self.unwritten.first()?;
            let Some(entry) = self.entries.get(&number) else {
                self.unwritten.remove(&number);
                continue;
            };
            let (outgoing, again) = (&entry.pending.outgoing, entry.written);
            match self.parked.get_mut(&outgoing.target) {
                Some(parked) => {
                    parked.insert(number);
                    self.unwritten.remove(&number);
                }
                None => return Some(Next { number, outgoing: outgoing.clone(), again }),
            }
        }
    }

    /// Says that `number`, the one that `next` gave, was written.
    pub(crate) fn wrote(&mut self, number: u64) {
        self.unwritten.remove(&number);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.written = true;
        }
    }

    /// Parks the target of the message that `next` gave: it and those after it to the same target
    /// stand aside.
    pub(crate) fn park(&mut self, next: &Next) {
        self.unwritten.remove(&next.number);
        self.parked.entry(next.outgoing.target.clone()).or_default().insert(next.number);
    }

    /// The deadline of the oldest that waits for `target`, if any does.
    pub(crate) fn parked(&self, target: &Target) -> Option<Instant> {
        let number = self.parked.get(target)?.first()?;
        Some(self.entries.get(number)?.pending.deadline)
    }

    /// `target` is there: what waited for it is to be written, before whatever is newer.
    pub(crate) fn unpark(&mut self, target: &Target) {
        self.unwritten.extend(self.parked.remove(target).unwrap_or_default());
    }

    /// `target` cannot be had: whoever waits for it is told why.
    pub(crate) fn refuse(&mut self, target: &Target, why: &str) {
        for number in self.parked.remove(target).unwrap_or_default() {
            self.settle(number, Err(ConfirmError::Refused(why.to_owned())));
        }
    }

    /// There is a new channel: everything that is not parked is to be written once more.
    pub(crate) fn rewind(&mut self) {
        let parked: BTreeSet<_> = self.parked.values().flatten().collect();
        let numbers = self.entries.keys().filter(|number| !parked.contains(number));
        self.unwritten = numbers.copied().collect();
    }

    /// Gives the publisher of `number` the broker's word, if it still waits for it.
    pub(crate) fn settle(&mut self, number: u64, word: Result<(), ConfirmError>) {
        let was_first = self.entries.first_key_value().is_some_and(|(first, _)| *first == number);
        if let Some(entry) = self.entries.remove(&number) {
            self.unwritten.remove(&number);
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
        self.unwritten.insert(number);
        Some(entry.pending.outgoing.target.clone())
    }

    pub(crate) fn id(&self, number: u64) -> Option<MessageId> {
        self.entries.get(&number).map(|entry| entry.pending.outgoing.id)
    }

    /// Gives up on those whose deadline is past, for the reason given.
    pub(crate) fn expire(&mut self, now: Instant, why: &str) -> Expired {
        let mut expired = Expired::default();
        while let Some(first) = self.entries.first_entry()
            && first.get().pending.deadline <= now
        {
            let (number, entry) = first.remove_entry();
            expired.messages += 1;
            let waited = self.unwritten.remove(&number) || self.leave(&entry, number);
            expired.written |= !waited;
            entry.pending.confirmer.confirm(Err(ConfirmError::Lost(why.to_owned())));
        }
        self.tell_oldest();
        expired
    }

    /// Takes `number` out of those that are parked; whether it was.
    fn leave(&mut self, entry: &Entry, number: u64) -> bool {
        let target = &entry.pending.outgoing.target;
        let Some(parked) = self.parked.get_mut(target) else { return false };
        let was_parked = parked.remove(&number);
        if parked.is_empty() {
            self.parked.remove(target);
        }
        was_parked
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

    fn target(name: &str) -> Target {
        Target::Queue(name.into())
    }

    async fn push(retained: &mut Retained, deadline: Instant) -> Confirm {
        push_to(retained, "q", deadline).await
    }

    async fn push_to(retained: &mut Retained, queue: &str, deadline: Instant) -> Confirm {
        let (confirmer, confirm) = Confirm::pending();
        let outgoing = Arc::new(Outgoing {
            id: MessageId::new(),
            target: target(queue),
            exchange: "".into(),
            routing_key: queue.into(),
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

    fn numbers(retained: &Retained) -> Vec<u64> {
        retained.entries.keys().copied().collect()
    }

    /// One to `a`, then one to `b`, and so on, with `a` parked.
    async fn a_parked() -> (Retained, Vec<Confirm>) {
        let mut retained = retained();
        let mut confirms = Vec::new();
        for n in 0..4 {
            let queue = ["a", "b"][n % 2];
            confirms.push(push_to(&mut retained, queue, Instant::now()).await);
        }
        let next = retained.next().unwrap();
        retained.park(&next);
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
        assert_eq!(retained.returned(1), Some(target("q")));
        assert_eq!(write_all(&mut retained), [(1, false), (2, false)]);
        assert_eq!(retained.returned(1), None);
        assert_eq!(confirms.remove(1).await, Err(ConfirmError::Unroutable));
        assert_eq!(numbers(&retained), [2]);
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
        assert_eq!(numbers(&retained), [1]);
        assert_eq!(write_all(&mut retained), [(1, false)]);
        assert_eq!(retained.expire(now + 2 * second, "away"), one(true));
    }

    #[tokio::test]
    async fn what_waits_for_its_target_is_passed_by_the_others_and_keeps_its_order() {
        let (mut retained, _confirms) = a_parked().await;
        assert_eq!(write_all(&mut retained), [(1, false), (3, false)]);
        let _fifth = push_to(&mut retained, "a", Instant::now()).await;
        let _sixth = push_to(&mut retained, "b", Instant::now()).await;
        assert_eq!(write_all(&mut retained), [(5, false)]);
        retained.rewind();
        assert_eq!(write_all(&mut retained), [(1, true), (3, true), (5, true)]);
        retained.unpark(&target("a"));
        let _seventh = push_to(&mut retained, "a", Instant::now()).await;
        assert_eq!(write_all(&mut retained), [(0, false), (2, false), (4, false), (6, false)]);
        retained.rewind();
        assert_eq!(write_all(&mut retained).len(), 7);
    }

    #[tokio::test]
    async fn one_that_came_back_is_parked_before_those_after_it() {
        let (mut retained, _confirms) = a_parked().await;
        retained.unpark(&target("a"));
        assert_eq!(write_all(&mut retained).len(), 4);
        let _fifth = push_to(&mut retained, "a", Instant::now()).await;
        assert_eq!(retained.returned(2), Some(target("a")));
        let next = retained.next().unwrap();
        assert_eq!(next.number, 2);
        retained.park(&next);
        assert_eq!(write_all(&mut retained), []);
        retained.unpark(&target("a"));
        assert_eq!(write_all(&mut retained), [(2, false), (4, false)]);
    }

    #[tokio::test]
    async fn who_waits_for_a_target_that_is_refused_is_told_why_and_nobody_else() {
        let (mut retained, mut confirms) = a_parked().await;
        assert_eq!(write_all(&mut retained).len(), 2);
        retained.refuse(&target("a"), "no");
        assert_eq!(numbers(&retained), [1, 3]);
        for confirm in [confirms.remove(0), confirms.remove(1)] {
            assert_eq!(confirm.await, Err(ConfirmError::Refused("no".to_owned())));
        }
        let _fifth = push_to(&mut retained, "a", Instant::now()).await;
        assert_eq!(write_all(&mut retained), [(4, false)]);
    }

    #[tokio::test]
    async fn what_is_parked_is_given_up_at_its_deadline() {
        let mut retained = retained();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let early = push_to(&mut retained, "a", now + second).await;
        let _late = push_to(&mut retained, "a", now + 2 * second).await;
        let next = retained.next().unwrap();
        retained.park(&next);
        assert_eq!(write_all(&mut retained), []);
        assert_eq!(retained.parked(&target("a")), Some(now + second));
        let one = Expired { messages: 1, written: false };
        assert_eq!(retained.expire(now + second, "down"), one);
        assert_eq!(early.await, Err(ConfirmError::Lost("down".to_owned())));
        assert_eq!(retained.parked(&target("a")), Some(now + 2 * second));
        assert_eq!(retained.expire(now + 2 * second, "down"), one);
        assert_eq!(retained.parked(&target("a")), None);
        let _fresh = push_to(&mut retained, "a", now + 3 * second).await;
        assert_eq!(write_all(&mut retained), [(2, false)]);
    }
}
