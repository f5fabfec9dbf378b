//! Channels for queue consumers, each shared by many.
//!
//! Invariants
//! - A prefetch is set on the channel, and RabbitMQ takes it for each consumer that is started after
//!   it. So it is set and the consumer started without another in between, and consumers of any
//!   prefetch share a channel: clients, who choose their own, cannot use up the channels by it.
//! - A channel has at most [`CONSUMERS`] consumers: one that RabbitMQ closes takes only those along.
//! - A channel is closed once neither a consumer nor an unsettled delivery is left on it.
//! - The last [`SPARED`] channels of a connection are not for consumers.

use std::sync::Arc;

use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use parking_lot::Mutex;

use crate::link::{Failure, Link};

/// How many consumers share a channel.
const CONSUMERS: usize = 64;

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
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    channels: Vec<Shared>,
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
}

/// A consumer's place on a channel; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    channels: Arc<ConsumerChannels>,
    number: u64,
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
    /// A place on a channel of `link`.
    pub(crate) async fn place(self: &Arc<Self>, link: &Link) -> Result<Place, NoPlace> {
        let _opening = self.opening.lock().await;
        if let Some(place) = self.enter(link.generation) {
            return Ok(place);
        }
        let most = usize::from(link.channel_max()).saturating_sub(SPARED).max(1);
        if self.count(link.generation) >= most {
            return Err(NoPlace::Full { limit: most * CONSUMERS });
        }
        let channel = link.channel().await?;
        let prefetch = Arc::default();
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.channels.push(Shared {
            number,
            channel: channel.clone(),
            generation: link.generation,
            prefetch: Arc::clone(&prefetch),
            consumers: 1,
        });
        Ok(Place { channels: self.clone(), number, channel, prefetch })
    }

    fn enter(self: &Arc<Self>, generation: u64) -> Option<Place> {
        let mut open = self.open.lock();
        let shared = open.channels.iter_mut().find(|shared| {
            shared.generation == generation
                && shared.consumers < CONSUMERS
                && shared.channel.status().connected()
        })?;
        shared.consumers += 1;
        let (channel, prefetch) = (shared.channel.clone(), shared.prefetch.clone());
        Some(Place { channels: self.clone(), number: shared.number, channel, prefetch })
    }

    /// How many channels of a link there are.
    fn count(&self, generation: u64) -> usize {
        let open = self.open.lock();
        let of_link = |shared: &&Shared| {
            shared.generation == generation && shared.channel.status().connected()
        };
        open.channels.iter().filter(of_link).count()
    }

    fn leave(&self, number: u64) {
        let mut open = self.open.lock();
        let Some(at) = open.channels.iter().position(|shared| shared.number == number) else {
            return;
        };
        open.channels[at].consumers -= 1;
        if open.channels[at].consumers == 0 {
            open.channels.swap_remove(at);
        }
    }
}

impl Place {
    /// Starts a consumer of `queue` here.
    pub(crate) async fn consume(
        &self,
        link: &Link,
        queue: ShortString,
        prefetch: u16,
    ) -> Result<Consumer, Failure> {
        let mut current = self.prefetch.lock().await;
        if *current != Some(prefetch) {
            // Unknown until RabbitMQ has answered.
            *current = None;
            link.answer(self.channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
            *current = Some(prefetch);
        }
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        link.answer(self.channel.basic_consume(queue, "".into(), options, none)).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.channels.leave(self.number);
    }
}
