//! The way to other nodes: HTTP connections that are kept for a while.
//!
//! Invariants
//! - No header goes along that is about the client's own connection, nor what the client says of forwarding.
//! - At most [`MAX_REQUESTS`] are under way; one more is refused at once.
//! - A request ends at the other node when nobody waits for its answer any more: its connection is closed.
//!
//! How long an answer may take is not bounded here: a client may wait for it (`xhr`), and leaves when it has
//! had enough. A node whose machine is gone is noticed by the connection ([`SILENCE`]); one that only stands still
//! is waited for as long as the client waits.
//!
//! Not here: which node.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::BoxBody;
use super::signature::{BodyHash, FORWARDED, Key, Signed};

/// Most requests on their way to other nodes.
const MAX_REQUESTS: usize = 4_096;

/// How long another node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a node may leave without acknowledgement what was sent to it, or not look at what it gets.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// How long a connection is kept for the next request: less than the other node waits for one, which would
/// otherwise close it just then.
const IDLE: Duration = Duration::from_secs(4);

/// Connections to one node that are kept so.
const MAX_IDLE: usize = 64;

/// What is about one connection, or about one sender.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// See the module.
pub(crate) struct Forwarding {
    key: Key,
    client: Client<HttpConnector, Full<Bytes>>,
    /// A permit for each request until its answer is over; who gets none is refused.
    pub(super) room: Arc<Semaphore>,
}

/// Why another node did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// It was forwarded to this node already.
    #[error("it was forwarded already")]
    Twice,
    /// The node says of no address, or is gone, or this one takes no part.
    #[error("nobody knows where that node takes requests")]
    Unknown,
    /// Too many are under way.
    #[error("{MAX_REQUESTS} requests are under way")]
    Busy,
    /// It cannot be sent so.
    #[error("it cannot be sent: {0}")]
    Unfit(#[from] http::Error),
    /// The other node takes this one for a stranger.
    #[error("it does not know this node: is cluster.secret the same, and the clock?")]
    Stranger,
    /// The other node could not be reached, or ended.
    #[error("no answer: {0}")]
    Failed(#[from] Error),
}

impl Unreachable {
    /// What to say to the client.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Twice => StatusCode::NOT_FOUND,
            Self::Unknown | Self::Busy | Self::Stranger | Self::Failed(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unfit(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl Forwarding {
    pub(crate) fn new(key: Key) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(SILENCE / 2));
        connector.set_keepalive_interval(Some(SILENCE / 6));
        connector.set_keepalive_retries(Some(3));
        connector.set_tcp_user_timeout(Some(SILENCE));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            // The client's own goes along, for pages of the same origin.
            .set_host(false)
            .build(connector);
        Self { key, client, room: Arc::new(Semaphore::new(MAX_REQUESTS)) }
    }

    /// What signs requests, and knows those of others.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Sends it to the node at `address`, which answers.
    pub(crate) async fn forward(
        &self,
        address: &str,
        request: Request<Bytes>,
        client: IpAddr,
    ) -> Result<Response<BoxBody>, Unreachable> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Unreachable::Busy)?;
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("http").authority(address).path_and_query(path);
        parts.uri = uri.build()?;
        parts.version = Version::HTTP_11;
        strip(&mut parts.headers);
        parts.headers.remove(FORWARDED);
        // It is written anew.
        parts.headers.remove(header::CONTENT_LENGTH);
        let signed = Signed { client, body: BodyHash::of(&body) };
        let signature = self.key.sign(&parts, signed, now()).map_err(http::Error::from)?;
        parts.headers.insert(FORWARDED, signature);
        let answer = self.client.request(Request::from_parts(parts, Full::new(body))).await?;
        if answer.headers().contains_key(FORWARDED) {
            return Err(Unreachable::Stranger);
        }
        let (mut parts, body) = answer.into_parts();
        strip(&mut parts.headers);
        parts.version = Version::default();
        Ok(Response::from_parts(parts, Answer { body, _room: room }.boxed_unsync()))
    }
}

/// The time in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Takes out what is about one connection, which may name more of that kind.
fn strip(headers: &mut HeaderMap) {
    let values: Vec<_> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    let named = values.iter().filter_map(|value| value.to_str().ok());
    for name in named.flat_map(|value| value.split(',')) {
        headers.remove(name.trim());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The body of an answer, which gives up its place when it ends.
struct Answer {
    body: Incoming,
    _room: OwnedSemaphorePermit,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
