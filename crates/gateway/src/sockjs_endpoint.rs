//! SockJS at an endpoint: how sessions begin by it, and whose they are.
//!
//! Invariants
//! - A further request is of a session's owner if it shows what the first one showed, or something else by which
//!   the same user is known. Of nobody in particular it is if it comes from the same address.
//! - A cookie counts as little here as with a WebSocket: only for pages of an origin that was let in by name.

use std::net::IpAddr;
use std::sync::Arc;

use access::{Credentials, Principal};
use async_trait::async_trait;
use bytestring::ByteString;
use sockjs::{Answer, Connection, Head, Over, Request, Service};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use warp::http::{HeaderName, HeaderValue, StatusCode, header};
use warp::reply::Reply;

use crate::arrival::{Arrival, Endpoint, credentials};
use crate::handshake::{NO_ROOM, RETRY_AFTER, refusal};
use crate::http::Caller;
use crate::node::{Admission, Node};
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
    pub(crate) fn new(node: &Arc<Node>, endpoint: Endpoint) -> Self {
        let sessions = Sessions { node: Arc::clone(node), endpoint };
        Self(sockjs::Endpoint::new(
            node.sockjs.clone(),
            node.websocket.clone(),
            node.config.origins.clone(),
            Arc::new(sessions),
        ))
    }

    /// Answers a request for what is at `path` below the endpoint's own.
    pub(crate) async fn answer(
        &self,
        path: String,
        mut request: Request,
        caller: &Caller,
    ) -> Answer {
        request.head.path = path;
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
        let (headers, query) = (&head.headers, &head.query);
        let arrival = Arrival::by_http(node, self.endpoint, headers, query, named, head.peer);
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
        let credentials = credentials(&head.headers, &head.query, named);
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
}

impl Sessions {
    /// By which name somebody is known by what was shown.
    async fn name(&self, owner: &Owner) -> Option<ByteString> {
        let latest = Instant::now() + self.node.stomp.connect_timeout;
        let entered = self.node.door.enter(owner.address, &owner.credentials, latest).await;
        let principal = entered.ok().filter(Principal::is_authenticated)?;
        Some(principal.name)
    }
}

/// Whether a request is known to be of a page that may connect, so that its cookies say something. Scripts and
/// frames of other pages have no Origin, and nor have those of our own.
fn is_origin_named(node: &Node, head: &Head) -> bool {
    let (origin, host) = (head.origin(), head.header(&header::HOST));
    node.config.origins.allow_by_name(origin, host, false)
        || (origin.is_none() && head.header(&FETCH_SITE) == Some("same-origin"))
}
