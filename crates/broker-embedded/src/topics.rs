//! Topics: to all who subscribe now.
//!
//! Invariant: a message is offered to every matching subscription before its publisher waits for any.

use std::collections::HashMap;
use std::sync::Arc;

use broker::destination::Topic;
use broker::topic::{Handle, Trie};
use broker::{Delivery, Message, Subscription};
use bytestring::ByteString;
use parking_lot::RwLock;
use smallvec::SmallVec;
use tokio::sync::mpsc::{self, error::TrySendError};

/// The live subscriptions to topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// By prefix and pattern. Publishers share the lock; subscribing and cancelling take it alone.
    subscriptions: RwLock<HashMap<ByteString, Trie<Subscriber>>>,
}

/// The sending end of a subscription's queue, which holds as many as its prefetch says.
type Subscriber = mpsc::Sender<Delivery>;

impl Topics {
    /// Gives `message` to every matching subscription, waiting for those that are full.
    pub(crate) async fn publish(&self, topic: &Topic, message: &Arc<Message>) {
        for subscriber in self.offer(topic, message) {
            // An error means that it was cancelled meanwhile.
            let _ = subscriber.send(Delivery::settled(message.clone())).await;
        }
    }

    /// Gives `message` to every matching subscription that has room, and returns the others.
    fn offer(&self, topic: &Topic, message: &Arc<Message>) -> SmallVec<[Subscriber; 8]> {
        let mut full = SmallVec::new();
        if let Some(trie) = self.subscriptions.read().get(topic.prefix()) {
            trie.for_each_match(topic.key(), |subscriber| {
                let delivery = Delivery::settled(message.clone());
                if let Err(TrySendError::Full(_)) = subscriber.try_send(delivery) {
                    full.push(subscriber.clone());
                }
            });
        }
        full
    }

    pub(crate) fn subscribe(self: &Arc<Self>, topic: &Topic, prefetch: u16) -> Subscription {
        let (subscriber, deliveries) = mpsc::channel(prefetch.into());
        let prefix = topic.prefix().clone();
        let handle = self
            .subscriptions
            .write()
            .entry(prefix.clone())
            .or_default()
            .insert(topic.key().clone(), subscriber);
        // Weak, so that the end of the broker is the end of its subscriptions.
        let topics = Arc::downgrade(self);
        Subscription::new(deliveries, move || {
            if let Some(topics) = topics.upgrade() {
                topics.cancel(&prefix, &handle);
            }
        })
    }

    fn cancel(&self, prefix: &ByteString, handle: &Handle) {
        let mut subscriptions = self.subscriptions.write();
        if let Some(trie) = subscriptions.get_mut(prefix) {
            trie.remove(handle);
            if trie.is_empty() {
                subscriptions.remove(prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::{Destination, Destinations, destination::Verb};

    use super::*;

    #[test]
    fn a_dropped_subscription_leaves_nothing_behind() {
        let topics = Arc::new(Topics::default());
        let subscribe = |text| match Destinations::default().parse(text, Verb::Subscribe) {
            Ok(Destination::Topic(topic)) => topics.subscribe(&topic, 1),
            other => panic!("{other:?}"),
        };
        let (one, other) = (subscribe("/topic/a.*"), subscribe("/topic/a.*"));
        drop(one);
        assert_eq!(topics.subscriptions.read()["/topic"].len(), 1);
        drop(other);
        assert!(topics.subscriptions.read().is_empty());
    }
}
