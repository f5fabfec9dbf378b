//! RabbitMQ over AMQP 0-9-1, multiplexed: two to four connections per node, whatever the number of clients.
//!
//! One connection publishes and hears confirms, the other consumes and binds; a third, once there is a use
//! for it, declares what clients name, and a fourth, while there is one, asks for exchanges that others
//! declare. Topics come to the node by one queue of its own,
//! what the nodes have among themselves by another, if there is a use for it, and are split here; a subscription to a queue, or one that has a queue of its own, is one AMQP
//! consumer on a shared channel.
//!
//! Invariants
//! - An outage ends no subscription. What was desired (connections, the topic queue, bindings,
//!   consumers, unconfirmed publishes) is rebuilt on the next connection, each item failing alone.
//! - A confirm is RabbitMQ's own. Until it comes the message is retained, and published again if its
//!   connection goes away; what waits longer than `publish_timeout` is given up, and says so.
//! - Nothing that a client publishes, or names, closes a channel that others publish on (`headers`,
//!   `proofs`, `direct_replies`).
//! - lapin's recovery is off: an old connection's channels and tags are inert, never mistaken for new.
//!
//! Not here: who may do what.

mod apart;
mod arguments;
mod asking;
mod binder;
mod bindings;
mod cancelling;
mod config;
mod consumer_channels;
mod declarations;
mod declared_queues;
mod direct_replies;
mod exclusive_queues;
mod frames;
mod headers;
mod lane;
mod link;
mod marker;
mod metrics;
mod names;
mod node_queue;
mod opening;
mod operation;
mod outlet;
mod outsize;
mod proofs;
mod publisher;
mod queue_consumer;
mod queue_spec;
mod queues;
mod reading;
mod recent;
mod retained;
mod seal;
mod settled;
mod settler;
mod source;
mod status;
mod stream_position;
mod subscription_names;
mod supervisor;
mod topics;
mod walk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{
    Broker, BrokerState, Confirm, ConfirmError, DeleteError, Destination, Feed, Message,
    PublishError, PublisherId, QueueOptions, SubscribeError, SubscribeRequest, Subscription,
};
use bytestring::ByteString;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use ulid::Ulid;

pub use config::{Config, Invalid, Uri};
pub use subscription_names::SubscriptionNames;

use apart::Apart;
use binder::Binder;
use bindings::Bindings;
use consumer_channels::ConsumerChannels;
use declarations::Declarations;
use direct_replies::DirectReplies;
use exclusive_queues::ExclusiveQueues;
use marker::Marker;
use metrics::Metrics;
use names::{Collected, Names};
use node_queue::NodeQueue;
use outsize::Outsize;
use proofs::Prover;
use publisher::Publisher;
use queues::Queues;
use settled::Settled;
use source::Sources;
use status::{Part, Status};
use supervisor::Supervisor;
use topics::Topics;

/// How long RabbitMQ may be away when the broker closes, before what it has not confirmed is given up.
const AWAY: Duration = Duration::from_secs(3);

/// How long RabbitMQ has to answer when the connections are closed.
const GOOD_BYE: Duration = Duration::from_secs(2);

/// RabbitMQ as a [`Broker`]. Dropping it ends its subscriptions and connections; its own queues
/// expire, unless [`close`](Self::close) has deleted them.
pub struct RabbitMqBroker {
    status: Arc<Status>,
    publisher: Arc<Publisher>,
    topics: Arc<Topics>,
    letters: Arc<Topics>,
    queues: Arc<Queues>,
    metrics: Arc<Metrics>,
    leaving: CancellationToken,
    /// Taken by the one who closes. Held for the taking.
    node_queues: Mutex<Vec<JoinHandle<()>>>,
    closing: CancellationToken,
    _closing: DropGuard,
    /// Those who keep the connections; closed, so that it can be waited for.
    connections: TaskTracker,
}

impl RabbitMqBroker {
    /// A broker that connects to RabbitMQ as soon as there is one; until then its state is down, and
    /// what is asked of it waits. `boot` names this process in RabbitMQ: no other has the same.
    ///
    /// `config` is taken as it is; see [`Config::check`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(config: Config, boot: Ulid) -> Self {
        let config = Arc::new(config);
        let names = Arc::new(Names::new(&config, boot));
        let status = Arc::new(Status::new());
        let metrics = Arc::<Metrics>::default();
        let (closing, leaving) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let connection = |part, use_of_it| Supervisor {
            config: config.clone(),
            status: status.clone(),
            metrics: metrics.clone(),
            part,
            name: format!("{} {} {use_of_it}", config.namespace, names.boot()),
            closing: closing.clone(),
            told: <_>::default(),
        };
        let publishing = connection(Part::Publish, "publish").start(&connections);
        let consuming = connection(Part::Consume, "consume").start(&connections);
        let apart = connection(Part::Apart, "declare");
        let apart = Apart::new(apart, connections.clone(), config.reconnect_pause);
        let prover = Prover {
            config: config.clone(),
            name: format!("{} {} prove", config.namespace, names.boot()),
            metrics: metrics.clone(),
            closing: closing.clone(),
        };
        let (proofs, proving) = prover.start();
        connections.spawn(proving);
        connections.close();
        let pause = config.reconnect_pause;
        let declarations =
            Arc::new(Declarations::new(names.clone(), consuming.clone(), pause, apart, proofs));
        let replies = Arc::<DirectReplies>::default();
        let publisher = Arc::new(Publisher::start(
            &config,
            names.clone(),
            status.clone(),
            &publishing,
            &declarations,
            &metrics,
            replies.clone(),
        ));
        let outsize = Arc::new(Outsize::new(config.max_outbound_bytes(), metrics.clone()));
        let collecting = |collected| {
            let bindings = Arc::<Bindings>::default();
            let topics = Arc::new(Topics {
                collected,
                names: names.clone(),
                status: status.clone(),
                bindings: bindings.clone(),
                metrics: metrics.clone(),
                outsize: outsize.clone(),
                replies: replies.clone(),
                timeout: config.subscribe_timeout,
                dispatching: <_>::default(),
            });
            let queue = NodeQueue {
                collected,
                config: config.clone(),
                names: names.clone(),
                status: status.clone(),
                links: consuming.clone(),
                publisher: publisher.clone(),
                declarations: declarations.clone(),
                binder: Binder { declarations: declarations.clone(), bindings },
                metrics: metrics.clone(),
                topics: topics.clone(),
                leaving: leaving.clone(),
                generation: 0,
                declared: false,
                declaring: false,
                marker: Mutex::new(Marker::new()),
                newest_marker: <_>::default(),
                unreadable: 0,
            };
            (topics, tokio::spawn(queue.run()))
        };
        let (topics, topic_queue) = collecting(Collected::Topics);
        let (letters, letter_queue) = collecting(Collected::Letters);
        let queues = Arc::new(Queues {
            links: consuming,
            status: status.clone(),
            sources: Sources::new(&config, names.clone()),
            names,
            declarations,
            channels: Arc::<ConsumerChannels>::default(),
            exclusive: Arc::new(ExclusiveQueues::new(config.vhost())),
            settled: Arc::<Settled>::default(),
            recent: Mutex::default(),
            metrics: metrics.clone(),
            outsize,
            replies,
            timeout: config.subscribe_timeout,
            reconnect_pause: config.reconnect_pause,
            closing: closing.clone(),
            ending: TaskTracker::new(),
        });
        Self {
            status,
            publisher,
            topics,
            letters,
            queues,
            metrics,
            leaving,
            node_queues: Mutex::new(vec![topic_queue, letter_queue]),
            _closing: closing.clone().drop_guard(),
            closing,
            connections,
        }
    }

    /// Waits for the confirms that are due, at most for `publish_timeout`, undoes the bindings,
    /// deletes the node's queues and closes the connections. Once RabbitMQ has been away for 3 s, what
    /// it has not confirmed is given up. What is asked of the broker from now on may be lost.
    pub async fn close(&self) {
        tokio::select! {
            () = self.publisher.drain() => {}
            () = self.status.away(Part::Publish, AWAY) => {}
        }
        // What was subscribed to leaves no queue behind that nobody else has.
        tokio::select! {
            _ = tokio::time::timeout(GOOD_BYE, self.queues.ended()) => {}
            () = self.status.away(Part::Consume, Duration::ZERO) => {}
        }
        self.leaving.cancel();
        let node_queues = std::mem::take(&mut *self.node_queues.lock());
        for mut queue in node_queues {
            // Without RabbitMQ there is nothing to leave.
            tokio::select! {
                _ = &mut queue => {}
                () = self.status.away(Part::Consume, Duration::ZERO) => queue.abort(),
            }
        }
        self.closing.cancel();
        // Else the process would end before RabbitMQ has heard the good-bye, and it would log that
        // its peer broke the connection.
        let _ = tokio::time::timeout(GOOD_BYE, self.connections.wait()).await;
    }

    /// How many bytes of messages wait for RabbitMQ's confirm.
    pub fn unconfirmed_bytes(&self) -> usize {
        self.publisher.unconfirmed().bytes()
    }

    /// Adds this node's metrics to `registry`, all beginning with `amqp_`. Once for each registry.
    pub fn register(&self, registry: &mut Registry) {
        let (topics, letters) = (&self.topics.bindings, &self.letters.bindings);
        self.metrics.register(registry, self.publisher.unconfirmed(), topics, letters);
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    /// Waits while more is retained than the configuration allows. A message that AMQP cannot carry
    /// is refused by its confirm, and so is one to a queue that is another session's own.
    async fn publish(
        &self,
        publisher: PublisherId,
        message: Message,
    ) -> Result<Confirm, PublishError> {
        if let Destination::Queue(name) = &message.destination
            && let Err(locked) = self.queues.check(publisher, name)
        {
            return Ok(Confirm::known(Err(ConfirmError::Refused(locked.to_string()))));
        }
        self.publisher.publish(publisher, message).await
    }

    /// Waits for RabbitMQ up to `subscribe_timeout`.
    async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, SubscribeError> {
        match (&request.destination, &request.feed) {
            (Destination::Topic(topic), Feed::Shared) if !source::is_entrance(topic) => {
                let topics = match Collected::of(topic) {
                    Collected::Topics => &self.topics,
                    Collected::Letters => &self.letters,
                };
                topics.subscribe(topic, request.prefetch.max(1)).await
            }
            _ => self.queues.subscribe(request).await,
        }
    }

    /// Waits for RabbitMQ up to `subscribe_timeout`.
    async fn declare(
        &self,
        publisher: PublisherId,
        queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        self.queues.declare(publisher, queue, options).await
    }

    async fn delete(&self, destination: &Destination) -> Result<(), DeleteError> {
        match destination {
            Destination::Queue(name)
            | Destination::AmqQueue(name)
            | Destination::ReplyQueue(name) => self.queues.delete(name).await,
            other => Err(DeleteError::Unsupported { kind: other.kind().as_str() }),
        }
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.status.subscribe()
    }
}

impl fmt::Debug for RabbitMqBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqBroker").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why a queue of such a name cannot be had.
pub(crate) const RABBITMQS_OWN: &str =
    "queue names that begin with amq. are RabbitMQ's own: use another name";

/// Whether RabbitMQ would refuse to declare a queue of that name, at the price of a channel.
pub(crate) fn is_rabbitmqs_own(name: &str) -> bool {
    name.starts_with("amq.")
}

/// What to do about a destination of a kind that no broker has.
pub(crate) const GATEWAYS_OWN: &str =
    "they are handled by the gateway and do not reach a broker by themselves";
