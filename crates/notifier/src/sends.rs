//! From requests to send to users, sessions, groups and all to what goes out or is stored, or the field that is
//! wrong.
//!
//! Not here: content (`message`), names (`names`), how it goes out (`outgoing`), how it is kept (`keep`).

use std::time::SystemTime;

use broker::destination::{Kind, Verb};
use broker::{Destination, Destinations};
use bytestring::ByteString;
use cluster::Outbound;
use proto::v1::send_request::To;
use proto::v1::{
    Audience, Durable, Message, Reached, SendRequest, SendResponse, SendToAllRequest,
    SendToGroupRequest, SendToSessionRequest, SendToUserRequest,
};

use crate::keep::{self, Keep, Kept, Terms};
use crate::node::Node;
use crate::outgoing::Outgoing;
use crate::publisher::Taken;
use crate::refusal::Refusal;
use crate::wanted::Wanted;
use crate::{message, names};

pub(crate) fn to_users(request: SendToUserRequest, node: &Node) -> Result<Wanted, Refusal> {
    let SendToUserRequest { users, destination, message, audience, durable } = request;
    let users = names::users("users", &users)?;
    let outbound = outbound(&destination, message, audience, node)?;
    Ok(match terms(&outbound, durable, node)? {
        Some(terms) => kept(Kept::Users(users), outbound, terms, node)?,
        None => Wanted::Live(Outgoing::Users(users, outbound)),
    })
}

pub(crate) fn to_sessions(request: SendToSessionRequest, node: &Node) -> Result<Wanted, Refusal> {
    let SendToSessionRequest { sessions, destination, message, audience } = request;
    let sessions = names::sessions("sessions", &sessions)?;
    let outbound = outbound(&destination, message, audience, node)?;
    Ok(Wanted::Live(Outgoing::Sessions(sessions, outbound)))
}

pub(crate) fn to_groups(request: SendToGroupRequest, node: &Node) -> Result<Wanted, Refusal> {
    let SendToGroupRequest { groups, destination, message, audience, durable } = request;
    let groups = names::groups("groups", &groups)?;
    if !destination.is_empty() {
        let outbound = outbound(&destination, message, audience, node)?;
        return Ok(match terms(&outbound, durable, node)? {
            Some(terms) => kept(Kept::Members(groups), outbound, terms, node)?,
            None => Wanted::Live(Outgoing::Members(groups, outbound)),
        });
    }
    if audience.is_some() {
        let problem = "is missing: with an audience a message goes to the members' own destination, \
                       such as /queue/news";
        return Err(Refusal::invalid("destination", problem));
    }
    if durable.is_some() {
        let problem = "is missing: a durable message waits at the members' own destination, such as \
                       /queue/news";
        return Err(Refusal::invalid("destination", problem));
    }
    let (content, persistent) = message::content(message, &node.config)?;
    Ok(Wanted::Live(Outgoing::Subscribers { groups, content, persistent, counted: true }))
}

pub(crate) fn to_all(request: SendToAllRequest, node: &Node) -> Result<Wanted, Refusal> {
    let SendToAllRequest { destination, message, audience, durable } = request;
    let outbound = outbound(&destination, message, audience, node)?;
    Ok(match terms(&outbound, durable, node)? {
        Some(terms) => kept(Kept::All, outbound, terms, node)?,
        None => Wanted::Live(Outgoing::All(outbound)),
    })
}

/// One request of a stream.
pub(crate) fn of_stream(request: SendRequest, node: &Node) -> Result<Wanted, Refusal> {
    match request.to {
        Some(To::Users(request)) => to_users(request, node).map_err(|why| why.within("users")),
        Some(To::Sessions(request)) => {
            to_sessions(request, node).map_err(|why| why.within("sessions"))
        }
        Some(To::Groups(request)) => to_groups(request, node).map_err(|why| why.within("groups")),
        Some(To::All(request)) => to_all(request, node).map_err(|why| why.within("all")),
        None => Err(Refusal::invalid("to", "is missing: set users, sessions, groups or all")),
    }
}

/// The answer, once the broker or the store has it.
pub(crate) fn response(taken: Taken) -> SendResponse {
    let Taken { id, reach, targets, stored } = taken;
    let reached = targets.into_iter().zip(reach.reached);
    let count = |nodes: usize| u32::try_from(nodes).unwrap_or(u32::MAX);
    SendResponse {
        message_id: id.to_string(),
        sessions: reach.sessions,
        nodes: count(reach.nodes),
        reached: reached.map(|(target, sessions)| Reached { target, sessions }).collect(),
        uncertain_nodes: count(reach.uncertain),
        uncounted: reach.uncounted,
        stored: stored.map(Into::into),
    }
}

/// How the message is kept, if it is durable: because its sender says so, or the configuration.
fn terms(
    outbound: &Outbound,
    durable: Option<Durable>,
    node: &Node,
) -> Result<Option<Terms>, Refusal> {
    let is_asked = durable.is_some();
    let keeps = node.keeper.as_ref().is_some_and(|keeper| keeper.keeps(&outbound.path));
    if !is_asked && !keeps {
        return Ok(None);
    }
    if !outbound.audience.is_empty() {
        let problem = match is_asked {
            true => {
                "is for sessions that are there now, and a durable message waits for users: leave one of \
                 audience and durable out"
            }
            false => {
                "is for sessions that are there now, and the configuration stores what goes to this \
                 destination for users: leave it out"
            }
        };
        return Err(Refusal::invalid("audience", problem));
    }
    keep::fits(&outbound.path)?;
    let ttl = node.keeper()?.ttl();
    Terms::read(durable.unwrap_or_default(), ttl, SystemTime::now()).map(Some)
}

fn kept(to: Kept, outbound: Outbound, terms: Terms, node: &Node) -> Result<Wanted, Refusal> {
    let Outbound { path, content, .. } = outbound;
    Ok(Wanted::Stored(Keep::new(to, path, content, terms, node.keeper()?.boot())))
}

fn outbound(
    destination: &str,
    message: Option<Message>,
    audience: Option<Audience>,
    node: &Node,
) -> Result<Outbound, Refusal> {
    let path = path(destination, &node.destinations)?;
    let audience = names::audience(audience)?;
    let (content, persistent) = message::content(message, &node.config)?;
    Ok(Outbound { path, audience, content, persistent })
}

/// The destination within a user, as a client would subscribe to it behind the prefix of users.
pub(crate) fn path(text: &str, destinations: &Destinations) -> Result<ByteString, Refusal> {
    let invalid = |problem: String| Err(Refusal::invalid("destination", problem));
    if text.is_empty() {
        return invalid("is missing: name one within the user, such as /queue/news".to_owned());
    }
    let users = destinations.prefixes().filter(|(_, kind)| *kind == Kind::User);
    let Some((prefix, _)) = users.min_by_key(|(prefix, _)| prefix.len()) else {
        return invalid(
            "names one within a user, and the configuration has no prefix of users".to_owned(),
        );
    };
    let named = |prefix: &ByteString| text == &**prefix || text.starts_with(&format!("{prefix}/"));
    if named(prefix) {
        return invalid(format!("is within the user already: leave {prefix} out"));
    }
    match destinations.parse(&format!("{prefix}{text}"), Verb::Subscribe) {
        Ok(Destination::User(to)) => Ok(to.path),
        Ok(_) => invalid("is no destination within a user, such as /queue/news".to_owned()),
        Err(error) => invalid(error.to_string()),
    }
}
