//! The ids of the last messages that were dispatched.

use std::collections::{HashSet, VecDeque};

use broker::MessageId;

/// How many are kept.
const LENGTH: usize = 10_000;

/// Knows whether a message was there lately.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    ids: HashSet<MessageId>,
    /// The same ids, oldest first.
    order: VecDeque<MessageId>,
}

impl Recent {
    /// Notes `id`, and says whether it is new. The oldest beyond [`LENGTH`] is forgotten.
    pub(crate) fn is_new(&mut self, id: MessageId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
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
        assert!(recent.is_new(first));
        assert!((1..LENGTH).all(|_| recent.is_new(MessageId::new())));
        assert!(!recent.is_new(first));
        assert!(recent.is_new(MessageId::new()));
        assert!(recent.is_new(first), "the oldest is forgotten");
        assert_eq!((recent.ids.len(), recent.order.len()), (LENGTH, LENGTH));
    }
}
