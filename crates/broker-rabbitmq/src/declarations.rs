//! What is declared, bound and deleted in RabbitMQ, one at a time on a channel of its own.
//!
//! Invariants
//! - A refusal closes the channel in AMQP; this one carries nothing else, and the next operation
//!   opens another.
//! - What was declared on one connection is declared again on the next: another RabbitMQ may answer
//!   there. Until the first such declaration the old ones are trusted; whoever publishes hears of it
//!   when one is wrong, and makes it be forgotten.
//!
//! Not here: what ought to be declared, and when.

use std::collections::HashSet;
use std::time::Duration;

use bytestring::ByteString;
use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use parking_lot::Mutex;

use crate::link::{Failure, Link, Links, current};
use crate::names::{LIMIT, durable};
use crate::supervisor::Pauses;

/// How many declarations are remembered; with more, all are forgotten and made again when needed.
const MEMORY: usize = 10_000;

/// The channel for operations that may fail.
#[derive(Debug)]
pub(crate) struct Declarations {
    links: Links,
    /// The longest pause before a target is asked for once more.
    pause: Duration,
    /// The channel, with the generation of its link. Held for the length of an operation: one at a
    /// time, for a refusal hits all that are on the channel.
    channel: tokio::sync::Mutex<Option<(u64, Channel)>>,
    /// Held for a lookup.
    known: Mutex<Known>,
}

/// What a message needs to be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// A durable queue of this name.
    Queue(ByteString),
    /// A durable topic exchange of this name.
    Exchange(ByteString),
}

/// One operation.
#[derive(Debug)]
pub(crate) enum Operation<'a> {
    /// Declares a queue, durable.
    DeclareQueue { name: &'a str, arguments: FieldTable },
    /// Asks for a queue without declaring it.
    FindQueue { name: &'a str },
    /// Deletes a queue and what it holds; one that is not there is deleted already.
    DeleteQueue { name: &'a str },
    /// Declares a topic exchange, durable.
    DeclareExchange { name: &'a str },
    /// Binds a queue.
    Bind { queue: &'a str, exchange: &'a str, key: &'a str },
    /// Undoes a binding; one that is not there is undone already.
    Unbind { queue: &'a str, exchange: &'a str, key: &'a str },
}

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    targets: HashSet<Target>,
}

impl Declarations {
    pub(crate) fn new(links: Links, pause: Duration) -> Self {
        Self { links, pause, channel: tokio::sync::Mutex::default(), known: Mutex::default() }
    }

    /// Sees to it that `target` is there, waiting for RabbitMQ as long as it is away, or cannot have it
    /// just now. An error is RabbitMQ's reason not to have it.
    pub(crate) async fn ensure(&self, target: &Target) -> Result<(), String> {
        let mut links = self.links.clone();
        let mut pauses = Pauses::new(self.pause);
        while !self.is_known(target) {
            let Some(link) = current(&mut links).await else {
                return Err("it is closing".to_owned());
            };
            match self.declare(&link, target).await {
                Ok(()) => self.remember(&link, target),
                Err(Failure::Refused(why)) if !passes(&why) => return Err(why),
                // The end of a connection is not known everywhere at once either.
                Err(_) => tokio::time::sleep(pauses.next()).await,
            }
        }
        Ok(())
    }

    async fn declare(&self, link: &Link, target: &Target) -> Result<(), Failure> {
        let operation = match target {
            Target::Queue(name) => {
                Operation::DeclareQueue { name, arguments: FieldTable::default() }
            }
            Target::Exchange(name) => Operation::DeclareExchange { name },
        };
        self.perform(link, operation).await.map(drop)
    }

    /// Does `operation`, and says how many messages the queue holds that it speaks of.
    pub(crate) async fn perform(
        &self,
        link: &Link,
        operation: Operation<'_>,
    ) -> Result<u32, Failure> {
        let mut place = self.channel.lock().await;
        let usable = place.as_ref().filter(|(generation, channel)| {
            *generation == link.generation && channel.status().connected()
        });
        let channel = match usable {
            Some((_, channel)) => channel.clone(),
            None => {
                let channel = link.channel().await?;
                *place = Some((link.generation, channel.clone()));
                channel
            }
        };
        operation.perform(link, &channel).await.inspect_err(|_| *place = None)
    }

    /// Makes the next use of `target` declare it again.
    pub(crate) fn forget(&self, target: &Target) {
        self.known.lock().targets.remove(target);
    }

    /// Makes the next use of anything declare it again.
    pub(crate) fn forget_all(&self) {
        self.known.lock().targets.clear();
    }

    /// Whether `target` was there when it was last asked for.
    pub(crate) fn is_known(&self, target: &Target) -> bool {
        match target {
            // Those are there from the start, and nobody may declare them.
            Target::Exchange(name) if name.is_empty() || name.starts_with("amq.") => true,
            target => self.known.lock().targets.contains(target),
        }
    }

    fn remember(&self, link: &Link, target: &Target) {
        let mut known = self.known.lock();
        if known.generation != link.generation || known.targets.len() >= MEMORY {
            *known = Known { generation: link.generation, targets: HashSet::new() };
        }
        known.targets.insert(target.clone());
    }
}

impl Operation<'_> {
    async fn perform(self, link: &Link, channel: &Channel) -> Result<u32, Failure> {
        let none = FieldTable::default;
        match self {
            Self::DeclareQueue { name, arguments } => {
                let declare = channel.queue_declare(short(name)?, durable(), arguments);
                link.answer(declare).await.map(|queue| queue.message_count())
            }
            Self::FindQueue { name } => {
                let options = QueueDeclareOptions { passive: true, ..durable() };
                let find = channel.queue_declare(short(name)?, options, none());
                link.answer(find).await.map(|queue| queue.message_count())
            }
            Self::DeleteQueue { name } => {
                link.answer(channel.queue_delete(short(name)?, QueueDeleteOptions::default())).await
            }
            Self::DeclareExchange { name } => {
                let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
                let kind = ExchangeKind::Topic;
                let declare = channel.exchange_declare(short(name)?, kind, options, none());
                link.answer(declare).await.map(|()| 0)
            }
            Self::Bind { queue, exchange, key } => {
                let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
                let options = QueueBindOptions::default();
                let bind = channel.queue_bind(queue, exchange, key, options, none());
                link.answer(bind).await.map(|()| 0)
            }
            Self::Unbind { queue, exchange, key } => {
                let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
                link.answer(channel.queue_unbind(queue, exchange, key, none())).await.map(|()| 0)
            }
        }
    }
}

/// Whether RabbitMQ refused a queue only for now: the node that has it is down, or was too busy to
/// answer.
pub(crate) fn passes(why: &str) -> bool {
    ["is down or inaccessible", "due to timeout", "is stopped by supervisor"]
        .iter()
        .any(|passing| why.contains(passing))
}

/// A name as AMQP writes it.
pub(crate) fn short(name: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(name).map_err(|_| {
        let size = name.len();
        Failure::Refused(format!("a name of {size} bytes is longer than the limit of {LIMIT}"))
    })
}
