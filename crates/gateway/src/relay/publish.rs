//! SEND: from a client's frame to the broker, or to the application.

use access::{Action, Principal};
use broker::destination::Verb;
use broker::{Confirm, Destination, Message, MessageId, QueueOptions, header};
use bytestring::ByteString;
use cluster::Content;
use stomp::action::Publish;
use stomp::{Command, Headers};

use super::queue::Queue;
use super::replies::{REPLY_TO, TempQueue};
use super::subscribe::{Subscriber, room_for_queues};
use super::user::Kept;
use super::{Asking, Refused, call, group, not_available, options, renewal, user};
use crate::node::Node;

/// Where a SEND goes, and what it needs there.
pub(super) struct Checked {
    destination: Destination,
    /// How the queue that it goes to is declared, where the frame says so.
    queue: QueueOptions,
    /// Where its answers are wanted, if in a queue of the session's own.
    pub(super) replies: Option<TempQueue>,
}

/// A SEND that is on its way.
pub(crate) struct Sent {
    /// Who has it in hand.
    pub(crate) to: SentTo,
    /// The queue for answers that was made for it, for the relay to hold.
    pub(crate) replies: Option<Queue>,
}

/// Who has a SEND in hand.
pub(crate) enum SentTo {
    /// The broker, whose word on it will come.
    Broker(Confirm),
    /// Nobody yet: the application is to be asked.
    Application(Box<Asking>),
}

/// Where answers to a SEND go.
pub(super) enum Replies {
    /// To whatever its `reply-to` says, if anything.
    AsSaid,
    /// To a temp-queue that is there, and answered to by this.
    Known(ByteString),
    /// To a temp-queue that is to be made.
    New(TempQueue),
}

/// Where a SEND goes, if that is there and `principal` may send to it.
pub(super) fn check(
    node: &Node,
    principal: &Principal,
    publish: &Publish,
) -> Result<Checked, Refused> {
    let destination = node.destinations.parse(&publish.destination, Verb::Send)?;
    node.access.check(principal, Action::Send, &destination)?;
    let queue = match &destination {
        Destination::App(app) if renewal::is_own(&app.path) => {
            return Err(not_available(&destination));
        }
        Destination::App(_) if !node.application.is_there() => {
            return Err(call::no_application(&publish.destination));
        }
        Destination::Queue(_) => options::queue(Command::Send, &publish.headers)?,
        _ => QueueOptions::default(),
    };
    if let Some(dead) = options::dead_letters(&queue) {
        node.access.check(principal, Action::Send, &dead)?;
    }
    let replies = TempQueue::of(node, principal, &publish.headers)?;
    Ok(Checked { destination, queue, replies })
}

/// Publishes one SEND; to be awaited before the next of the same session, so that order holds.
pub(super) async fn publish(
    from: Subscriber,
    checked: Checked,
    replies: Replies,
    publish: Publish,
    receipted: bool,
) -> Result<Sent, Refused> {
    let (node, publisher) = (&from.node, from.publisher);
    let (reply_to, replies) = match replies {
        Replies::AsSaid => (None, None),
        Replies::Known(reply_to) => (Some(reply_to), None),
        Replies::New(temp_queue) => {
            room_for_queues(from.own_queues + 1, &node.config)?;
            let (reply_to, queue) = temp_queue.open(&from).await?;
            (Some(reply_to), Some(queue))
        }
    };
    let destination = match checked.destination {
        Destination::App(app) => {
            let Publish { destination, headers, body, receipt } = publish.detached();
            let headers = own_headers(&headers, reply_to.as_ref());
            let asking =
                Asking::new((node, publisher, &from.caller), &destination, app, headers, body);
            let to = SentTo::Application(Box::new(asking.receipted(receipt, receipted)));
            return Ok(Sent { to, replies });
        }
        Destination::User(to) => {
            let kept = Kept::of(says_persistent(&publish.headers), receipted);
            let content = content(publish, reply_to.as_ref());
            let confirm = user::send(node, publisher, to, content, kept).await?;
            return Ok(Sent { to: SentTo::Broker(confirm), replies });
        }
        Destination::Group(name) => {
            let persistent = is_persistent(&publish.headers, receipted);
            let content = content(publish, reply_to.as_ref());
            let confirm = group::send(&from, &name, content, persistent).await?;
            return Ok(Sent { to: SentTo::Broker(confirm), replies });
        }
        destination => destination,
    };
    if let Destination::Queue(name) = &destination
        && !checked.queue.is_empty()
    {
        node.broker.declare(publisher, name, &checked.queue).await?;
    }
    // A queue keeps it; a topic's subscribers are done with it at once.
    let publish = match destination {
        Destination::Topic(_) => publish,
        _ => publish.detached(),
    };
    let mut message = Message::new(destination, publish.body);
    message.persistent = is_persistent(&publish.headers, receipted);
    message.headers = own_headers(&publish.headers, reply_to.as_ref());
    let confirm = node.broker.publish(publisher, message).await?;
    Ok(Sent { to: SentTo::Broker(confirm), replies })
}

/// What users and groups get of a SEND.
fn content(publish: Publish, reply_to: Option<&ByteString>) -> Content {
    let headers = own_headers(&publish.headers, reply_to);
    Content { id: MessageId::new(), headers, body: publish.body }
}

/// A message survives a broker's restart if the sender says so, or waits for a receipt and does not
/// say otherwise: a confirm alone promises nothing (measured: 200 confirmed, non-persistent
/// messages on durable queues were gone after a kill).
fn is_persistent(headers: &Headers, receipted: bool) -> bool {
    says_persistent(headers).unwrap_or(receipted)
}

fn says_persistent(headers: &Headers) -> Option<bool> {
    match headers.get("persistent").map(|value| &**value) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    }
}

/// The headers that are the sender's own, without what [`Message::persistent`] says, and with
/// `reply_to` where the sender named a queue of its own. They share the frame's bytes, as the body
/// does.
fn own_headers(headers: &Headers, reply_to: Option<&ByteString>) -> Vec<(ByteString, ByteString)> {
    let own =
        headers.iter().filter(|(name, _)| !header::is_reserved(name) && **name != *"persistent");
    own.map(|(name, value)| {
        let value = reply_to.filter(|_| **name == *REPLY_TO).unwrap_or(value);
        (name.clone(), value.clone())
    })
    .collect()
}
