//! Topics: splits what comes to the node's topic queue among the subscriptions.
//!
//! Invariants
//! - The queue gets one copy of a message however many bindings match; each subscription whose
//!   pattern matches gets it once.
//! - A message that came twice, because its confirm or our ack was lost, is dispatched once, as long
//!   as a node of ours published it and fewer than 10,000 came between.
//! - A subscription that is full is waited for: RabbitMQ keeps what comes meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::destination::Topic;
use broker::topic::{Handle, Trie};
use broker::{Delivery, Destination, Message, SubscribeError, Subscription};
use bytestring::ByteString;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::bindings::{Binding, Bindings};
use crate::headers;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::recent::Recent;
use crate::status::Status;

/// The live subscriptions to topics.
#[derive(Debug)]
pub(crate) struct Topics {
    names: Arc<Names>,
    status: Arc<Status>,
    bindings: Arc<Bindings>,
    metrics: Arc<Metrics>,
    timeout: Duration,
    /// By prefix and pattern. Dispatching shares the lock; subscribing and cancelling take it alone.
    subscriptions: RwLock<Subscriptions>,
    /// Held for a lookup, by the one who dispatches.
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    by_prefix: HashMap<ByteString, Trie<Subscriber>>,
    next: u64,
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    /// As long as the subscription's prefetch.
    deliveries: mpsc::Sender<Delivery>,
}

/// Whom a message is for: number and sending end.
type Found = SmallVec<[(u64, mpsc::Sender<Delivery>); 8]>;

impl Topics {
    pub(crate) fn new(
        names: Arc<Names>,
        status: Arc<Status>,
        bindings: Arc<Bindings>,
        metrics: Arc<Metrics>,
        timeout: Duration,
    ) -> Self {
        let (subscriptions, recent) = (RwLock::default(), Mutex::default());
        Self { names, status, bindings, metrics, timeout, subscriptions, recent }
    }

    /// Subscribes, and returns once the binding is there.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        topic: &Topic,
        prefetch: u16,
    ) -> Result<Subscription, SubscribeError> {
        let exchange = self.names.exchange(topic).ok_or(SubscribeError::Unsupported {
            kind: "topic",
            instead: "its prefix is longer than the name of an exchange may be",
        })?;
        let binding = Binding { exchange, key: topic.key().clone() };
        let (deliveries, receiver) = mpsc::channel(prefetch.into());
        let prefix = topic.prefix().clone();
        let handle = self.subscriptions.write().insert(topic, deliveries);
        let bound = self.bindings.acquire(&binding);
        // Weak, so that the end of the broker is the end of its subscriptions. Made before the wait,
        // so that who gives up waiting leaves nothing behind.
        let topics = Arc::downgrade(self);
        let subscription = Subscription::new(receiver, move || {
            if let Some(topics) = topics.upgrade() {
                topics.subscriptions.write().remove(&prefix, &handle);
                topics.bindings.release(&binding);
            }
        });
        if let Some(bound) = bound {
            match tokio::time::timeout(self.timeout, bound).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(why))) => return Err(SubscribeError::Unavailable(why)),
                Ok(Err(_)) | Err(_) => {
                    return Err(SubscribeError::Unavailable(self.status.reason()));
                }
            }
        }
        Ok(subscription)
    }

    /// Gives a delivery of the topic queue to all it is for, waiting for those that are full.
    pub(crate) async fn dispatch(&self, mut delivery: lapin::message::Delivery) {
        // Put into the queue by its name, by someone who knows it: no topic.
        if delivery.exchange.as_str().is_empty() {
            return;
        }
        let received = match headers::read(&delivery.properties) {
            Ok(received) => received,
            Err(skip) => return self.metrics.skipped(skip),
        };
        if let Some(id) = received.id {
            let (exchange, key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
            let new = self.recent.lock().is_new(id, exchange, key);
            if !new && (received.republished || delivery.redelivered) {
                self.metrics.duplicates.inc();
                return;
            }
        }
        let key = ByteString::from(delivery.routing_key.as_str());
        let prefix = self.names.prefix(delivery.exchange.as_str());
        let found = self.find(&prefix, &key, headers::copies(&delivery.properties));
        if found.is_empty() {
            return;
        }
        // AMQP's own flag is set after a broker was killed even for what was never delivered, so it
        // counts only for messages that have no id to know them by.
        let redelivered = received.republished || (received.id.is_none() && delivery.redelivered);
        let topic = Destination::Topic(Topic::exact(prefix, key));
        let message = Arc::new(headers::message(received, topic, &mut delivery));
        for (_, deliveries) in found {
            // An error means that it was cancelled meanwhile.
            let _ = deliveries.send(shown(&message, redelivered)).await;
        }
    }

    fn find<'a>(
        &self,
        prefix: &ByteString,
        key: &'a str,
        copies: impl Iterator<Item = &'a str>,
    ) -> Found {
        let subscriptions = self.subscriptions.read();
        let mut found = Found::new();
        if let Some(trie) = subscriptions.by_prefix.get(prefix) {
            trie.for_each_match(key, |s| found.push((s.number, s.deliveries.clone())));
            for copy in copies {
                trie.for_each_match(copy, |s| {
                    if !found.iter().any(|(number, _)| *number == s.number) {
                        found.push((s.number, s.deliveries.clone()));
                    }
                });
            }
        }
        found
    }
}

impl Subscriptions {
    fn insert(&mut self, topic: &Topic, deliveries: mpsc::Sender<Delivery>) -> Handle {
        let subscriber = Subscriber { number: self.next, deliveries };
        self.next += 1;
        let trie = self.by_prefix.entry(topic.prefix().clone()).or_default();
        trie.insert(topic.key().clone(), subscriber)
    }

    fn remove(&mut self, prefix: &ByteString, handle: &Handle) {
        if let Some(trie) = self.by_prefix.get_mut(prefix) {
            trie.remove(handle);
            if trie.is_empty() {
                self.by_prefix.remove(prefix);
            }
        }
    }
}

fn shown(message: &Arc<Message>, redelivered: bool) -> Delivery {
    let mut delivery = Delivery::settled(message.clone());
    delivery.redelivered = redelivered;
    delivery
}
