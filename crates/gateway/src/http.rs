//! The HTTP side of the client port: the WebSocket upgrade and, where enabled, the console.

use std::sync::Arc;

use access::Credentials;
use bytestring::ByteString;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use warp::hyper::body::Bytes;
use websocket::Request;

use crate::console;
use crate::door::Arrival;
use crate::hook::{self, Shown};
use crate::node::{Admission, Node};
use crate::plain::PlainSession;
use crate::session::Session;
use crate::transport::WebSocket;

/// Everything the client port answers.
pub(crate) type Routes = BoxedFilter<(Response<Bytes>,)>;

/// The sub-protocols of STOMP over WebSocket.
const PROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// How long a client that was turned away for want of room should wait, in seconds.
const RETRY_AFTER: &str = "5";

/// What is spoken at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Stomp,
    Plain,
}

/// The routes of a node.
pub(crate) fn routes(node: Arc<Node>) -> Routes {
    let (stomp, plain) = (node.config.path.clone(), node.plain.path.clone());
    let hint = format!("nothing here; connect a STOMP client's WebSocket to {stomp}\n");
    let console = node.config.console.then(|| console::routes(Arc::clone(&node)));
    let pages = console.is_some();
    let rest = warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::ext::optional::<OnUpgrade>())
        .map(move |method: Method, path: warp::path::FullPath, headers, query: String, upgrade| {
            let endpoint = if path.as_str() == stomp {
                Some(Endpoint::Stomp)
            } else if path.as_str() == plain {
                Some(Endpoint::Plain)
            } else {
                None
            };
            if let Some(endpoint) = endpoint {
                let answer = connect(&node, endpoint, &method, &headers, query, upgrade);
                let upgraded = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
                return if upgraded { answer } else { only_one(answer) };
            }
            let page = if pages { console::page(&method, path.as_str()) } else { None };
            let answer = page.unwrap_or_else(|| refusal(StatusCode::NOT_FOUND, None, &hint));
            only_one(answer)
        })
        .boxed();
    match console {
        Some(console) => console.or(rest).unify().boxed(),
        None => rest,
    }
}

/// Answers a WebSocket handshake, and starts the session once the connection is ours.
fn connect(
    node: &Arc<Node>,
    endpoint: Endpoint,
    method: &Method,
    headers: &HeaderMap,
    query: String,
    upgrade: Option<OnUpgrade>,
) -> Response<Bytes> {
    let connection = joined(headers, &header::CONNECTION, ", ");
    let protocols = joined(headers, &header::SEC_WEBSOCKET_PROTOCOL, ", ");
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        // Twice is as bad as not at all: who knows which one is meant.
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    };
    if one(&header::HOST).is_none() {
        node.metrics.refused(400);
        return refusal(StatusCode::BAD_REQUEST, None, "exactly one Host header is needed\n");
    }
    let request = Request {
        method: method.as_str(),
        upgrade: one(&header::UPGRADE),
        connection: connection.as_deref(),
        version: one(&header::SEC_WEBSOCKET_VERSION),
        key: one(&header::SEC_WEBSOCKET_KEY),
        protocols: protocols.as_deref(),
        origin: one(&header::ORIGIN),
        host: one(&header::HOST),
        secure: false,
    };
    let protocols = match endpoint {
        Endpoint::Stomp => &PROTOCOLS[..],
        Endpoint::Plain => &[],
    };
    let accepted = match websocket::accept(&request, protocols, &node.config.origins) {
        Ok(accepted) => accepted,
        Err(why) => {
            let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::BAD_REQUEST);
            node.metrics.refused(status.as_u16());
            tracing::debug!(%why, "handshake refused");
            return refusal(status, why.header(), &format!("{why}\n"));
        }
    };
    let Some(upgrade) = upgrade else {
        node.metrics.refused(400);
        return refusal(StatusCode::BAD_REQUEST, None, "this connection cannot be upgraded\n");
    };
    let Ok(admission) = node.admit() else {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        node.metrics.refused(status.as_u16());
        let text = "this node has no room for another session\n";
        return refusal(status, Some(("retry-after", RETRY_AFTER)), text);
    };
    let shown = Credentials {
        authorization: one(&header::AUTHORIZATION).map(ByteString::from),
        // RFC 6265 has one line only; HTTP/2 in front of a proxy may have made several of it.
        cookie: joined(headers, &header::COOKIE, "; ").map(ByteString::from),
        origin_checked: accepted.origin_named,
        connect: match endpoint {
            Endpoint::Stomp => Vec::new(),
            Endpoint::Plain => login(&query),
        },
        query: (!query.is_empty()).then(|| query.into()),
    };
    let seen = hook::wanted_headers(node.application.hook(), headers);
    let any = endpoint == Endpoint::Plain
        || shown.authorization.is_some()
        || shown.cookie.is_some()
        || shown.query.is_some()
        || !seen.is_empty();
    let shown = any.then(|| Box::new(Shown { credentials: shown, headers: seen }));
    let device = one(&header::USER_AGENT).map(ByteString::from).unwrap_or_default();
    let tasks = node.tasks.clone();
    tasks.spawn(take_over(Arc::clone(node), endpoint, admission, upgrade, shown, device));
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, accepted.accept);
    if let Some(protocol) = accepted.protocol {
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response.body(Bytes::new()).unwrap_or_default()
}

/// Takes the socket from hyper, with whatever came after the handshake, and runs the session in a
/// task of its own, which is smaller than this one.
async fn take_over(
    node: Arc<Node>,
    endpoint: Endpoint,
    admission: Admission,
    upgrade: OnUpgrade,
    shown: Option<Box<Shown>>,
    device: ByteString,
) {
    let upgraded: Upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "upgrade failed"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return tracing::error!("an upgraded connection is not a TCP socket");
    };
    let socket = parts.io.into_inner();
    let address = match socket.peer_addr() {
        Ok(peer) => peer.ip(),
        // It is gone already.
        Err(error) => return tracing::debug!(%error, "connection ended"),
    };
    let transport = WebSocket::new(socket, &node.websocket, &parts.read_buf);
    let arrival = Arrival { address, shown, device };
    let tasks = node.tasks.clone();
    match endpoint {
        Endpoint::Stomp => tasks.spawn(Session::new(node, admission, transport, arrival).run()),
        Endpoint::Plain => {
            tasks.spawn(PlainSession::new(node, admission, transport, arrival).run())
        }
    };
}

/// A name that a client without STOMP says it has, as CONNECT would. Its passcode would stand in logs.
fn login(query: &str) -> Vec<(ByteString, ByteString)> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let said = pairs.filter(|(name, _)| name == "login");
    said.map(|(_, value)| (stomp::header::LOGIN.into(), (&*value).into())).take(1).collect()
}

/// All lines of a header as one list.
fn joined(headers: &HeaderMap, name: &HeaderName, separator: &str) -> Option<String> {
    let lines: Vec<_> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(separator))
}

/// Makes it the last answer on its connection, so that nobody holds one by asking again and again
/// and reading nothing.
pub(crate) fn only_one(mut answer: Response<Bytes>) -> Response<Bytes> {
    answer.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn refusal(
    status: StatusCode,
    header: Option<(&'static str, &'static str)>,
    text: &str,
) -> Response<Bytes> {
    let mut response =
        Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    if status == StatusCode::UPGRADE_REQUIRED {
        // RFC 9110, section 15.5.22.
        response = response.header("upgrade", "websocket").header("connection", "upgrade");
    }
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    response.body(Bytes::copy_from_slice(text.as_bytes())).unwrap_or_default()
}
