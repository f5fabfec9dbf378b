//! The internal port: takes requests that other nodes hand over.
//!
//! Invariants
//! - Nothing reaches the handler that no node signed; of what nobody signed no body is read.
//! - The handler gets each request with [`ClientAddress`] and [`Forwarded`].
//! - At most [`MAX_CONNECTIONS`]; further ones wait to be accepted. One that says nothing is closed after
//!   [`PATIENCE`].
//! - When the other node goes away, the answer, or the call of the handler, is dropped.
//!
//! Not here: what the answers are.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::forwarding::{SILENCE, now};
use super::signature::{BodyHash, FORWARDED, Key, Refused};
use super::{BoxBody, ClientAddress, Forwarded, Peers};

/// Most connections of other nodes, and of whoever else reaches the port.
const MAX_CONNECTIONS: usize = 4_096;

/// Bytes of a request's head: what the client port takes, and the signature.
const MAX_HEAD: usize = 18 * 1024;

/// Headers of a request: what the client port takes, and the signature.
const MAX_HEADERS: usize = 128;

/// How long a request may take to come, head and body each, and a connection be silent between two.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long answers that are under way may take when the node stops.
const GRACE: Duration = Duration::from_secs(1);

/// How often the log says that requests are refused.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Serves until `stopping`. Bodies are at most `max_body` bytes.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    peers: Arc<Peers>,
    max_body: usize,
    handler: H,
    stopping: CancellationToken,
) where
    H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<BoxBody>> + Send + 'static,
{
    // Without a secret nobody could be known.
    let Some(forwarding) = &peers.forwarding else { return };
    let port = Arc::new(Port {
        key: forwarding.key().clone(),
        peers: Arc::clone(&peers),
        max_body,
        handler,
        logged: Mutex::default(),
    });
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, _)) => {
                    let served = Arc::clone(&port).connection(socket, stopping.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those that are open go on.
                    tracing::warn!(%error, "cannot accept another node's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    stopping.run_until_cancelled(accepting).await;
    connections.close();
    connections.wait().await;
}

struct Port<H> {
    key: Key,
    peers: Arc<Peers>,
    max_body: usize,
    handler: H,
    /// When the log last said that requests are refused. Held for a look.
    logged: Mutex<Option<Instant>>,
}

impl<H, F> Port<H>
where
    H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<BoxBody>> + Send + 'static,
{
    async fn connection(self: Arc<Self>, socket: TcpStream, stopping: CancellationToken) {
        if let Err(error) = SockRef::from(&socket).set_tcp_user_timeout(Some(SILENCE)) {
            tracing::debug!(%error, "a connection of another node cannot be bounded");
        }
        let service = service_fn(move |request| {
            let port = Arc::clone(&self);
            async move { Ok::<_, Infallible>(port.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(socket), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection of another node ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody> {
        let (mut parts, body) = request.into_parts();
        let signed = match self.key.verify(&parts, now()) {
            Ok(signed) => signed,
            Err(why) => return self.refuse(why),
        };
        let body = Limited::new(body, self.max_body).collect();
        let body = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return last(StatusCode::PAYLOAD_TOO_LARGE);
            }
            Ok(Err(_)) => return last(StatusCode::BAD_REQUEST),
            Err(_) => return last(StatusCode::REQUEST_TIMEOUT),
        };
        if BodyHash::of(&body) != signed.body {
            return self.refuse(Refused::OtherBody);
        }
        self.peers.metrics.forwarded_in();
        parts.headers.remove(FORWARDED);
        parts.extensions.insert(ClientAddress(signed.client));
        parts.extensions.insert(Forwarded);
        (self.handler)(Request::from_parts(parts, body)).await
    }

    fn refuse(&self, why: Refused) -> Response<BoxBody> {
        self.peers.metrics.not_forwarded(why);
        let now = Instant::now();
        let is_due = {
            let mut logged = self.logged.lock();
            let is_due = logged.is_none_or(|at| now.duration_since(at) >= LOG_EVERY);
            if is_due {
                *logged = Some(now);
            }
            is_due
        };
        if is_due {
            tracing::warn!(%why, "a request on the port for other nodes is refused");
        }
        let mut answer = last(StatusCode::FORBIDDEN);
        // A node sees by it that this is no answer to its client.
        answer.headers_mut().insert(FORWARDED, HeaderValue::from_static("refused"));
        answer
    }
}

/// An answer without words, and the last of its connection.
fn last(status: StatusCode) -> Response<BoxBody> {
    let mut answer = empty(status);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// An answer without words.
pub(crate) fn empty(status: StatusCode) -> Response<BoxBody> {
    let body = Full::new(Bytes::new()).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer
}
