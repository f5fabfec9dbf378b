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
use bytestring::ByteString;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::time::Instant;

use crate::declarations::Target;
use crate::metrics::{Oldest, Share};

/// A message as it goes over AMQP.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) target: Target,
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
    /// How long the frame is that carries the properties, in bytes, also if they are marked.
    pub(crate) frame: usize,
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

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the messages need to be there, each as often as there are messages.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.entries.values().map(|entry| &entry.pending.outgoing.target)
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

    /// `target` is an exchange: what waited for it needs it with a key, each its own.
    pub(crate) fn split(&mut self, target: &Target) {
        let Target::Foreign(exchange) = target else { return };
        for number in self.parked.remove(target).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&number) {
                let outgoing = Arc::make_mut(&mut entry.pending.outgoing);
                let key = outgoing.routing_key.as_str().into();
                outgoing.target = Target::ForeignKey(exchange.clone(), key);
                self.unwritten.insert(number);
            }
        }
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
    /// needs is returned. The second time its publisher is told, and at once if the queue is not for us
    /// to declare.
    pub(crate) fn returned(&mut self, number: u64) -> Option<Target> {
        let entry = self.entries.get_mut(&number)?;
        let is_foreign = matches!(entry.pending.outgoing.target, Target::ForeignQueue(_));
        if entry.returned || is_foreign {
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

    /// The exchange that `number` goes to.
    pub(crate) fn exchange(&self, number: u64) -> Option<ByteString> {
        let entry = self.entries.get(&number)?;
        Some(entry.pending.outgoing.exchange.as_str().into())
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
mod tests;
