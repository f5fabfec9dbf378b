//! How queues were declared that are not as is usual.
//!
//! Whoever needs such a queue and says nothing of it, such as a message that is published to it, takes it
//! as it was declared: RabbitMQ would refuse another declaration.
//!
//! Invariant: so many are known; the oldest beyond [`LENGTH`] is forgotten.

use std::collections::{HashMap, VecDeque};

use bytestring::ByteString;
use parking_lot::Mutex;

use crate::queue_spec::QueueSpec;

/// How many are known.
const LENGTH: usize = 10_000;

/// The declarations of one node that RabbitMQ has taken. They outlive the connection.
#[derive(Debug, Default)]
pub(crate) struct DeclaredQueues {
    /// Held for a lookup.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    specs: HashMap<ByteString, QueueSpec>,
    /// The same names, oldest first.
    order: VecDeque<ByteString>,
}

impl DeclaredQueues {
    /// How `queue` was declared.
    pub(crate) fn spec(&self, queue: &ByteString) -> QueueSpec {
        self.memory.lock().specs.get(queue).cloned().unwrap_or_else(QueueSpec::plain)
    }

    /// RabbitMQ has `queue` as `spec` says.
    pub(crate) fn note(&self, queue: &ByteString, spec: &QueueSpec) {
        let mut memory = self.memory.lock();
        if *spec == QueueSpec::plain() {
            return memory.forget(queue);
        }
        if memory.specs.insert(queue.clone(), spec.clone()).is_none() {
            memory.order.push_back(queue.clone());
        }
        if memory.order.len() > LENGTH
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.specs.remove(&oldest);
        }
    }

    /// The queue is gone.
    pub(crate) fn forget(&self, queue: &ByteString) {
        self.memory.lock().forget(queue);
    }
}

impl Memory {
    fn forget(&mut self, queue: &ByteString) {
        if self.specs.remove(queue).is_some() {
            self.order.retain(|known| known != queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> QueueSpec {
        let mut spec = QueueSpec::plain();
        spec.auto_delete = true;
        spec
    }

    #[test]
    fn a_queue_is_as_it_was_declared_last() {
        let queues = DeclaredQueues::default();
        let name = ByteString::from("q");
        assert_eq!(queues.spec(&name), QueueSpec::plain());
        queues.note(&name, &spec());
        assert_eq!(queues.spec(&name), spec());
        queues.note(&name, &QueueSpec::plain());
        assert_eq!(queues.spec(&name), QueueSpec::plain());
        queues.note(&name, &spec());
        queues.forget(&name);
        assert_eq!(queues.spec(&name), QueueSpec::plain());
    }

    #[test]
    fn so_many_are_known() {
        let queues = DeclaredQueues::default();
        for n in 0..=LENGTH {
            queues.note(&n.to_string().into(), &spec());
        }
        assert_eq!(queues.spec(&"0".into()), QueueSpec::plain());
        assert_eq!(queues.spec(&"1".into()), spec());
        let memory = queues.memory.lock();
        assert_eq!((memory.specs.len(), memory.order.len()), (LENGTH, LENGTH));
    }
}
