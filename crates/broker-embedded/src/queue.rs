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

use broker::{
    ConfirmError, Delivery, Message, Outcome, PublisherId, Settle, SubscribeError, Subscription,
};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::lag::{Lag, Turn};
use crate::queues::Queues;
use crate::topics::Binding;

/// A queue. It lives until it is closed: by its deletion, or when its [`Ownership`] says so.
#[derive(Debug)]
pub(crate) struct Queue {
    name: ByteString,
    ownership: Ownership,
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

/// Who may consume from a queue, and what it ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Everybody. Once it is idle it may give way to others.
    Common,
    /// Everybody. It ends with its last consumer and waits for its first, however long.
    AutoDelete,
    /// That session, though others that know its name may reply to it. It ends with its last consumer.
    Exclusive(PublisherId),
}

/// How much a queue may hold, unsettled deliveries included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) length: usize,
    pub(crate) bytes: usize,
    /// Bytes of all queues together.
    pub(crate) all: usize,
}

/// Where there is no room, and how much there is.
#[derive(Debug)]
enum Full {
    Messages(usize),
    Bytes(usize),
    /// Bytes of all queues together.
    Everywhere(usize),
}

/// The messages and consumers.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Nothing happens here any more; whoever looks for the queue of this name must look again.
    closed: bool,
    /// The topic whose messages are offered here. Only to be dropped when nothing is locked.
    binding: Option<Binding>,
    /// What was offered and not kept.
    lag: Lag,
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
        ownership: Ownership,
        limits: Limits,
        held: Arc<AtomicUsize>,
        queues: Weak<Queues>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            name,
            ownership,
            limits,
            held,
            queues,
            me: me.clone(),
            line: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> &ByteString {
        &self.name
    }

    /// Takes `message` or refuses it; none if the queue is closed.
    pub(crate) fn publish(&self, message: &Arc<Message>) -> Option<Result<(), ConfirmError>> {
        let result = self.change(|line| line.take(message, self.limits, &self.held))?;
        Some(result.map_err(|full| ConfirmError::Full(self.told(full))))
    }

    fn told(&self, full: Full) -> String {
        let this = |limit: String| {
            let name = &self.name;
            format!("queue '{name}' is full, it may hold {limit}; its consumers do not keep up")
        };
        match full {
            Full::Messages(limit) => this(format!("{limit} messages")),
            Full::Bytes(limit) => this(format!("{limit} bytes")),
            Full::Everywhere(limit) => format!(
                "all queues together are full, they may hold {limit} bytes; their consumers do \
                 not keep up"
            ),
        }
    }

    /// Takes `message`, or passes it over if there is no room: then, and until half of the queue is
    /// free, it misses what it is offered. What it holds stays.
    pub(crate) fn offer(&self, message: &Arc<Message>) {
        let turn = self.change(|line| {
            if line.lag.goes_on() && !line.is_half_free(self.limits) {
                return line.lag.miss();
            }
            match line.take(message, self.limits, &self.held) {
                Ok(()) => line.lag.end(),
                Err(_) => line.lag.miss(),
            }
        });
        match turn.flatten() {
            None => {}
            Some(Turn::Begins) => {
                tracing::warn!(
                    "a subscription does not settle what it gets from its topic: its queue is \
                     full, and misses messages until half of it is free"
                );
                if let Some(queues) = self.queues.upgrade() {
                    queues.note_gap();
                }
            }
            Some(Turn::Ends { missed }) => {
                tracing::warn!(missed, "the queue of a subscription to a topic has room again");
            }
        }
    }

    /// Keeps `binding` for as long as the queue is there.
    pub(crate) fn keep(&self, binding: Binding) {
        let mut line = self.line.lock();
        if !line.closed {
            line.binding = Some(binding);
            return;
        }
        drop(line);
        drop(binding);
    }

    /// Whether the queue is open to `who`.
    pub(crate) fn admit(&self, who: PublisherId) -> Result<(), SubscribeError> {
        match self.ownership {
            Ownership::Exclusive(owner) if owner != who => {
                Err(self.locked("it is another session's own; use another queue"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the queue is as is `said`: RabbitMQ's rules, and its words as far as they are true.
    pub(crate) fn check(&self, said: Ownership) -> Result<(), SubscribeError> {
        match (said, self.ownership) {
            (said, is) if said == is => Ok(()),
            (Ownership::Exclusive(_), _) => Err(self.locked("it is there and not exclusive")),
            (_, Ownership::Exclusive(_)) => Err(self.locked("it is there and exclusive")),
            (said, is) => Err(SubscribeError::Refused(format!(
                "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{}': received \
                 '{}' but current is '{}'",
                self.name,
                said == Ownership::AutoDelete,
                is == Ownership::AutoDelete,
            ))),
        }
    }

    fn locked(&self, why: &str) -> SubscribeError {
        let name = &self.name;
        SubscribeError::Refused(format!(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}': {why}"
        ))
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
        let subscription = Subscription::new(deliveries, move || {
            if let Some(queue) = queue.upgrade() {
                queue.cancel(consumer);
            }
        });
        Some(subscription.of_queue(self.name.clone()))
    }

    fn cancel(&self, consumer: u64) {
        self.change(|line| {
            line.consumers.remove(&consumer);
            line.with_room.retain(|with_room| *with_room != consumer);
        });
        if self.ownership != Ownership::Common
            && let Some(queues) = self.queues.upgrade()
        {
            queues.note_unconsumed(self);
        }
    }

    /// Drops all messages and ends all subscriptions.
    pub(crate) fn close(&self) {
        let closed = self.close_line(&mut self.line.lock());
        // Only now that the lock is free: with the senders their deliveries may go.
        drop(closed);
    }

    /// Closes the queue if it has neither messages nor consumers, and says whether it did.
    pub(crate) fn close_if_idle(&self) -> bool {
        let mut line = self.line.lock();
        let idle = line.is_idle();
        line.closed |= idle;
        idle
    }

    /// Closes the queue if it has lost its last consumer, and gives what was in it, to be dropped when
    /// no lock is held.
    pub(crate) fn close_if_unconsumed(&self) -> Option<Line> {
        let mut line = self.line.lock();
        let unconsumed = !line.closed && line.next_consumer > 0 && line.consumers.is_empty();
        unconsumed.then(|| self.close_line(&mut line))
    }

    fn close_line(&self, line: &mut Line) -> Line {
        let line = std::mem::replace(line, Line { closed: true, ..Line::default() });
        self.held.fetch_sub(line.bytes, Ordering::Relaxed);
        line
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
        let idle = self.ownership == Ownership::Common && line.is_idle();
        drop(line);
        if idle && let Some(queues) = self.queues.upgrade() {
            queues.note_idle(self);
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

    /// Whether at most half of what the queue may hold is there.
    fn is_half_free(&self, limits: Limits) -> bool {
        self.len() <= limits.length / 2 && self.bytes <= limits.bytes / 2
    }

    /// How many messages wait or are unsettled.
    fn len(&self) -> usize {
        self.ready.len() + self.unsettled.len()
    }

    /// Puts `message` at the end, if there is room.
    fn take(
        &mut self,
        message: &Arc<Message>,
        limits: Limits,
        held: &AtomicUsize,
    ) -> Result<(), Full> {
        let size = size(message);
        if self.len() >= limits.length {
            return Err(Full::Messages(limits.length));
        }
        if self.bytes + size > limits.bytes {
            return Err(Full::Bytes(limits.bytes));
        }
        if held.fetch_add(size, Ordering::Relaxed) + size > limits.all {
            held.fetch_sub(size, Ordering::Relaxed);
            return Err(Full::Everywhere(limits.all));
        }
        let waiting = Waiting { message: message.clone(), redelivered: false };
        self.ready.insert(self.next_place, waiting);
        self.next_place += 1;
        self.bytes += size;
        Ok(())
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
