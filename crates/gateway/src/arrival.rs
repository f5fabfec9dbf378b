//! What is known of a client before it says who it is: where it comes from, and what its HTTP request showed.

use std::net::IpAddr;

use access::Credentials;
use bytestring::ByteString;
use sockjs::Head;
use warp::http::header;

use crate::hook::{self, Shown};
use crate::node::Node;

/// What is spoken at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Stomp,
    Plain,
}

/// See the module.
pub(crate) struct Arrival {
    /// Where it connects from; behind a proxy that is the proxy's address.
    pub(crate) address: IpAddr,
    /// What its request showed, if anything; CONNECT takes it.
    pub(crate) shown: Option<Box<Shown>>,
    /// What it says it is, by `User-Agent`; CONNECT takes it.
    pub(crate) device: ByteString,
}

impl Arrival {
    /// A client's that came by HTTP. `origin_named` says that its page is of an origin that was let in by name.
    pub(crate) fn by_http(
        node: &Node,
        endpoint: Endpoint,
        head: &Head,
        origin_named: bool,
    ) -> Self {
        let mut credentials = credentials(head, origin_named);
        if endpoint == Endpoint::Plain {
            credentials.connect = login(&head.query);
        }
        let seen = hook::wanted_headers(node.application.hook(), &head.headers);
        let any = endpoint == Endpoint::Plain
            || credentials.authorization.is_some()
            || credentials.cookie.is_some()
            || credentials.query.is_some()
            || !seen.is_empty();
        let shown = any.then(|| Box::new(Shown { credentials, headers: seen }));
        let device = head.header(&header::USER_AGENT).map(ByteString::from).unwrap_or_default();
        Self { address: head.peer, shown, device }
    }
}

/// By what an HTTP request shows who somebody is.
pub(crate) fn credentials(head: &Head, origin_checked: bool) -> Credentials {
    Credentials {
        authorization: head.header(&header::AUTHORIZATION).map(ByteString::from),
        // RFC 6265 has one line only; HTTP/2 in front of a proxy may have made several of it.
        cookie: head.joined(&header::COOKIE, "; ").map(ByteString::from),
        origin_checked,
        query: (!head.query.is_empty()).then(|| head.query.clone().into()),
        connect: Vec::new(),
    }
}

/// A name that a client without STOMP says it has, as CONNECT would. Its passcode would stand in logs.
fn login(query: &str) -> Vec<(ByteString, ByteString)> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let said = pairs.filter(|(name, _)| name == "login");
    said.map(|(_, value)| (stomp::header::LOGIN.into(), (&*value).into())).take(1).collect()
}
