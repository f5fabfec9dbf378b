//! Answers, with the headers that the protocol asks for: across origins, for caches, for load balancers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::response::Builder;
use http::{Response, StatusCode};
use warp::reply::Reply;

use crate::request::Head;

/// An answer, as warp has it.
pub type Answer = warp::reply::Response;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) const TEXT: &str = "text/plain; charset=UTF-8";

const NOT_CACHED: &str = "no-store, no-cache, must-revalidate, max-age=0";

const SESSION_COOKIE: &str = "JSESSIONID";

/// An answer as it is being put together.
pub(crate) struct Answering(Builder);

impl Answering {
    pub(crate) fn status(status: StatusCode) -> Self {
        Self(Response::builder().status(status))
    }

    pub(crate) fn ok() -> Self {
        Self::status(StatusCode::OK)
    }

    pub(crate) fn header(self, name: HeaderName, value: &str) -> Self {
        // What a client had repeated may hold what no header can.
        match HeaderValue::from_str(value) {
            Ok(value) => Self(self.0.header(name, value)),
            Err(_) => self,
        }
    }

    /// What comes is scripts, and what they are said to be.
    pub(crate) fn content_type(self, value: &str) -> Self {
        self.header(header::CONTENT_TYPE, value).header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
    }

    /// Lets pages of the request's origin see the answer. Whether they may ask was decided before.
    pub(crate) fn cors(self, head: &Head) -> Self {
        // A page from a file has the origin "null", which browsers do not take as an answer.
        let origin = head.origin().filter(|origin| *origin != "null").unwrap_or("*");
        let this = self
            .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")
            .header(header::VARY, "Origin");
        match head.header(&header::ACCESS_CONTROL_REQUEST_HEADERS) {
            Some(headers) if !headers.is_empty() => {
                this.header(header::ACCESS_CONTROL_ALLOW_HEADERS, headers)
            }
            _ => this,
        }
    }

    pub(crate) fn not_cached(self) -> Self {
        self.header(header::CACHE_CONTROL, NOT_CACHED)
    }

    pub(crate) fn cached(self) -> Self {
        let expires = httpdate::fmt_http_date(SystemTime::now() + YEAR);
        self.header(header::CACHE_CONTROL, &format!("public, max-age={}", YEAR.as_secs()))
            .header(header::EXPIRES, &expires)
    }

    /// Names the cookie by which a load balancer finds the same node again, with the value that it, or whoever,
    /// gave it.
    pub(crate) fn session_cookie(self, is_needed: bool, head: &Head) -> Self {
        if !is_needed {
            return self;
        }
        let cookies = head.joined(&header::COOKIE, "; ").unwrap_or_default();
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.find(|(name, _)| *name == SESSION_COOKIE).map_or("dummy", |(_, v)| v);
        self.header(header::SET_COOKIE, &format!("{SESSION_COOKIE}={value}; path=/"))
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Answer {
        self.0.body(body.into()).map(Reply::into_response).unwrap_or_default()
    }

    pub(crate) fn empty(self) -> Answer {
        self.body(Bytes::new())
    }

    /// With a body that comes by and by.
    pub(crate) fn stream(
        self,
        body: impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>>
        + Send
        + Sync
        + 'static,
    ) -> Answer {
        let (mut parts, body) = warp::reply::stream(body).into_response().into_parts();
        if let Ok(built) = self.0.body(()) {
            let (built, ()) = built.into_parts();
            parts.status = built.status;
            parts.headers = built.headers;
        }
        Response::from_parts(parts, body)
    }
}

/// An answer of text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    Answering::status(status).content_type(TEXT).body(text.into())
}

/// There is no such resource, or session.
pub(crate) fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 Error: Page not found\n")
}

/// 405, which says what would be right and nothing else.
pub(crate) fn wrong_method(allowed: &str) -> Answer {
    Answering::status(StatusCode::METHOD_NOT_ALLOWED).header(header::ALLOW, allowed).empty()
}

/// The answer to OPTIONS.
pub(crate) fn options(head: &Head, allowed: &str, cookie: bool) -> Answer {
    Answering::status(StatusCode::NO_CONTENT)
        .cached()
        .header(header::ACCESS_CONTROL_MAX_AGE, &YEAR.as_secs().to_string())
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, allowed)
        .cors(head)
        .session_cookie(cookie, head)
        .empty()
}
