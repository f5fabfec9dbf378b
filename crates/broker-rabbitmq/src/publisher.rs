//! Takes messages for RabbitMQ and puts each in its publisher's line.
//!
//! Invariants
//! - Messages of one publisher to one destination go by one [`Lane`], so their order holds.
//! - What could close the channel of a lane goes by lanes apart: exchanges that others declare, and may
//!   delete. The exchange of the topics is named there as well as by a topic, and is a topic then.
//! - Nobody publishes by name to what the nodes have among themselves: exchanges and queues that begin
//!   with the namespace, but for those of topics.
//! - All lanes together retain no more bytes than the configuration says; beyond it publishers wait,
//!   first come, first served.

use std::sync::Arc;
use std::time::Duration;

use broker::destination::Kind;
use broker::{Confirm, Destination, Message, MessageId, PublishError, PublisherId};
use bytes::Bytes;
use bytestring::ByteString;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::Instant;

use crate::asking::Asking;
use crate::declarations::{Declarations, Target};
use crate::direct_replies::{self, DirectReplies};
use crate::headers::{self, Unfit};
use crate::lane::{Carries, Lane};
use crate::link::Links;
use crate::metrics::{Metrics, Unconfirmed};
use crate::names::{LIMIT, Names};
use crate::retained::{Outgoing, Pending, Retained};
use crate::status::Status;
use crate::supervisor::Pauses;
use crate::{Config, GATEWAYS_OWN, RABBITMQS_OWN, is_rabbitmqs_own};

/// What a message takes besides its body and headers, in bytes, roughly.
const OVERHEAD: usize = 512;

/// What a header takes besides its name and value, in bytes, roughly.
const OVERHEAD_OF_HEADER: usize = 64;

/// Why an exchange cannot be named.
const NO_NAME: &str = "an exchange without a name is RabbitMQ's own: use a queue";

/// Why a name of ours cannot be published to.
const OURS: &str = "exchanges and queues that begin with the nodes' own namespace are theirs alone: use \
                    another name";

/// Why a reply cannot be sent.
const NOT_ASKED: &str = "a name that begins with amq.rabbitmq.reply-to. takes replies only to what has \
                         come here with it as its reply-to";

/// Why a name of RabbitMQ's cannot be published to.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to is where RabbitMQ takes replies for a channel: name \
                            it as a reply queue";

/// The way to RabbitMQ for messages.
#[derive(Debug)]
pub(crate) struct Publisher {
    names: Arc<Names>,
    status: Arc<Status>,
    /// What RabbitMQ knows us by, if all URIs say the same.
    user: Option<String>,
    timeout: Duration,
    max_message: usize,
    unconfirmed: Arc<Unconfirmed>,
    replies: Arc<DirectReplies>,
    declarations: Arc<Declarations>,
    /// In each, one for each of the `publish_channels`. Bounded by what may be unconfirmed.
    topics: Lanes,
    queues: Lanes,
    exchanges: Lanes,
}

type Lanes = Vec<UnboundedSender<Pending>>;

/// Where a message goes in RabbitMQ.
struct Way<'a> {
    lanes: &'a Lanes,
    target: Target,
    exchange: ByteString,
    routing_key: ByteString,
}

impl Publisher {
    /// Starts the lanes; they end when this is dropped.
    pub(crate) fn start(
        config: &Config,
        names: Arc<Names>,
        status: Arc<Status>,
        links: &Links,
        declarations: &Arc<Declarations>,
        metrics: &Arc<Metrics>,
        replies: Arc<DirectReplies>,
    ) -> Self {
        let of_lanes = &status;
        let channels = usize::from(config.publish_channels);
        let unconfirmed = Arc::new(Unconfirmed::new(config.retained_bytes(), 3 * channels));
        let lane = |carries, number| {
            let (sender, incoming) = mpsc::unbounded_channel();
            let lane = Lane {
                incoming,
                status: of_lanes.clone(),
                links: links.clone(),
                declarations: declarations.clone(),
                asking: Asking::new(declarations.clone()),
                carries,
                metrics: metrics.clone(),
                retained: Retained::new(unconfirmed.oldest(number)),
                careful: 0,
                pauses: Pauses::new(Duration::from_secs(1)),
            };
            tokio::spawn(lane.run());
            sender
        };
        let mut numbers = 0..;
        let mut lanes = |carries| -> Lanes {
            numbers.by_ref().take(channels).map(|number| lane(carries, number)).collect()
        };
        let topics = lanes(Carries::Topics);
        let queues = lanes(Carries::Queues);
        let exchanges = lanes(Carries::Exchanges);
        Self {
            names,
            status,
            user: user(config),
            timeout: config.publish_timeout,
            max_message: config.max_message_bytes(),
            unconfirmed,
            replies,
            declarations: declarations.clone(),
            topics,
            queues,
            exchanges,
        }
    }

    pub(crate) async fn publish(
        &self,
        publisher: PublisherId,
        message: Message,
    ) -> Result<Confirm, PublishError> {
        let (size, limit) = (message.body.len(), self.max_message);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let way = self.way(&message.destination)?;
        let lanes = way.lanes;
        let outgoing = self.outgoing(&message, way)?;
        let headers: usize =
            message.headers.iter().map(|(n, v)| n.len() + v.len() + OVERHEAD_OF_HEADER).sum();
        // The remainder is below the number of lanes.
        let lane = (publisher.0 % lanes.len() as u64) as usize;
        self.hand_over(&lanes[lane], outgoing, size + headers + OVERHEAD).await
    }

    /// Puts a message that takes so many bytes in line, once there is room.
    async fn hand_over(
        &self,
        lane: &UnboundedSender<Pending>,
        outgoing: Outgoing,
        bytes: usize,
    ) -> Result<Confirm, PublishError> {
        let since = Instant::now();
        let deadline = since + self.timeout;
        let share = self.unconfirmed.share(bytes);
        let Ok(Some(share)) = tokio::time::timeout_at(deadline, share).await else {
            return Err(PublishError::Unavailable(self.status.reason()));
        };
        let (confirmer, confirm) = Confirm::pending();
        // An error means that the broker is closing, and the confirm says that the message is lost.
        let _ = lane.send(Pending {
            outgoing: Arc::new(outgoing),
            confirmer,
            since,
            deadline,
            _share: share,
        });
        Ok(confirm)
    }

    /// Publishes a message of the node's own, without a body, to a queue that is there.
    pub(crate) async fn publish_to_queue(
        &self,
        name: &str,
        properties: BasicProperties,
    ) -> Result<Confirm, PublishError> {
        let (target, exchange) = (Target::Exchange(ByteString::new()), ShortString::default());
        let (id, routing_key, body) = (MessageId::new(), name.into(), Bytes::new());
        let frame = headers::frame(&properties);
        let outgoing = Outgoing { id, target, exchange, routing_key, properties, body, frame };
        self.hand_over(&self.topics[0], outgoing, OVERHEAD).await
    }

    /// Waits until nothing is unconfirmed, as long as a publish may wait.
    pub(crate) async fn drain(&self) {
        let _ = tokio::time::timeout(self.timeout, self.unconfirmed.none()).await;
    }

    /// What waits for its confirm.
    pub(crate) fn unconfirmed(&self) -> &Arc<Unconfirmed> {
        &self.unconfirmed
    }

    /// Where a message to `destination` goes.
    fn way(&self, destination: &Destination) -> Result<Way<'_>, PublishError> {
        let none = ByteString::new;
        let way = match destination {
            Destination::Topic(topic) => {
                let exchange = self.names.exchange(topic).ok_or(Unfit::PrefixTooLong)?;
                self.to_topics(exchange, topic.key().clone())
            }
            Destination::Queue(name) if is_rabbitmqs_own(name) => {
                return Err(PublishError::Misnamed(RABBITMQS_OWN));
            }
            Destination::Queue(name) if self.names.is_nodes_queue(name) => {
                return Err(PublishError::Misnamed(OURS));
            }
            Destination::Queue(name) => {
                let target = Target::Queue(name.clone());
                Way { lanes: &self.queues, target, exchange: none(), routing_key: name.clone() }
            }
            Destination::Exchange { exchange, .. } if exchange.is_empty() => {
                return Err(PublishError::Misnamed(NO_NAME));
            }
            Destination::Exchange { exchange, .. } if self.names.is_nodes_exchange(exchange) => {
                return Err(PublishError::Misnamed(OURS));
            }
            Destination::Exchange { exchange, key } => {
                let key = key.clone().unwrap_or_default();
                if self.names.is_topic_exchange(exchange) {
                    self.to_topics(exchange.clone(), key)
                } else {
                    let target = self.by_key(exchange, &key);
                    let target = target.unwrap_or_else(|| Target::Foreign(exchange.clone()));
                    let exchange = exchange.clone();
                    Way { lanes: &self.exchanges, target, exchange, routing_key: key }
                }
            }
            Destination::AmqQueue(name) | Destination::ReplyQueue(name)
                if self.names.is_nodes_queue(name) =>
            {
                return Err(PublishError::Misnamed(OURS));
            }
            Destination::AmqQueue(name) if direct_replies::is_one(name) => {
                return Err(PublishError::Misnamed(DIRECT_REPLY));
            }
            Destination::AmqQueue(name) => {
                let target = Target::ForeignQueue(name.clone());
                Way { lanes: &self.queues, target, exchange: none(), routing_key: name.clone() }
            }
            Destination::ReplyQueue(name)
                if direct_replies::is_one(name) && !self.replies.permit(name) =>
            {
                return Err(PublishError::Misnamed(NOT_ASKED));
            }
            // Not mandatory: who asked may have gone, and that is no fault of who answers.
            Destination::ReplyQueue(name) => {
                let target = Target::Foreign(none());
                Way { lanes: &self.topics, target, exchange: none(), routing_key: name.clone() }
            }
            Destination::TempQueue(_) => {
                return Err(PublishError::Unsupported {
                    kind: Kind::TempQueue.as_str(),
                    instead: "only the reply-to of a message can name one; use a queue",
                });
            }
            other @ (Destination::User(_) | Destination::Group(_) | Destination::App(_)) => {
                return Err(PublishError::Unsupported {
                    kind: other.kind().as_str(),
                    instead: GATEWAYS_OWN,
                });
            }
        };
        for (what, name) in [("an exchange", &way.exchange), ("a routing key", &way.routing_key)] {
            if name.len() > LIMIT {
                return Err(Unfit::DestinationTooLong { what, limit: LIMIT }.into());
            }
        }
        Ok(way)
    }

    /// An exchange that this node declares, and is not asked for.
    fn to_topics(&self, exchange: ByteString, routing_key: ByteString) -> Way<'_> {
        let target = self.by_key(&exchange, &routing_key);
        let target = target.unwrap_or_else(|| Target::Exchange(exchange.clone()));
        Way { lanes: &self.topics, target, exchange, routing_key }
    }

    /// The target where this node may publish with some keys only.
    fn by_key(&self, exchange: &ByteString, key: &ByteString) -> Option<Target> {
        let by_key = self.declarations.is_by_key(exchange);
        by_key.then(|| Target::ForeignKey(exchange.clone(), key.clone()))
    }

    fn outgoing(&self, message: &Message, way: Way<'_>) -> Result<Outgoing, PublishError> {
        let properties = headers::write(message, self.names.boot(), self.user.as_deref())?;
        let Way { target, exchange, routing_key, .. } = way;
        Ok(Outgoing {
            id: message.id,
            target,
            // `way` keeps them within AMQP's limit.
            exchange: ShortString::try_new(&*exchange).unwrap_or_default(),
            routing_key: ShortString::try_new(&*routing_key).unwrap_or_default(),
            frame: headers::frame(&properties),
            properties,
            body: message.body.clone(),
        })
    }
}

/// The user of all URIs, if it is the same.
fn user(config: &Config) -> Option<String> {
    let mut users =
        config.uris.iter().map(|uri| Some(uri.parse().ok()?.authority.userinfo.username));
    let first = users.next()??;
    users.all(|user| user.as_ref() == Some(&first)).then_some(first)
}
