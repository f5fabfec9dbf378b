//! Takes messages for RabbitMQ and puts each in its publisher's line.
//!
//! Invariants
//! - Messages of one publisher to one destination go by one [`Lane`], so their order holds.
//! - All lanes together retain no more bytes than the configuration says; beyond it publishers wait,
//!   first come, first served.

use std::sync::Arc;
use std::time::Duration;

use broker::{Confirm, Destination, Message, MessageId, PublishError, PublisherId};
use bytes::Bytes;
use bytestring::ByteString;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::Instant;

use crate::asking::Asking;
use crate::declarations::{Declarations, Target};
use crate::headers::{self, Unfit};
use crate::lane::Lane;
use crate::link::Links;
use crate::metrics::{Metrics, Unconfirmed};
use crate::names::Names;
use crate::retained::{Outgoing, Pending, Retained};
use crate::status::Status;
use crate::supervisor::Pauses;
use crate::{Config, RABBITMQS_OWN, instead_of, is_rabbitmqs_own};

/// What a message takes besides its body and headers, in bytes, roughly.
const OVERHEAD: usize = 512;

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
    topics: Vec<UnboundedSender<Pending>>,
    queues: Vec<UnboundedSender<Pending>>,
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
    ) -> Self {
        let of_lanes = &status;
        let channels = usize::from(config.publish_channels);
        let unconfirmed = Arc::new(Unconfirmed::new(config.retained_bytes(), 2 * channels));
        let lane = |mandatory, number| {
            let (sender, incoming) = mpsc::unbounded_channel();
            let lane = Lane {
                incoming,
                status: of_lanes.clone(),
                links: links.clone(),
                declarations: declarations.clone(),
                asking: Asking::new(declarations.clone()),
                mandatory,
                metrics: metrics.clone(),
                retained: Retained::new(unconfirmed.oldest(number)),
                careful: 0,
                pauses: Pauses::new(Duration::from_secs(1)),
            };
            tokio::spawn(lane.run());
            sender
        };
        let topics = (0..channels).map(|number| lane(false, number)).collect();
        let queues = (channels..2 * channels).map(|number| lane(true, number)).collect();
        Self {
            names,
            status,
            user: user(config),
            timeout: config.publish_timeout,
            max_message: config.max_message_bytes(),
            unconfirmed,
            topics,
            queues,
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
        let outgoing = self.outgoing(&message)?;
        let lanes = match outgoing.target {
            Target::Exchange(_) => &self.topics,
            Target::Queue(_) => &self.queues,
        };
        let headers: usize = message.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
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
        let outgoing = Outgoing { id, target, exchange, routing_key, properties, body };
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

    fn outgoing(&self, message: &Message) -> Result<Outgoing, PublishError> {
        let (target, exchange, routing_key) = match &message.destination {
            Destination::Topic(topic) => {
                let exchange = self.names.exchange(topic).ok_or(Unfit::PrefixTooLong)?;
                (Target::Exchange(exchange.clone()), exchange, topic.key().clone())
            }
            Destination::Queue(name) if is_rabbitmqs_own(name) => {
                return Err(PublishError::Misnamed(RABBITMQS_OWN));
            }
            Destination::Queue(name) => {
                (Target::Queue(name.clone()), Default::default(), name.clone())
            }
            other => {
                return Err(PublishError::Unsupported {
                    kind: other.kind().as_str(),
                    instead: instead_of(other.kind()),
                });
            }
        };
        let (Ok(exchange), Ok(routing_key)) =
            (ShortString::try_new(&*exchange), ShortString::try_new(&*routing_key))
        else {
            return Err(Unfit::PrefixTooLong.into());
        };
        let properties = headers::write(message, self.names.boot(), self.user.as_deref())?;
        let body = message.body.clone();
        Ok(Outgoing { id: message.id, target, exchange, routing_key, properties, body })
    }
}

/// The user of all URIs, if it is the same.
fn user(config: &Config) -> Option<String> {
    let mut users =
        config.uris.iter().map(|uri| Some(uri.parse().ok()?.authority.userinfo.username));
    let first = users.next()??;
    users.all(|user| user.as_ref() == Some(&first)).then_some(first)
}
