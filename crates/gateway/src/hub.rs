//! Local fan-out: which sessions on this node want which topic.
//!
//! The node holds one broker subscription per topic destination, however many sessions subscribed.
//! The first subscriber opens it; after the last one left it lingers, because opening and closing
//! is what brokers are worst at. A message is encoded once per [`Shape`] and its bytes are shared.
//!
//! Invariants
//! - Fan-out never waits for a client: a full mailbox closes its session. It does wait for our own
//!   scheduler, when a session had no turn to empty its mailbox ([`Push::Behind`]).
//! - Every subscriber gets a topic's messages in the order of the broker's subscription.
//! - Lock order: `topics`, then one topic's `subscribers`, then one mailbox. No lock is held across
//!   an `.await`.
//! - An encoded frame holds nothing of any one session.
//!
//! Not here: queues (each session has its own broker subscription), who may subscribe.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::destination::Topic;
use broker::{Broker, Delivery, Destination, Message, SubscribeError, SubscribeRequest};
use bytes::Bytes;
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::mailbox::{Mailbox, Push};
use crate::message_frame::{Shape, encode};
use crate::metrics::Metrics;

/// Messages a topic's broker subscription may hold before it pushes back on publishers.
const BACKLOG: u16 = 1024;

/// See the module.
pub(crate) struct Hub {
    broker: Arc<dyn Broker>,
    linger: Duration,
    metrics: Arc<Metrics>,
    /// The topics somebody subscribed to, or did within `linger`.
    topics: Mutex<HashMap<Topic, Arc<Fan>>>,
}

/// One topic's subscribers on this node.
struct Fan {
    topic: Topic,
    /// Grouped by shape, so that a message is encoded once for each group.
    subscribers: Mutex<HashMap<Shape, Slab<Arc<Mailbox>>>>,
    /// Whether the broker's subscription is live; `None` until it is known.
    live: watch::Sender<Option<Result<(), SubscribeError>>>,
    /// Notified when the last subscriber leaves.
    emptied: Notify,
}

/// A session's place among a topic's subscribers. Dropping it unsubscribes.
pub(crate) struct Seat {
    fan: Arc<Fan>,
    shape: Shape,
    key: usize,
    metrics: Arc<Metrics>,
}

impl Hub {
    pub(crate) fn new(broker: Arc<dyn Broker>, linger: Duration, metrics: Arc<Metrics>) -> Self {
        Self { broker, linger, metrics, topics: Mutex::default() }
    }

    /// Subscribes `mailbox` to `topic`. On return nothing published from now on is missed; messages
    /// may be in the mailbox before that.
    pub(crate) async fn subscribe(
        self: Arc<Self>,
        topic: Topic,
        shape: Shape,
        mailbox: Arc<Mailbox>,
    ) -> Result<Seat, SubscribeError> {
        let seat = self.take_seat(topic, shape, mailbox);
        let mut live = seat.fan.live.subscribe();
        let known = live.wait_for(Option::is_some).await.map(|known| known.clone());
        match known {
            Ok(Some(Err(error))) => Err(error),
            Ok(_) => Ok(seat),
            // The fan keeps its sender for as long as there is a seat.
            Err(_) => Err(SubscribeError::Unavailable("the subscription ended".into())),
        }
    }

    fn take_seat(self: &Arc<Self>, topic: Topic, shape: Shape, mailbox: Arc<Mailbox>) -> Seat {
        let mut topics = self.topics.lock();
        let fan = topics.entry(topic).or_insert_with_key(|topic| {
            let fan = Arc::new(Fan::new(topic.clone()));
            tokio::spawn(Arc::clone(self).run(Arc::clone(&fan)));
            fan
        });
        let key = fan.subscribers.lock().entry(shape.clone()).or_default().insert(mailbox);
        self.metrics.subscriptions.inc();
        Seat { fan: Arc::clone(fan), shape, key, metrics: Arc::clone(&self.metrics) }
    }

    /// Holds the broker's subscription of one topic and fans its messages out.
    async fn run(self: Arc<Self>, fan: Arc<Fan>) {
        let request = SubscribeRequest {
            destination: Destination::Topic(fan.topic.clone()),
            prefetch: BACKLOG,
        };
        let mut subscription = match self.broker.subscribe(request).await {
            Ok(subscription) => {
                fan.live.send_replace(Some(Ok(())));
                subscription
            }
            Err(error) => {
                self.topics.lock().remove(&fan.topic);
                fan.live.send_replace(Some(Err(error)));
                return;
            }
        };
        let mut abandoned = std::pin::pin!(fan.abandoned(self.linger));
        loop {
            tokio::select! {
                delivery = subscription.next() => match delivery {
                    Some(delivery) => self.fan_out(&fan, delivery).await,
                    None => break,
                },
                () = &mut abandoned => {
                    if self.remove_if_empty(&fan) {
                        return;
                    }
                    abandoned.set(fan.abandoned(self.linger));
                }
            }
        }
        // Only a stopping broker ends a topic's subscription. The next subscriber asks again.
        self.topics.lock().remove(&fan.topic);
    }

    async fn fan_out(&self, fan: &Fan, delivery: Delivery) {
        let now = Instant::now();
        let (sessions, mut behind) = fan.push(&delivery.message, now);
        self.metrics.fanned_out(sessions);
        while !behind.is_empty() {
            tokio::task::yield_now().await;
            behind.retain(|(mailbox, frame)| mailbox.push(frame.clone(), now) == Push::Behind);
        }
    }

    fn remove_if_empty(&self, fan: &Fan) -> bool {
        // With `topics` locked nobody can take a seat meanwhile.
        let mut topics = self.topics.lock();
        let empty = fan.subscribers.lock().is_empty();
        if empty {
            topics.remove(&fan.topic);
        }
        empty
    }
}

impl Fan {
    fn new(topic: Topic) -> Self {
        Self {
            topic,
            subscribers: Mutex::default(),
            live: watch::Sender::new(None),
            emptied: Notify::new(),
        }
    }

    /// Pushes `message` to every subscriber: how many there are, and who must be tried again.
    fn push(&self, message: &Message, now: Instant) -> (usize, Vec<(Arc<Mailbox>, Bytes)>) {
        let subscribers = self.subscribers.lock();
        let text = str::from_utf8(&message.body).is_ok();
        let mut behind = Vec::new();
        let mut sessions = 0;
        for (shape, mailboxes) in subscribers.iter() {
            let frame = encode(shape, message, text);
            sessions += mailboxes.len();
            for (_, mailbox) in mailboxes {
                if mailbox.push(frame.clone(), now) == Push::Behind {
                    behind.push((Arc::clone(mailbox), frame.clone()));
                }
            }
        }
        (sessions, behind)
    }

    /// Resolves once nobody has been subscribed for `linger`.
    async fn abandoned(&self, linger: Duration) {
        loop {
            self.emptied.notified().await;
            tokio::time::sleep(linger).await;
            if self.subscribers.lock().is_empty() {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut subscribers = self.fan.subscribers.lock();
        if let Some(mailboxes) = subscribers.get_mut(&self.shape) {
            mailboxes.try_remove(self.key);
            if mailboxes.is_empty() {
                subscribers.remove(&self.shape);
            }
        }
        if subscribers.is_empty() {
            self.fan.emptied.notify_one();
        }
        self.metrics.subscriptions.dec();
    }
}

#[cfg(test)]
mod tests;
