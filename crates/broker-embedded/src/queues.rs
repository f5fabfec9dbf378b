//! All queues by name: made by their first use, forgotten when nothing is left of them.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use broker::{ConfirmError, Message, Subscription};
use bytestring::ByteString;
use parking_lot::Mutex;

use crate::Config;
use crate::queue::{Limits, Queue};

/// The queues there are.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Handed to the queues, which ask to be forgotten.
    me: Weak<Self>,
    max_queues: usize,
    limits: Limits,
    /// The bytes that all queues hold.
    held: Arc<AtomicUsize>,
    /// Locked before the lock of a queue, never after it.
    by_name: Mutex<HashMap<ByteString, Arc<Queue>>>,
}

/// There are as many queues as there may be: this many.
#[derive(Debug)]
pub(crate) struct TooMany(pub(crate) usize);

impl Queues {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            max_queues: config.max_queues,
            limits: Limits {
                length: config.max_queue_length,
                bytes: config.max_queue_bytes(),
                all: config.max_bytes(),
            },
            held: Arc::default(),
            by_name: Mutex::default(),
        })
    }

    pub(crate) fn publish(
        &self,
        name: &ByteString,
        message: &Arc<Message>,
    ) -> Result<Result<(), ConfirmError>, TooMany> {
        self.with_queue(name, |queue| queue.publish(message))
    }

    pub(crate) fn subscribe(
        &self,
        name: &ByteString,
        prefetch: u16,
    ) -> Result<Subscription, TooMany> {
        self.with_queue(name, |queue| queue.subscribe(prefetch))
    }

    pub(crate) fn delete(&self, name: &str) {
        let queue = self.by_name.lock().remove(name);
        if let Some(queue) = queue {
            queue.close();
        }
    }

    /// Lets go of `queue` if nothing is left of it.
    pub(crate) fn forget(&self, queue: &Queue) {
        let mut by_name = self.by_name.lock();
        let current = by_name.get(queue.name()).is_some_and(|q| std::ptr::eq(&**q, queue));
        if current && queue.close_if_idle() {
            by_name.remove(queue.name());
        }
    }

    /// What `action` gives on the queue of that name, which is made if need be. `action` gives
    /// nothing on a queue that was closed since it was looked up; then there is a new one to ask.
    fn with_queue<T>(
        &self,
        name: &ByteString,
        action: impl Fn(&Queue) -> Option<T>,
    ) -> Result<T, TooMany> {
        loop {
            let queue = self.get_or_make(name)?;
            if let Some(value) = action(&queue) {
                return Ok(value);
            }
        }
    }

    fn get_or_make(&self, name: &ByteString) -> Result<Arc<Queue>, TooMany> {
        let mut by_name = self.by_name.lock();
        if let Some(queue) = by_name.get(name) {
            return Ok(queue.clone());
        }
        if by_name.len() >= self.max_queues {
            return Err(TooMany(self.max_queues));
        }
        let queue = Queue::new(name.clone(), self.limits, self.held.clone(), self.me.clone());
        by_name.insert(name.clone(), queue.clone());
        Ok(queue)
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        // A queue and the deliveries in its consumers' hands hold each other.
        for (_, queue) in self.by_name.get_mut().drain() {
            queue.close();
        }
    }
}
