//! The WebSocket handshake of an endpoint, and the session that begins with it.

use std::sync::Arc;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sockjs::Head;
use tokio::net::TcpStream;
use warp::http::{Response, StatusCode, header};
use warp::hyper::body::Bytes;
use websocket::Request;

use crate::arrival::{Arrival, Endpoint};
use crate::node::{Admission, Node};
use crate::plain::PlainSession;
use crate::session::Session;
use crate::transport::WebSocket;

/// The sub-protocols of STOMP over WebSocket.
const PROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// How long a client that was turned away for want of room should wait, in seconds.
pub(crate) const RETRY_AFTER: &str = "5";

/// What is said where there is no room.
pub(crate) const NO_ROOM: &str = "this node has no room for another session\n";

/// Answers a WebSocket handshake, and starts the session once the connection is ours.
pub(crate) fn connect(
    node: &Arc<Node>,
    endpoint: Endpoint,
    head: &Head,
    upgrade: Option<OnUpgrade>,
) -> Response<Bytes> {
    let connection = head.joined(&header::CONNECTION, ", ");
    let protocols = head.joined(&header::SEC_WEBSOCKET_PROTOCOL, ", ");
    if head.header(&header::HOST).is_none() {
        node.metrics.refused(400);
        return refusal(StatusCode::BAD_REQUEST, None, "exactly one Host header is needed\n");
    }
    let request = Request {
        method: head.method.as_str(),
        upgrade: head.header(&header::UPGRADE),
        connection: connection.as_deref(),
        version: head.header(&header::SEC_WEBSOCKET_VERSION),
        key: head.header(&header::SEC_WEBSOCKET_KEY),
        protocols: protocols.as_deref(),
        origin: head.header(&header::ORIGIN),
        host: head.header(&header::HOST),
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
        return refusal(status, Some(("retry-after", RETRY_AFTER)), NO_ROOM);
    };
    let arrival = Arrival::by_http(node, endpoint, head, accepted.origin_named);
    let tasks = node.tasks.clone();
    tasks.spawn(take_over(Arc::clone(node), endpoint, admission, upgrade, arrival));
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
    arrival: Arrival,
) {
    let upgraded: Upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "upgrade failed"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return tracing::error!("an upgraded connection is not a TCP socket");
    };
    let socket = parts.io.into_inner();
    let transport = WebSocket::new(socket, &node.websocket, &parts.read_buf);
    let tasks = node.tasks.clone();
    match endpoint {
        Endpoint::Stomp => tasks.spawn(Session::new(node, admission, transport, arrival).run()),
        Endpoint::Plain => {
            tasks.spawn(PlainSession::new(node, admission, transport, arrival).run())
        }
    };
}

/// An answer that says in a sentence why not.
pub(crate) fn refusal(
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
