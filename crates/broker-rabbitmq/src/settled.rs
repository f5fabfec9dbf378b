//! The last deliveries of queues that were acked or rejected here.
//!
//! When RabbitMQ is killed, or a connection breaks, the last acks may be lost, and what was settled
//! comes again. It is known here, and settled once more, in the same way, instead of delivered.
//!
//! Invariants
//! - Only what is marked counts as a repeat: by AMQP, or by the node that published it again because its
//!   confirm was lost. What comes unmarked is another message, whatever its id: an application may send
//!   on to a queue what it got from there, headers and all. From then on the one before is not known any
//!   more.
//! - A message that comes back over a dead letter exchange is another one each time.
//! - Nothing is known of streams. Their readers settle for themselves alone, and what was republished
//!   into one stays marked for all of them.
//! - So many are known: the oldest beyond [`LENGTH`] is forgotten.
//!
//! Cannot be told: an application's copy under the id of a message that was settled here, when RabbitMQ
//! is killed before it delivers that copy, and so marks it redelivered.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use broker::{MessageId, Outcome};
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use parking_lot::Mutex;

/// How many are known.
const LENGTH: usize = 10_000;

/// What this node has settled lately.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    hasher: RandomState,
    /// Held for a lookup.
    memory: Mutex<Memory>,
}

/// One message in one queue: its id, and a hash of the queue's name and of how often it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Known(MessageId, u64);

#[derive(Debug, Default)]
struct Memory {
    /// With the number under which each was noted last, and what became of it.
    known: HashMap<Known, (u64, Outcome)>,
    /// The same in that order, and some that were forgotten or noted again since.
    order: VecDeque<(Known, u64)>,
    next: u64,
}

impl Settled {
    /// How the message `id` is known that came from `queue`.
    pub(crate) fn known(&self, id: MessageId, queue: &str, properties: &BasicProperties) -> Known {
        let mut hasher = self.hasher.build_hasher();
        queue.hash(&mut hasher);
        let headers = properties.headers().as_ref();
        let deaths = headers.and_then(|table| table.inner().get("x-death"));
        if let Some(AMQPValue::FieldArray(deaths)) = deaths {
            // Its counts change with each death.
            format!("{deaths:?}").hash(&mut hasher);
        }
        Known(id, hasher.finish())
    }

    /// It was acked or rejected, as `outcome` says.
    pub(crate) fn note(&self, known: Known, outcome: Outcome) {
        let mut memory = self.memory.lock();
        let number = memory.next;
        memory.next += 1;
        memory.known.insert(known, (number, outcome));
        memory.order.push_back((known, number));
        if memory.order.len() > LENGTH
            && let Some((oldest, number)) = memory.order.pop_front()
            && memory.known.get(&oldest).is_some_and(|(noted, _)| *noted == number)
        {
            memory.known.remove(&oldest);
        }
    }

    /// What became of it, if it was settled.
    pub(crate) fn outcome(&self, known: Known) -> Option<Outcome> {
        self.memory.lock().known.get(&known).map(|(_, outcome)| *outcome)
    }

    /// It comes. If it is a repeat of what was settled, what became of that.
    pub(crate) fn repeated(&self, known: Known, marked: bool) -> Option<Outcome> {
        if marked {
            return self.outcome(known);
        }
        self.memory.lock().known.remove(&known);
        None
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldArray, FieldTable};

    use super::*;

    fn died(times: i64) -> BasicProperties {
        let mut death = FieldTable::default();
        death.insert("count".into(), AMQPValue::LongLongInt(times));
        let mut table = FieldTable::default();
        let deaths = FieldArray::from(vec![AMQPValue::FieldTable(death)]);
        table.insert("x-death".into(), AMQPValue::FieldArray(deaths));
        BasicProperties::default().with_headers(table)
    }

    #[test]
    fn a_repeat_is_what_was_settled_and_is_marked() {
        let settled = Settled::default();
        let none = BasicProperties::default();
        let known = settled.known(MessageId::new(), "q", &none);
        assert_eq!(settled.repeated(known, true), None, "it was not settled");
        settled.note(known, Outcome::Ack);
        for _ in 0..2 {
            assert_eq!(settled.repeated(known, true), Some(Outcome::Ack));
        }
    }

    #[test]
    fn what_was_rejected_is_rejected_again() {
        let settled = Settled::default();
        let known = settled.known(MessageId::new(), "q", &BasicProperties::default());
        settled.note(known, Outcome::Reject);
        assert_eq!(settled.repeated(known, true), Some(Outcome::Reject));
        assert_eq!(settled.outcome(known), Some(Outcome::Reject));
    }

    #[test]
    fn what_comes_unmarked_is_another_message() {
        let settled = Settled::default();
        let known = settled.known(MessageId::new(), "q", &BasicProperties::default());
        settled.note(known, Outcome::Ack);
        assert_eq!(settled.repeated(known, false), None);
        assert_eq!(settled.repeated(known, true), None, "its requeue is its own");
    }

    #[test]
    fn elsewhere_and_after_a_death_it_is_another_one() {
        let settled = Settled::default();
        let (id, none) = (MessageId::new(), BasicProperties::default());
        settled.note(settled.known(id, "q", &none), Outcome::Ack);
        assert_eq!(settled.repeated(settled.known(id, "r", &none), true), None);
        settled.note(settled.known(id, "q", &died(1)), Outcome::Ack);
        assert_eq!(settled.repeated(settled.known(id, "q", &died(2)), true), None);
        assert_eq!(settled.repeated(settled.known(id, "q", &died(1)), true), Some(Outcome::Ack));
    }

    #[test]
    fn so_many_are_known() {
        let settled = Settled::default();
        let none = BasicProperties::default();
        let new = || settled.known(MessageId::new(), "q", &none);
        let first = new();
        settled.note(first, Outcome::Ack);
        (1..LENGTH).for_each(|_| settled.note(new(), Outcome::Ack));
        assert_eq!(settled.repeated(first, true), Some(Outcome::Ack));
        settled.note(new(), Outcome::Ack);
        assert_eq!(settled.repeated(first, true), None);
        let memory = settled.memory.lock();
        assert_eq!((memory.known.len(), memory.order.len()), (LENGTH, LENGTH));
    }
}
