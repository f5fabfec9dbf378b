//! A service that speaks gRPC: which one is called, what its answers mean, and what its absence does.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway::CloseReason;
use gateway::application::{
    Answer, Application as _, CallError, ConnectError, Connecting, Content, To,
};
use prost_types::value::Kind;
use proto::v1::application_send::To as SendTo;
use proto::v1::application_server::{Application, ApplicationServer};
use proto::v1::message::Body;
use proto::v1::*;
use serde_json::json;
use support::{call, caller, routes, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

/// Answers as the path says.
#[derive(Clone)]
struct Fake(Arc<State>);

struct State {
    name: String,
    gate: Semaphore,
    now: AtomicUsize,
    most: AtomicUsize,
    seen: mpsc::UnboundedSender<Seen>,
}

#[derive(Debug)]
enum Seen {
    Connect(ApplicationConnectRequest),
    Message { by: String, request: ApplicationMessageRequest, timeout: Option<String> },
    Disconnect(ApplicationDisconnectRequest),
}

/// A server that runs until it is dropped.
struct Running {
    address: SocketAddr,
    state: Arc<State>,
    seen: mpsc::UnboundedReceiver<Seen>,
    runtime: Option<Runtime>,
}

impl Running {
    async fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0".parse().unwrap(), None).await
    }

    async fn start_at(name: &str, address: SocketAddr, tls: Option<Identity>) -> Self {
        let (seen_by, seen) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            name: name.to_owned(),
            gate: Semaphore::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            seen: seen_by,
        });
        // So that its connections end with it.
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let incoming = TcpIncoming::bind(address).unwrap();
        let address = incoming.local_addr().unwrap();
        let mut server = Server::builder();
        if let Some(identity) = tls {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let service = ApplicationServer::new(Fake(Arc::clone(&state)));
        let serve = server.add_service(service).serve_with_incoming(incoming);
        runtime.spawn(serve);
        drop(entered);
        Self { address, state, seen, runtime: Some(runtime) }
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many messages were seen.
    fn count(&mut self) -> usize {
        std::iter::from_fn(|| self.seen.try_recv().ok())
            .filter(|seen| matches!(seen, Seen::Message { .. }))
            .count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

fn text(to: SendTo, body: &str) -> ApplicationSend {
    let message = Message { body: Some(Body::Text(body.into())), ..Message::default() };
    ApplicationSend { to: Some(to), message: Some(message) }
}

#[tonic::async_trait]
impl Application for Fake {
    async fn connect(
        &self,
        request: Request<ApplicationConnectRequest>,
    ) -> Result<Response<ApplicationConnectResponse>, Status> {
        let request = request.into_inner();
        let query = request.query.first().map(|header| header.value.clone()).unwrap_or_default();
        self.0.seen.send(Seen::Connect(request)).unwrap();
        match &*query {
            "refuse" => Ok(Response::new(ApplicationConnectResponse {
                refusal: Some(ConnectRefusal { reason: "full".into(), unauthenticated: false }),
                attributes: None,
            })),
            "unauthenticated" => Err(Status::unauthenticated("who are you?")),
            "none" => Err(Status::unimplemented("")),
            "broken" => Err(Status::internal("secret")),
            _ => {
                let number = prost_types::Value { kind: Some(Kind::NumberValue(3.0)) };
                let attributes = prost_types::Struct {
                    fields: [("level".to_owned(), number)].into_iter().collect(),
                };
                Ok(Response::new(ApplicationConnectResponse {
                    refusal: None,
                    attributes: Some(attributes),
                }))
            }
        }
    }

    async fn message(
        &self,
        request: Request<ApplicationMessageRequest>,
    ) -> Result<Response<ApplicationMessageResponse>, Status> {
        let timeout =
            request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        let request = request.into_inner();
        let path = request.path.clone();
        let by = self.0.name.clone();
        self.0.seen.send(Seen::Message { by: by.clone(), request, timeout }).unwrap();
        let send = |send| ApplicationMessageResponse { sends: vec![send], error: None };
        Ok(Response::new(match path.rsplit('/').next().unwrap() {
            "slow" => std::future::pending().await,
            "gated" => {
                let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.0.most.fetch_max(now, Ordering::SeqCst);
                self.0.gate.acquire().await.unwrap().forget();
                self.0.now.fetch_sub(1, Ordering::SeqCst);
                ApplicationMessageResponse::default()
            }
            "nowhere" => {
                send(ApplicationSend { to: None, ..text(SendTo::User(String::new()), "x") })
            }
            "error" => ApplicationMessageResponse {
                sends: vec![text(SendTo::Destination("/topic/a".into()), "never")],
                error: Some(ApplicationError { code: "full".into(), message: "no room".into() }),
            },
            "long" => send(text(SendTo::Session("/queue/a".into()), &"x".repeat(5000))),
            "status" => {
                let code: i32 = path.split('/').next().unwrap().parse().unwrap();
                return Err(Status::new(Code::from(code), "told"));
            }
            _ => send(text(SendTo::Session("/queue/a".into()), &by)),
        }))
    }

    async fn subscribe(
        &self,
        _: Request<ApplicationSubscribeRequest>,
    ) -> Result<Response<ApplicationSubscribeResponse>, Status> {
        let message = Message { body: Some(Body::Json("[1]".into())), ..Message::default() };
        Ok(Response::new(ApplicationSubscribeResponse { messages: vec![message], error: None }))
    }

    async fn disconnect(
        &self,
        request: Request<ApplicationDisconnectRequest>,
    ) -> Result<Response<ApplicationDisconnectResponse>, Status> {
        self.0.seen.send(Seen::Disconnect(request.into_inner())).unwrap();
        Ok(Response::new(ApplicationDisconnectResponse {}))
    }
}

fn route(prefix: &str, urls: &[String], more: &str) -> String {
    format!("[[routes]]\nprefix = '{prefix}'\ngrpc = {urls:?}\n{more}\n")
}

/// Who answered, where that is all the answer says.
fn who(answers: Result<Vec<Answer>, CallError>) -> String {
    String::from_utf8(answers.unwrap().remove(0).content.body.to_vec()).unwrap()
}

/// A port that nobody listens at.
async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_call_says_who_makes_it_and_its_answer_comes_back() {
    let mut one = Running::start("one").await;
    let routes = routes(&route("/app", &[one.url()], ""));
    let answers = soon(routes.message(call("chat/say", "hi"))).await.unwrap();
    let headers = vec![("content-type".into(), "text/plain".into())];
    let content = Content::new(headers, "one");
    assert_eq!(answers, [Answer { to: To::Session("/queue/a".into()), content }]);
    let Some(Seen::Message { request, timeout, .. }) = one.seen.recv().await else { panic!() };
    assert_eq!((&*request.destination, &*request.path), ("/app/chat/say", "chat/say"));
    assert_eq!((&*request.content_type, &request.body[..]), ("text/x", &b"hi"[..]));
    assert_eq!(request.headers, [Header { name: "kind".into(), value: "own".into() }]);
    let caller = request.caller.unwrap();
    assert_eq!(
        (&*caller.user, caller.authenticated, &*caller.address),
        ("ann", false, "192.0.2.1")
    );
    assert_eq!((&*caller.session, &*caller.claims), ("0123456789ABCDEFGHIJKLMNOPQRST", "{}"));
    assert!(caller.attributes.unwrap().fields.contains_key("plan"));
    assert!(timeout.is_some(), "the service knows how long it has");
    let contents = soon(routes.subscribe(call("history", ""))).await.unwrap();
    assert_eq!(contents[0].body, "[1]");
    assert_eq!(contents[0].headers, [("content-type".into(), "application/json".into())]);
}

#[tokio::test]
async fn the_longest_prefix_wins_word_by_word() {
    let (one, other) = (Running::start("one").await, Running::start("other").await);
    let both = route("/app/a", &[one.url()], "") + &route("/app/a/chat", &[other.url()], "");
    let routes = routes(&both);
    for (path, by) in
        [("a/x", "one"), ("a/chatter", "one"), ("a/chat/x", "other"), ("a/chat", "other")]
    {
        assert_eq!(who(soon(routes.message(call(path, ""))).await), by, "{path}");
    }
    for path in ["x", "ab"] {
        let destination = format!("/app/{path}").into();
        let none = CallError::NoHandler { destination, hint: "" };
        assert_eq!(soon(routes.message(call(path, ""))).await, Err(none));
    }
}

#[tokio::test]
async fn addresses_take_turns_and_a_dead_one_is_passed_over_until_it_is_back() {
    let (mut one, mut two, gone) =
        (Running::start("one").await, Running::start("two").await, dead().await);
    let urls = [format!("http://{gone}"), one.url(), two.url()];
    let routes = routes(&route("/app", &urls, ""));
    for n in 0..30 {
        soon(routes.message(call("x", ""))).await.unwrap_or_else(|error| panic!("{n}: {error}"));
    }
    let counts = (one.count(), two.count());
    assert_eq!(counts.0 + counts.1, 30, "each call is made once");
    assert!(counts.0 >= 10 && counts.1 >= 10, "{counts:?}");
    let _back = Running::start_at("back", gone, None).await;
    soon(async { while who(routes.message(call("x", "")).await) != "back" {} }).await;
}

#[tokio::test]
async fn a_slow_service_is_given_up_in_time_and_asked_once() {
    let (mut one, mut two) = (Running::start("one").await, Running::start("two").await);
    let routes = routes(&route("/app", &[one.url(), two.url()], "timeout = '200ms'"));
    assert_eq!(soon(routes.message(call("slow", ""))).await, Err(CallError::TimedOut));
    assert_eq!(one.count() + two.count(), 1);
}

#[tokio::test]
async fn so_many_calls_are_in_flight_and_one_more_waits_or_is_refused() {
    let mut one = Running::start("one").await;
    let gate = Arc::clone(&one.state);
    let config = route("/app", &[one.url()], "max_concurrent = 2\ntimeout = '1m'")
        + &route("/app/hasty", &[one.url()], "max_concurrent = 1\ntimeout = '300ms'");
    let routes = routes(&config);
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let routes = Arc::clone(&routes);
        calls.spawn(async move { routes.message(call("gated", "")).await });
    }
    for _ in 0..2 {
        assert!(matches!(soon(one.seen.recv()).await, Some(Seen::Message { .. })));
    }
    soon(async {
        // What is seen is about to be counted.
        while gate.most.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gate.gate.add_permits(6);
    while let Some(answered) = soon(calls.join_next()).await {
        assert_eq!(answered.unwrap(), Ok(Vec::new()));
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
    // The first comes to its deadline at the service, the other without having got there.
    let (first, second) = soon(async {
        tokio::join!(routes.message(call("hasty/slow", "")), routes.message(call("hasty/slow", "")))
    })
    .await;
    assert_eq!((first, second), (Err(CallError::TimedOut), Err(CallError::Busy)));
}

#[tokio::test]
async fn a_status_is_told_where_it_is_the_clients_fault_alone() {
    let one = Running::start("one").await;
    let routes = routes(&route("/app", &[one.url()], ""));
    let refused =
        |code: &'static str| CallError::Refused { code: code.into(), message: "told".into() };
    for (code, error) in [
        (Code::InvalidArgument, refused("invalid_argument")),
        (Code::NotFound, refused("not_found")),
        (Code::PermissionDenied, refused("permission_denied")),
        (Code::ResourceExhausted, refused("resource_exhausted")),
        (Code::OutOfRange, refused("out_of_range")),
        (Code::Internal, CallError::Failed),
        (Code::Unknown, CallError::Failed),
        (Code::DataLoss, CallError::Failed),
        (Code::Unavailable, CallError::Unavailable),
        (Code::DeadlineExceeded, CallError::TimedOut),
    ] {
        let path = format!("{}/status", i32::from(code));
        let said = soon(routes.message(call(&path, ""))).await.unwrap_err();
        assert_eq!(said, error, "{code:?}");
        assert_eq!(said.to_string().contains("told"), matches!(said, CallError::Refused { .. }));
    }
    let none = soon(routes.message(call("12/status", ""))).await.unwrap_err();
    assert_eq!(none.to_string(), "nothing handles /app/12/status");
    let error = CallError::Refused { code: "full".into(), message: "no room".into() };
    assert_eq!(soon(routes.message(call("error", ""))).await, Err(error));
}

#[tokio::test]
async fn nonsense_is_called_so() {
    let one = Running::start("one").await;
    let routes = routes(&("max_answer = '2 KiB'\n".to_owned() + &route("/app", &[one.url()], "")));
    for path in ["nowhere", "long"] {
        assert_eq!(soon(routes.message(call(path, ""))).await, Err(CallError::Nonsense), "{path}");
    }
}

#[tokio::test]
async fn who_does_not_speak_grpc_is_no_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = routes(&route("/app", &[url], "timeout = '1s'"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\nsecret";
            let _ = socket.write_all(answer).await;
        }
    });
    let error = soon(routes.message(call("x", ""))).await.unwrap_err();
    let known = [CallError::Unavailable, CallError::Failed, CallError::TimedOut];
    assert!(known.contains(&error), "{error:?}");
    assert!(!error.to_string().contains("secret") && !error.to_string().contains("127."));
}

/// Speaks HTTP/2 as far as to answer the first request with one frame of that type.
async fn answer_with(listener: TcpListener, kind: u8, flags: u8, payload: Vec<u8>) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    let (mut socket, _) = listener.accept().await.unwrap();
    socket.write_all(&[SETTINGS, ACK].concat()).await.unwrap();
    socket.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
        // HEADERS.
        if head[3] == 1 {
            let length = u8::try_from(payload.len()).unwrap();
            let frame = [&[0, 0, length, kind, flags], &head[5..], &payload].concat();
            socket.write_all(&frame).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_somebody_between_answers_is_not_taken_for_the_services_word() {
    // An HTTP status and no more: 404 and 400; and RST_STREAM with CANCEL, ENHANCE_YOUR_CALM and
    // INADEQUATE_SECURITY.
    for (kind, flags, payload) in [
        (1, 5, vec![0x8d]),
        (1, 5, vec![0x8c]),
        (3, 0, vec![0, 0, 0, 0x8]),
        (3, 0, vec![0, 0, 0, 0xb]),
        (3, 0, vec![0, 0, 0, 0xc]),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = routes(&route("/app", &[url], ""));
        let answering = tokio::spawn(answer_with(listener, kind, flags, payload.clone()));
        let error = soon(routes.message(call("x", ""))).await.unwrap_err();
        assert_eq!(error, CallError::Unavailable, "{kind} {payload:?}");
        answering.abort();
    }
}

#[tokio::test]
async fn nobody_there_is_known_at_once() {
    let urls = [format!("http://{}", dead().await), format!("http://{}", dead().await)];
    let routes = routes(&route("/app", &urls, "timeout = '1m'"));
    for _ in 0..3 {
        assert_eq!(soon(routes.message(call("x", ""))).await, Err(CallError::Unavailable));
    }
}

#[tokio::test]
async fn a_call_is_not_made_again_where_it_may_have_been_made() {
    let (mut one, mut two) = (Running::start("one").await, Running::start("two").await);
    let routes = routes(&route("/app", &[one.url(), two.url()], "timeout = '1m'"));
    let calling = tokio::spawn({
        let routes = Arc::clone(&routes);
        async move { routes.message(call("slow", "")).await }
    });
    let Some(Seen::Message { by, .. }) = soon(async {
        tokio::select! { seen = one.seen.recv() => seen, seen = two.seen.recv() => seen }
    })
    .await
    else {
        panic!()
    };
    // It dies with the call in its hands.
    let (dying, other) = if by == "one" { (&mut one, &mut two) } else { (&mut two, &mut one) };
    dying.kill();
    let error = soon(calling).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unavailable | CallError::Failed), "{error:?}");
    assert_eq!(other.count(), 0);
}

fn connecting(query: &str) -> Connecting {
    Connecting {
        caller: caller(),
        headers: vec![("user-agent".into(), "x".into())],
        connect_headers: Vec::new(),
        query: vec![("room".into(), query.into())],
        cookies: Vec::new(),
    }
}

#[tokio::test]
async fn the_hook_decides() {
    let mut one = Running::start("one").await;
    let named = "hook_headers = ['User-Agent']\nhook_query = ['room']\n".to_owned();
    let hooked = routes(&(named + &route("/app", &[one.url()], "hook = 'required'")));
    let hook = hooked.hook().unwrap();
    assert_eq!(
        (&hook.headers[..], &hook.query[..]),
        (&["user-agent".into()][..], &["room".into()][..])
    );
    let attributes = soon(hooked.connect(connecting("a"))).await.unwrap();
    assert_eq!(json!(attributes), json!({ "level": 3 }));
    let Some(Seen::Connect(seen)) = one.seen.recv().await else { panic!() };
    assert_eq!(seen.headers, [Header { name: "user-agent".into(), value: "x".into() }]);
    let refused = |reason: &str, unauthenticated| {
        Err(ConnectError::Refused { reason: reason.into(), unauthenticated })
    };
    for (query, word) in [
        ("refuse", refused("full", false)),
        ("unauthenticated", refused("who are you?", true)),
        ("none", Ok(Default::default())),
        ("broken", Err(ConnectError::Unanswered)),
    ] {
        assert_eq!(soon(hooked.connect(connecting(query))).await, word, "{query}");
    }
    while one.seen.try_recv().is_ok() {}
    soon(hooked.disconnect(caller(), CloseReason::ClientLost)).await;
    let Some(Seen::Disconnect(seen)) = one.seen.recv().await else { panic!() };
    assert_eq!((&*seen.reason, &*seen.caller.unwrap().user), ("client_lost", "ann"));
    assert_eq!(routes(&route("/app", &[one.url()], "")).hook(), None);
}

#[tokio::test]
async fn without_a_hooks_word_nobody_or_everybody_comes_in() {
    let gone = [format!("http://{}", dead().await)];
    let required = routes(&route("/app", &gone, "hook = 'required'"));
    assert_eq!(soon(required.connect(connecting("a"))).await, Err(ConnectError::Unanswered));
    let optional = routes(&route("/app", &gone, "hook = 'optional'"));
    assert_eq!(soon(optional.connect(connecting("a"))).await, Ok(Default::default()));
}

#[tokio::test]
async fn https_is_spoken_with_whom_the_authority_certifies() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(certified.cert.pem(), certified.signing_key.serialize_pem());
    let one = Running::start_at("one", "127.0.0.1:0".parse().unwrap(), Some(identity)).await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), certified.cert.pem()).unwrap();
    let urls = [format!("https://localhost:{}", one.address.port())];
    let trusting = routes(&route("/app", &urls, &format!("ca_file = {:?}", ca.path())));
    assert_eq!(who(soon(trusting.message(call("x", ""))).await), "one");
    let strange = routes(&route("/app", &urls, ""));
    assert_eq!(soon(strange.message(call("x", ""))).await, Err(CallError::Unavailable));
}
