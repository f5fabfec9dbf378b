//! STOMP to broker: performs what a session's client asks of destinations.
//!
//! The relay parses destinations, has each access authorised, and holds the session's
//! subscriptions; whatever may wait comes back as a future that owns all it needs.
//!
//! Invariants
//! - Nothing a client asks for reaches a broker without [`Authorise::check`]. What an application
//!   answers is trusted.
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
use std::time::Duration;

use broker::destination::Verb;
use broker::{Confirm, Destination, PublisherId, SubscribeRequest};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use stomp::action::{AckMode, Acknowledge, Acknowledged, Held, Publish, Subscribe};
use stomp::{Headers, Version};
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
    /// A few characters of the session's id that no other session's has.
    tag: ByteString,
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
        session: &str,
    ) -> Self {
        let publisher = node.sessions.new_publisher();
        let tag = ByteString::from(session[session.len().saturating_sub(8)..].to_owned());
        let (topics, queues) = (Vec::new(), VecDeque::new());
        Self { node, mailbox, framing, publisher, principal, version, tag, topics, queues }
    }

    /// Publishes, or calls the application. The future waits while the broker has no room.
    /// `receipted`: the client waits for a receipt that covers it.
    pub(crate) fn publish(
        &self,
        publish: Publish,
        receipted: bool,
    ) -> BoxFuture<'static, Result<Confirm, Refused>> {
        let (node, principal) = (Arc::clone(&self.node), self.principal.clone());
        Box::pin(publish::publish(node, principal, self.publisher, publish, receipted))
    }

    /// Whether all that a transaction held can be asked for: each destination is there and allowed,
    /// each delivery is waiting to be settled.
    pub(crate) fn check(&self, held: &[Held]) -> Result<(), Refused> {
        held.iter().try_for_each(|held| match held {
            Held::Publish(publish) => {
                publish::check(&self.node, &self.principal, publish).map(drop)
            }
            Held::Acknowledge(acknowledge) => match self.find(&acknowledge.of) {
                Some(_) => Ok(()),
                None => Err(nothing_to_acknowledge(&acknowledge.of)),
            },
        })
    }

    /// Opens a subscription.
    pub(crate) fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BoxFuture<'static, Result<Opened, Refused>> {
        let node = Arc::clone(&self.node);
        let (mailbox, framing) = (Arc::clone(&self.mailbox), self.framing);
        let (principal, version) = (self.principal.clone(), self.version);
        let tag = self.tag.clone();
        Box::pin(async move {
            refuse_promises(&subscribe.headers, Verb::Subscribe)?;
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
                    let prefetch = queue::prefetch(&subscribe, &node.config)?;
                    let request = SubscribeRequest::new(destination, prefetch);
                    let subscription = node.broker.subscribe(request).await?;
                    node.metrics.subscriptions.inc();
                    Ok(Opened::Queue(Queue::new(
                        subscription,
                        &subscribe,
                        shape,
                        tag,
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

    /// Ends a subscription. What it has not settled goes back, except what `ack:auto` settles once
    /// it is written.
    pub(crate) fn unsubscribe(&mut self, number: u32) {
        self.topics.retain(|topic| topic.number != number);
        self.queues.retain_mut(|queue| queue.number() != number || queue.leave());
    }

    /// Ends all subscriptions, as [`unsubscribe`](Self::unsubscribe) does.
    pub(crate) fn leave(&mut self) {
        self.topics.clear();
        self.queues.retain_mut(Queue::leave);
    }

    /// Settles what an ACK or NACK names.
    pub(crate) fn acknowledge(&mut self, acknowledge: &Acknowledge) -> Result<(), Refused> {
        match self.find(&acknowledge.of) {
            Some(Found::Topic) => Ok(()),
            Some(Found::Queue { queue, at }) => {
                self.queues[queue].settle(at, acknowledge.verdict);
                Ok(())
            }
            None => Err(nothing_to_acknowledge(&acknowledge.of)),
        }
    }

    /// The delivery that an ACK or NACK names. Queues come first: on topics there is nothing to
    /// settle, so any message of an acknowledged topic counts as found.
    fn find(&self, of: &Acknowledged) -> Option<Found> {
        let (subscription, topic_token) = match of {
            Acknowledged::Token(token) => (None, token.starts_with(TOPIC_TOKEN)),
            Acknowledged::Message { subscription, .. } => (*subscription, true),
        };
        let meant = |number| subscription.is_none_or(|subscription| subscription == number);
        let found = self.queues.iter().enumerate().filter(|(_, queue)| meant(queue.number()));
        let in_queue = found.filter_map(|(n, queue)| {
            let at = match of {
                Acknowledged::Token(token) => queue.find_token(token),
                Acknowledged::Message { id, .. } => queue.find_message(id.parse().ok()?),
            };
            Some(Found::Queue { queue: n, at: at? })
        });
        let mut in_topics = self.topics.iter().filter(|topic| topic.acknowledged);
        { in_queue }.next().or_else(|| {
            in_topics.any(|topic| topic_token && meant(topic.number)).then_some(Found::Topic)
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

    /// When the oldest unsettled delivery will have been so for longer than `timeout`.
    pub(crate) fn ack_deadline(&self, timeout: Duration) -> Option<Instant> {
        let oldest = self.queues.iter().filter_map(Queue::unsettled_since).min()?;
        Some(oldest + timeout)
    }

    /// Settles the `ack:auto` deliveries whose frames are written.
    pub(crate) fn written(&mut self, ever_written: u64) {
        self.queues.retain_mut(|queue| queue.written(ever_written));
    }
}

/// What an ACK or NACK names.
enum Found {
    /// A message of a topic.
    Topic,
    /// The unsettled delivery at this place of this queue subscription.
    Queue { queue: usize, at: usize },
}

fn nothing_to_acknowledge(of: &Acknowledged) -> Refused {
    let (Acknowledged::Token(id) | Acknowledged::Message { id, .. }) = of;
    let id: String = id.chars().take(100).collect();
    Refused {
        reason: CloseReason::Protocol,
        message: format!(
            "nothing to acknowledge under \"{id}\": it was not delivered in this session, is \
             settled already, or its subscription has ack:auto or is over"
        ),
    }
}

/// Refuses headers whose promise is not kept yet: a client that believes them would lose messages.
fn refuse_promises(headers: &Headers, verb: Verb) -> Result<(), Refused> {
    let promise = headers.iter().find(|(name, value)| match (verb, &***name) {
        (Verb::Subscribe, "durable") => **value == "true",
        (Verb::Subscribe, "selector") => true,
        (Verb::Send, "reply-to") => value.starts_with("/temp-queue/"),
        _ => false,
    });
    match promise {
        None => Ok(()),
        Some((name, value)) => Err(Refused {
            reason: CloseReason::Protocol,
            message: format!("{name}:{value} is not available in this version; leave it out"),
        }),
    }
}

fn not_available(destination: &Destination) -> Refused {
    Refused {
        reason: CloseReason::Protocol,
        message: format!(
            "'{destination}' is not available to this frame in this version: use a topic or a queue"
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
            broker::ConfirmError::Full(_) => CloseReason::Limit,
            // Its queue was there and is not any more: another try declares it again.
            broker::ConfirmError::Lost(_) | broker::ConfirmError::Unroutable => {
                CloseReason::BrokerUnavailable
            }
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
