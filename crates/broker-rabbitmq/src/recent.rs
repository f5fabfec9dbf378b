//! The ids of the last messages that were dispatched.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use broker::MessageId;

/// How many are kept.
const LENGTH: usize = 10_000;

/// Knows whether a message was there lately.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    ids: HashSet<Known>,
    /// The same ids, oldest first.
    order: VecDeque<Known>,
    hasher: RandomState,
}

/// An id, and a hash of where the message went: an application that sends on what it got, with all
/// its headers, sends another message.
type Known = (MessageId, u64);

impl Recent {
    /// Notes `id`, and says whether it is new. The oldest beyond [`LENGTH`] is forgotten.
    pub(crate) fn is_new(&mut self, id: MessageId, exchange: &str, key: &str) -> bool {
        let known = (id, self.hasher.hash_one((exchange, key)));
        if !self.ids.insert(known) {
            return false;
        }
        self.order.push_back(known);
        if self.order.len() > LENGTH
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_ids_are_known() {
        let mut recent = Recent::default();
        let first = MessageId::new();
        let mut is_new = |id| recent.is_new(id, "amq.topic", "a");
        assert!(is_new(first));
        assert!((1..LENGTH).all(|_| is_new(MessageId::new())));
        assert!(!is_new(first));
        assert!(is_new(MessageId::new()));
        assert!(is_new(first), "the oldest is forgotten");
        assert_eq!((recent.ids.len(), recent.order.len()), (LENGTH, LENGTH));
    }

    #[test]
    fn what_was_sent_on_under_its_id_is_new_elsewhere() {
        let mut recent = Recent::default();
        let id = MessageId::new();
        assert!(recent.is_new(id, "amq.topic", "a"));
        assert!(recent.is_new(id, "amq.topic", "b"));
        assert!(!recent.is_new(id, "amq.topic", "a"));
    }
}
