//! Local fan-out: which sessions on this node want which topic, what of which exchange, or which group.
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
//! - A group's revocation comes among its messages: whoever it concerns and is no member any more gets
//!   none of those behind it. One whose membership ends with its time gets none later than [`RECHECK`].
//! - Who takes a place at a group gets nothing before it was asked about again with the place taken
//!   ([`Seat::admit`]): only then does a removal either show in the answer or find the place.
//!
//! Not here: queues, and what comes from a queue of a subscription's own (each has its own broker
//! subscription); who may subscribe.

mod fan;
mod members;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::{
    Broker, Delivery, Destination, Message, SubscribeError, SubscribeRequest, Subscription,
};
use cluster::{Letter, Received};
use parking_lot::Mutex;
use presence::{GroupName, Groups};
use tokio::time::{Instant, MissedTickBehavior};

use self::fan::{Fan, Subscriber};
use self::members::Doubt;
use crate::mailbox::{Mailbox, Push};
use crate::message_frame::Shape;
use crate::metrics::Metrics;
use crate::users::{Registered, message};

/// Messages a fan's broker subscription may hold before it pushes back on publishers.
const BACKLOG: u16 = 1024;

/// Fans that may linger at a time. Clients that come and go with ever new destinations cost no more
/// than this; beyond it fans are let go at once.
const LINGERING: usize = 1024;

/// How many shapes a message is encoded for at once. Beyond, those who are behind are waited for first: what is
/// on its way to clients is in their mailboxes, and hardly elsewhere, however many shapes they make up.
const SHAPES_AT_ONCE: usize = 64;

/// How often subscribers of groups are asked about: a membership may end with its time.
const RECHECK: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Hub {
    broker: Arc<dyn Broker>,
    groups: Arc<dyn Groups>,
    linger: Duration,
    metrics: Arc<Metrics>,
    /// By the topics and exchanges that somebody subscribed to, or did within `linger`.
    fans: Mutex<HashMap<Destination, Arc<Fan>>>,
    /// How many of them have no subscriber.
    lingering: AtomicUsize,
}

/// A session's place among a destination's subscribers. Dropping it unsubscribes.
pub(crate) struct Seat {
    fan: Arc<Fan>,
    shape: Shape,
    key: usize,
    metrics: Arc<Metrics>,
}

impl Hub {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        groups: Arc<dyn Groups>,
        linger: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (fans, lingering) = (Mutex::default(), AtomicUsize::new(0));
        Self { broker, groups, linger, metrics, fans, lingering }
    }

    /// Subscribes `mailbox` to `destination`. On return nothing published from now on is missed; messages
    /// may be in the mailbox before that.
    pub(crate) async fn subscribe(
        self: Arc<Self>,
        destination: Destination,
        shape: Shape,
        mailbox: Arc<Mailbox>,
    ) -> Result<Seat, SubscribeError> {
        self.seat(&destination, None, shape, || Subscriber::Session(Arc::clone(&mailbox))).await
    }

    /// Subscribes `member` to what is sent to `group`, whose topic is `destination`, in the same way, except that
    /// nothing comes before [`Seat::admit`]: whether it is a member is to be asked again before that.
    pub(crate) async fn subscribe_member(
        self: Arc<Self>,
        destination: Destination,
        shape: Shape,
        member: &Arc<Registered>,
        group: GroupName,
    ) -> Result<Seat, SubscribeError> {
        let subscriber = || Subscriber::Newcomer(Arc::clone(member));
        self.seat(&destination, Some(group), shape, subscriber).await
    }

    async fn seat(
        self: &Arc<Self>,
        destination: &Destination,
        group: Option<GroupName>,
        shape: Shape,
        subscriber: impl Fn() -> Subscriber,
    ) -> Result<Seat, SubscribeError> {
        let seat = self.take_seat(destination, group, shape, subscriber);
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
        group: Option<GroupName>,
        shape: Shape,
        subscriber: impl Fn() -> Subscriber,
    ) -> Seat {
        loop {
            let fan = self.fan(destination, group.as_ref());
            let mut subscribers = fan.subscribers.lock();
            if subscribers.closed {
                drop(subscribers);
                self.forget(&fan);
                continue;
            }
            let key = subscribers.shapes.entry(shape.clone()).or_default().insert(subscriber());
            drop(subscribers);
            fan.seats.fetch_add(1, Ordering::Relaxed);
            self.metrics.subscriptions.inc();
            return Seat { fan, shape, key, metrics: Arc::clone(&self.metrics) };
        }
    }

    /// The fan of `destination`; the first to ask for it opens the broker's subscription.
    fn fan(self: &Arc<Self>, destination: &Destination, group: Option<&GroupName>) -> Arc<Fan> {
        let mut fans = self.fans.lock();
        let fan = fans.entry(destination.clone()).or_insert_with(|| {
            let fan = Arc::new(Fan::new(destination.clone(), group.cloned()));
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
    async fn hold(self: &Arc<Self>, fan: &Fan, mut subscription: Subscription) {
        let mut abandoned = std::pin::pin!(self.abandoned(fan));
        let mut recheck = tokio::time::interval_at(Instant::now() + RECHECK, RECHECK);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                delivery = subscription.next() => match delivery {
                    Some(delivery) => self.fan_out(fan, delivery).await,
                    None => return fan.close(),
                },
                _ = recheck.tick(), if fan.group.is_some() => self.revoke(fan, &[], Doubt::ForMembers).await,
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

    /// What somebody is subscribed to, with how many are, in no order. Waits for no fan-out.
    pub(crate) fn subscribed(&self) -> Vec<(Destination, usize)> {
        let fans: Vec<_> = self.fans.lock().values().cloned().collect();
        let counted =
            fans.iter().map(|fan| (fan.destination.clone(), fan.seats.load(Ordering::Relaxed)));
        counted.filter(|(_, seats)| *seats > 0).collect()
    }

    /// The groups that somebody here is subscribed to, in order.
    pub(crate) fn groups_here(&self) -> Vec<GroupName> {
        let mut groups: Vec<_> =
            self.fans.lock().values().filter_map(|fan| fan.group.clone()).collect();
        groups.sort_unstable();
        groups
    }

    /// Who is in which group.
    pub(crate) fn groups(&self) -> &dyn Groups {
        &*self.groups
    }

    fn forget(&self, fan: &Arc<Fan>) {
        let mut fans = self.fans.lock();
        if fans.get(&fan.destination).is_some_and(|known| Arc::ptr_eq(known, fan)) {
            fans.remove(&fan.destination);
        }
    }

    async fn fan_out(self: &Arc<Self>, fan: &Fan, delivery: Delivery) {
        if fan.group.is_none() {
            return self.push(fan, &delivery.message, delivery.redelivered).await;
        }
        let Some(Received { letter, redelivered }) = cluster::read(&delivery) else { return };
        match letter {
            Letter::Message(addressed) => {
                let message = message(fan.destination.clone(), &addressed.content);
                self.push(fan, &message, redelivered).await;
            }
            Letter::Revoke { members, .. } => {
                self.revoke(fan, &members, Doubt::AgainstMembers).await
            }
            other => tracing::debug!(?other, "a letter that has come the wrong way"),
        }
    }

    async fn push(&self, fan: &Fan, message: &Message, redelivered: bool) {
        let now = Instant::now();
        let mut sessions = 0;
        match fan.many_shapes() {
            None => sessions += self.push_to(fan, None, message, redelivered, now).await,
            Some(shapes) => {
                for some in shapes.chunks(SHAPES_AT_ONCE) {
                    sessions += self.push_to(fan, Some(some), message, redelivered, now).await;
                }
            }
        }
        self.metrics.fanned_out(sessions);
    }

    /// Pushes to the subscribers of these shapes, or to all; how many they were.
    async fn push_to(
        &self,
        fan: &Fan,
        shapes: Option<&[Shape]>,
        message: &Message,
        redelivered: bool,
        now: Instant,
    ) -> usize {
        let (sessions, mut behind) = fan.push(shapes, message, redelivered, now);
        while !behind.is_empty() {
            tokio::task::yield_now().await;
            behind.retain(|(mailbox, frame)| mailbox.push(frame.clone(), now) == Push::Behind);
        }
        sessions
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

impl Seat {
    /// What it is a place at.
    pub(crate) fn destination(&self) -> &Destination {
        &self.fan.destination
    }

    /// The group that it is a place at, if it is at one.
    pub(crate) fn group(&self) -> Option<&GroupName> {
        self.fan.group.as_ref()
    }

    /// Messages come to the member from now on, unless it has been revoked meanwhile.
    pub(crate) fn admit(&self) {
        let mut subscribers = self.fan.subscribers.lock();
        let shapes = &mut subscribers.shapes;
        let place = shapes.get_mut(&self.shape).and_then(|of_shape| of_shape.get_mut(self.key));
        if let Some(subscriber) = place
            && let Subscriber::Newcomer(member) = subscriber
        {
            *subscriber = Subscriber::Member(Arc::clone(member));
        }
    }

    /// Whether nothing will come any more, because who has it is no member.
    pub(crate) fn is_revoked(&self) -> bool {
        let subscribers = self.fan.subscribers.lock();
        let of_shape = subscribers.shapes.get(&self.shape);
        let subscriber = of_shape.and_then(|of_shape| of_shape.get(self.key));
        matches!(subscriber, Some(Subscriber::Revoked))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut subscribers = self.fan.subscribers.lock();
        let shapes = &mut subscribers.shapes;
        if let Some(of_shape) = shapes.get_mut(&self.shape) {
            of_shape.try_remove(self.key);
            if of_shape.is_empty() {
                shapes.remove(&self.shape);
            }
        }
        if shapes.is_empty() {
            self.fan.emptied.notify_one();
        }
        self.fan.seats.fetch_sub(1, Ordering::Relaxed);
        self.metrics.subscriptions.dec();
    }
}

#[cfg(test)]
mod tests;
