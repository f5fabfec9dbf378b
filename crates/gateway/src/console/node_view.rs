//! This node: its sessions, what they are subscribed to, and what it has counted, from which the page computes
//! rates.
//!
//! Not here: sessions of other nodes (`presence_view`).

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::request::Request;
use super::{ROWS, millis};
use crate::node::Node;
use crate::transport::Framing;
use crate::users::Registered;

/// At most [`ROWS`] sessions, those first that have been there for longest, and as many destinations, those first
/// that most are subscribed to; of both only what contains the filter.
pub(super) fn node(node: &Node, request: &Request) -> Value {
    let filter = request.parameter("filter");
    let mut sessions = node.users.all();
    sessions.retain(|session| {
        session.user().as_str().contains(filter) || session.id().as_str().contains(filter)
    });
    let session_count = sessions.len();
    let since = |session: &Arc<Registered>| session.seen().map(|seen| seen.since);
    sessions.sort_by(|one, other| (since(one), one.id()).cmp(&(since(other), other.id())));
    sessions.truncate(ROWS);
    let mut destinations: Vec<_> = node.hub.subscribed().into_iter().collect();
    destinations.retain(|(destination, _)| destination.to_string().contains(filter));
    let destination_count = destinations.len();
    destinations.sort_by_cached_key(|(destination, subscribers)| {
        (std::cmp::Reverse(*subscribers), destination.to_string())
    });
    destinations.truncate(ROWS);
    let all = node.sessions.all();
    let queued: usize = all.iter().map(|(_, mailbox)| mailbox.queued()).sum();
    let counted = |counts: Vec<(&'static str, u64)>| -> Map<String, Value> {
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect()
    };
    json!({
        "at": millis(SystemTime::now()),
        "node": node.presence.boot().node_name(),
        "draining": node.drain.get().is_some(),
        "connections": all.len(),
        "max_sessions": node.config.max_sessions,
        "subscriptions": node.metrics.subscriptions.get(),
        "queued_bytes": queued,
        "counted": counted(node.metrics.counted()),
        "ended": counted(node.metrics.ended()),
        "session_count": session_count,
        "sessions": sessions.iter().map(|session| row(session)).collect::<Vec<_>>(),
        "destination_count": destination_count,
        "destinations": destinations
            .iter()
            .map(|(destination, subscribers)| {
                json!({ "destination": destination.to_string(), "subscribers": subscribers })
            })
            .collect::<Vec<_>>(),
    })
}

fn row(session: &Registered) -> Value {
    let seen = session.seen();
    json!({
        "id": session.id().as_str(),
        "user": session.user().as_str(),
        "anonymous": session.is_nobodys(),
        "address": seen.map(|seen| seen.address.to_string()),
        "device": seen.map(|seen| seen.device.to_string()),
        "since": seen.map(|seen| millis(seen.since)),
        "transport": seen.map(|seen| transport(seen.framing)),
        "subscriptions": seen.map(|seen| seen.subscriptions()),
        "queued_bytes": session.mailbox().queued(),
    })
}

fn transport(framing: Framing) -> &'static str {
    match framing {
        Framing::WebSocket => "WebSocket",
        Framing::None => "TCP",
        Framing::Plain => "WebSocket, plain",
        Framing::SockJs(sockjs::Framing::Http) => "SockJS",
        Framing::SockJs(_) => "SockJS, WebSocket",
        Framing::PlainSockJs(sockjs::Framing::Http) => "SockJS, plain",
        Framing::PlainSockJs(_) => "SockJS, WebSocket, plain",
    }
}
