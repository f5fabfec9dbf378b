//! A request as an endpoint sees it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::header::{self, HeaderName};
use http::{HeaderMap, Method, StatusCode};
use hyper::upgrade::OnUpgrade;

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub struct Request {
    /// All but the body.
    pub head: Head,
    /// What the client sends.
    pub body: Body,
    /// How the connection is had if it becomes a WebSocket.
    pub upgrade: Option<OnUpgrade>,
    /// Whether another server handed it over, which asks nobody else again.
    pub is_forwarded: bool,
    /// Told when the request is known to be for a session, and may wait long.
    pub hold: Option<Hold>,
}

/// What is done once a request may wait long; what it gives is kept while the request waits for its session.
pub type Hold = Box<dyn FnOnce() -> Held + Send>;

/// What is kept while a request waits for its session, such as word that its connection needs no place.
pub type Held = Box<dyn Send + Sync>;

/// A request without its body.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// What follows the endpoint's own path, as it was written.
    pub path: String,
    /// Without the question mark; empty if there is none.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// Where the client connects from.
    pub peer: IpAddr,
}

/// The body of a request, which is read only where one is expected.
pub struct Body(BoxStream<'static, Option<Bytes>>);

/// Why a body cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than a request may bring.
    #[error("more than {limit} bytes in one request\n")]
    TooLong {
        /// In bytes.
        limit: usize,
    },
    /// The connection ended, or broke HTTP.
    #[error("the body did not come whole\n")]
    Broken,
    /// It took too long.
    #[error("the body did not come within {PATIENCE:?}\n")]
    Late,
}

impl BodyError {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl Head {
    /// A header that is there once; twice is as bad as not at all, for who knows which one is meant.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    }

    /// All lines of a header as one list.
    pub fn joined(&self, name: &HeaderName, separator: &str) -> Option<String> {
        let lines: Vec<_> =
            self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!lines.is_empty()).then(|| lines.join(separator))
    }

    /// `Origin`. Versions of WebSocket before RFC 6455 called it otherwise.
    pub fn origin(&self) -> Option<&str> {
        self.header(&header::ORIGIN)
            .or_else(|| self.header(&HeaderName::from_static("sec-websocket-origin")))
    }
}

impl Body {
    /// A body that comes by and by.
    pub fn new<B: Buf, E>(stream: impl Stream<Item = Result<B, E>> + Send + 'static) -> Self {
        Self(
            stream
                .map(|part| part.ok().map(|mut part| part.copy_to_bytes(part.remaining())))
                .boxed(),
        )
    }

    /// A body that is there.
    pub fn whole(body: Bytes) -> Self {
        Self(futures_util::stream::once(async { Some(body) }).boxed())
    }

    /// Reads all of it, unless it is longer than `limit` bytes, or takes longer than 20 s.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let read = tokio::time::timeout(PATIENCE, self.read_whole(limit)).await;
        read.unwrap_or(Err(BodyError::Late))
    }

    async fn read_whole(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let mut body = BytesMut::new();
        while let Some(part) = self.0.next().await {
            let part = part.ok_or(BodyError::Broken)?;
            if body.len() + part.len() > limit {
                return Err(BodyError::TooLong { limit });
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }
}
