//! One queue: messages in line, consumers in turn.
//!
//! Invariants
//! - A message keeps its place from publish to settlement: given back, it stands where it stood.
//! - A consumer has at most its prefetch outstanding, so its channel of that length is never full.
//! - `with_room` names every consumer that has room, once, and no other.
//! - After every change either nothing is ready or nobody has room.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use broker::{ConfirmError, Delivery, Message, Outcome, Settle, Subscription};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::queues::Queues;

/// A queue. It lives until it is closed, which it is by its deletion or once nothing is left of it.
#[derive(Debug)]
pub(crate) struct Queue {
    name: ByteString,
    limits: Limits,
    /// The bytes that all queues hold; this one adds and takes away its own.
    held: Arc<AtomicUsize>,
    /// Where to be forgotten.
    queues: Weak<Queues>,
    /// Handed to deliveries, which settle here.
    me: Weak<Self>,
    /// Not held while a delivery is dropped, for that settles it and locks again.
    line: Mutex<Line>,
}

/// How much a queue may hold, unsettled deliveries included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) length: usize,
    pub(crate) bytes: usize,
    /// Bytes of all queues together.
    pub(crate) all: usize,
}

#[derive(Debug, Default)]
struct Line {
    /// Nothing happens here any more; whoever looks for the queue of this name must look again.
    closed: bool,
    /// The place of the next message.
    next_place: u64,
    /// What waits, by place.
    ready: BTreeMap<u64, Waiting>,
    /// What was delivered and is not settled, by place, which is also the delivery's tag: a message
    /// has one delivery at a time.
    unsettled: HashMap<u64, Unsettled>,
    /// The bytes of all that waits or is unsettled.
    bytes: usize,
    next_consumer: u64,
    consumers: HashMap<u64, Consumer>,
    /// The consumers with room, the one whose turn it is first.
    with_room: VecDeque<u64>,
}

#[derive(Debug)]
struct Waiting {
    message: Arc<Message>,
    redelivered: bool,
}

#[derive(Debug)]
struct Unsettled {
    message: Arc<Message>,
    consumer: u64,
}

#[derive(Debug)]
struct Consumer {
    /// As long as the consumer's prefetch.
    deliveries: mpsc::Sender<Delivery>,
    /// How many more deliveries may be outstanding.
    room: u16,
}

impl Queue {
    pub(crate) fn new(
        name: ByteString,
        limits: Limits,
        held: Arc<AtomicUsize>,
        queues: Weak<Queues>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            name,
            limits,
            held,
            queues,
            me: me.clone(),
            line: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes `message` or refuses it; none if the queue is closed.
    pub(crate) fn publish(&self, message: &Arc<Message>) -> Option<Result<(), ConfirmError>> {
        self.change(|line| {
            let Limits { length, bytes, all } = self.limits;
            let size = size(message);
            let full = if line.ready.len() + line.unsettled.len() >= length {
                format!("{length} messages")
            } else if line.bytes + size > bytes {
                format!("{bytes} bytes")
            } else if self.held.fetch_add(size, Ordering::Relaxed) + size > all {
                self.held.fetch_sub(size, Ordering::Relaxed);
                return Err(ConfirmError::Full(format!(
                    "all queues together are full, they may hold {all} bytes; their consumers do \
                     not keep up"
                )));
            } else {
                line.ready.insert(
                    line.next_place,
                    Waiting { message: message.clone(), redelivered: false },
                );
                line.next_place += 1;
                line.bytes += size;
                return Ok(());
            };
            Err(ConfirmError::Full(format!(
                "queue '{}' is full, it may hold {full}; its consumers do not keep up",
                self.name
            )))
        })
    }

    /// Adds a consumer; none if the queue is closed.
    pub(crate) fn subscribe(&self, prefetch: u16) -> Option<Subscription> {
        let (sender, deliveries) = mpsc::channel(prefetch.into());
        let consumer = self.change(|line| {
            let consumer = line.next_consumer;
            line.next_consumer += 1;
            line.consumers.insert(consumer, Consumer { deliveries: sender, room: prefetch });
            line.with_room.push_back(consumer);
            consumer
        })?;
        let queue = self.me.clone();
        Some(Subscription::new(deliveries, move || {
            if let Some(queue) = queue.upgrade() {
                queue.cancel(consumer);
            }
        }))
    }

    fn cancel(&self, consumer: u64) {
        self.change(|line| {
            line.consumers.remove(&consumer);
            line.with_room.retain(|with_room| *with_room != consumer);
        });
    }

    /// Drops all messages and ends all subscriptions.
    pub(crate) fn close(&self) {
        let line =
            std::mem::replace(&mut *self.line.lock(), Line { closed: true, ..Line::default() });
        self.held.fetch_sub(line.bytes, Ordering::Relaxed);
        // Only now that the lock is free: with the senders their deliveries may go.
        drop(line);
    }

    /// Closes the queue if it has neither messages nor consumers, and says whether it did.
    pub(crate) fn close_if_idle(&self) -> bool {
        let mut line = self.line.lock();
        let idle = line.is_idle();
        line.closed |= idle;
        idle
    }

    /// Makes a change, and hands out what can be handed out after it. None if the queue is closed.
    fn change<T>(&self, change: impl FnOnce(&mut Line) -> T) -> Option<T> {
        let mut line = self.line.lock();
        if line.closed {
            return None;
        }
        let value = change(&mut line);
        if let Some(me) = self.me.upgrade() {
            line.hand_out(&me);
        }
        let idle = line.is_idle();
        drop(line);
        if idle && let Some(queues) = self.queues.upgrade() {
            queues.forget(self);
        }
        Some(value)
    }
}

impl Settle for Queue {
    fn settle(&self, tag: u64, outcome: Outcome) {
        self.change(|line| {
            let Some(Unsettled { message, consumer }) = line.unsettled.remove(&tag) else { return };
            match outcome {
                Outcome::Ack | Outcome::Reject => {
                    let size = size(&message);
                    line.bytes -= size;
                    self.held.fetch_sub(size, Ordering::Relaxed);
                }
                Outcome::Requeue => {
                    line.ready.insert(tag, Waiting { message, redelivered: true });
                }
            }
            // It may be cancelled already.
            if let Some(Consumer { room, .. }) = line.consumers.get_mut(&consumer) {
                *room += 1;
                if *room == 1 {
                    line.with_room.push_back(consumer);
                }
            }
        });
    }
}

impl Line {
    fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.unsettled.is_empty() && self.consumers.is_empty()
    }

    /// Delivers what is ready to those who have room, in turn.
    fn hand_out(&mut self, queue: &Arc<Queue>) {
        while let Some(next) = self.ready.first_entry()
            && let Some(number) = self.with_room.pop_front()
        {
            let Some(consumer) = self.consumers.get_mut(&number) else { continue };
            // A permit first: a delivery that could not be sent would be dropped here, under the lock.
            let Ok(permit) = consumer.deliveries.try_reserve() else {
                self.consumers.remove(&number);
                continue;
            };
            let (place, Waiting { message, redelivered }) = next.remove_entry();
            self.unsettled.insert(place, Unsettled { message: message.clone(), consumer: number });
            permit.send(Delivery::unsettled(message, redelivered, queue.clone(), place));
            consumer.room -= 1;
            if consumer.room > 0 {
                self.with_room.push_back(number);
            }
        }
    }
}

/// What a message counts for, in bytes: what it says, and what keeping it costs.
fn size(message: &Message) -> usize {
    const MESSAGE: usize = 256;
    const HEADER: usize = 64;
    let headers = message.headers.iter().map(|(name, value)| HEADER + name.len() + value.len());
    MESSAGE + message.body.len() + headers.sum::<usize>()
}
