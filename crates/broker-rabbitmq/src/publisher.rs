//! Takes messages for RabbitMQ and puts each in its publisher's line.
//!
//! Invariants
//! - Messages of one publisher to one destination go by one [`Lane`], so their order holds.
//! - All lanes together retain no more bytes than the configuration says; beyond it publishers wait,
//!   first come, first served.

use std::sync::Arc;
use std::time::Duration;

use broker::{Confirm, ConfirmError, Destination, Message, PublishError, PublisherId};
use lapin::types::ShortString;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::Instant;

use crate::declarations::{Declarations, Target};
use crate::headers::{self, Unfit};
use crate::lane::Lane;
use crate::link::Links;
use crate::names::Names;
use crate::retained::{Outgoing, Pending, Retained};
use crate::status::Status;
use crate::supervisor::Pauses;
use crate::{Config, instead_of};

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
    /// The bytes that may still be retained.
    room: Arc<Semaphore>,
    retained: usize,
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
    ) -> Self {
        let lane = |mandatory| {
            let (sender, incoming) = mpsc::unbounded_channel();
            let lane = Lane {
                incoming,
                links: links.clone(),
                declarations: declarations.clone(),
                mandatory,
                retained: Retained::default(),
                careful: 0,
                pauses: Pauses::new(Duration::from_secs(1)),
            };
            tokio::spawn(lane.run());
            sender
        };
        let lanes = |mandatory| (0..config.publish_channels).map(|_| lane(mandatory)).collect();
        Self {
            names,
            status,
            user: user(config),
            timeout: config.publish_timeout,
            max_message: config.max_message_bytes(),
            room: Arc::new(Semaphore::new(config.retained_bytes())),
            retained: config.retained_bytes(),
            topics: lanes(false),
            queues: lanes(true),
        }
    }

    pub(crate) async fn publish(
        &self,
        publisher: PublisherId,
        message: Message,
    ) -> Result<Confirm, PublishError> {
        let deadline = Instant::now() + self.timeout;
        let (size, limit) = (message.body.len(), self.max_message);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let (lanes, outgoing) = match self.outgoing(&message)? {
            Ok(outgoing) => match outgoing.target {
                Target::Exchange(_) => (&self.topics, outgoing),
                Target::Queue(_) => (&self.queues, outgoing),
            },
            Err(unfit) => {
                return Ok(Confirm::known(Err(ConfirmError::Refused(unfit.to_string()))));
            }
        };
        let headers: usize = message.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        // Within the semaphore's count: `Config::check` has room for two of the longest.
        let bytes = (size + headers + OVERHEAD).min(self.retained);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(bytes);
        let Ok(Ok(room)) = tokio::time::timeout_at(deadline, room).await else {
            return Err(PublishError::Unavailable(self.status.reason()));
        };
        let (confirmer, confirm) = Confirm::pending();
        // The remainder is below the number of lanes.
        let lane = (publisher.0 % lanes.len() as u64) as usize;
        // An error means that the broker is closing, and the confirm says that the message is lost.
        let _ = lanes[lane].send(Pending {
            outgoing: Arc::new(outgoing),
            confirmer,
            deadline,
            _room: room,
        });
        Ok(confirm)
    }

    /// Waits until nothing is unconfirmed, as long as a publish may wait.
    pub(crate) async fn drain(&self) {
        let all = u32::try_from(self.retained).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(self.timeout, self.room.acquire_many(all)).await;
    }

    /// How many bytes of messages wait for their confirms.
    pub(crate) fn unconfirmed_bytes(&self) -> usize {
        self.retained - self.room.available_permits()
    }

    fn outgoing(&self, message: &Message) -> Result<Result<Outgoing, Unfit>, PublishError> {
        let (target, exchange, routing_key) = match &message.destination {
            Destination::Topic(topic) => {
                let Some(exchange) = self.names.exchange(topic) else {
                    return Ok(Err(Unfit::PrefixTooLong));
                };
                (Target::Exchange(exchange.clone()), exchange, topic.key().clone())
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
            return Ok(Err(Unfit::PrefixTooLong));
        };
        let properties = match headers::write(message, self.names.boot(), self.user.as_deref()) {
            Ok(properties) => properties,
            Err(unfit) => return Ok(Err(unfit)),
        };
        let body = message.body.clone();
        Ok(Ok(Outgoing { id: message.id, target, exchange, routing_key, properties, body }))
    }
}

/// The user of all URIs, if it is the same.
fn user(config: &Config) -> Option<String> {
    let mut users =
        config.uris.iter().map(|uri| Some(uri.parse().ok()?.authority.userinfo.username));
    let first = users.next()??;
    users.all(|user| user.as_ref() == Some(&first)).then_some(first)
}
