//! The console: a page at `/`, and what it shows of the node as JSON below `/console/`.
//!
//! The page speaks STOMP as any client does; the views are for whoever may see them (`login`). All assets are
//! part of the program; nothing is fetched from elsewhere.
//!
//! Invariants
//! - A GET changes nothing. What changes something is a POST of JSON from a page of this origin.
//! - Every answer is bounded: at most [`ROWS`] rows of a list, and it says how many there are or where more begin.
//! - No view waits for a client, or for a fan-out.
//! - Where `console` is off there is none of it.
//!
//! Not here: metrics for machines, which are at the operators' port.

mod inbox_view;
mod login;
mod node_view;
mod page;
mod presence_view;
mod request;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use warp::http::{HeaderValue, Method, Response, StatusCode, header};
use warp::hyper::body::Bytes;
use warp::{Filter, Reply};

use self::login::{Entry, Logins};
pub(crate) use self::page::page;
use self::request::Request;
use crate::http::{Caller, Routes, only_one};
use crate::node::Node;

/// The most rows of a list in one answer.
const ROWS: usize = 200;

/// The longest body of a request in bytes.
const MAX_BODY: u64 = 16 * 1024;

/// What the views are made from.
struct Console {
    node: Arc<Node>,
    logins: Logins,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is nothing here")]
    NotFound,
    #[error("use {0}")]
    Method(&'static str),
    #[error("log in first")]
    LoginNeeded,
    #[error("{0}")]
    LoginFailed(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    Away(String),
    #[error("nothing is stored for users: this node has no store of inboxes")]
    NoInboxes,
}

/// What is answered below `/console/`.
pub(crate) fn routes(node: Arc<Node>) -> Routes {
    let console = Arc::new(Console { logins: Logins::new(), node });
    let body = warp::body::content_length_limit(MAX_BODY).and(warp::body::bytes());
    let no_body = warp::any().map(Bytes::new);
    warp::path("console")
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::ext::get::<Caller>())
        // A body that is too long, or of a length that is not said, is not read: its request has none.
        .and(warp::post().and(body).or(no_body).unify())
        .then(
            move |method,
                  path: warp::path::FullPath,
                  headers,
                  query: String,
                  caller: Caller,
                  body| {
                let console = Arc::clone(&console);
                async move {
                    if let Some(page) = page(&method, path.as_str()) {
                        return only_one(page);
                    }
                    let request =
                        Request::new(method, path.as_str(), headers, &query, caller.address, body);
                    only_one(console.answer(&request).await)
                }
            },
        )
        .boxed()
}

impl Console {
    async fn answer(&self, request: &Request) -> Response<Bytes> {
        match self.view(request).await {
            Ok((json, cookie)) => answered(StatusCode::OK, &json, cookie),
            Err(refusal) => {
                let (status, text) = (refusal.status(), refusal.to_string());
                if matches!(refusal, Refusal::Away(_)) {
                    tracing::debug!(text, "a view of the console is not to be had");
                }
                answered(status, &json!({ "error": text }), None)
            }
        }
    }

    /// What is asked for, and the cookie that is to be set, if one is.
    async fn view(&self, request: &Request) -> Result<(Value, Option<HeaderValue>), Refusal> {
        let node = &*self.node;
        let entry = self.entry(request)?;
        let path = request.path.strip_prefix("/console/").unwrap_or_default();
        match (path, &request.method) {
            ("login", &Method::POST) => return self.log_in(request).await,
            ("logout", &Method::POST) => return self.log_out(request),
            ("login" | "logout", _) => return Err(Refusal::Method("POST")),
            ("about", &Method::GET) => return Ok((self.about(&entry), None)),
            _ => {}
        }
        if let Entry::Outside = entry {
            return Err(Refusal::LoginNeeded);
        }
        let view = match (path, &request.method) {
            ("node", &Method::GET) => node_view::node(node, request),
            ("presence", &Method::GET) => presence_view::presence(node, request).await?,
            ("user", &Method::GET) => presence_view::user(node, request).await?,
            ("groups", &Method::GET) => presence_view::groups(node),
            ("group", &Method::GET) => presence_view::group(node, request).await?,
            ("inboxes", &Method::GET) => inbox_view::inboxes(node, request).await?,
            ("inbox", &Method::GET) => inbox_view::inbox(node, request).await?,
            ("status", &Method::GET) => inbox_view::status(node, request).await?,
            ("purge", &Method::POST) => {
                request.check_same_page()?;
                inbox_view::purge(node, request).await?
            }
            ("purge", _) => return Err(Refusal::Method("POST")),
            (
                "node" | "presence" | "user" | "groups" | "group" | "inboxes" | "inbox" | "status"
                | "about",
                _,
            ) => {
                return Err(Refusal::Method("GET"));
            }
            _ => return Err(Refusal::NotFound),
        };
        Ok((view, None))
    }

    /// What the page has to know before anybody has logged in; nothing of what the node does.
    fn about(&self, entry: &Entry) -> Value {
        let user = match entry {
            Entry::Inside(user) => Some(&**user),
            Entry::Open | Entry::Outside => None,
        };
        json!({
            "open": matches!(entry, Entry::Open),
            "user": user,
            "path": self.node.config.path,
            "has_application": self.node.application.is_there(),
        })
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::NoInboxes => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::LoginNeeded | Self::LoginFailed(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<presence::Unavailable> for Refusal {
    fn from(error: presence::Unavailable) -> Self {
        tracing::debug!(%error, "presence is away");
        Self::Away("who is online cannot be said now: its store does not answer".to_owned())
    }
}

impl From<inbox::Error> for Refusal {
    fn from(error: inbox::Error) -> Self {
        tracing::debug!(%error, "the store of inboxes is away");
        Self::Away("the store of inboxes does not answer".to_owned())
    }
}

fn answered(status: StatusCode, json: &Value, cookie: Option<HeaderValue>) -> Response<Bytes> {
    let mut answer = warp::reply::json(json).into_response().map(|_| Bytes::from(json.to_string()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Should somebody open it as a page, it is none.
    let none = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, none);
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// A time as the page reads it: milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
