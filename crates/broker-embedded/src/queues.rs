//! All queues by name: made by their first use, or for one subscription.
//!
//! Invariants
//! - There are never more than may be. A common queue that is idle gives way to one that is needed,
//!   the one that has been idle longest first; until then its name is known.
//! - `idle` names every common queue that is idle, and perhaps some that are not any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use broker::{BrokerState, ConfirmError, Message, PublisherId, SubscribeError, Subscription};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Config;
use crate::queue::{Limits, Ownership, Queue};

/// The queues there are.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Handed to the queues, which say when they are idle or done.
    me: Weak<Self>,
    max_queues: usize,
    limits: Limits,
    /// The bytes that all queues hold.
    held: Arc<AtomicUsize>,
    /// Where gaps are told.
    state: watch::Sender<BrokerState>,
    /// Locked before the lock of a queue, never after it.
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    queues: HashMap<ByteString, Named>,
    /// By the time they became idle.
    idle: BTreeMap<u64, ByteString>,
    /// The next time in `idle`.
    now: u64,
}

#[derive(Debug)]
struct Named {
    queue: Arc<Queue>,
    /// Where it stands in `idle`.
    idle_since: Option<u64>,
}

/// There are as many queues as there may be: this many.
#[derive(Debug)]
pub(crate) struct TooMany(pub(crate) usize);

impl Queues {
    /// None yet; gaps will be told to `state`.
    pub(crate) fn new(config: &Config, state: watch::Sender<BrokerState>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            max_queues: config.max_queues,
            limits: Limits {
                length: config.max_queue_length,
                bytes: config.max_queue_bytes(),
                all: config.max_bytes(),
            },
            held: Arc::default(),
            state,
            names: Mutex::default(),
        })
    }

    /// The queue of that name, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Queue>> {
        self.names.lock().queues.get(name).map(|named| named.queue.clone())
    }

    /// Gives `who`'s message to the queue of that name, which is made if need be.
    pub(crate) fn publish(
        &self,
        name: &ByteString,
        who: PublisherId,
        message: &Arc<Message>,
    ) -> Result<Result<(), ConfirmError>, TooMany> {
        loop {
            let queue = self.get_or_make(name, Ownership::Common)?;
            if let Err(locked) = queue.admit(who) {
                return Ok(Err(ConfirmError::Refused(locked.to_string())));
            }
            // None: it was closed since it was looked up, and there is a new one to ask.
            if let Some(result) = queue.publish(message) {
                return Ok(result);
            }
        }
    }

    /// Gives `message` to the queue of that name, if it is there.
    pub(crate) fn publish_existing(
        &self,
        name: &str,
        message: &Arc<Message>,
    ) -> Option<Result<(), ConfirmError>> {
        self.get(name)?.publish(message)
    }

    /// Sees to it that the queue of that name is there for `who`, and is as is said, if anything is.
    pub(crate) fn declare(
        &self,
        name: &ByteString,
        said: Option<Ownership>,
        who: PublisherId,
    ) -> Result<Arc<Queue>, SubscribeError> {
        let queue = self.get_or_make(name, said.unwrap_or(Ownership::Common))?;
        queue.admit(who)?;
        if let Some(said) = said {
            queue.check(said)?;
        }
        Ok(queue)
    }

    /// Consumes from the queue of that name, which is declared if need be.
    pub(crate) fn subscribe(
        &self,
        name: &ByteString,
        said: Option<Ownership>,
        who: PublisherId,
        prefetch: u16,
    ) -> Result<Subscription, SubscribeError> {
        loop {
            let queue = self.declare(name, said, who)?;
            if let Some(subscription) = queue.subscribe(prefetch) {
                return Ok(subscription);
            }
        }
    }

    /// Consumes from the queue of that name, if it is there.
    pub(crate) fn subscribe_existing(
        &self,
        name: &str,
        who: PublisherId,
        prefetch: u16,
    ) -> Result<Subscription, SubscribeError> {
        let gone = || SubscribeError::Refused(format!("NOT_FOUND - no queue '{name}'"));
        let queue = self.get(name).ok_or_else(gone)?;
        queue.admit(who)?;
        queue.subscribe(prefetch).ok_or_else(gone)
    }

    /// A queue of a name that nobody guesses, and its subscription, which it ends with.
    pub(crate) fn subscribe_own(
        &self,
        owner: PublisherId,
        prefetch: u16,
    ) -> Result<(Arc<Queue>, Subscription), SubscribeError> {
        loop {
            // 128 random bits: whoever knows the name was told it.
            let name = format!("stomp-gen-{:032x}", rand::random::<u128>()).into();
            let queue = self.get_or_make(&name, Ownership::Exclusive(owner))?;
            if let Some(subscription) = queue.subscribe(prefetch) {
                return Ok((queue, subscription));
            }
        }
    }

    pub(crate) fn delete(&self, name: &str) {
        let queue = self.names.lock().remove(name);
        if let Some(queue) = queue {
            queue.close();
        }
    }

    /// Takes note that nothing is in `queue` and nobody consumes from it.
    pub(crate) fn note_idle(&self, queue: &Queue) {
        self.names.lock().note_idle(queue);
    }

    /// Lets go of `queue` if it ends with its last consumer and has lost it.
    pub(crate) fn note_unconsumed(&self, queue: &Queue) {
        let mut names = self.names.lock();
        let closed = queue.close_if_unconsumed();
        // A queue that is being deleted may have left its name to another.
        if closed.is_some() && names.knows(queue) {
            names.remove(queue.name());
        }
        drop(names);
        // Only now that no lock is held: what it was bound by goes with it.
        drop(closed);
    }

    /// Tells that a subscription to a topic has begun to miss messages.
    pub(crate) fn note_gap(&self) {
        self.state.send_modify(|state| state.gaps += 1);
    }

    fn get_or_make(&self, name: &ByteString, ownership: Ownership) -> Result<Arc<Queue>, TooMany> {
        let mut names = self.names.lock();
        if let Some(named) = names.queues.get(name) {
            return Ok(named.queue.clone());
        }
        if names.queues.len() >= self.max_queues && !names.forget_idle() {
            return Err(TooMany(self.max_queues));
        }
        let queue =
            Queue::new(name.clone(), ownership, self.limits, self.held.clone(), self.me.clone());
        names.queues.insert(name.clone(), Named { queue: queue.clone(), idle_since: None });
        if ownership == Ownership::Common {
            names.note_idle(&queue);
        }
        Ok(queue)
    }
}

impl Names {
    /// Whether `queue` is the one of its name.
    fn knows(&self, queue: &Queue) -> bool {
        self.queues.get(queue.name()).is_some_and(|named| std::ptr::eq(&*named.queue, queue))
    }

    /// Takes note that `queue` is idle, if it is the one of its name.
    fn note_idle(&mut self, queue: &Queue) {
        let Some(named) = self.queues.get_mut(queue.name()) else { return };
        if !std::ptr::eq(&*named.queue, queue) {
            return;
        }
        if let Some(before) = named.idle_since.replace(self.now) {
            self.idle.remove(&before);
        }
        self.idle.insert(self.now, queue.name().clone());
        self.now += 1;
    }

    /// Lets go of the queue that has been idle longest, and says whether there was one.
    fn forget_idle(&mut self) -> bool {
        while let Some((_, name)) = self.idle.pop_first() {
            let Some(named) = self.queues.get_mut(&name) else { continue };
            named.idle_since = None;
            if named.queue.close_if_idle() {
                self.queues.remove(&name);
                return true;
            }
        }
        false
    }

    fn remove(&mut self, name: &str) -> Option<Arc<Queue>> {
        let Named { queue, idle_since } = self.queues.remove(name)?;
        if let Some(since) = idle_since {
            self.idle.remove(&since);
        }
        Some(queue)
    }
}

impl From<TooMany> for SubscribeError {
    fn from(TooMany(limit): TooMany) -> Self {
        Self::LimitReached { what: "queue", limit }
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        // A queue and the deliveries in its consumers' hands hold each other.
        for (_, named) in self.names.get_mut().queues.drain() {
            named.queue.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(config: Config) -> Arc<Queues> {
        Queues::new(&config, watch::Sender::new(BrokerState::up()))
    }

    #[test]
    fn what_is_noted_of_idle_queues_goes_with_them() {
        let queues = queues(Config { max_queues: 2, ..Config::default() });
        for n in 0..10 {
            let name: ByteString = format!("q{n}").into();
            drop(queues.subscribe(&name, None, PublisherId(1), 1).unwrap());
            drop(queues.subscribe(&name, None, PublisherId(1), 1).unwrap());
            drop(queues.subscribe_own(PublisherId(1), 1).unwrap());
        }
        let names = queues.names.lock();
        assert_eq!((names.queues.len(), names.idle.len()), (1, 1));
        drop(names);
        queues.delete("q9");
        let names = queues.names.lock();
        assert_eq!((names.queues.len(), names.idle.len()), (0, 0));
    }
}
