//! Topics: to all who subscribe now.
//!
//! Invariants
//! - A message is offered to every matching subscription before its publisher waits for any.
//! - Publishers wait for shared feeds alone; a queue of a subscription's own keeps what it has room
//!   for and never makes them wait.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use broker::destination::Topic;
use broker::topic::{Handle, Trie};
use broker::{Delivery, Message, Subscription};
use bytestring::ByteString;
use parking_lot::RwLock;
use smallvec::SmallVec;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::queue::Queue;

/// What is bound to topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// By prefix and pattern. Publishers share the lock, and lock one own queue after the other
    /// meanwhile; binding and unbinding take it alone, with no queue locked.
    bound: RwLock<HashMap<ByteString, Trie<Subscriber>>>,
}

/// Where a subscription's messages go.
#[derive(Debug)]
pub(crate) enum Subscriber {
    /// To the sending end of what the subscription reads, which holds as many as its prefetch says.
    Shared(mpsc::Sender<Delivery>),
    /// To a queue of its own.
    Own(Arc<Queue>),
}

/// A pattern that a subscriber is bound by, until this is dropped. Not to be dropped while a queue is
/// locked.
#[derive(Debug)]
pub(crate) struct Binding {
    /// Weak, so that the end of the broker is the end of its subscriptions.
    topics: Weak<Topics>,
    prefix: ByteString,
    handle: Handle,
}

impl Topics {
    /// Gives `message` to every matching subscription, waiting for shared ones that are full.
    pub(crate) async fn publish(&self, topic: &Topic, message: &Arc<Message>) {
        for subscriber in self.offer(topic, message) {
            // An error means that it was cancelled meanwhile.
            let _ = subscriber.send(Delivery::settled(message.clone())).await;
        }
    }

    /// Gives `message` to every matching subscription, and returns the shared ones that had no room.
    fn offer(
        &self,
        topic: &Topic,
        message: &Arc<Message>,
    ) -> SmallVec<[mpsc::Sender<Delivery>; 8]> {
        let mut full = SmallVec::new();
        if let Some(trie) = self.bound.read().get(topic.prefix()) {
            trie.for_each_match(topic.key(), |subscriber| match subscriber {
                Subscriber::Shared(deliveries) => {
                    let delivery = Delivery::settled(message.clone());
                    if let Err(TrySendError::Full(_)) = deliveries.try_send(delivery) {
                        full.push(deliveries.clone());
                    }
                }
                Subscriber::Own(queue) => queue.offer(message),
            });
        }
        full
    }

    /// A subscription that shares what is published, and keeps nothing.
    pub(crate) fn subscribe(self: &Arc<Self>, topic: &Topic, prefetch: u16) -> Subscription {
        let (subscriber, deliveries) = mpsc::channel(prefetch.into());
        let binding = self.bind(topic, Subscriber::Shared(subscriber));
        Subscription::new(deliveries, move || drop(binding))
    }

    /// From now on `subscriber` gets what is published to `topic`, which may be a pattern.
    pub(crate) fn bind(self: &Arc<Self>, topic: &Topic, subscriber: Subscriber) -> Binding {
        let prefix = topic.prefix().clone();
        let handle = self
            .bound
            .write()
            .entry(prefix.clone())
            .or_default()
            .insert(topic.key().clone(), subscriber);
        Binding { topics: Arc::downgrade(self), prefix, handle }
    }

    fn unbind(&self, prefix: &ByteString, handle: &Handle) -> Option<Subscriber> {
        let mut bound = self.bound.write();
        let trie = bound.get_mut(prefix)?;
        let subscriber = trie.remove(handle);
        if trie.is_empty() {
            bound.remove(prefix);
        }
        subscriber
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bound.read().values().map(Trie::len).sum()
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        if let Some(topics) = self.topics.upgrade() {
            topics.unbind(&self.prefix, &self.handle);
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
        assert_eq!(topics.len(), 1);
        drop(other);
        assert!(topics.bound.read().is_empty());
    }
}
