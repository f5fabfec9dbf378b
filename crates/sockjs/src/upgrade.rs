//! The opening handshake of a WebSocket, and what follows it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::either::Either;
use websocket::Refusal;

use crate::answer::{self, Answer, Answering};
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::framing::Framing;
use crate::request::{Head, Request};
use crate::service::{Over, Service};
use crate::websocket::WebSocket;

/// How long a client may take to take the first frame, for which there is room in any socket.
const OPENING: Duration = Duration::from_secs(10);

/// Judges the handshake and begins a session once the connection is ours.
pub(crate) fn answer<S: Service>(
    endpoint: &Endpoint<S>,
    request: Request,
    framing: Framing,
) -> Answer {
    let head = &request.head;
    let accepted = match accept(head, endpoint) {
        Ok(accepted) => accepted,
        Err(why) => return refusal(&why),
    };
    let Some(upgrade) = request.upgrade else {
        return answer::text(StatusCode::BAD_REQUEST, "this connection cannot be upgraded\n");
    };
    let ticket = match endpoint.service.admit(head, Over::WebSocket) {
        Ok(ticket) => ticket,
        Err(refused) => return *refused,
    };
    let (service, websocket) = (Arc::clone(&endpoint.service), endpoint.websocket.clone());
    let heartbeat = endpoint.config.heartbeat;
    tokio::spawn(async move {
        if let Some(taken) = take_over(upgrade, framing, &websocket, heartbeat).await {
            service.run(ticket, Connection::websocket(taken));
        }
    });
    Answering::status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, &accepted.accept)
        .empty()
}

fn accept<S: Service>(head: &Head, endpoint: &Endpoint<S>) -> Result<websocket::Accepted, Refusal> {
    let connection = head.joined(&header::CONNECTION, ", ");
    // The framing of these drafts is that of RFC 6455, and the protocol names them.
    let version = match head.header(&header::SEC_WEBSOCKET_VERSION) {
        Some("7" | "8") => Some("13"),
        version => version,
    };
    let request = websocket::Request {
        method: head.method.as_str(),
        upgrade: head.header(&header::UPGRADE),
        connection: connection.as_deref(),
        version,
        key: head.header(&header::SEC_WEBSOCKET_KEY),
        protocols: None,
        origin: head.origin(),
        host: head.header(&header::HOST),
        secure: false,
    };
    websocket::accept(&request, &[], &endpoint.origins)
}

/// In the words of the protocol where it has some.
fn refusal(why: &Refusal) -> Answer {
    let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let text = match why {
        Refusal::Method => return answer::wrong_method("GET"),
        Refusal::Upgrade => "Can \"Upgrade\" only to \"WebSocket\".\n".to_owned(),
        Refusal::Connection => "\"Connection\" must be \"Upgrade\".\n".to_owned(),
        Refusal::Version | Refusal::Key | Refusal::Origin => format!("{why}\n"),
    };
    let mut answering = Answering::status(status).content_type(answer::TEXT);
    if let Some((name, value)) = why.header() {
        answering = answering.header(HeaderName::from_static(name), value);
    }
    answering.body(text)
}

/// Takes the socket from hyper, with whatever came after the handshake.
async fn take_over(
    upgrade: OnUpgrade,
    framing: Framing,
    config: &websocket::Config,
    heartbeat: Duration,
) -> Option<WebSocket> {
    let upgraded: Upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return None;
        }
    };
    let (mut socket, input) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (Either::Left(parts.io.into_inner()), parts.read_buf),
        // TLS, or a server of another make.
        Err(upgraded) => (Either::Right(TokioIo::new(upgraded)), bytes::Bytes::new()),
    };
    if let Some(open) = framing.open() {
        match tokio::time::timeout(OPENING, socket.write_all(&open)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
    Some(WebSocket::new(socket, framing, config, heartbeat, &input))
}
