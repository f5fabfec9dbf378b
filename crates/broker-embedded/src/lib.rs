//! The broker of a single node: in this process, in memory.
//!
//! Topics go to whoever subscribes at that moment, or to a queue that lives as long as its
//! subscription; queues keep messages, for competing consumers with acks and prefetch, until they are
//! settled, or the process ends. A queue's name is one and the same to `/queue`, `/amq/queue` and
//! `/reply-queue`.
//!
//! Invariants
//! - What is held is bounded by the [`Config`]; what is beyond it is refused, or passes over the
//!   subscription that does not keep up; what was taken is never dropped.
//! - No lock is held while anything is awaited, or while a delivery is dropped.
//! - Locks are taken in one order: topics, or the queues' names, then one queue.
//!
//! Not here: exchanges but that of topics, anything that stays while its subscriber is away but a
//! queue, anything on disk, other nodes. Who asks for these is refused and told what to do instead.

mod config;
mod lag;
mod options;
mod queue;
mod queues;
mod topics;

use std::sync::Arc;

use async_trait::async_trait;
use broker::destination::{Kind, Topic};
use broker::internal::Internal;
use broker::{
    Broker, BrokerState, Confirm, ConfirmError, DeleteError, Destination, Message, PublishError,
    PublisherId, QueueOptions, SubscribeError, SubscribeRequest, Subscription,
};
use bytestring::ByteString;
use tokio::sync::watch;

pub use config::{Config, Invalid};

use queue::Ownership;
use queues::Queues;
use topics::{Subscriber, Topics};

/// The exchange that topics are in, by the name it has in RabbitMQ.
const TOPIC_EXCHANGE: &str = "amq.topic";

/// The prefix of the topics that are in that exchange; those under other prefixes are in none.
const TOPIC_PREFIX: &str = "/topic";

/// A broker in this process. Dropping it ends its subscriptions.
#[derive(Debug)]
pub struct EmbeddedBroker {
    /// The longest body in bytes.
    max_message: usize,
    topics: Arc<Topics>,
    queues: Arc<Queues>,
    /// Up as long as the broker is there. A queue of a subscription's own that misses messages is a gap.
    state: watch::Sender<BrokerState>,
}

impl EmbeddedBroker {
    /// A broker without queues or subscriptions.
    ///
    /// `config` is taken as it is; see [`Config::check`].
    pub fn new(config: Config) -> Self {
        let state = watch::Sender::new(BrokerState::up());
        Self {
            max_message: config.max_message_bytes(),
            topics: Arc::default(),
            queues: Queues::new(&config, state.clone()),
            state,
        }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    /// To a topic: waits while a shared subscription is full, and is confirmed at once. (The hub
    /// takes what it gets and never waits for clients, so this wait is for the scheduler alone.)
    /// If the wait is given up, the subscriptions that were full miss the message. A queue of a
    /// subscription's own never makes anybody wait: while it is full it misses messages, see
    /// [`Config`].
    ///
    /// To a queue: never waits; the confirm is there at once, and refuses what the queue has no room for.
    async fn publish(
        &self,
        publisher: PublisherId,
        mut message: Message,
    ) -> Result<Confirm, PublishError> {
        let (size, limit) = (message.body.len(), self.max_message);
        // A letter holds a message, and whom it is for besides; who writes it has limits of its own.
        if size > limit && !is_internal(&message.destination) {
            return Err(PublishError::TooLarge { size, limit });
        }
        if let Some(topic) = topic_of_exchange(&message.destination) {
            message.destination = Destination::Topic(topic);
        }
        let message = Arc::new(message);
        let result = match &message.destination {
            Destination::Topic(topic) => {
                self.topics.publish(topic, &message).await;
                Ok(())
            }
            Destination::Queue(name) => self
                .queues
                .publish(name, publisher, &message)
                .map_err(|limit| PublishError::LimitReached { what: "queue", limit: limit.0 })?,
            Destination::AmqQueue(name) => self
                .queues
                .publish_existing(name, &message)
                .unwrap_or(Err(ConfirmError::Unroutable)),
            // Who asked and went away wants no answer: that is no failure of who answers.
            Destination::ReplyQueue(name) => {
                self.queues.publish_existing(name, &message).unwrap_or(Ok(()))
            }
            other => {
                let (kind, instead) = unsupported(other.kind());
                return Err(PublishError::Unsupported { kind, instead });
            }
        };
        Ok(Confirm::known(result))
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, SubscribeError> {
        let SubscribeRequest { destination, prefetch, feed, queue, consumer, subscriber } = request;
        let prefetch = prefetch.max(1);
        options::no_arguments(&consumer)?;
        let destination = match topic_of_exchange(&destination) {
            Some(topic) => Destination::Topic(topic),
            None => destination,
        };
        match &destination {
            Destination::Topic(topic) => {
                let own = options::is_own(&feed)?;
                options::of_own_queue(&queue)?;
                if !own {
                    return Ok(self.topics.subscribe(topic, prefetch));
                }
                let (queue, subscription) = self.queues.subscribe_own(subscriber, prefetch)?;
                queue.keep(self.topics.bind(topic, Subscriber::Own(queue.clone())));
                Ok(subscription)
            }
            Destination::TempQueue(_) => {
                options::of_own_queue(&queue)?;
                Ok(self.queues.subscribe_own(subscriber, prefetch)?.1)
            }
            Destination::Queue(name) => {
                let said = options::of_named_queue(&queue, subscriber)?;
                self.queues.subscribe(name, said, subscriber, prefetch)
            }
            // These are not declared, so what is said of them is nothing to them.
            Destination::AmqQueue(name) | Destination::ReplyQueue(name) => {
                self.queues.subscribe_existing(name, subscriber, prefetch)
            }
            other => {
                let (kind, instead) = unsupported(other.kind());
                Err(SubscribeError::Unsupported { kind, instead })
            }
        }
    }

    /// A queue of which nothing is said is taken as it is. What is refused, and why, is in `options`.
    async fn declare(
        &self,
        publisher: PublisherId,
        queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        let said = options::of_named_queue(options, publisher)?;
        if let Some(exclusive @ Ownership::Exclusive(_)) = said {
            let Some(queue) = self.queues.get(queue) else {
                return Err(options::without_consumer(options));
            };
            queue.admit(publisher)?;
            return queue.check(exclusive);
        }
        self.queues.declare(queue, said, publisher).map(drop)
    }

    async fn delete(&self, destination: &Destination) -> Result<(), DeleteError> {
        match destination {
            Destination::Queue(name)
            | Destination::AmqQueue(name)
            | Destination::ReplyQueue(name) => {
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

/// Whether it is a topic that nodes have among themselves.
fn is_internal(destination: &Destination) -> bool {
    matches!(destination, Destination::Topic(topic) if Internal::of(topic.prefix()).is_some())
}

/// The topic, or pattern, that `destination` names if it is in the one exchange there is.
fn topic_of_exchange(destination: &Destination) -> Option<Topic> {
    match destination {
        Destination::Exchange { exchange, key } if **exchange == *TOPIC_EXCHANGE => {
            let key = key.clone().unwrap_or_default();
            Some(Topic::exact(TOPIC_PREFIX.into(), key))
        }
        _ => None,
    }
}

/// The kind that is not there, and what to do instead.
fn unsupported(kind: Kind) -> (&'static str, &'static str) {
    let instead = match kind {
        Kind::Exchange => {
            "the embedded broker has the exchange amq.topic only; use a topic, or run with RabbitMQ: \
             `footbridge gateway`"
        }
        Kind::TempQueue => "use it in the reply-to header of a SEND",
        Kind::User | Kind::Group | Kind::App => {
            "they are handled by the gateway and do not reach a broker by themselves"
        }
        Kind::Topic | Kind::Queue | Kind::AmqQueue | Kind::ReplyQueue | Kind::Off => {
            "use a topic or a queue"
        }
    };
    (kind.as_str(), instead)
}

#[cfg(test)]
mod tests {
    use broker::Feed;

    use super::*;

    fn request(topic: &str) -> SubscribeRequest {
        let topic = Topic::exact(TOPIC_PREFIX.into(), topic.into());
        SubscribeRequest { feed: Feed::Own, ..SubscribeRequest::new(Destination::Topic(topic), 1) }
    }

    #[tokio::test]
    async fn an_own_queue_is_bound_no_longer_than_it_is_there() {
        let broker = EmbeddedBroker::new(Config::default());
        let dropped = broker.subscribe(request("a")).await.unwrap();
        let deleted = broker.subscribe(request("b")).await.unwrap();
        assert_eq!(broker.topics.len(), 2);
        drop(dropped);
        assert_eq!(broker.topics.len(), 1);
        let name = deleted.queue().unwrap().clone();
        broker.delete(&Destination::Queue(name)).await.unwrap();
        assert_eq!(broker.topics.len(), 0);
    }
}
