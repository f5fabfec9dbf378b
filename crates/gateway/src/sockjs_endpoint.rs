//! SockJS at an endpoint: how sessions begin by it, and whose they are.
//!
//! Invariants
//! - A further request is of a session's owner if it shows what the first one showed, or something else by which
//!   the same user is known. Of nobody in particular it is if it comes from the same address.
//! - A session that another node has is answered for by that node ([`Peers`](crate::peers::Peers)): by it alone,
//!   and whoever was handed a request hands it to nobody.
//! - A cookie counts as little here as with a WebSocket: only for pages of an origin that was let in by name.

use std::net::IpAddr;
use std::sync::Arc;

use access::{Credentials, Principal};
use async_trait::async_trait;
use bytestring::ByteString;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use sockjs::{Answer, Connection, Found, Head, Held, Over, Request, Service};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use warp::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use warp::reply::Reply;

use crate::arrival::{Arrival, Endpoint, credentials};
use crate::handshake::{NO_ROOM, RETRY_AFTER, refusal};
use crate::http::Caller;
use crate::node::{Admission, Node};
use crate::peers::{BoxBody, Owner as OwnedBy, Peer};
use crate::plain::PlainSession;
use crate::session::Session;
use crate::transport::OverSockJs;

/// What browsers say of where a request comes from (W3C, Fetch Metadata), which no page can forge.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// See the module.
pub(crate) struct SockJsEndpoint(sockjs::Endpoint<Sessions>);

/// Begins sessions of one endpoint.
struct Sessions {
    node: Arc<Node>,
    endpoint: Endpoint,
    /// Under which ids are a namespace of their own.
    path: String,
}

/// A session that is about to begin.
struct Ticket {
    admission: Admission,
    arrival: Arrival,
}

/// Whose a session over HTTP is.
struct Owner {
    address: IpAddr,
    credentials: Credentials,
    /// By which name that is, if any, once somebody has asked.
    name: OnceCell<Option<ByteString>>,
}

impl SockJsEndpoint {
    /// At `path`.
    pub(crate) fn new(node: &Arc<Node>, endpoint: Endpoint, path: &str) -> Self {
        let sessions = Sessions { node: Arc::clone(node), endpoint, path: path.to_owned() };
        Self(sockjs::Endpoint::new(
            node.sockjs.clone(),
            node.websocket.clone(),
            node.config.origins.clone(),
            Arc::new(sessions),
        ))
    }

    /// Whether a session of that id is here.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.has(id)
    }

    /// Ends a session that another node has.
    pub(crate) fn lose(&self, id: &str) {
        self.0.lose(id);
    }

    /// Answers a request that another node has handed over, for what is below the endpoint's own path.
    pub(crate) async fn answer_peer(&self, request: Request) -> Answer {
        self.0.answer(request).await
    }

    /// Answers a request for what is below the endpoint's own path.
    pub(crate) async fn answer(&self, mut request: Request, caller: &Caller) -> Answer {
        let place = Arc::clone(&caller.place);
        request.hold = Some(Box::new(move || Box::new(place.wait())));
        let mut answer = self.0.answer(request).await;
        let goes_on = answer.status().is_success() && !caller.place.is_crowded();
        if goes_on {
            caller.place.is_asked();
        } else if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().append(header::CONNECTION, close);
        }
        answer
    }
}

#[async_trait]
impl Service for Sessions {
    type Ticket = Ticket;
    type Owner = Owner;

    fn admit(&self, head: &Head, _: Over) -> Result<Ticket, Box<Answer>> {
        let (status, node) = (StatusCode::SERVICE_UNAVAILABLE, &self.node);
        let Ok(admission) = node.admit() else {
            node.metrics.refused(status.as_u16());
            let answer = refusal(status, Some(("retry-after", RETRY_AFTER)), NO_ROOM);
            return Err(Box::new(answer.into_response()));
        };
        let named = is_origin_named(node, head);
        let arrival = Arrival::by_http(node, self.endpoint, head, named);
        Ok(Ticket { admission, arrival })
    }

    fn run(&self, ticket: Ticket, connection: Connection) {
        let Ticket { admission, arrival } = ticket;
        let (node, transport) = (Arc::clone(&self.node), OverSockJs::new(connection));
        let tasks = node.tasks.clone();
        match self.endpoint {
            Endpoint::Stomp => tasks.spawn(Session::new(node, admission, transport, arrival).run()),
            Endpoint::Plain => {
                tasks.spawn(PlainSession::new(node, admission, transport, arrival).run())
            }
        };
    }

    fn owner(&self, head: &Head) -> Owner {
        let named = is_origin_named(&self.node, head);
        let credentials = credentials(head, named);
        Owner { address: head.peer, credentials, name: OnceCell::new() }
    }

    async fn is_owner(&self, owner: &Owner, head: &Head) -> bool {
        let asking = self.owner(head);
        match self.node.access.shows_the_same(&owner.credentials, &asking.credentials) {
            None => owner.address == asking.address,
            Some(true) => true,
            // A fresh token of the same user, or another user.
            Some(false) => match self.name(&asking).await {
                Some(name) => *owner.name.get_or_init(|| self.name(owner)).await == Some(name),
                None => false,
            },
        }
    }

    async fn find(&self, id: &str, opens: bool, request: &mut Request) -> Found {
        let peers = &self.node.peers;
        match peers.owner(&self.name_of(id), opens).await {
            Ok(OwnedBy::Us) if opens => Found::Here,
            Ok(OwnedBy::Us | OwnedBy::Nobody) => Found::Nowhere,
            // Whose it is has changed on the way.
            Ok(OwnedBy::Peer(_)) if request.is_forwarded => Found::Nowhere,
            Ok(OwnedBy::Peer(peer)) => Found::Answered(self.forward(&peer, request).await),
            Err(error) => {
                tracing::debug!(%error, "whose a session is cannot be known now");
                let text = "whose session this is cannot be known now; try again later\n";
                Found::Answered(unavailable(text))
            }
        }
    }

    async fn forgotten(&self, id: &str) {
        self.node.peers.release(&self.name_of(id)).await;
    }
}

impl Sessions {
    /// What a session is called among all nodes.
    fn name_of(&self, id: &str) -> String {
        format!("{}/{id}", self.path)
    }

    async fn forward(&self, peer: &Peer, request: &mut Request) -> Answer {
        let held = request.hold.take().map(|hold| hold());
        let body = match request.body.read(self.node.sockjs.request_bytes()).await {
            Ok(body) => body,
            Err(why) => return refusal(why.status(), None, &why.to_string()).into_response(),
        };
        let Head { method, path, query, headers, peer: client } = &request.head;
        let mark = if query.is_empty() { "" } else { "?" };
        let mut forwarded = warp::http::Request::new(body);
        let Ok(uri) = format!("{}{path}{mark}{query}", self.path).parse() else {
            return refusal(StatusCode::BAD_REQUEST, None, "no path\n").into_response();
        };
        *forwarded.uri_mut() = uri;
        forwarded.method_mut().clone_from(method);
        forwarded.headers_mut().clone_from(headers);
        match self.node.peers.forward(peer, forwarded, *client).await {
            Ok(answer) => handed_back(answer, held),
            Err(why) if why.status() == StatusCode::SERVICE_UNAVAILABLE => {
                unavailable("the node of this session does not answer\n")
            }
            Err(why) => refusal(why.status(), None, &format!("{why}\n")).into_response(),
        }
    }

    /// By which name somebody is known by what was shown.
    async fn name(&self, owner: &Owner) -> Option<ByteString> {
        let latest = Instant::now() + self.node.stomp.connect_timeout;
        let entered = self.node.door.enter(owner.address, &owner.credentials, latest).await;
        let principal = entered.ok().filter(Principal::is_authenticated)?;
        Some(principal.name)
    }
}

fn unavailable(text: &str) -> Answer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    refusal(status, Some(("retry-after", RETRY_AFTER)), text).into_response()
}

/// What another node answers, as it streams. What is `held` is kept until its end.
fn handed_back(answer: Response<BoxBody>, held: Option<Held>) -> Answer {
    let (mut parts, body) = answer.into_parts();
    // warp wants a body that may be looked at from two threads, and looks from one.
    let mut body = Mutex::new((body.into_data_stream(), held));
    let body = stream::poll_fn(move |cx| body.get_mut().0.poll_next_unpin(cx));
    let (of_stream, body) = warp::reply::stream(body).into_response().into_parts();
    parts.extensions = of_stream.extensions;
    Response::from_parts(parts, body)
}

/// Whether a request is known to be of a page that may connect, so that its cookies say something. Scripts and
/// frames of other pages have no Origin, and nor have those of our own.
fn is_origin_named(node: &Node, head: &Head) -> bool {
    let (origin, host) = (head.origin(), head.header(&header::HOST));
    node.config.origins.allow_by_name(origin, host, false)
        || (origin.is_none() && head.header(&FETCH_SITE) == Some("same-origin"))
}
