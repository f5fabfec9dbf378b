//! STOMP to broker: performs what a session's client asks of destinations.
//!
//! The relay parses destinations, has each access authorised, and holds the session's
//! subscriptions; whatever may wait comes back as a future that owns all it needs.
//!
//! Invariants
//! - No message reaches a broker and no subscription is made without [`Authorise::check`].
//! - Headers that the server sets never come from a client.
//! - Dropping the relay ends every subscription and gives back what is unsettled.
//!
//! Not here: the protocol (crate `stomp`), the fan-out of topics ([`Hub`](crate::hub::Hub)).
//!
//! [`Authorise::check`]: crate::authorise::Authorise::check

mod publish;
mod queue;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use broker::destination::Verb;
use broker::{Confirm, Destination, PublisherId, SubscribeRequest};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use stomp::Version;
use stomp::action::{AckMode, Acknowledge, Acknowledged, Publish, Subscribe};
use tokio::time::Instant;

use self::queue::Queue;
use crate::authorise::Principal;
use crate::close::CloseReason;
use crate::hub::Seat;
use crate::mailbox::Mailbox;
use crate::message_frame::{Shape, Shown, TOPIC_TOKEN};
use crate::node::Node;
use crate::transport::Framing;

/// One session's relay.
pub(crate) struct Relay {
    node: Arc<Node>,
    mailbox: Arc<Mailbox>,
    framing: Framing,
    publisher: PublisherId,
    principal: Principal,
    version: Version,
    /// At most `max_subscriptions` of the STOMP session.
    topics: Vec<TopicSubscription>,
    /// As `topics`.
    queues: VecDeque<Queue>,
}

struct TopicSubscription {
    number: u32,
    acknowledged: bool,
    _seat: Seat,
}

/// A subscription that was opened, to be given to [`Relay::hold`].
pub(crate) enum Opened {
    Topic { number: u32, acknowledged: bool, seat: Seat },
    Queue(Queue),
}

/// What a client asked for and does not get.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: CloseReason,
    /// The text of the ERROR frame.
    pub(crate) message: String,
}

impl Relay {
    pub(crate) fn new(
        node: Arc<Node>,
        mailbox: Arc<Mailbox>,
        framing: Framing,
        principal: Principal,
        version: Version,
    ) -> Self {
        let publisher = node.sessions.new_publisher();
        let (topics, queues) = (Vec::new(), VecDeque::new());
        Self { node, mailbox, framing, publisher, principal, version, topics, queues }
    }

    /// Publishes, or calls the application. The future waits while the broker has no room.
    pub(crate) fn publish(&self, publish: Publish) -> BoxFuture<'static, Result<Confirm, Refused>> {
        let (node, principal) = (Arc::clone(&self.node), self.principal.clone());
        Box::pin(publish::publish(node, principal, self.publisher, publish))
    }

    /// Opens a subscription.
    pub(crate) fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BoxFuture<'static, Result<Opened, Refused>> {
        let node = Arc::clone(&self.node);
        let (mailbox, framing) = (Arc::clone(&self.mailbox), self.framing);
        let (principal, version) = (self.principal.clone(), self.version);
        Box::pin(async move {
            let destination = node.destinations.parse(&subscribe.destination, Verb::Subscribe)?;
            node.authorise.check(&principal, Verb::Subscribe, &destination)?;
            let shown = match &destination {
                Destination::Topic(topic) if topic.is_pattern() => {
                    Shown::ByPattern(topic.clone(), topic.separator())
                }
                _ => Shown::AsSubscribed(subscribe.destination.clone()),
            };
            let acknowledged = subscribe.ack != AckMode::Auto;
            let shape =
                Shape { framing, version, subscription: subscribe.id.clone(), shown, acknowledged };
            match destination {
                Destination::Topic(topic) => {
                    let seat = Arc::clone(&node.hub).subscribe(topic, shape, mailbox).await?;
                    Ok(Opened::Topic { number: subscribe.number, acknowledged, seat })
                }
                Destination::User(_) | Destination::Group(_) | Destination::App(_) => {
                    Err(not_available(&destination))
                }
                destination => {
                    let prefetch = queue::prefetch(&subscribe, node.config.prefetch)?;
                    let request = SubscribeRequest { destination, prefetch };
                    let subscription = node.broker.subscribe(request).await?;
                    node.metrics.subscriptions.inc();
                    Ok(Opened::Queue(Queue::new(
                        subscription,
                        &subscribe,
                        shape,
                        Arc::clone(&node.metrics),
                    )))
                }
            }
        })
    }

    /// Keeps a subscription until it is ended, or the relay dropped.
    pub(crate) fn hold(&mut self, opened: Opened) {
        match opened {
            Opened::Topic { number, acknowledged, seat } => {
                self.topics.push(TopicSubscription { number, acknowledged, _seat: seat });
            }
            Opened::Queue(queue) => self.queues.push_back(queue),
        }
    }

    /// Ends a subscription; what it has not settled goes back.
    pub(crate) fn unsubscribe(&mut self, number: u32) {
        self.topics.retain(|topic| topic.number != number);
        self.queues.retain(|queue| queue.number() != number);
    }

    /// Settles what an ACK or NACK names.
    pub(crate) fn acknowledge(&mut self, acknowledge: &Acknowledge) -> Result<(), Refused> {
        let settled = match &acknowledge.of {
            Acknowledged::Token(token) if token.starts_with(TOPIC_TOKEN) => {
                self.topics.iter().any(|topic| topic.acknowledged)
            }
            Acknowledged::Token(token) => {
                self.queues.iter_mut().any(|queue| queue.settle_token(token, acknowledge.verdict))
            }
            Acknowledged::Message { id, subscription } => {
                let meant = |number| subscription.is_none_or(|subscription| subscription == number);
                self.topics.iter().any(|topic| topic.acknowledged && meant(topic.number))
                    || self
                        .queues
                        .iter_mut()
                        .filter(|queue| meant(queue.number()))
                        .any(|queue| queue.settle_message(id, acknowledge.verdict))
            }
        };
        if settled {
            return Ok(());
        }
        let (Acknowledged::Token(id) | Acknowledged::Message { id, .. }) = &acknowledge.of;
        let id: String = id.chars().take(100).collect();
        Err(Refused {
            reason: CloseReason::Protocol,
            message: format!(
                "nothing to acknowledge under \"{id}\": it was not delivered in this session, is \
                 settled already, or its subscription has ack:auto or is over"
            ),
        })
    }

    /// Takes the next delivery of any queue and posts it to the mailbox; the queues take turns.
    /// `Ready(Err)` when the broker ended one.
    pub(crate) fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<(), Refused>> {
        for _ in 0..self.queues.len() {
            let Some(mut queue) = self.queues.pop_front() else { break };
            let delivered = queue.poll_deliver(cx, &self.mailbox, now);
            self.queues.push_back(queue);
            if delivered.is_ready() {
                return delivered;
            }
        }
        Poll::Pending
    }

    /// Settles the `ack:auto` deliveries whose frames are written.
    pub(crate) fn written(&mut self, ever_written: u64) {
        for queue in &mut self.queues {
            queue.written(ever_written);
        }
    }
}

fn not_available(destination: &Destination) -> Refused {
    Refused {
        reason: CloseReason::Protocol,
        message: format!(
            "{} destinations are not available in this version: use a topic or a queue",
            destination.kind()
        ),
    }
}

impl From<broker::destination::DestinationError> for Refused {
    fn from(error: broker::destination::DestinationError) -> Self {
        Self { reason: CloseReason::Protocol, message: error.to_string() }
    }
}

impl From<crate::authorise::Refusal> for Refused {
    fn from(refusal: crate::authorise::Refusal) -> Self {
        let reason = match refusal {
            crate::authorise::Refusal::Unauthenticated(_) => CloseReason::Unauthenticated,
            crate::authorise::Refusal::Forbidden(_) => CloseReason::Forbidden,
        };
        Self { reason, message: refusal.to_string() }
    }
}

impl From<broker::PublishError> for Refused {
    fn from(error: broker::PublishError) -> Self {
        let reason = match error {
            broker::PublishError::TooLarge { .. } => CloseReason::TooBig,
            broker::PublishError::LimitReached { .. } => CloseReason::Limit,
            broker::PublishError::Unavailable(_) => CloseReason::BrokerUnavailable,
            _ => CloseReason::Protocol,
        };
        Self { reason, message: error.to_string() }
    }
}

impl From<broker::SubscribeError> for Refused {
    fn from(error: broker::SubscribeError) -> Self {
        let reason = match error {
            broker::SubscribeError::LimitReached { .. } => CloseReason::Limit,
            broker::SubscribeError::Unavailable(_) => CloseReason::BrokerUnavailable,
            _ => CloseReason::Protocol,
        };
        Self { reason, message: error.to_string() }
    }
}

impl From<broker::ConfirmError> for Refused {
    fn from(error: broker::ConfirmError) -> Self {
        let reason = match error {
            broker::ConfirmError::Refused(_) => CloseReason::Limit,
            broker::ConfirmError::Lost => CloseReason::BrokerUnavailable,
            _ => CloseReason::Protocol,
        };
        Self { reason, message: error.to_string() }
    }
}

impl From<crate::application::CallError> for Refused {
    fn from(error: crate::application::CallError) -> Self {
        Self { reason: CloseReason::Protocol, message: error.to_string() }
    }
}

/// Whether a header of a SEND frame is the server's to set, and is dropped.
fn is_reserved(name: &ByteString) -> bool {
    use stomp::header;
    const RESERVED: [&str; 8] = [
        header::ACK,
        header::CONTENT_LENGTH,
        header::DESTINATION,
        header::MESSAGE_ID,
        header::RECEIPT,
        header::REDELIVERED,
        header::SUBSCRIPTION,
        header::TRANSACTION,
    ];
    // A version without escapes shows control characters as spaces and trims those: what would
    // read as a reserved name then is one.
    let name = name.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    RESERVED.contains(&name) || name.starts_with("x-footbridge-")
}
