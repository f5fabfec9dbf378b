//! An endpoint: everything below one path, for one service.
//!
//! Invariants
//! - A page of an origin that may not connect gets nothing but 403.
//! - A request that names a session of somebody else is told that there is none.
//! - A body is read only where one is expected, for a session that is here, and within the limit.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{Method, StatusCode};
use websocket::Origins;

use crate::answer::{self, Answer, Answering};
use crate::config::Config;
use crate::connection::Connection;
use crate::framing::Framing;
use crate::iframe::Iframe;
use crate::payload::{self, PayloadError};
use crate::receiving::Responding;
use crate::request::Request;
use crate::route::{Resource, Route};
use crate::service::{Found, Over, Service};
use crate::session::Session;
use crate::sessions::{Named, NotTaken, Sessions};
use crate::transport::{Receiving, Sending};
use crate::upgrade;

/// How long a request that sends waits for room: longer than services wait for whatever they wait for.
const PATIENCE: Duration = Duration::from_secs(120);

/// See the module.
pub struct Endpoint<S: Service> {
    pub(crate) config: Config,
    pub(crate) websocket: websocket::Config,
    pub(crate) origins: Origins,
    pub(crate) service: Arc<S>,
    sessions: Arc<Sessions<S::Owner>>,
    iframe: Iframe,
}

impl<S: Service> Endpoint<S> {
    /// An endpoint with no session. Pages of `origins`, and of its own, may connect.
    pub fn new(
        config: Config,
        websocket: websocket::Config,
        origins: Origins,
        service: Arc<S>,
    ) -> Self {
        Self {
            iframe: Iframe::new(&config.client_url, &origins),
            sessions: Arc::new(Sessions::new(config.max_sessions)),
            config,
            websocket,
            origins,
            service,
        }
    }

    /// Whether a session over HTTP of that id is here, or was until just now.
    pub fn has(&self, id: &str) -> bool {
        self.sessions.contains(id)
    }

    /// Ends a session over HTTP, which is another server's: its service hears that the client is gone.
    pub fn lose(&self, id: &str) {
        if let Some(named) = self.sessions.get(id) {
            named.session.lose();
        }
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Answer {
        let path = request.head.path.clone();
        let Some(route) = Route::parse(&path) else { return answer::not_found() };
        let head = &request.head;
        let host = head.header(&header::HOST);
        if !matches!(route, Route::Greeting | Route::Iframe)
            && !self.origins.allow(head.origin(), host, false)
        {
            let text = "pages of this origin may not connect\n";
            return answer::text(StatusCode::FORBIDDEN, text);
        }
        let method = &head.method;
        let allowed = route.methods();
        let is_get = matches!(*method, Method::GET | Method::HEAD);
        let is_allowed = allowed.split(", ").any(|name| name == method.as_str())
            || (is_get && allowed.contains("GET"));
        if !is_allowed {
            return answer::wrong_method(allowed);
        }
        if *method == Method::OPTIONS {
            let cookie = self.config.cookie_needed && route != Route::Info;
            return answer::options(head, allowed, cookie);
        }
        match route {
            Route::Greeting => {
                Answering::ok().content_type(answer::TEXT).body("Welcome to SockJS!\n")
            }
            Route::Iframe => self.iframe.answer(&head.headers),
            Route::Info => self.info(&request),
            Route::RawWebSocket => self.upgrade(request, Framing::Raw),
            Route::Session { resource: Resource::WebSocket, .. } => {
                self.upgrade(request, Framing::WebSocket)
            }
            Route::Session { id, resource: Resource::Receiving(transport) } => {
                self.receive(id, transport, request).await
            }
            Route::Session { id, resource: Resource::Sending(transport) } => {
                self.send(id, transport, request).await
            }
        }
    }

    fn info(&self, request: &Request) -> Answer {
        let info = serde_json::json!({
            "websocket": self.config.websocket,
            "origins": ["*:*"],
            "cookie_needed": self.config.cookie_needed,
            "entropy": rand::random::<u32>(),
        });
        Answering::ok()
            .content_type("application/json; charset=UTF-8")
            .not_cached()
            .cors(&request.head)
            .body(info.to_string())
    }

    fn upgrade(&self, request: Request, framing: Framing) -> Answer {
        if !self.config.websocket {
            return answer::not_found();
        }
        upgrade::answer(self, request, framing)
    }

    /// Answers a request by which a client receives, and begins a session if there is none.
    async fn receive(&self, id: &str, transport: Receiving, mut request: Request) -> Answer {
        let wrapping = match transport.wrapping(&request.head.query) {
            Ok(wrapping) => wrapping,
            Err(why) => {
                return answer::text(StatusCode::INTERNAL_SERVER_ERROR, why.to_string());
            }
        };
        let named = match self.sessions.get(id) {
            Some(named) => named,
            None => match self.service.find(id, true, &mut request).await {
                Found::Answered(answer) => return answer,
                Found::Nowhere => return answer::not_found(),
                Found::Here => match self.open(id, transport, &request) {
                    Ok(named) => named,
                    // The id is not given up where another request has just begun a session by it.
                    Err(refused) => match self.sessions.get(id) {
                        Some(named) => named,
                        None => {
                            self.service.forgotten(id).await;
                            return *refused;
                        }
                    },
                },
            },
        };
        if !self.service.is_owner(&named.owner, &request.head).await {
            return answer::not_found();
        }
        let head = &request.head;
        let answering = Answering::ok()
            .content_type(transport.content_type())
            .not_cached()
            .session_cookie(self.config.cookie_needed, head);
        let answering = match transport {
            Receiving::Xhr | Receiving::XhrStreaming | Receiving::EventSource => {
                answering.cors(head)
            }
            Receiving::HtmlFile | Receiving::Jsonp => answering,
        };
        // Or else nginx would keep what streams until it is over.
        let answering = match transport.is_streaming() {
            true => answering.header(HeaderName::from_static("x-accel-buffering"), "no"),
            false => answering,
        };
        let held = request.hold.take().map(|hold| hold());
        answering.stream(Responding::new(&named.session, wrapping, &self.config, held))
    }

    /// Begins a session, unless another request does at this moment.
    fn open(
        &self,
        id: &str,
        transport: Receiving,
        request: &Request,
    ) -> Result<Named<S::Owner>, Box<Answer>> {
        let ticket = self.service.admit(&request.head, Over::Http(transport))?;
        let session = Session::new(self.config.request_bytes());
        let owner = Arc::new(self.service.owner(&request.head));
        let named = Named { session, owner };
        match self.sessions.insert(id, named.clone()) {
            Ok(()) => {}
            Err(NotTaken::ByAnother(named)) => return Ok(named),
            Err(NotTaken::Full) => {
                let text = "too many sessions; try again later\n";
                return Err(Box::new(answer::text(StatusCode::SERVICE_UNAVAILABLE, text)));
            }
        }
        let (sessions, service) = (Arc::clone(&self.sessions), Arc::clone(&self.service));
        let (session, delay) = (Arc::clone(&named.session), self.config.disconnect_delay);
        let id = id.to_owned();
        tokio::spawn(async move {
            session.attend(delay).await;
            service.forgotten(&id).await;
            sessions.remove(&id);
        });
        self.service.run(ticket, Connection::http(Arc::clone(&named.session)));
        Ok(named)
    }

    /// Answers a request by which a client sends.
    async fn send(&self, id: &str, transport: Sending, mut request: Request) -> Answer {
        let Some(Named { session, owner }) = self.sessions.get(id) else {
            return match self.service.find(id, false, &mut request).await {
                Found::Answered(answer) => answer,
                Found::Here | Found::Nowhere => answer::not_found(),
            };
        };
        if !self.service.is_owner(&owner, &request.head).await {
            return answer::not_found();
        }
        let _held = request.hold.take().map(|hold| hold());
        let Some(turn) = session.turn().await else {
            let text = "too many requests send for this session\n";
            return answer::text(StatusCode::TOO_MANY_REQUESTS, text);
        };
        let body = match request.body.read(self.config.request_bytes()).await {
            Ok(body) => body,
            Err(why) => return answer::text(why.status(), why.to_string()),
        };
        let messages = match transport {
            Sending::Xhr => payload::array(&body),
            Sending::Jsonp => of_form(&request, &body),
        };
        let messages = match messages {
            Ok(messages) => messages,
            Err(why) => return answer::text(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
        };
        if tokio::time::timeout(PATIENCE, session.deliver(&turn, messages)).await.is_err() {
            let text = "what was sent before is not taken yet; try again later\n";
            return answer::text(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let head = &request.head;
        let (status, text) = match transport {
            Sending::Xhr => (StatusCode::NO_CONTENT, ""),
            // Konqueror does weird things on 204.
            Sending::Jsonp => (StatusCode::OK, "ok"),
        };
        let answering = Answering::status(status)
            .content_type(answer::TEXT)
            .not_cached()
            .session_cookie(self.config.cookie_needed, head);
        match transport {
            Sending::Xhr => answering.cors(head).body(text),
            Sending::Jsonp => answering.body(text),
        }
    }
}

/// The messages of a form's field `d`, or of a body that is no form.
fn of_form(request: &Request, body: &[u8]) -> Result<Vec<bytes::Bytes>, PayloadError> {
    let content_type = request.head.header(&header::CONTENT_TYPE).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return payload::array(body);
    }
    let field = form_urlencoded::parse(body).find(|(name, _)| name == "d");
    payload::array(field.map(|(_, value)| value).unwrap_or_default().as_bytes())
}
