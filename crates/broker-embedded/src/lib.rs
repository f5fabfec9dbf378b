//! The broker of a single node: in this process, in memory.
//!
//! Topics go to whoever subscribes at that moment; queues keep messages, for competing consumers with
//! acks and prefetch, until they are settled, or the process ends.
//!
//! Invariants
//! - What is held is bounded by the [`Config`]; what is beyond it is refused, never dropped.
//! - No lock is held while anything is awaited, or while a delivery is dropped.
//!
//! Not here: exchanges (a topic and a queue are all there is), anything on disk, other nodes.

mod config;
mod queue;
mod queues;
mod topics;

use std::sync::Arc;

use async_trait::async_trait;
use broker::destination::Kind;
use broker::{
    Broker, BrokerState, Confirm, DeleteError, Destination, Message, PublishError, PublisherId,
    QueueOptions, SubscribeError, SubscribeRequest, Subscription,
};
use bytestring::ByteString;
use tokio::sync::watch;

pub use config::{Config, Invalid};

use queues::Queues;
use topics::Topics;

/// A broker in this process. Dropping it ends its subscriptions.
#[derive(Debug)]
pub struct EmbeddedBroker {
    /// The longest body in bytes.
    max_message: usize,
    topics: Arc<Topics>,
    queues: Arc<Queues>,
    /// Never changes: this broker is up as long as it is there.
    state: watch::Sender<BrokerState>,
}

impl EmbeddedBroker {
    /// A broker without queues or subscriptions.
    ///
    /// `config` is taken as it is; see [`Config::check`].
    pub fn new(config: Config) -> Self {
        Self {
            max_message: config.max_message_bytes(),
            topics: Arc::default(),
            queues: Queues::new(&config),
            state: watch::Sender::new(BrokerState::up()),
        }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    /// To a topic: waits while a subscription's queue is full, and is confirmed at once. (The hub
    /// takes what it gets and never waits for clients, so this wait is for the scheduler alone.)
    /// If the wait is given up, the subscriptions that were full miss the message.
    ///
    /// To a queue: never waits; the confirm is there at once, and refuses what the queue has no room for.
    async fn publish(
        &self,
        _publisher: PublisherId,
        message: Message,
    ) -> Result<Confirm, PublishError> {
        let (size, limit) = (message.body.len(), self.max_message);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let message = Arc::new(message);
        match &message.destination {
            Destination::Topic(topic) => {
                self.topics.publish(topic, &message).await;
                Ok(Confirm::known(Ok(())))
            }
            Destination::Queue(name) => self
                .queues
                .publish(name, &message)
                .map(Confirm::known)
                .map_err(|limit| PublishError::LimitReached { what: "queue", limit: limit.0 }),
            other => Err(PublishError::Unsupported {
                kind: other.kind().as_str(),
                instead: instead_of(other.kind()),
            }),
        }
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, SubscribeError> {
        let prefetch = request.prefetch.max(1);
        match &request.destination {
            Destination::Topic(topic) => Ok(self.topics.subscribe(topic, prefetch)),
            Destination::Queue(name) => self
                .queues
                .subscribe(name, prefetch)
                .map_err(|limit| SubscribeError::LimitReached { what: "queue", limit: limit.0 }),
            other => Err(SubscribeError::Unsupported {
                kind: other.kind().as_str(),
                instead: instead_of(other.kind()),
            }),
        }
    }

    async fn declare(
        &self,
        _publisher: PublisherId,
        _queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        // A queue comes into being with its first message or consumer.
        match options.is_empty() {
            true => Ok(()),
            false => Err(SubscribeError::UnsupportedOption {
                what: "a queue with properties of its own".into(),
                instead: "leave them out",
            }),
        }
    }

    async fn delete(&self, destination: &Destination) -> Result<(), DeleteError> {
        match destination {
            Destination::Queue(name) => {
                self.queues.delete(name);
                Ok(())
            }
            other => Err(DeleteError::Unsupported { kind: other.kind().as_str() }),
        }
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }
}

/// What to do where there is no such destination.
fn instead_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Exchange => "the embedded broker has no exchanges; use a topic",
        Kind::AmqQueue | Kind::ReplyQueue => "the embedded broker has no AMQP queues; use a queue",
        Kind::TempQueue => "the embedded broker has no temporary queues; use a queue",
        Kind::User | Kind::Group | Kind::App => {
            "they are handled by the gateway and do not reach a broker by themselves"
        }
        Kind::Topic | Kind::Queue | Kind::Off => "use a topic or a queue",
    }
}
