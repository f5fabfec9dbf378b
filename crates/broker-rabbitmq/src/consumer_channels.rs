//! Channels for queue consumers, each shared by many.
//!
//! Invariants
//! - A prefetch is set on the channel, and RabbitMQ takes it for each consumer that is started after
//!   it. So it is set and the consumer started without another in between, and consumers of any
//!   prefetch share a channel: clients, who choose their own, cannot use up the channels by it.
//! - RabbitMQ closes the channel of a consumer that it refuses, with all others on it. So a consumer of
//!   what nobody consumes here at the moment begins on a channel of its own, on trial; once RabbitMQ
//!   has taken it, others that are proven share that channel. Beyond [`ALONE`] channels newcomers
//!   share from the start, and only one that was refused before still begins alone.
//! - A channel has at most [`CONSUMERS`] consumers: one that RabbitMQ closes takes only those along.
//! - A channel is closed once neither a consumer nor an unsettled delivery is left on it.
//! - The last [`SPARED`] channels of a connection are not for consumers.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use broker::Arguments;
use bytestring::ByteString;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::link::{Failure, Link};

/// How many consumers share a channel.
const CONSUMERS: usize = 64;

/// With how many channels a newcomer no longer gets one of its own.
const ALONE: usize = 512;

/// How many more there are for those that were refused before.
const SUSPECTS: usize = 16;

/// How many channels are left for topics and declarations, which need two, and for those on their
/// way out.
const SPARED: usize = 16;

/// The channels that have consumers.
#[derive(Debug, Default)]
pub(crate) struct ConsumerChannels {
    /// Held for the opening of a channel, so that many consumers at once do not open one each.
    opening: tokio::sync::Mutex<()>,
    /// Held for a lookup.
    open: Mutex<Open>,
    /// Told when a trial is over.
    tried: Notify,
}

/// What a consumer asks RabbitMQ for: whether it gets it depends on both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) queue: ByteString,
    pub(crate) arguments: Arguments,
}

/// What is known of a consumer before it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing, unless the same is consumed at the moment.
    Open,
    /// RabbitMQ has refused it before.
    Suspect,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    channels: Vec<Shared>,
    /// What is consumed at the moment, by the generation of its link, with how many consumers.
    proven: HashMap<(u64, Wanted), usize>,
}

#[derive(Debug)]
struct Shared {
    /// Ours: RabbitMQ gives the number of a closed channel to another.
    number: u64,
    channel: Channel,
    /// The generation of its link.
    generation: u64,
    /// The prefetch of the next consumer, where it is known. Held while one is started.
    prefetch: Arc<tokio::sync::Mutex<Option<u16>>>,
    consumers: usize,
    /// Whether its one consumer has yet to be taken: nobody else is put at risk.
    on_trial: bool,
}

/// A consumer's place on a channel; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    channels: Arc<ConsumerChannels>,
    number: u64,
    generation: u64,
    wanted: Wanted,
    /// Whether RabbitMQ has taken the consumer.
    proven: bool,
    pub(crate) channel: Channel,
    prefetch: Arc<tokio::sync::Mutex<Option<u16>>>,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Every channel that the connection has for consumers is full.
    #[error("consumers limit of {limit} reached")]
    Full {
        /// How many consumers there may be.
        limit: usize,
    },
}

impl ConsumerChannels {
    /// A place on a channel of `link` for a consumer of what is `wanted`.
    pub(crate) async fn place(
        self: &Arc<Self>,
        link: &Link,
        wanted: Wanted,
        standing: Standing,
    ) -> Result<Place, NoPlace> {
        let most = usize::from(link.channel_max()).saturating_sub(SPARED).max(1);
        loop {
            let mut tried = pin!(self.tried.notified());
            tried.as_mut().enable();
            let opening = self.opening.lock().await;
            let count = self.count(link.generation);
            let proven = standing == Standing::Open && self.is_proven(link.generation, &wanted);
            let alone = match standing {
                Standing::Open => ALONE,
                Standing::Suspect => ALONE + SUSPECTS,
            };
            if proven && let Some(place) = self.enter(link.generation, &wanted) {
                return Ok(place);
            }
            if count < alone.min(most) {
                return self.open(link, wanted, !proven).await;
            }
            if standing == Standing::Open {
                if let Some(place) = self.enter(link.generation, &wanted) {
                    return Ok(place);
                }
                if count < most {
                    return self.open(link, wanted, !proven).await;
                }
                if self.tries(link.generation) {
                    drop(opening);
                    tried.await;
                    continue;
                }
            }
            return Err(NoPlace::Full { limit: most * CONSUMERS });
        }
    }

    /// A place on a channel that is opened for it.
    async fn open(
        self: &Arc<Self>,
        link: &Link,
        wanted: Wanted,
        on_trial: bool,
    ) -> Result<Place, NoPlace> {
        let channel = link.channel().await?;
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        let mut shared = Shared {
            number,
            channel,
            generation: link.generation,
            prefetch: Arc::default(),
            consumers: 0,
            on_trial,
        };
        let place = shared.enter(self, &wanted);
        open.channels.push(shared);
        Ok(place)
    }

    /// A place on the first channel that has one and is on no trial.
    fn enter(self: &Arc<Self>, generation: u64, wanted: &Wanted) -> Option<Place> {
        let mut open = self.open.lock();
        let shared = open.channels.iter_mut().find(|shared| {
            shared.is_of(generation) && !shared.on_trial && shared.consumers < CONSUMERS
        })?;
        Some(shared.enter(self, wanted))
    }

    /// How many channels of a link there are.
    fn count(&self, generation: u64) -> usize {
        let open = self.open.lock();
        open.channels.iter().filter(|shared| shared.is_of(generation)).count()
    }

    /// Whether one of them is on trial.
    fn tries(&self, generation: u64) -> bool {
        let open = self.open.lock();
        open.channels.iter().any(|shared| shared.is_of(generation) && shared.on_trial)
    }

    fn is_proven(&self, generation: u64, wanted: &Wanted) -> bool {
        self.open.lock().proven.contains_key(&(generation, wanted.clone()))
    }
}

impl Shared {
    fn is_of(&self, generation: u64) -> bool {
        self.generation == generation && self.channel.status().connected()
    }

    fn enter(&mut self, channels: &Arc<ConsumerChannels>, wanted: &Wanted) -> Place {
        self.consumers += 1;
        Place {
            channels: channels.clone(),
            number: self.number,
            generation: self.generation,
            wanted: wanted.clone(),
            proven: false,
            channel: self.channel.clone(),
            prefetch: self.prefetch.clone(),
        }
    }
}

impl Place {
    /// Starts the consumer here.
    pub(crate) async fn consume(
        &mut self,
        link: &Link,
        queue: ShortString,
        prefetch: u16,
        arguments: FieldTable,
    ) -> Result<Consumer, Failure> {
        let mut current = self.prefetch.lock().await;
        if *current != Some(prefetch) {
            // Unknown until RabbitMQ has answered.
            *current = None;
            link.answer(self.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
            *current = Some(prefetch);
        }
        let options = BasicConsumeOptions::default();
        let consume = self.channel.basic_consume(queue, "".into(), options, arguments);
        let consumer = link.answer(consume).await?;
        drop(current);
        self.prove();
        Ok(consumer)
    }

    /// RabbitMQ has taken the consumer.
    fn prove(&mut self) {
        self.proven = true;
        let mut open = self.channels.open.lock();
        *open.proven.entry((self.generation, self.wanted.clone())).or_default() += 1;
        if let Some(shared) = open.channels.iter_mut().find(|shared| shared.number == self.number) {
            shared.on_trial = false;
        }
        drop(open);
        self.channels.tried.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.channels.open.lock();
        if self.proven {
            let wanted = (self.generation, self.wanted.clone());
            if let Some(consumers) = open.proven.get_mut(&wanted) {
                *consumers -= 1;
                if *consumers == 0 {
                    open.proven.remove(&wanted);
                }
            }
        }
        if let Some(at) = open.channels.iter().position(|shared| shared.number == self.number) {
            open.channels[at].consumers -= 1;
            if open.channels[at].consumers == 0 {
                open.channels.swap_remove(at);
            }
        }
        drop(open);
        self.channels.tried.notify_waiters();
    }
}
