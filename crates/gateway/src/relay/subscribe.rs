//! SUBSCRIBE: from a client's frame to the hub, or to a queue of the broker's.

use std::sync::Arc;

use access::Action;
use broker::destination::{App, Topic, UserDestination, Verb};
use broker::{Destination, Feed, PublisherId, SubscribeRequest, header};
use bytes::Bytes;
use bytestring::ByteString;
use stomp::action::{AckMode, Subscribe};
use stomp::{Command, Version};

use super::options::{Asked, bad};
use super::queue::{Queue, Source, Supply};
use super::seat::Seat;
use super::{Asking, Refused, call, feed, group, renewal, user};
use crate::application::Caller;
use crate::close::CloseReason;
use crate::config::Config;
use crate::mailbox::Mailbox;
use crate::message_frame::{Shape, Shown};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::transport::Framing;
use crate::users::Registered;

/// A subscription that was opened, for the relay to hold.
pub(crate) enum Opened {
    /// To what all subscribers on the node share.
    Shared { number: u32, acknowledged: bool, seat: Seat },
    /// To a queue.
    Queue(Queue),
    /// To a destination of one's own user's: what comes live, and what is stored.
    User { number: u32, acknowledged: bool, seat: Seat, inbox: Option<Queue> },
    /// To what the application answers, once.
    Asked(AskedSubscription),
}

/// A subscription that was opened, and the call that its SUBSCRIBE makes, if it makes one.
pub(crate) struct OpenedBy {
    pub(crate) opened: Opened,
    pub(crate) asking: Option<(u32, Box<Asking>)>,
}

/// A subscription that is answered once.
pub(crate) struct AskedSubscription {
    pub(super) number: u32,
    pub(super) destination: Destination,
    pub(super) shape: Shape,
    _counted: Counted,
}

/// Counts a subscription for as long as it is there.
pub(super) struct Counted(Arc<Metrics>);

impl Counted {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.subscriptions.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.subscriptions.dec();
    }
}

/// Who subscribes: all of a session that a subscription needs.
pub(super) struct Subscriber {
    pub(super) node: Arc<Node>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) framing: Framing,
    pub(super) version: Version,
    pub(super) publisher: PublisherId,
    pub(super) caller: Caller,
    pub(super) registered: Arc<Registered>,
    /// As [`Relay`](super::Relay) has it.
    pub(super) tag: ByteString,
    /// How many queues of its own the session has.
    pub(super) own_queues: usize,
}

/// Opens the subscription that a SUBSCRIBE asks for.
pub(super) async fn open(
    subscriber: Subscriber,
    subscribe: Subscribe,
) -> Result<OpenedBy, Refused> {
    let node = &subscriber.node;
    if let Some(selector) = subscribe.headers.get("selector") {
        let selector: String = selector.chars().take(100).collect();
        return Err(Refused::new(
            CloseReason::Protocol,
            format!("selector:{selector} is not available in this version; leave it out"),
        ));
    }
    if let Some(id) = &subscribe.id
        && let Ok(Destination::TempQueue(_)) = node.destinations.parse_reply_to(id)
    {
        let right = "no temp-queue: by that name the replies to it come";
        return Err(bad(Command::Subscribe, stomp::header::ID, id, right));
    }
    let destination = node.destinations.parse(&subscribe.destination, Verb::Subscribe)?;
    node.access.check(&subscriber.caller.principal, Action::Subscribe, &destination)?;
    if let Destination::App(app) = destination {
        return ask(&subscriber, subscribe, app);
    }
    let asked = Asked::of(&subscribe.headers)?;
    let prefetch = prefetch(&subscribe, &node.config)?;
    let principal = &subscriber.caller.principal;
    let feed = feed::choose(&node.access, principal, &subscribe, &destination, &asked)?;
    let acknowledged = subscribe.ack != AckMode::Auto;
    let shape = Shape {
        framing: subscriber.framing,
        version: subscriber.version,
        compat: node.config.compat,
        subscription: subscribe.id.clone(),
        shown: shown(&subscribe.destination, &destination, &feed),
        acknowledged,
    };
    let number = subscribe.number;
    let source = match (&destination, &feed) {
        (Destination::User(UserDestination { path, .. }), _) => {
            let wanted = user::Wanted { number, path: path.clone(), shape, prefetch };
            return Ok(user::subscribe(&subscriber, wanted, subscribe.ack, destination)
                .await?
                .into());
        }
        (Destination::Group(name), _) => {
            let seat = group::subscribe(&subscriber, name, shape).await?;
            return Ok(Opened::Shared { number, acknowledged, seat }.into());
        }
        (Destination::Topic(_) | Destination::Exchange { .. }, Feed::Shared) => {
            let hub = Arc::clone(&node.hub);
            let seat = hub.subscribe(destination, shape, Arc::clone(&subscriber.mailbox)).await?;
            let seat = Seat::Hub(seat);
            return Ok(Opened::Shared { number, acknowledged, seat }.into());
        }
        // As with RabbitMQ's plugin only topics give up what they keep by UNSUBSCRIBE.
        (Destination::Topic(_), Feed::Kept { .. } | Feed::Named(_)) => Source::Kept,
        (Destination::Topic(_) | Destination::Exchange { .. }, _) => Source::Own,
        _ => Source::Others,
    };
    if source != Source::Others {
        room_for_queues(subscriber.own_queues + 1, &node.config)?;
    }
    let request = SubscribeRequest {
        destination: destination.clone(),
        prefetch,
        queue: feed::completed(node.config.compat, &feed, asked.queue),
        feed,
        consumer: asked.consumer,
        subscriber: subscriber.publisher,
    };
    let subscription = node.broker.subscribe(request).await?;
    let (number, ack) = (Some(number), subscribe.ack);
    let supply = Supply::Queue(subscription);
    let queue = Queue::new(&subscriber, supply, number, ack, shape, source, destination);
    Ok(Opened::Queue(queue).into())
}

/// Opens a subscription that the application answers.
fn ask(subscriber: &Subscriber, subscribe: Subscribe, app: App) -> Result<OpenedBy, Refused> {
    let node = &subscriber.node;
    if !node.application.is_there() || renewal::is_own(&app.path) {
        return Err(call::no_application(&subscribe.destination));
    }
    let shape = Shape {
        framing: subscriber.framing,
        version: subscriber.version,
        compat: node.config.compat,
        subscription: subscribe.id,
        shown: Shown::AsSubscribed(subscribe.destination.clone()),
        acknowledged: subscribe.ack != AckMode::Auto,
    };
    let own = subscribe
        .headers
        .iter()
        .filter(|(name, _)| !header::is_reserved(name) && **name != *stomp::header::ID);
    let headers = own.map(|(name, value)| (name.to_string().into(), value.to_string().into()));
    let asked = AskedSubscription {
        number: subscribe.number,
        destination: Destination::App(app.clone()),
        shape,
        _counted: Counted::new(&node.metrics),
    };
    let from = (node, subscriber.publisher, &subscriber.caller);
    let asking = Asking::new(from, &subscribe.destination, app, headers.collect(), Bytes::new())
        .receipted(subscribe.receipt, false);
    let asking = Some((asked.number, Box::new(asking)));
    Ok(OpenedBy { opened: Opened::Asked(asked), asking })
}

impl From<Opened> for OpenedBy {
    fn from(opened: Opened) -> Self {
        Self { opened, asking: None }
    }
}

/// Whether a session may have so many queues of its own.
pub(super) fn room_for_queues(count: usize, config: &Config) -> Result<(), Refused> {
    if count <= config.max_own_queues {
        return Ok(());
    }
    Err(Refused::new(
        CloseReason::Limit,
        format!(
            "more than {} queues of its own in one session (gateway.max_own_queues): each subscription to a topic or an \
             exchange that is acknowledged or has queue headers, and each temp-queue, is one",
            config.max_own_queues
        ),
    ))
}

fn shown(spelled: &ByteString, destination: &Destination, feed: &Feed) -> Shown {
    let by_pattern = |topic: &Topic| Shown::ByPattern(topic.clone(), topic.separator());
    match (destination, feed) {
        (Destination::Topic(topic), _) if topic.is_pattern() => by_pattern(topic),
        // Others may have bound the queue to more.
        (Destination::Topic(topic), Feed::Named(_)) => by_pattern(topic),
        (Destination::Exchange { .. }, _) => Shown::EachOwn,
        _ => Shown::AsSubscribed(spelled.clone()),
    }
}

/// The `prefetch-count` of a SUBSCRIBE frame, or the configured one.
fn prefetch(subscribe: &Subscribe, config: &Config) -> Result<u16, Refused> {
    let Some(text) = subscribe.headers.get("prefetch-count") else { return Ok(config.prefetch) };
    match text.parse::<u16>() {
        // As RabbitMQ has it, zero means no limit of the client's own.
        Ok(0) => Ok(config.prefetch),
        Ok(count) if count <= config.max_prefetch => Ok(count),
        _ => Err(Refused::new(
            CloseReason::Protocol,
            format!(
                "SUBSCRIBE has prefetch-count:{}, which should be a number from 0 to {} (gateway.max_prefetch)",
                text.chars().take(20).collect::<String>(),
                config.max_prefetch
            ),
        )),
    }
}
