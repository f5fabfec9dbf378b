//! What operators see of a node at RabbitMQ.
//!
//! Counters are counted where things happen. What can be asked for is asked at a scrape, under locks
//! that are held for a few instructions; RabbitMQ is never asked then.
//!
//! Labels come from closed lists, never from a name in RabbitMQ.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::bindings::Bindings;
use crate::headers::Skip;
use crate::outsize::Fate;
use crate::status::Part;

/// Begins every name. RabbitMQ's own exporter has `rabbitmq_`.
const PREFIX: &str = "amqp";

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    reconnects: Family<Connection, Counter>,
    pub(crate) republished: Counter,
    pub(crate) duplicates: Counter,
    skipped: Family<Skipped, Counter>,
    outsize: Family<OutsizeFate, Counter>,
    proofs: Family<Proof, Counter>,
    pub(crate) consumers: Gauge,
    /// As RabbitMQ last said.
    pub(crate) topic_queue_messages: Gauge,
    /// Alike.
    pub(crate) direct_queue_messages: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Connection {
    connection: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Skipped {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutsizeFate {
    fate: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Proof {
    answer: &'static str,
}

/// The messages that wait for their confirms.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    messages: Arc<AtomicI64>,
    /// The bytes that may still be retained.
    room: Arc<Semaphore>,
    capacity: usize,
    oldest: Vec<Arc<Oldest>>,
}

/// One unconfirmed message's share; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    messages: Arc<AtomicI64>,
    _room: OwnedSemaphorePermit,
}

/// Since when the oldest message of a lane waits.
#[derive(Debug)]
pub(crate) struct Oldest {
    epoch: Instant,
    /// Milliseconds after the epoch; [`NONE`] if none waits.
    since: AtomicU64,
}

const NONE: u64 = u64::MAX;

/// What is asked for at a scrape.
#[derive(Debug)]
struct Scrape {
    unconfirmed: Arc<Unconfirmed>,
    topics: Arc<Bindings>,
    letters: Arc<Bindings>,
}

impl Metrics {
    /// A connection was opened that is not the first.
    pub(crate) fn reconnected(&self, part: Part) {
        self.reconnects.get_or_create(&Connection::of(part)).inc();
    }

    /// A message was not delivered, for it says what this node does not know.
    pub(crate) fn skipped(&self, skip: Skip) {
        self.skipped.get_or_create(&Skipped { reason: skip.label() }).inc();
    }

    /// A message was not delivered, for it is too long for clients.
    pub(crate) fn outsize(&self, fate: Fate) {
        self.outsize.get_or_create(&OutsizeFate { fate: fate.label() }).inc();
    }

    /// RabbitMQ was asked for an exchange of others.
    pub(crate) fn proved(&self, is_there: bool) {
        self.proofs.get_or_create(&Proof::of(is_there)).inc();
    }

    pub(crate) fn register(
        &self,
        registry: &mut Registry,
        unconfirmed: &Arc<Unconfirmed>,
        topics: &Arc<Bindings>,
        letters: &Arc<Bindings>,
    ) {
        // All are there from the start, so that a rate has something to rise from.
        for part in [Part::Publish, Part::Consume, Part::Apart] {
            drop(self.reconnects.get_or_create(&Connection::of(part)));
        }
        for skip in Skip::ALL {
            drop(self.skipped.get_or_create(&Skipped { reason: skip.label() }));
        }
        for fate in Fate::ALL {
            drop(self.outsize.get_or_create(&OutsizeFate { fate: fate.label() }));
        }
        for is_there in [true, false] {
            drop(self.proofs.get_or_create(&Proof::of(is_there)));
        }
        let ours = registry.sub_registry_with_prefix(PREFIX);
        ours.register(
            "reconnects",
            "Connections to RabbitMQ opened after the first, by what they are for",
            self.reconnects.clone(),
        );
        ours.register(
            "republished",
            "Messages published again because their connection went away before the confirm",
            self.republished.clone(),
        );
        ours.register(
            "duplicates",
            "Messages that came a second time, of topics or settled before, and were not delivered again",
            self.duplicates.clone(),
        );
        ours.register(
            "skipped",
            "Messages of newer nodes that this one does not understand, by what it does not know",
            self.skipped.clone(),
        );
        ours.register(
            "outsize",
            "Messages longer than max_outbound_message: topics' are dropped, queues' rejected",
            self.outsize.clone(),
        );
        ours.register(
            "exchange_proofs",
            "Times RabbitMQ was asked whether an exchange takes messages, by its answer",
            self.proofs.clone(),
        );
        ours.register("consumers", "Consumers of queues on this node now", self.consumers.clone());
        ours.register(
            "topic_queue_messages",
            "Messages that waited in RabbitMQ for this node's topics when it was last asked",
            self.topic_queue_messages.clone(),
        );
        ours.register(
            "direct_queue_messages",
            "Messages that waited in RabbitMQ for this node itself, its sessions and groups, alike",
            self.direct_queue_messages.clone(),
        );
        let (topics, letters) = (topics.clone(), letters.clone());
        let unconfirmed = unconfirmed.clone();
        ours.register_collector(Box::new(Scrape { unconfirmed, topics, letters }));
    }
}

impl Proof {
    fn of(is_there: bool) -> Self {
        Self { answer: if is_there { "yes" } else { "no" } }
    }
}

impl Connection {
    fn of(part: Part) -> Self {
        let connection = match part {
            Part::Publish => "publish",
            Part::Apart => "apart",
            Part::Consume | Part::TopicQueue | Part::LetterQueue => "consume",
        };
        Self { connection }
    }
}

impl Unconfirmed {
    /// With room for `capacity` bytes, for so many lanes.
    pub(crate) fn new(capacity: usize, lanes: usize) -> Self {
        Self {
            messages: Arc::default(),
            room: Arc::new(Semaphore::new(capacity)),
            capacity,
            oldest: (0..lanes).map(|_| Arc::new(Oldest::new())).collect(),
        }
    }

    /// Where lane `number` says how old its oldest is.
    pub(crate) fn oldest(&self, number: usize) -> Arc<Oldest> {
        self.oldest[number].clone()
    }

    /// Waits for room for `bytes`, of which more than all count as all. Those who wait are served
    /// in their order.
    pub(crate) async fn share(&self, bytes: usize) -> Option<Share> {
        let room = self.room.clone().acquire_many_owned(self.permits(bytes)).await.ok()?;
        self.messages.fetch_add(1, Ordering::Relaxed);
        Some(Share { messages: self.messages.clone(), _room: room })
    }

    /// Waits until there are none.
    pub(crate) async fn none(&self) {
        let _ = self.room.acquire_many(self.permits(self.capacity)).await;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.capacity - self.room.available_permits()
    }

    fn age(&self) -> Duration {
        self.oldest.iter().map(|oldest| oldest.age()).max().unwrap_or_default()
    }

    /// Within the semaphore's count: [`Config::check`](crate::Config::check) keeps the capacity below.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.capacity)).unwrap_or(u32::MAX)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Oldest {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), since: AtomicU64::new(NONE) }
    }

    pub(crate) fn set(&self, since: Option<Instant>) {
        let since = since.map_or(NONE, |since| {
            let millis = since.saturating_duration_since(self.epoch).as_millis();
            u64::try_from(millis).unwrap_or(NONE)
        });
        self.since.store(since, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            NONE => Duration::ZERO,
            since => self.epoch.elapsed().saturating_sub(Duration::from_millis(since)),
        }
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { unconfirmed, topics, letters } = self;
        let mut gauge = |name, help, unit: Option<&Unit>, gauge: ConstGauge<f64>| {
            let metric = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let count = |count: usize| ConstGauge::new(count as f64);
        gauge(
            "unconfirmed_messages",
            "Messages handed over that RabbitMQ has not confirmed",
            None,
            ConstGauge::new(unconfirmed.messages.load(Ordering::Relaxed) as f64),
        )?;
        gauge(
            "unconfirmed",
            "What those messages take",
            Some(&Unit::Bytes),
            count(unconfirmed.bytes()),
        )?;
        gauge(
            "oldest_unconfirmed",
            "How long the oldest of them has waited",
            Some(&Unit::Seconds),
            ConstGauge::new(unconfirmed.age().as_secs_f64()),
        )?;
        gauge("bindings", "Bindings of this node's topic queue", None, count(topics.bound()))?;
        let help = "Bindings of this node's queue for itself, its sessions and groups";
        gauge("direct_bindings", help, None, count(letters.bound()))
    }
}
