//! The application's word on who may come in, once it is known who that is.
//!
//! Invariants
//! - It is shown what it asked for by name, and nothing else that a client showed.
//! - Nobody comes in whom it has not let in; a client hears so before its time to connect is over.
//! - What it annotates a session with is within what presence keeps.

use std::net::IpAddr;
use std::sync::Arc;

use access::{Credentials, Principal};
use bytestring::ByteString;
use http::HeaderMap;
use presence::{Attributes, MAX_ATTRIBUTES, MAX_DEPTH};
use serde_json::Value;
use stomp::Title;
use tokio::time::Instant;

use crate::application::{Caller, ConnectError, Connecting, Hook, Pairs};
use crate::close::CloseReason;
use crate::node::Node;
use crate::relay::Refused;

/// What a client showed on its way in.
#[derive(Default)]
pub(crate) struct Shown {
    /// By which it may be known.
    pub(crate) credentials: Credentials,
    /// The HTTP headers that the application wants to see.
    pub(crate) headers: Pairs,
}

/// Of `headers` those that `hook` wants to see, each once.
pub(crate) fn wanted_headers(hook: Option<&Hook>, headers: &HeaderMap) -> Pairs {
    let wanted = hook.into_iter().flat_map(|hook| &hook.headers);
    let found = wanted.filter_map(|name| {
        let values = headers.get_all(name.as_str()).iter().filter_map(|value| value.to_str().ok());
        let values: Vec<_> = values.collect();
        (!values.is_empty()).then(|| (name.as_str().into(), values.join(", ").into()))
    });
    found.collect()
}

/// Asks the application, if it wants to be asked: what the session is annotated with.
pub(crate) async fn ask(
    node: &Node,
    principal: &Principal,
    session: &ByteString,
    address: IpAddr,
    shown: Shown,
    latest: Instant,
) -> Result<Attributes, Refused> {
    let Some(hook) = node.application.hook() else { return Ok(Attributes::new()) };
    let caller = Caller {
        principal: Arc::new(principal.clone()),
        session: session.clone(),
        address,
        attributes: Arc::default(),
    };
    let asked = node.application.connect(connecting(hook, caller, shown));
    let answer = match tokio::time::timeout_at(latest, asked).await {
        Ok(answer) => answer.and_then(|attributes| match too_much(&attributes) {
            None => Ok(attributes),
            Some(what) => {
                tracing::warn!(what, "what the application annotates a session with is not kept");
                Err(ConnectError::Unanswered)
            }
        }),
        Err(_) => Err(ConnectError::Unanswered),
    };
    answer.map_err(|error| {
        let reason = match &error {
            ConnectError::Refused { unauthenticated: true, .. } => CloseReason::Unauthenticated,
            ConnectError::Refused { unauthenticated: false, .. } => CloseReason::Forbidden,
            ConnectError::Unanswered => CloseReason::Overload,
        };
        Refused::titled(Title::BadConnect, reason, error.to_string())
    })
}

fn connecting(hook: &Hook, caller: Caller, shown: Shown) -> Connecting {
    let Shown { credentials, headers } = shown;
    let is_wanted = |wanted: &[String], name: &str| wanted.iter().any(|wanted| wanted == name);
    let connect_headers = credentials.connect.into_iter().filter_map(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        is_wanted(&hook.headers, &lower).then(|| (lower.into(), value))
    });
    let query = credentials.query.unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| is_wanted(&hook.query, name))
        .map(|(name, value)| (name.into_owned().into(), value.into_owned().into()));
    let cookies = credentials.cookie.unwrap_or_default();
    let cookies = cookies
        .split(';')
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| is_wanted(&hook.cookies, name))
        .map(|(name, value)| (name.into(), value.into()));
    Connecting {
        caller,
        headers,
        connect_headers: connect_headers.collect(),
        query: query.collect(),
        cookies: cookies.collect(),
    }
}

/// What of `attributes` is more than presence keeps, if anything is.
fn too_much(attributes: &Attributes) -> Option<&'static str> {
    fn depth(value: &Value) -> usize {
        let deepest = match value {
            Value::Array(values) => values.iter().map(depth).max(),
            Value::Object(values) => values.values().map(depth).max(),
            _ => return 0,
        };
        deepest.unwrap_or_default() + 1
    }
    let size = serde_json::to_vec(attributes).map_or(usize::MAX, |json| json.len());
    if size > MAX_ATTRIBUTES {
        Some("it takes more than 4 KiB as JSON")
    } else if attributes.values().map(depth).max().unwrap_or_default() + 1 > MAX_DEPTH {
        Some("it is nested more than 32 deep")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn what_is_not_asked_for_is_not_shown() {
        let hook = Hook {
            headers: vec!["x-device".into()],
            query: vec!["room".into()],
            cookies: vec!["lang".into()],
        };
        let mut http = HeaderMap::new();
        http.append("x-device", "phone".parse().unwrap());
        http.append("x-device", "old".parse().unwrap());
        http.append("authorization", "Bearer secret".parse().unwrap());
        let shown = Shown {
            credentials: Credentials {
                cookie: Some("session=secret; lang=fr; lang2=x".into()),
                query: Some("access_token=secret&room=a%2Fb+c".into()),
                connect: pairs(&[("X-Device", "frame"), ("passcode", "secret")]),
                ..Credentials::default()
            },
            headers: wanted_headers(Some(&hook), &http),
        };
        let caller = Caller {
            principal: Arc::new(Principal::anonymous()),
            session: "s".into(),
            address: [127, 0, 0, 1].into(),
            attributes: Arc::default(),
        };
        let seen = connecting(&hook, caller, shown);
        assert_eq!(seen.headers, pairs(&[("x-device", "phone, old")]));
        assert_eq!(seen.connect_headers, pairs(&[("x-device", "frame")]));
        assert_eq!(seen.query, pairs(&[("room", "a/b c")]));
        assert_eq!(seen.cookies, pairs(&[("lang", "fr")]));
        assert!(!format!("{seen:?}").contains("fr"), "{seen:?}");
    }

    #[test]
    fn annotations_are_bounded() {
        let of = |value: Value| Attributes::from_iter([("a".to_owned(), value)]);
        assert_eq!(too_much(&of(json!({"b": [1, 2]}))), None);
        assert!(too_much(&of("x".repeat(MAX_ATTRIBUTES).into())).is_some());
        let deep = (0..MAX_DEPTH).fold(Value::Null, |value, _| Value::Array(vec![value]));
        assert!(too_much(&of(deep)).is_some());
    }
}
