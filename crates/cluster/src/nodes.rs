//! Which nodes there are: says how this one is, and hears it of the others.
//!
//! Invariants
//! - A node is known from its first announcement until it has been silent for [`SILENCE`], or said
//!   good-bye. The time in which the broker is away, and a while after, does not count as silence.
//! - What a node announces last is confirmed by the broker before [`Nodes::announce`] returns.
//! - What was heard is acted on only while it is recent: a process that may not have heard what others
//!   announced takes each to have said what is safe ([`Nodes::announcements`]).
//! - Who relies on it that others act on an announcement waits for as long as they may act on an older one
//!   ([`Nodes::announce_unsynced`]).
//!
//! So a process may be frozen at any point: what it was asked to send before a session came is not due to
//! that session, and what it is asked later it decides by what it heard later. Beyond this is a machine whose
//! monotonic clock stands still while it is suspended.
//!
//! Not here: the rules of time (`hearing`, `heard_of_us`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use broker::{
    Broker, Delivery, Link, Message, PublisherId, SubscribeError, SubscribeRequest, Subscription,
};
use bytestring::ByteString;
use futures_util::FutureExt;
use parking_lot::Mutex;
use presence::{ANNOUNCE_EVERY, Announcement, Boot, Presence, Roster};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::address;
use crate::heard_of_us::HeardOfUs;
use crate::hearing::{CALL_EVERY, Hearing, TAKES_EFFECT};
use crate::letter::Letter;

/// How long a node may be silent: five announcements.
const SILENCE: Duration = Duration::from_secs(10);

/// How many announcements may wait to be heard, and how many calls.
const BACKLOG: u16 = 1024;

/// How long an announcement may take, and a subscription be waited for, before it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long is waited for a call to come back before a message goes to all nodes that are known: long enough
/// for one that has come meanwhile to announce itself. Once that was in vain nobody waits until a call has
/// come back.
const WAIT: Duration = Duration::from_secs(3);

/// The nodes of a cluster, as one process knows them.
pub struct Nodes {
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    /// As whom this process announces itself and calls.
    publisher: PublisherId,
    role: Role,
    begun: Instant,
    draining: watch::Sender<bool>,
    /// Where this node takes requests about its sessions that came to others; said once, at the start.
    forward: OnceLock<ByteString>,
    /// Held for a few instructions.
    roster: Mutex<Roster>,
    /// Held for a few instructions.
    hearing: Mutex<Hearing>,
    /// Held for a few instructions.
    heard_of_us: Mutex<HeardOfUs>,
    ear: watch::Sender<Ear>,
}

/// What a process is among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It only sends.
    Sender,
    /// It holds sessions, and sends.
    Gateway,
    /// There are no others.
    Alone,
}

/// Whether it is worth waiting to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ear {
    /// It has not heard of everybody yet.
    New,
    /// It hears, or will soon.
    Hears,
    /// It was waited for in vain.
    Deaf,
}

/// An announcement that the broker did not confirm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node could not say how it is: {0}")]
pub struct Unheard(pub String);

impl Nodes {
    /// For a process that holds sessions, and says how it is as `publisher`.
    pub fn of_gateway(
        broker: Arc<dyn Broker>,
        presence: Arc<dyn Presence>,
        publisher: PublisherId,
    ) -> Self {
        Self::new(broker, presence, publisher, Role::Gateway)
    }

    /// For one that only sends, and calls to itself as `publisher`.
    pub fn of_sender(
        broker: Arc<dyn Broker>,
        presence: Arc<dyn Presence>,
        publisher: PublisherId,
    ) -> Self {
        Self::new(broker, presence, publisher, Role::Sender)
    }

    /// For a process that is the whole cluster: both of the above, and there is nobody to wait for.
    pub fn alone(
        broker: Arc<dyn Broker>,
        presence: Arc<dyn Presence>,
        publisher: PublisherId,
    ) -> Self {
        let alone = Self::new(broker, presence, publisher, Role::Alone);
        alone.roster.lock().hear(alone.announcement(), alone.begun.into_std());
        alone
    }

    fn new(
        broker: Arc<dyn Broker>,
        presence: Arc<dyn Presence>,
        publisher: PublisherId,
        role: Role,
    ) -> Self {
        let begun = Instant::now();
        Self {
            broker,
            presence,
            publisher,
            role,
            begun,
            draining: watch::Sender::new(false),
            forward: OnceLock::new(),
            roster: Mutex::new(Roster::new(SILENCE)),
            hearing: Mutex::new(Hearing::new(begun)),
            heard_of_us: Mutex::default(),
            ear: watch::Sender::new(Ear::New),
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

    /// Returns once this process has heard of every node that is there, and what they said lately; or
    /// once it does not seem that it will.
    pub async fn heard(&self) {
        if self.is_sure() {
            return;
        }
        let mut ear = self.ear.subscribe();
        // An error cannot be: the sender is here.
        let _ = ear.wait_for(|ear| *ear != Ear::New).await;
        let sure = async { while !self.is_sure() && ear.changed().await.is_ok() {} };
        if *self.ear.borrow() == Ear::Hears && tokio::time::timeout(WAIT, sure).await.is_err() {
            tracing::warn!(
                "what the others said lately has not come here: all of them are sent to"
            );
            self.ear.send_replace(Ear::Deaf);
        }
    }

    /// Whether what was heard may be acted on.
    fn is_sure(&self) -> bool {
        self.role == Role::Alone || self.hearing.lock().is_sure(Instant::now())
    }

    /// What the nodes say of themselves now. While this process may not have heard it, any of them may
    /// have sessions that the store does not know, and so it is taken to have said.
    pub fn announcements(&self) -> Vec<Announcement> {
        let is_sure = self.is_sure();
        let mut announcements: Vec<_> = self.roster.lock().announcements().cloned().collect();
        if !is_sure {
            announcements.iter_mut().for_each(|announcement| announcement.registered = None);
        }
        announcements
    }

    /// The node whose sessions' ids begin so.
    pub fn by_name(&self, node_name: &str) -> Option<Boot> {
        self.roster.lock().by_name(node_name)
    }

    /// Where that node takes requests about its sessions that came to another, as `host:port`; none where it
    /// takes none, or is not there.
    pub fn forward_address(&self, boot: Boot) -> Option<ByteString> {
        self.roster.lock().get(boot)?.forward.clone()
    }

    /// Where this node takes such requests; to be said once, before it announces itself.
    pub fn forward_at(&self, address: ByteString) {
        // Who says it twice has the first.
        let _ = self.forward.set(address);
    }

    /// Says how this node is, and returns once the broker has it: from then on whoever hears anything of
    /// it knows, and soon everybody who sends acts on it ([`TAKES_EFFECT`]).
    ///
    /// # Errors
    /// When the broker did not confirm it.
    pub async fn announce(&self) -> Result<(), Unheard> {
        if self.role == Role::Sender {
            return Ok(());
        }
        let announcement = self.announcement();
        let is_complete = announcement.registered.is_some();
        let attempt = self.heard_of_us.lock().begins(is_complete);
        // That the store is silent for no reason must outlast the broker as well.
        self.say(&Letter::Announcement(announcement), !is_complete).await?;
        self.heard_of_us.lock().is_confirmed(attempt, Instant::now());
        Ok(())
    }

    /// Returns once everybody who sends acts on it that sessions of this node may not stand in the store,
    /// or once they do. Many may ask at once: what the others know already is not said again.
    ///
    /// # Errors
    /// As [`announce`](Self::announce).
    pub async fn announce_unsynced(&self) -> Result<(), Unheard> {
        let is_complete = || self.presence.state().borrow().registered.is_some();
        while self.role != Role::Alone && !is_complete() {
            let since = self.heard_of_us.lock().incomplete_since(Instant::now());
            match since.map(|since| since + TAKES_EFFECT) {
                None => self.announce().await?,
                Some(in_effect) if in_effect <= Instant::now() => break,
                Some(in_effect) => tokio::time::sleep_until(in_effect).await,
            }
        }
        Ok(())
    }

    fn announcement(&self) -> Announcement {
        Announcement {
            boot: self.presence.boot(),
            registered: self.presence.state().borrow().registered.clone(),
            draining: *self.draining.borrow(),
            forward: self.forward.get().cloned(),
        }
    }

    /// Says that this node takes no new sessions.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Says that this node ends.
    ///
    /// # Errors
    /// When the broker did not confirm it: the node is known until it has been silent for long enough.
    pub async fn good_bye(&self) -> Result<(), Unheard> {
        if self.role == Role::Sender {
            return Ok(());
        }
        self.say(&Letter::GoodBye(self.presence.boot()), false).await
    }

    async fn say(&self, letter: &Letter, persistent: bool) -> Result<(), Unheard> {
        let mut message = Message::new(address::roster(), letter.write());
        message.persistent = persistent;
        let said = async {
            let confirm = self.broker.publish(self.publisher, message).await;
            let confirm = confirm.map_err(|error| Unheard(error.to_string()))?;
            confirm.await.map_err(|error| Unheard(error.to_string()))
        };
        match tokio::time::timeout(PATIENCE, said).await {
            Ok(said) => said,
            Err(_) => Err(Unheard(format!("no answer in {PATIENCE:?}"))),
        }
    }

    /// Announces now and then, and whenever something changes.
    async fn keep_announcing(&self) {
        if self.role == Role::Sender {
            return std::future::pending().await;
        }
        let (mut state, mut draining) = (self.presence.state(), self.draining.subscribe());
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
            match self.subscribe().await {
                Ok((roster, calls)) => {
                    self.hearing.lock().begins(Instant::now());
                    tokio::select! {
                        () = self.hear(roster, calls) => {}
                        () = self.keep_calling() => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot hear of the other nodes");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }

    async fn subscribe(&self) -> Result<(Subscription, Subscription), SubscribeError> {
        let roster = SubscribeRequest::new(address::roster(), BACKLOG);
        let calls = SubscribeRequest::new(address::calls(self.presence.boot()), BACKLOG);
        Ok((self.broker.subscribe(roster).await?, self.broker.subscribe(calls).await?))
    }

    /// Calls to itself, now and then and as soon as the broker is back.
    async fn keep_calling(&self) {
        let mut state = self.broker.state();
        loop {
            if state.borrow_and_update().link == Link::Up {
                let sent = self.begun.elapsed().as_micros();
                let message = Message::new(address::calls(self.presence.boot()), sent.to_string());
                if let Err(error) = self.broker.publish(self.publisher, message).await {
                    tracing::debug!(%error, "this node cannot call to itself");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(CALL_EVERY) => {}
                _ = state.changed() => {}
            }
        }
    }

    /// Hears announcements and calls until a subscription ends.
    async fn hear(&self, mut roster: Subscription, mut calls: Subscription) {
        let state = self.broker.state();
        let mut lapses = state.borrow().lapses;
        loop {
            let (said, call) = tokio::select! {
                said = roster.next() => (said, None),
                call = calls.next() => (None, call),
            };
            let Some(call) = call else {
                let Some(said) = said else { return };
                self.read(&said);
                continue;
            };
            // What came before the call is there by now, and may wait in the other subscription.
            let mut waiting = std::iter::from_fn(|| {
                tokio::task::unconstrained(roster.next()).now_or_never().flatten()
            });
            waiting.by_ref().take(BACKLOG.into()).for_each(|delivery| self.read(&delivery));
            let before = std::mem::replace(&mut lapses, state.borrow().lapses);
            self.called(&call, lapses != before);
        }
    }

    /// A call came back.
    fn called(&self, call: &Delivery, has_missed: bool) {
        let body = std::str::from_utf8(&call.message.body).ok();
        let sent = body.and_then(|sent| sent.parse().ok()).map(Duration::from_micros);
        let Some(sent) = sent.and_then(|sent| self.begun.checked_add(sent)) else {
            tracing::warn!("somebody else calls to this node");
            return;
        };
        let clock = {
            let mut hearing = self.hearing.lock();
            if has_missed {
                hearing.missed();
            }
            let now = Instant::now();
            // Nobody can send in the future.
            hearing.came_back(now.min(sent), now);
            hearing.clock()
        };
        for boot in self.roster.lock().expire(clock) {
            tracing::info!(node = %boot, "a node has been silent for too long");
        }
        if self.is_sure() {
            self.ear.send_replace(Ear::Hears);
        }
    }

    /// Reads what another said.
    fn read(&self, delivery: &Delivery) {
        match Letter::read(delivery.message.body.clone()) {
            Ok(Letter::Announcement(announcement)) => {
                let (boot, clock) = (announcement.boot, self.hearing.lock().clock());
                if self.roster.lock().hear(announcement, clock) {
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

#[cfg(test)]
mod tests;
