//! SEND: from a client's frame to the broker, or to the application.

use std::sync::Arc;

use broker::destination::{App, Verb};
use broker::{Confirm, Destination, Message, PublisherId, header};
use bytestring::ByteString;
use stomp::Headers;
use stomp::action::Publish;

use super::{Refused, not_available, refuse_promises};
use crate::application::Call;
use crate::authorise::Principal;
use crate::node::Node;

/// Where a SEND goes, if that is there and `principal` may send to it.
pub(super) fn check(
    node: &Node,
    principal: &Principal,
    publish: &Publish,
) -> Result<Destination, Refused> {
    refuse_promises(&publish.headers, Verb::Send)?;
    let destination = node.destinations.parse(&publish.destination, Verb::Send)?;
    node.authorise.check(principal, Verb::Send, &destination)?;
    match destination {
        Destination::User(_) | Destination::Group(_) => Err(not_available(&destination)),
        destination => Ok(destination),
    }
}

/// Publishes one SEND; to be awaited before the next of the same session, so that order holds.
pub(super) async fn publish(
    node: Arc<Node>,
    principal: Principal,
    publisher: PublisherId,
    publish: Publish,
    receipted: bool,
) -> Result<Confirm, Refused> {
    let destination = match check(&node, &principal, &publish)? {
        Destination::App(app) => return call(&node, principal, publisher, app, publish).await,
        destination => destination,
    };
    // A queue keeps it; a topic's subscribers are done with it at once.
    let publish = match destination {
        Destination::Topic(_) => publish,
        _ => publish.detached(),
    };
    let mut message = Message::new(destination, publish.body);
    message.persistent = is_persistent(&publish.headers, receipted);
    message.headers = own_headers(&publish.headers);
    Ok(node.broker.publish(publisher, message).await?)
}

/// Calls the application and publishes what it answers. The last answer's confirm stands for all:
/// they are confirmed one after the other.
async fn call(
    node: &Node,
    principal: Principal,
    publisher: PublisherId,
    app: App,
    publish: Publish,
) -> Result<Confirm, Refused> {
    let call = Call {
        principal,
        path: app.path,
        headers: own_headers(&publish.headers),
        body: publish.body,
    };
    for answer in node.application.call(call).await? {
        let destination = node.destinations.parse(&answer.destination, Verb::Send)?;
        let mut message = Message::new(destination, answer.body);
        message.headers = answer.headers;
        node.broker.publish(publisher, message).await?.await?;
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

/// The headers that are the sender's own, without what [`Message::persistent`] says. They share the
/// frame's bytes, as the body does.
fn own_headers(headers: &Headers) -> Vec<(ByteString, ByteString)> {
    headers
        .iter()
        .filter(|(name, _)| !header::is_reserved(name) && **name != *"persistent")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
