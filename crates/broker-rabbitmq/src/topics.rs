//! Topics: splits what comes to a queue of the node's among the subscriptions. The node has two: for
//! what clients and services publish, and for letters, the topics that nodes have among themselves.
//!
//! Invariants
//! - The queue gets one copy of a message however many bindings match; each subscription whose
//!   pattern matches gets it once.
//! - A message that came twice, because its confirm or our ack was lost, is dispatched once, as long
//!   as a node of ours published it and fewer than 10,000 came between.
//! - A dispatch that was broken off goes on with the next one: what was noted as dispatched waits
//!   for its subscriptions, and is in their queues before anything newer.
//! - A subscription that is full is waited for, within bounds ([`Outlet`]): RabbitMQ keeps what comes
//!   meanwhile. One that does not move loses messages, which is announced as a gap. Letters are never
//!   lost like that, nor for their length.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use broker::destination::Topic;
use broker::topic::{Handle, Trie};
use broker::{Delivery, Destination, Message, SubscribeError, Subscription};
use bytestring::ByteString;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bindings::{Binding, Bindings};
use crate::direct_replies::DirectReplies;
use crate::headers;
use crate::metrics::Metrics;
use crate::names::{Collected, Names};
use crate::outlet::{Offer, Outlet, Overflow, Room};
use crate::outsize::{Fate, Outsize};
use crate::recent::Recent;
use crate::status::Status;

/// The live subscriptions to topics.
#[derive(Debug)]
pub(crate) struct Topics {
    pub(crate) collected: Collected,
    pub(crate) names: Arc<Names>,
    pub(crate) status: Arc<Status>,
    pub(crate) bindings: Arc<Bindings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) outsize: Arc<Outsize>,
    pub(crate) replies: Arc<DirectReplies>,
    pub(crate) timeout: Duration,
    pub(crate) dispatching: Dispatching,
}

/// To whom what is dispatched goes, and what was.
#[derive(Debug, Default)]
pub(crate) struct Dispatching {
    /// By prefix and pattern. Dispatching shares the lock; subscribing and cancelling take it alone.
    subscriptions: RwLock<Subscriptions>,
    /// Held for a lookup, by the one who dispatches.
    recent: Mutex<Recent>,
    /// What the last dispatch has no room for yet: at most one delivery for each subscription. Held
    /// for a few instructions, by the one who dispatches.
    waiting: Mutex<VecDeque<Waiting>>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    by_prefix: HashMap<ByteString, Trie<Arc<Outlet>>>,
}

/// A delivery, and where it goes once there is room.
#[derive(Debug)]
struct Waiting {
    outlet: Arc<Outlet>,
    delivery: Delivery,
}

/// Whom a message is for.
type Found = SmallVec<[Arc<Outlet>; 8]>;

impl Topics {
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
        let overflow = match self.collected {
            Collected::Topics => Overflow::Sheds,
            Collected::Letters => Overflow::Waits,
        };
        let outlet = Outlet::new(deliveries, overflow);
        let handle = self.dispatching.subscriptions.write().insert(topic, outlet);
        let bound = self.bindings.acquire(&binding);
        // Weak, so that the end of the broker is the end of its subscriptions. Made before the wait,
        // so that who gives up waiting leaves nothing behind.
        let topics = Arc::downgrade(self);
        let subscription = Subscription::new(receiver, move || {
            if let Some(topics) = topics.upgrade() {
                topics.dispatching.subscriptions.write().remove(&prefix, &handle);
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

    /// Gives a delivery of the topic queue to all it is for, waiting for those that are full. Called
    /// again after one that was broken off, it ends that one first.
    pub(crate) async fn dispatch(&self, delivery: lapin::message::Delivery) {
        self.resume().await;
        self.offer(delivery);
        self.resume().await;
    }

    /// Ends what a dispatch began that was broken off.
    pub(crate) async fn resume(&self) {
        let since = Instant::now();
        loop {
            let Some(outlet) =
                self.dispatching.waiting.lock().front().map(|first| first.outlet.clone())
            else {
                return;
            };
            let room = outlet.room(since).await;
            // Only now: up to here this may be dropped, and nothing is lost by it.
            let first = self.dispatching.waiting.lock().pop_front();
            match (room, first) {
                (Room::Free(permit), Some(Waiting { delivery, .. })) => permit.send(delivery),
                (Room::None, Some(Waiting { delivery, .. })) => {
                    let destination = &delivery.message.destination;
                    tracing::warn!(%destination, "a topic subscription does not keep up: it loses messages");
                    self.status.gap();
                }
                _ => {}
            }
        }
    }

    /// Gives a delivery to all who have room for it; who has none waits for it.
    fn offer(&self, mut delivery: lapin::message::Delivery) {
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
            let new = self.dispatching.recent.lock().is_new(id, exchange, key);
            // One that is known and not marked as a repeat is an application's: it sent on to the
            // same topic what it got, all headers included, maybe with another body. To drop it would
            // lose a message. What a broken connection had yet to send would look the same, which is
            // why its socket is reset.
            if !new && (received.republished || delivery.redelivered) {
                self.metrics.duplicates.inc();
                return;
            }
        }
        let key = ByteString::from(delivery.routing_key.as_str());
        let prefix = self.names.prefix(delivery.exchange.as_str());
        let found = self.find(&prefix, &key, headers::copies(&delivery.properties));
        // How long a letter is does not say what clients get of it.
        let is_outsize = || {
            self.collected == Collected::Topics
                && self.outsize.is(delivery.data.len(), &key, Fate::Dropped)
        };
        if found.is_empty() || is_outsize() {
            return;
        }
        // AMQP's own flag is set after a broker was killed even for what was never delivered, so it
        // counts only for messages that have no id to know them by.
        let redelivered = received.republished || (received.id.is_none() && delivery.redelivered);
        let topic = Destination::Topic(Topic::exact(prefix, key));
        self.replies.note(&delivery.properties);
        let message = Arc::new(headers::message(received, topic, &mut delivery));
        for outlet in found {
            if let Offer::Full(delivery) = outlet.offer(shown(&message, redelivered)) {
                self.dispatching.waiting.lock().push_back(Waiting { outlet, delivery });
            }
        }
    }

    fn find<'a>(
        &self,
        prefix: &ByteString,
        key: &'a str,
        copies: impl Iterator<Item = &'a str>,
    ) -> Found {
        let subscriptions = self.dispatching.subscriptions.read();
        let mut found = Found::new();
        if let Some(trie) = subscriptions.by_prefix.get(prefix) {
            trie.for_each_match(key, |outlet| found.push(outlet.clone()));
            for copy in copies {
                trie.for_each_match(copy, |outlet| {
                    if !found.iter().any(|known| Arc::ptr_eq(known, outlet)) {
                        found.push(outlet.clone());
                    }
                });
            }
        }
        found
    }
}

impl Subscriptions {
    fn insert(&mut self, topic: &Topic, outlet: Outlet) -> Handle {
        let trie = self.by_prefix.entry(topic.prefix().clone()).or_default();
        trie.insert(topic.key().clone(), Arc::new(outlet))
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
