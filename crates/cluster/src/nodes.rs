//! Which nodes there are: says how this one is, and hears it of the others.
//!
//! Invariants
//! - A node is known from its first announcement until it has been silent for [`SILENCE`], or said
//!   good-bye. The time in which the broker is away, and a while after, does not count as silence.
//! - What a node announces last is confirmed by the broker before [`Nodes::announce`] returns.
//! - Who has just begun to listen does not know all nodes yet: [`Nodes::settled`] returns once it does.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Link, Message, PublisherId, SubscribeRequest, Subscription};
use bytes::Bytes;
use parking_lot::Mutex;
use presence::{ANNOUNCE_EVERY, Announcement, Boot, Presence, Roster};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::address;
use crate::letter::Letter;

/// How long a node may be silent: five announcements.
const SILENCE: Duration = Duration::from_secs(10);

/// How long after an outage silence does not count: others connect again at pauses of their own, of up
/// to 5 s.
const RETURN: Duration = Duration::from_secs(10);

/// How long one must listen to have heard of every node that is there.
const SETTLING: Duration = Duration::from_secs(3);

/// How many announcements may wait to be heard.
const BACKLOG: u16 = 1024;

/// How long an announcement may take, and a subscription be waited for, before it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The nodes of a cluster, as one process knows them.
pub struct Nodes {
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    /// What this process announces of itself; nothing where it holds no sessions.
    announced: Announced,
    /// Held for a few instructions.
    roster: Mutex<Roster>,
    /// Held for a few instructions.
    hearing: Mutex<Hearing>,
    /// Held for a few instructions.
    heard_of_us: Mutex<HeardOfUs>,
    settled: watch::Sender<bool>,
}

/// A clock that runs while others can be heard.
struct Hearing {
    begun: Instant,
    looked: Instant,
    /// How long they could be, since the beginning.
    heard: Duration,
    /// Silence counts from here.
    counts_from: Instant,
}

/// What the others believe of this process, as far as that is certain.
#[derive(Default)]
struct HeardOfUs {
    /// Counts announcements, from the first attempt on.
    attempts: u64,
    /// The last one, if it is confirmed and none was begun after it.
    last: Option<Announcement>,
}

/// What a process says of itself.
enum Announced {
    Nothing,
    Gateway { publisher: PublisherId, draining: watch::Sender<bool> },
}

/// An announcement that the broker did not confirm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node could not say how it is: {0}")]
pub struct Unheard(pub String);

impl Nodes {
    /// For a process that holds sessions, and publishes as `publisher`.
    pub fn of_gateway(
        broker: Arc<dyn Broker>,
        presence: Arc<dyn Presence>,
        publisher: PublisherId,
    ) -> Self {
        let announced = Announced::Gateway { publisher, draining: watch::Sender::new(false) };
        Self::new(broker, presence, announced)
    }

    /// For one that only sends.
    pub fn of_sender(broker: Arc<dyn Broker>, presence: Arc<dyn Presence>) -> Self {
        Self::new(broker, presence, Announced::Nothing)
    }

    /// For a process that is the whole cluster: both of the above, and there is nobody to wait for.
    pub fn alone(
        broker: Arc<dyn Broker>,
        presence: Arc<dyn Presence>,
        publisher: PublisherId,
    ) -> Self {
        let alone = Self::of_gateway(broker, presence, publisher);
        let itself = alone.announcement(false);
        alone.roster.lock().hear(itself, Instant::now().into_std());
        alone.settled.send_replace(true);
        alone
    }

    fn new(broker: Arc<dyn Broker>, presence: Arc<dyn Presence>, announced: Announced) -> Self {
        Self {
            broker,
            presence,
            announced,
            roster: Mutex::new(Roster::new(SILENCE)),
            hearing: Mutex::new(Hearing::new(Instant::now())),
            heard_of_us: Mutex::default(),
            settled: watch::Sender::new(false),
        }
    }

    /// Listens and announces until `stopping`.
    pub async fn run(&self, stopping: CancellationToken) {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.listen() => {}
            () = self.keep_announcing() => {}
        }
    }

    /// Returns once every node that is there has been heard of.
    pub async fn settled(&self) {
        // An error cannot be: the sender is here.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// What the nodes say of themselves now.
    pub fn announcements(&self) -> Vec<Announcement> {
        self.roster.lock().announcements().cloned().collect()
    }

    /// The node whose sessions' ids begin so.
    pub fn by_name(&self, node_name: &str) -> Option<Boot> {
        self.roster.lock().by_name(node_name)
    }

    /// Says how this node is, and returns once the broker has it: from then on whoever sends knows.
    ///
    /// # Errors
    /// When the broker did not confirm it.
    pub async fn announce(&self) -> Result<(), Unheard> {
        let Announced::Gateway { publisher, draining } = &self.announced else { return Ok(()) };
        let announcement = self.announcement(*draining.borrow());
        let attempt = {
            let mut heard = self.heard_of_us.lock();
            (heard.attempts, heard.last) = (heard.attempts + 1, None);
            heard.attempts
        };
        self.say(*publisher, &Letter::Announcement(announcement.clone())).await?;
        let mut heard = self.heard_of_us.lock();
        if heard.attempts == attempt {
            heard.last = Some(announcement);
        }
        Ok(())
    }

    /// Returns once everybody who sends knows that sessions of this node may not stand in the store. Many
    /// may ask at once: what the others know already is not said again.
    ///
    /// # Errors
    /// As [`announce`](Self::announce).
    pub async fn announce_unsynced(&self) -> Result<(), Unheard> {
        if let Some(heard) = &self.heard_of_us.lock().last
            && heard.registered.is_none()
            && self.presence.state().borrow().registered.is_none()
        {
            return Ok(());
        }
        self.announce().await
    }

    fn announcement(&self, draining: bool) -> Announcement {
        Announcement {
            boot: self.presence.boot(),
            registered: self.presence.state().borrow().registered.clone(),
            draining,
        }
    }

    /// Says that this node takes no new sessions.
    pub fn drain(&self) {
        if let Announced::Gateway { draining, .. } = &self.announced {
            draining.send_replace(true);
        }
    }

    /// Says that this node ends.
    ///
    /// # Errors
    /// When the broker did not confirm it: the node is known until it has been silent for long enough.
    pub async fn good_bye(&self) -> Result<(), Unheard> {
        let Announced::Gateway { publisher, .. } = &self.announced else { return Ok(()) };
        self.say(*publisher, &Letter::GoodBye(self.presence.boot())).await
    }

    async fn say(&self, publisher: PublisherId, letter: &Letter) -> Result<(), Unheard> {
        let message = Message::new(address::roster(), letter.write());
        let said = async {
            let confirm = self.broker.publish(publisher, message).await;
            confirm
                .map_err(|error| Unheard(error.to_string()))?
                .await
                .map_err(|error| Unheard(error.to_string()))
        };
        match tokio::time::timeout(PATIENCE, said).await {
            Ok(said) => said,
            Err(_) => Err(Unheard(format!("no answer in {PATIENCE:?}"))),
        }
    }

    /// Announces now and then, and whenever something changes.
    async fn keep_announcing(&self) {
        let Announced::Gateway { draining, .. } = &self.announced else {
            return std::future::pending().await;
        };
        let (mut state, mut draining) = (self.presence.state(), draining.subscribe());
        loop {
            if let Err(error) = self.announce().await {
                tracing::debug!(%error, "not announced");
            }
            tokio::select! {
                () = tokio::time::sleep(ANNOUNCE_EVERY) => {}
                _ = state.changed() => {}
                _ = draining.changed() => {}
            }
        }
    }

    async fn listen(&self) {
        loop {
            let request = SubscribeRequest::new(address::roster(), BACKLOG);
            match self.broker.subscribe(request).await {
                Ok(subscription) => self.hear(subscription).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot hear of the other nodes");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }

    /// Hears announcements until the subscription ends.
    async fn hear(&self, mut subscription: Subscription) {
        let state = self.broker.state();
        let mut look = tokio::time::interval(ANNOUNCE_EVERY / 2);
        loop {
            let delivery = tokio::select! {
                delivery = subscription.next() => match delivery {
                    Some(delivery) => Some(delivery),
                    None => return,
                },
                _ = look.tick() => None,
            };
            let is_up = state.borrow().link == Link::Up;
            let heard = self.hearing.lock().now(Instant::now(), is_up);
            if let Some(delivery) = delivery {
                self.read(delivery.message.body.clone(), heard);
            }
            for boot in self.roster.lock().expire(heard) {
                tracing::info!(node = %boot, "a node has been silent for too long");
            }
            if self.hearing.lock().heard >= SETTLING {
                self.settled.send_if_modified(|settled| !std::mem::replace(settled, true));
            }
        }
    }

    /// Reads what was said at `now`, on the clock of hearing.
    fn read(&self, body: Bytes, now: std::time::Instant) {
        match Letter::read(body) {
            Ok(Letter::Announcement(announcement)) => {
                let boot = announcement.boot;
                if self.roster.lock().hear(announcement, now) {
                    tracing::debug!(node = %boot, "a node says something new of itself");
                }
            }
            Ok(Letter::GoodBye(boot)) => {
                self.roster.lock().leave(boot);
            }
            Ok(other) => tracing::debug!(?other, "not an announcement"),
            Err(error) => tracing::debug!(%error, "an announcement cannot be read"),
        }
    }
}

impl Hearing {
    fn new(now: Instant) -> Self {
        Self { begun: now, looked: now, heard: Duration::ZERO, counts_from: now }
    }

    /// The time on this clock.
    fn now(&mut self, now: Instant, can_hear: bool) -> std::time::Instant {
        if !can_hear {
            self.counts_from = now + RETURN;
        }
        let from = self.looked.max(self.counts_from);
        self.heard += now.saturating_duration_since(from);
        self.looked = now;
        (self.begun + self.heard).into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_pass_while_nobody_can_be_heard() {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        let mut hearing = Hearing::new(begun);
        let passed = |time: std::time::Instant| time - begun.into_std();
        assert_eq!(passed(hearing.now(begun + 2 * second, true)), 2 * second);
        assert_eq!(passed(hearing.now(begun + 3 * second, false)), 2 * second);
        assert_eq!(passed(hearing.now(begun + 60 * second, false)), 2 * second);
        // Back, but others may not be yet.
        assert_eq!(passed(hearing.now(begun + 61 * second, true)), 2 * second);
        assert_eq!(passed(hearing.now(begun + 70 * second, true)), 2 * second);
        assert_eq!(passed(hearing.now(begun + 73 * second, true)), 5 * second);
    }
}
