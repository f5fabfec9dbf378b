//! SEND: from a client's frame to the broker, or to the application.

use std::sync::Arc;

use access::{Action, Principal};
use broker::destination::{App, Verb};
use broker::{Confirm, Destination, Message, MessageId, QueueOptions, header};
use bytestring::ByteString;
use cluster::Content;
use stomp::action::Publish;
use stomp::{Command, Headers};

use super::queue::Queue;
use super::replies::{REPLY_TO, TempQueue};
use super::subscribe::{Subscriber, room_for_queues};
use super::{Refused, group, not_available, options, renewal, user};
use crate::application::Call;
use crate::node::Node;

/// Where a SEND goes, and what it needs there.
pub(super) struct Checked {
    destination: Destination,
    /// How the queue that it goes to is declared, where the frame says so.
    queue: QueueOptions,
    /// Where its answers are wanted, if in a queue of the session's own.
    pub(super) replies: Option<TempQueue>,
}

/// A SEND that the broker has in hand.
pub(crate) struct Sent {
    /// The broker's word on it.
    pub(crate) confirm: Confirm,
    /// The queue for answers that was made for it, for the relay to hold.
    pub(crate) replies: Option<Queue>,
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
            let confirm = call(&from, app, publish, reply_to).await?;
            return Ok(Sent { confirm, replies });
        }
        Destination::User(to) => {
            let persistent = is_persistent(&publish.headers, receipted);
            let confirm =
                user::send(&from, to, content(publish, reply_to.as_ref()), persistent).await?;
            return Ok(Sent { confirm, replies });
        }
        Destination::Group(name) => {
            let persistent = is_persistent(&publish.headers, receipted);
            let content = content(publish, reply_to.as_ref());
            let confirm = group::send(&from, &name, content, persistent).await?;
            return Ok(Sent { confirm, replies });
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
    Ok(Sent { confirm, replies })
}

/// What users and groups get of a SEND.
fn content(publish: Publish, reply_to: Option<&ByteString>) -> Content {
    let headers = own_headers(&publish.headers, reply_to);
    Content { id: MessageId::new(), headers, body: publish.body }
}

/// Calls the application and publishes what it answers. The last answer's confirm stands for all:
/// they are confirmed one after the other.
async fn call(
    from: &Subscriber,
    app: App,
    publish: Publish,
    reply_to: Option<ByteString>,
) -> Result<Confirm, Refused> {
    let node = &from.node;
    let call = Call {
        principal: Arc::clone(&from.principal),
        path: app.path,
        headers: own_headers(&publish.headers, reply_to.as_ref()),
        body: publish.body,
    };
    for answer in node.application.call(call).await? {
        let destination = node.destinations.parse(&answer.destination, Verb::Send)?;
        let mut message = Message::new(destination, answer.body);
        message.headers = answer.headers;
        node.broker.publish(from.publisher, message).await?.await?;
    }
    Ok(Confirm::known(Ok(())))
}

/// A message survives a broker's restart if the sender says so, or waits for a receipt and does not
/// say otherwise: a confirm alone promises nothing (measured: 200 confirmed, non-persistent
/// messages on durable queues were gone after a kill).
fn is_persistent(headers: &Headers, receipted: bool) -> bool {
    match headers.get("persistent").map(|value| &**value) {
        Some("true") => true,
        Some("false") => false,
        _ => receipted,
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
