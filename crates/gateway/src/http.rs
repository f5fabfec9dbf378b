//! The HTTP side of the client port: endpoints, where clients begin sessions by WebSocket or SockJS, and
//! where enabled the console.
//!
//! At an endpoint's own path, and at `/websocket` below it, is WebSocket; all else below it is SockJS.
//!
//! Invariants
//! - Every answer is the last one on its connection, so that nobody holds one by asking again and again and
//!   reading nothing; but those of SockJS, whose clients would open hundreds, while there are few connections.

use std::net::IpAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use sockjs::{Answer, Body, Head, Request, below};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use warp::hyper::body::Bytes;
use warp::reply::Reply;

use crate::arrival::Endpoint;
use crate::console;
use crate::handshake::{connect, refusal};
use crate::node::Node;
use crate::peers::{BoxBody, ClientAddress, port};
use crate::place::Place;
use crate::sockjs_endpoint::SockJsEndpoint;

/// Everything the client port answers.
pub(crate) type Routes = BoxedFilter<(Answer,)>;

/// The connection that a request came by, among the request's extensions.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) address: IpAddr,
    pub(crate) place: Arc<Place>,
}

/// What is served where.
pub(crate) struct Site {
    node: Arc<Node>,
    /// The longest path first, for one may be below the other.
    endpoints: Vec<(String, Endpoint, Option<SockJsEndpoint>)>,
    hint: String,
}

/// The routes of a site, for clients.
pub(crate) fn routes(site: Arc<Site>) -> Routes {
    let node = &site.node;
    let console = node.config.console.then(|| console::routes(Arc::clone(node)));
    let rest = warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::ext::get::<Caller>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .then(
            move |method: Method,
                  path: warp::path::FullPath,
                  headers: HeaderMap,
                  query: String,
                  caller: Caller,
                  upgrade: Option<OnUpgrade>,
                  body| {
                let site = Arc::clone(&site);
                let path = path.as_str().to_owned();
                let head = Head { method, path, query, headers, peer: caller.address };
                let body = Body::new(body);
                let request = Request { head, body, upgrade, is_forwarded: false, hold: None };
                async move { site.answer(request, &caller).await }
            },
        )
        .boxed();
    match console {
        Some(console) => console.or(rest).unify().boxed(),
        None => rest,
    }
}

impl Site {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let paths = [(&node.config.path, Endpoint::Stomp), (&node.plain.path, Endpoint::Plain)];
        let is_on = paths.into_iter().filter(|(path, _)| !path.is_empty());
        let mut endpoints: Vec<_> = is_on
            .map(|(path, endpoint)| {
                let sockjs = node.config.sockjs.then(|| SockJsEndpoint::new(&node, endpoint, path));
                (path.clone(), endpoint, sockjs)
            })
            .collect();
        endpoints.sort_by_key(|(path, ..)| std::cmp::Reverse(path.len()));
        let hint =
            format!("nothing here; connect a STOMP client's WebSocket to {}\n", node.config.path);
        Self { node, endpoints, hint }
    }

    async fn answer(&self, mut request: Request, caller: &Caller) -> Answer {
        let head = &request.head;
        let found = self.endpoints.iter().find_map(|(path, endpoint, sockjs)| {
            below(&head.path, path).map(|rest| (rest, *endpoint, sockjs.as_ref()))
        });
        match found {
            Some((rest, _, Some(sockjs))) if !is_websocket(rest, head) => {
                let rest = rest.to_owned();
                request.head.path = rest;
                sockjs.answer(request, caller).await
            }
            Some(("" | "/websocket", endpoint, _)) => {
                let answer = connect(&self.node, endpoint, head, request.upgrade);
                match answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    true => answer.into_response(),
                    false => only_one(answer),
                }
            }
            _ => {
                let is_on = self.node.config.console;
                let page = is_on.then(|| console::page(&head.method, &head.path)).flatten();
                let nothing = || refusal(StatusCode::NOT_FOUND, None, &self.hint);
                only_one(page.unwrap_or_else(nothing))
            }
        }
    }
}

/// For other nodes.
impl Site {
    /// The endpoint, and the id, of a session that its client named.
    fn session<'a>(&self, name: &'a str) -> Option<(&SockJsEndpoint, &'a str)> {
        self.endpoints.iter().find_map(|(path, _, sockjs)| {
            let id = below(name, path)?.strip_prefix('/')?;
            Some((sockjs.as_ref()?, id))
        })
    }

    /// Whether a session that its client named is here.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.session(name).is_some_and(|(sockjs, id)| sockjs.has(id))
    }

    /// Ends a session that another node has.
    pub(crate) fn lose(&self, name: &str) {
        if let Some((sockjs, id)) = self.session(name) {
            sockjs.lose(id);
        }
    }

    /// Answers a request that another node has handed over.
    pub(crate) async fn answer_peer(&self, request: hyper::Request<Bytes>) -> Response<BoxBody> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let found = self.endpoints.iter().find_map(|(prefix, _, sockjs)| {
            Some((sockjs.as_ref()?, below(path, prefix)?.to_owned()))
        });
        let client = parts.extensions.get::<ClientAddress>();
        let (Some((sockjs, path)), Some(client)) = (found, client) else {
            return port::empty(StatusCode::NOT_FOUND);
        };
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let (method, headers) = (parts.method, parts.headers);
        let head = Head { method, path, query, headers, peer: client.0 };
        let body = Body::whole(body);
        let request = Request { head, body, upgrade: None, is_forwarded: true, hold: None };
        sockjs.answer_peer(request).await.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

/// Whether what follows an endpoint's path is for a WebSocket without SockJS. Whoever asks for the path itself
/// without a word of WebSocket wants to see whether SockJS is there.
fn is_websocket(rest: &str, head: &Head) -> bool {
    let names = [header::UPGRADE, header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION];
    let is_get = matches!(head.method, Method::GET | Method::HEAD);
    match rest {
        "/websocket" => true,
        "" => !is_get || names.iter().any(|name| head.headers.contains_key(name)),
        _ => false,
    }
}

/// Makes it the last answer on its connection.
pub(crate) fn only_one(answer: Response<Bytes>) -> Answer {
    let mut answer = answer.into_response();
    answer.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
