//! Endpoints as filters of warp.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use hyper::upgrade::OnUpgrade;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::path::FullPath;

use crate::answer::Answer;
use crate::endpoint::Endpoint;
use crate::request::{Body, Head, Request};
use crate::service::Service;

/// Where a request comes from, for whoever accepts connections to put among its extensions. Without it
/// requests come from nowhere in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Answers what is at `path` and below it with `endpoint`; other requests are for other filters. The path has no
/// slash at its end.
pub fn filter<S: Service>(path: &str, endpoint: Arc<Endpoint<S>>) -> BoxedFilter<(Answer,)> {
    let prefix = path.to_owned();
    let below = warp::path::full().and_then(move |path: FullPath| {
        let rest = below(path.as_str(), &prefix).map(str::to_owned);
        async move { rest.ok_or_else(warp::reject::not_found) }
    });
    warp::method()
        .and(below)
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Peer>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .then(
            move |method: Method,
                  path: String,
                  query: String,
                  headers: HeaderMap,
                  peer: Option<Peer>,
                  upgrade,
                  body| {
                let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
                let head = Head { method, path, query, headers, peer };
                let request = Request {
                    head,
                    body: Body::new(body),
                    upgrade,
                    is_forwarded: false,
                    hold: None,
                };
                let endpoint = Arc::clone(&endpoint);
                async move { endpoint.answer(request).await }
            },
        )
        .boxed()
}

/// What follows `prefix` in `path`, if it is the endpoint's own or below it.
pub fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}
