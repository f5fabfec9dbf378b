//! Local fan-out: which sessions on this node want which topic, or what of which exchange.
//!
//! The node holds one broker subscription per destination, however many sessions subscribed.
//! The first subscriber opens it; after the last one left it lingers, because opening and closing
//! is what brokers are worst at. A message is encoded once per [`Shape`] and its bytes are shared.
//!
//! Invariants
//! - Fan-out never waits for a client: a full mailbox closes its session. It does wait for our own
//!   scheduler, when a session had no turn to empty its mailbox ([`Push::Behind`]).
//! - Every subscriber gets a destination's messages in the order of the broker's subscription.
//! - Lock order: one fan's `subscribers`, then one mailbox; `fans` alone, so that a long fan-out
//!   holds up no other. No lock is held across an `.await`.
//! - When the broker ends a subscription, its sessions are closed: none waits for nothing.
//! - An encoded frame holds nothing of any one session.
//!
//! Not here: queues, and what comes from a queue of a subscription's own (each has its own broker
//! subscription); who may subscribe.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::{Broker, Delivery, Destination, SubscribeError, SubscribeRequest, Subscription};
use bytes::Bytes;
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::close::CloseReason;
use crate::mailbox::{Mailbox, Push};
use crate::message_frame::{Shape, encode};
use crate::metrics::Metrics;

/// Messages a fan's broker subscription may hold before it pushes back on publishers.
const BACKLOG: u16 = 1024;

/// Fans that may linger at a time. Clients that come and go with ever new destinations cost no more
/// than this; beyond it fans are let go at once.
const LINGERING: usize = 1024;

/// See the module.
pub(crate) struct Hub {
    broker: Arc<dyn Broker>,
    linger: Duration,
    metrics: Arc<Metrics>,
    /// By the topics and exchanges that somebody subscribed to, or did within `linger`.
    fans: Mutex<HashMap<Destination, Arc<Fan>>>,
    /// How many of them have no subscriber.
    lingering: AtomicUsize,
}

/// One destination's subscribers on this node.
struct Fan {
    destination: Destination,
    /// Held for a whole fan-out; never while `fans` is.
    subscribers: Mutex<Subscribers>,
    /// Whether the broker's subscription is live; `None` until it is known.
    live: watch::Sender<Option<Result<(), SubscribeError>>>,
    /// Notified when the last subscriber leaves.
    emptied: Notify,
}

#[derive(Default)]
struct Subscribers {
    /// Grouped by shape, so that a message is encoded once for each group.
    shapes: HashMap<Shape, Slab<Arc<Mailbox>>>,
    /// The broker's subscription is over, or about to be: no seat is taken here any more.
    closed: bool,
}

/// A session's place among a destination's subscribers. Dropping it unsubscribes.
pub(crate) struct Seat {
    fan: Arc<Fan>,
    shape: Shape,
    key: usize,
    metrics: Arc<Metrics>,
}

impl Hub {
    pub(crate) fn new(broker: Arc<dyn Broker>, linger: Duration, metrics: Arc<Metrics>) -> Self {
        let (fans, lingering) = (Mutex::default(), AtomicUsize::new(0));
        Self { broker, linger, metrics, fans, lingering }
    }

    /// Subscribes `mailbox` to `destination`. On return nothing published from now on is missed; messages
    /// may be in the mailbox before that.
    pub(crate) async fn subscribe(
        self: Arc<Self>,
        destination: Destination,
        shape: Shape,
        mailbox: Arc<Mailbox>,
    ) -> Result<Seat, SubscribeError> {
        let seat = self.take_seat(&destination, shape, mailbox);
        let mut live = seat.fan.live.subscribe();
        let known = live.wait_for(Option::is_some).await.map(|known| known.clone());
        match known {
            Ok(Some(Err(error))) => Err(error),
            Ok(_) => Ok(seat),
            // The fan keeps its sender for as long as there is a seat.
            Err(_) => Err(SubscribeError::Unavailable("the subscription ended".into())),
        }
    }

    fn take_seat(
        self: &Arc<Self>,
        destination: &Destination,
        shape: Shape,
        mailbox: Arc<Mailbox>,
    ) -> Seat {
        loop {
            let fan = self.fan(destination);
            let mut subscribers = fan.subscribers.lock();
            if subscribers.closed {
                drop(subscribers);
                self.forget(&fan);
                continue;
            }
            let key = subscribers.shapes.entry(shape.clone()).or_default().insert(mailbox);
            drop(subscribers);
            self.metrics.subscriptions.inc();
            return Seat { fan, shape, key, metrics: Arc::clone(&self.metrics) };
        }
    }

    /// The fan of `destination`; the first to ask for it opens the broker's subscription.
    fn fan(self: &Arc<Self>, destination: &Destination) -> Arc<Fan> {
        let mut fans = self.fans.lock();
        let fan = fans.entry(destination.clone()).or_insert_with(|| {
            let fan = Arc::new(Fan::new(destination.clone()));
            tokio::spawn(Arc::clone(self).run(Arc::clone(&fan)));
            fan
        });
        Arc::clone(fan)
    }

    /// Holds the broker's subscription of one destination and fans its messages out.
    async fn run(self: Arc<Self>, fan: Arc<Fan>) {
        let request = SubscribeRequest::new(fan.destination.clone(), BACKLOG);
        match self.broker.subscribe(request).await {
            Ok(subscription) => {
                fan.live.send_replace(Some(Ok(())));
                self.hold(&fan, subscription).await;
            }
            Err(error) => {
                // Those who took a seat are told by `live`.
                fan.subscribers.lock().closed = true;
                fan.live.send_replace(Some(Err(error)));
            }
        }
        self.forget(&fan);
    }

    /// Fans out until nobody wants the messages any more, or the broker ends the subscription.
    async fn hold(&self, fan: &Fan, mut subscription: Subscription) {
        let mut abandoned = std::pin::pin!(self.abandoned(fan));
        loop {
            tokio::select! {
                delivery = subscription.next() => match delivery {
                    Some(delivery) => self.fan_out(fan, delivery).await,
                    None => return fan.close(),
                },
                () = &mut abandoned => {
                    let mut subscribers = fan.subscribers.lock();
                    if subscribers.shapes.is_empty() {
                        subscribers.closed = true;
                        return;
                    }
                    drop(subscribers);
                    abandoned.set(self.abandoned(fan));
                }
            }
        }
    }

    /// Resolves once nobody has been subscribed for `linger`, or at once if too many fans linger.
    async fn abandoned(&self, fan: &Fan) {
        loop {
            fan.emptied.notified().await;
            let place = Lingering::take(&self.lingering);
            if place.is_none() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(self.linger) => return,
                // Taken and left again meanwhile: it lingers anew.
                () = fan.emptied.notified() => fan.emptied.notify_one(),
            }
        }
    }

    fn forget(&self, fan: &Arc<Fan>) {
        let mut fans = self.fans.lock();
        if fans.get(&fan.destination).is_some_and(|known| Arc::ptr_eq(known, fan)) {
            fans.remove(&fan.destination);
        }
    }

    async fn fan_out(&self, fan: &Fan, delivery: Delivery) {
        let now = Instant::now();
        let (sessions, mut behind) = fan.push(&delivery, now);
        self.metrics.fanned_out(sessions);
        while !behind.is_empty() {
            tokio::task::yield_now().await;
            behind.retain(|(mailbox, frame)| mailbox.push(frame.clone(), now) == Push::Behind);
        }
    }
}

/// A place among the fans that linger.
struct Lingering<'a>(&'a AtomicUsize);

impl<'a> Lingering<'a> {
    fn take(lingering: &'a AtomicUsize) -> Option<Self> {
        let place = Self(lingering);
        (lingering.fetch_add(1, Ordering::Relaxed) < LINGERING).then_some(place)
    }
}

impl Drop for Lingering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fan {
    fn new(destination: Destination) -> Self {
        Self {
            destination,
            subscribers: Mutex::default(),
            live: watch::Sender::new(None),
            emptied: Notify::new(),
        }
    }

    /// Pushes `delivery` to every subscriber: how many there are, and who must be tried again.
    fn push(&self, delivery: &Delivery, now: Instant) -> (usize, Vec<(Arc<Mailbox>, Bytes)>) {
        let subscribers = self.subscribers.lock();
        let text = str::from_utf8(&delivery.message.body).is_ok();
        let mut behind = Vec::new();
        let mut sessions = 0;
        for (shape, mailboxes) in &subscribers.shapes {
            let frame = encode(shape, delivery, text);
            sessions += mailboxes.len();
            for (_, mailbox) in mailboxes {
                if mailbox.push(frame.clone(), now) == Push::Behind {
                    behind.push((Arc::clone(mailbox), frame.clone()));
                }
            }
        }
        (sessions, behind)
    }

    /// Ends the sessions whose subscription the broker has ended: they would wait for nothing.
    fn close(&self) {
        let mut subscribers = self.subscribers.lock();
        subscribers.closed = true;
        for (_, mailbox) in subscribers.shapes.values().flatten() {
            mailbox.close(CloseReason::BrokerUnavailable);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut subscribers = self.fan.subscribers.lock();
        let shapes = &mut subscribers.shapes;
        if let Some(mailboxes) = shapes.get_mut(&self.shape) {
            mailboxes.try_remove(self.key);
            if mailboxes.is_empty() {
                shapes.remove(&self.shape);
            }
        }
        if shapes.is_empty() {
            self.fan.emptied.notify_one();
        }
        self.metrics.subscriptions.dec();
    }
}

#[cfg(test)]
mod tests;
