//! Channels for queue consumers, pooled by prefetch value, for prefetch is a property of the channel.
//!
//! Invariants
//! - All consumers of a channel have the same prefetch, set once before the first of them.
//! - A channel has at most [`CONSUMERS`] consumers: one that RabbitMQ closes takes only those along.
//! - A channel is closed once neither a consumer nor an unsettled delivery is left on it.

use std::sync::Arc;

use lapin::Channel;
use lapin::options::BasicQosOptions;
use parking_lot::Mutex;

use crate::link::{Failure, Link};

/// How many consumers share a channel.
const CONSUMERS: usize = 64;

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
    prefetch: u16,
    consumers: usize,
}

/// A consumer's place on a channel; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    channels: Arc<ConsumerChannels>,
    number: u64,
    pub(crate) channel: Channel,
}

impl ConsumerChannels {
    /// A place on a channel of `link` with that prefetch.
    pub(crate) async fn place(
        self: &Arc<Self>,
        link: &Link,
        prefetch: u16,
    ) -> Result<Place, Failure> {
        let _opening = self.opening.lock().await;
        if let Some(place) = self.enter(link.generation, prefetch) {
            return Ok(place);
        }
        let channel = link.channel().await?;
        link.answer(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.channels.push(Shared {
            number,
            channel: channel.clone(),
            generation: link.generation,
            prefetch,
            consumers: 1,
        });
        Ok(Place { channels: self.clone(), number, channel })
    }

    fn enter(self: &Arc<Self>, generation: u64, prefetch: u16) -> Option<Place> {
        let mut open = self.open.lock();
        let shared = open.channels.iter_mut().find(|shared| {
            shared.generation == generation
                && shared.prefetch == prefetch
                && shared.consumers < CONSUMERS
                && shared.channel.status().connected()
        })?;
        shared.consumers += 1;
        let channel = shared.channel.clone();
        Some(Place { channels: self.clone(), number: shared.number, channel })
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

impl Drop for Place {
    fn drop(&mut self) {
        self.channels.leave(self.number);
    }
}
