//! From requests to publish to what goes out or is stored, or the field that is wrong.
//!
//! Not here: content (`message`), names (`names`), how it goes out (`outgoing`).

use std::time::SystemTime;

use broker::destination::{Kind, Verb};
use broker::{Destination, Destinations, Message};
use bytestring::ByteString;
use cluster::{Content, Outbound};
use presence::{SessionId, UserName};
use proto::v1::{PublishRequest, PublishResponse};

use crate::keep::{self, Keep, Kept, Terms};
use crate::node::Node;
use crate::outgoing::Outgoing;
use crate::publisher::Taken;
use crate::refusal::Refusal;
use crate::wanted::Wanted;
use crate::{message, names};

/// What a request to publish asks for.
pub(crate) fn publish(request: PublishRequest, node: &Node) -> Result<Wanted, Refusal> {
    let PublishRequest { destination: text, message, deliver_at, idempotency_key } = request;
    let destination = destination(&text, &node.destinations)?;
    let (content, persistent) = message::content(message, &node.config)?;
    let deliver_at = keep::time("deliver_at", deliver_at, SystemTime::now())?;
    let key = keep::word("idempotency_key", idempotency_key)?;
    let terms = Terms { key, deliver_at, ..Terms::default() };
    match destination {
        Destination::User(to) => {
            let name = to.name.unwrap_or_default();
            let user = names::user("destination", &name)?;
            let audience = Vec::new();
            let outbound = Outbound { path: to.path, audience, content, persistent };
            to_user(user, SessionId::new(name).ok(), outbound, terms, node)
        }
        Destination::ReplyQueue(_) if terms.deliver_at.is_some() => {
            let problem = "is not for what is of one session, which may be over then";
            Err(Refusal::invalid("deliver_at", problem))
        }
        Destination::Group(name) => {
            let groups = vec![names::group("destination", &name)?];
            if terms.deliver_at.is_some() {
                return later(text, content, terms, node);
            }
            at_once(&terms)?;
            let counted = false;
            Ok(Wanted::Live(Outgoing::Subscribers { groups, content, persistent, counted }))
        }
        _ if terms.deliver_at.is_some() => later(text, content, terms, node),
        destination => {
            at_once(&terms)?;
            let Content { id, headers, body } = content;
            let message = Message { id, destination, headers, body, persistent };
            Ok(Wanted::Live(Outgoing::Message(message)))
        }
    }
}

/// The answer, once the broker or the store has it.
pub(crate) fn response(taken: Taken) -> PublishResponse {
    let known = taken.stored.is_some_and(|stored| stored.known > 0);
    PublishResponse { message_id: taken.id.to_string(), known }
}

fn to_user(
    user: UserName,
    session: Option<SessionId>,
    outbound: Outbound,
    terms: Terms,
    node: &Node,
) -> Result<Wanted, Refusal> {
    let keeps = node.keeper.as_ref().is_some_and(|keeper| keeper.keeps(&outbound.path));
    if !keeps && terms.deliver_at.is_none() {
        at_once(&terms)?;
        return Ok(Wanted::Live(match session {
            Some(session) => Outgoing::UserOrSession(user, session, outbound),
            None => Outgoing::Users(vec![user], outbound),
        }));
    }
    if let Some(session) = session
        && node.router.is_of_a_node(&session)
    {
        if terms != Terms::default() {
            let problem = "is not for a session, which has no inbox: name its user";
            let field = if terms.deliver_at.is_some() { "deliver_at" } else { "idempotency_key" };
            return Err(Refusal::invalid(field, problem));
        }
        return Ok(Wanted::Live(Outgoing::Sessions(vec![session], outbound)));
    }
    keep::fits(&outbound.path)?;
    let Outbound { path, content, .. } = outbound;
    let boot = node.keeper()?.boot();
    Ok(Wanted::Stored(Keep::new(Kept::Users(vec![user]), path, content, terms, boot)))
}

/// To be published when it is due.
fn later(text: String, content: Content, terms: Terms, node: &Node) -> Result<Wanted, Refusal> {
    keep::fits(&text)?;
    let boot = node.keeper()?.boot();
    let destination = ByteString::from(text);
    Ok(Wanted::Stored(Keep::new(Kept::Later, destination, content, terms, boot)))
}

/// Refuses an idempotency key where nothing is stored by which it could be known.
fn at_once(terms: &Terms) -> Result<(), Refusal> {
    match terms.key {
        None => Ok(()),
        Some(_) => {
            let problem = "is for what is stored: set deliver_at as well, or leave it out";
            Err(Refusal::invalid("idempotency_key", problem))
        }
    }
}

/// The destination that a request to publish names.
pub(crate) fn destination(text: &str, destinations: &Destinations) -> Result<Destination, Refusal> {
    if text.is_empty() {
        return Err(Refusal::invalid("destination", "is missing"));
    }
    let destination = destinations
        .parse(text, Verb::Send)
        .map_err(|error| Refusal::invalid("destination", error.to_string()))?;
    match destination.kind() {
        kind @ Kind::App => {
            let problem = format!(
                "is of kind {kind}, which is for what clients send to an application: use a topic, a \
                 queue, a user or a group"
            );
            Err(Refusal::invalid("destination", problem))
        }
        _ => Ok(destination),
    }
}
