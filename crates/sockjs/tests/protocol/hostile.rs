//! Requests of clients that mean harm, or know no better.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use bytesize::ByteSize;
use http_body_util::BodyExt;
use sockjs::{
    Answer, Body, Config, Connection, Endpoint, Found, Head, Hold, Over, Request, Service,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Barrier, mpsc};
use warp::http::{HeaderMap, Method, StatusCode};
use warp::reply::Reply;
use websocket::Origins;

use crate::support::{Server, serve, serve_routes, timeout};

/// Hands its connections to the test; a session is of whoever sends the same header `x-owner`.
struct Handing(mpsc::UnboundedSender<Connection>);

#[async_trait]
impl Service for Handing {
    type Ticket = ();
    type Owner = Option<String>;

    fn admit(&self, _: &Head, _: Over) -> Result<(), Box<Answer>> {
        Ok(())
    }

    fn run(&self, (): (), connection: Connection) {
        let _ = self.0.send(connection);
    }

    fn owner(&self, head: &Head) -> Self::Owner {
        head.headers.get("x-owner").map(|owner| owner.to_str().unwrap().to_owned())
    }

    async fn is_owner(&self, owner: &Self::Owner, head: &Head) -> bool {
        *owner == self.owner(head)
    }
}

async fn handing(
    config: Config,
    origins: Origins,
) -> (Server, mpsc::UnboundedReceiver<Connection>) {
    let (sender, connections) = mpsc::unbounded_channel();
    let websocket = websocket::Config::default();
    let endpoint = Endpoint::new(config, websocket, origins, Arc::new(Handing(sender)));
    (serve_routes(sockjs::filter("/x", Arc::new(endpoint))).await, connections)
}

#[tokio::test]
async fn pages_that_may_not_connect_get_403_and_nothing_else() {
    let (server, mut connections) = handing(Config::default(), Origins::default()).await;
    let foreign = [("Origin", "https://evil.example")];
    for (method, path) in [
        ("GET", "/x/info"),
        ("OPTIONS", "/x/info"),
        ("POST", "/x/0/a/xhr"),
        ("OPTIONS", "/x/0/a/xhr"),
        ("POST", "/x/0/a/xhr_send"),
        ("POST", "/x/0/a/xhr_streaming"),
        ("GET", "/x/0/a/eventsource"),
        ("GET", "/x/0/a/htmlfile?c=x"),
        ("GET", "/x/0/a/jsonp?c=x"),
        ("POST", "/x/0/a/jsonp_send"),
        ("GET", "/x/0/a/websocket"),
        ("GET", "/x/websocket"),
    ] {
        let answer = server.ask(method, path, &foreign, "").await;
        assert_eq!(answer.status, 403, "{method} {path}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(server.ask("POST", "/x/0/a/xhr", &[("Origin", "http://h")], "").await.status, 200);
    timeout(connections.recv()).await.unwrap();
    assert!(connections.try_recv().is_err());
}

#[tokio::test]
async fn for_whom_a_session_is_not_there_is_none() {
    let (server, mut connections) = handing(Config::default(), Origins::default()).await;
    let (ann, bob) = ([("x-owner", "ann")], [("x-owner", "bob")]);
    let opened = server.ask("POST", "/x/0/a/xhr", &ann, "").await.whole().await;
    assert_eq!(opened, (200, "o\n".to_owned()));
    let mut connection = timeout(connections.recv()).await.unwrap();
    for stranger in [&bob[..], &[]] {
        for path in ["xhr", "xhr_streaming", "xhr_send", "jsonp_send"] {
            let answer = server.ask("POST", &format!("/x/0/a/{path}"), stranger, "[\"x\"]").await;
            assert_eq!(answer.status, 404, "{path}");
        }
    }
    assert_eq!(server.ask("POST", "/x/0/a/xhr_send", &ann, "[\"mine\"]").await.status, 204);
    assert_eq!(timeout(connection.receive()).await.unwrap(), "mine");
}

#[tokio::test]
async fn what_is_too_long_is_413_and_what_never_comes_is_not_waited_for() {
    let config = Config { max_request: ByteSize::kib(64), ..Config::default() };
    let (server, mut connections) = handing(config, Origins::default()).await;
    server.posted("/x/0/a/xhr", "").await;
    let mut connection = timeout(connections.recv()).await.unwrap();
    let long = format!("[\"{}\"]", "x".repeat(64 * 1024));
    assert_eq!(server.posted("/x/0/a/xhr_send", &long).await.0, 413);
    // Announced and never sent, for a session that is not there: not waited for.
    let headers = [("Content-Length", "1000")];
    assert_eq!(server.ask("POST", "/x/0/b/xhr_send", &headers, "").await.status, 404);
    let mut broken = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /x/0/a/xhr_send HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n[\"a";
    broken.write_all(head.as_bytes()).await.unwrap();
    drop(broken);
    server.send("/x/0/a", "[\"whole\"]").await;
    assert_eq!(timeout(connection.receive()).await.unwrap(), "whole");
}

#[tokio::test]
async fn who_sends_more_than_is_taken_waits_and_loses_nothing() {
    let config = Config { max_request: ByteSize::kib(64), ..Config::default() };
    let (server, mut connections) = handing(config, Origins::default()).await;
    server.posted("/x/0/a/xhr", "").await;
    let mut connection = timeout(connections.recv()).await.unwrap();
    let some = |n: usize| format!("[\"{n} {}\"]", "x".repeat(40_000));
    server.send("/x/0/a", &some(0)).await;
    let waiting = tokio::spawn(async move { server.send("/x/0/a", &some(1)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "more was taken than there is room for");
    for n in 0..2 {
        assert!(timeout(connection.receive()).await.unwrap().starts_with(&n.to_string()));
    }
    timeout(waiting).await.unwrap();
    // And one that waits when the session ends is let go.
    server.send("/x/0/a", &some(2)).await;
    let waiting = tokio::spawn(async move { server.send("/x/0/a", &some(3)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(connection);
    timeout(waiting).await.unwrap();
}

#[tokio::test]
async fn many_that_send_at_once_for_one_session_are_429() {
    let config = Config { max_request: ByteSize::kib(64), ..Config::default() };
    let (server, mut connections) = handing(config, Origins::default()).await;
    server.posted("/x/0/a/xhr", "").await;
    let connection = timeout(connections.recv()).await.unwrap();
    let full = format!("[\"{}\"]", "x".repeat(60_000));
    server.send("/x/0/a", &full).await;
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let full = full.clone();
            tokio::spawn(async move { server.posted("/x/0/a/xhr_send", &full).await.0 })
        })
        .collect();
    timeout(async {
        while !waiting.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(connection);
    let mut statuses = Vec::new();
    for one in waiting {
        statuses.push(timeout(one).await.unwrap());
    }
    assert!(statuses.contains(&429) && statuses.contains(&204), "{statuses:?}");
}

#[tokio::test]
async fn who_never_asks_again_is_gone_and_its_id_is_free() {
    let config = Config { disconnect_delay: Duration::from_millis(200), ..Config::default() };
    let (server, mut connections) = handing(config, Origins::default()).await;
    assert_eq!(server.poll("/x/0/a").await, "o\n");
    let mut connection = timeout(connections.recv()).await.unwrap();
    assert_eq!(timeout(connection.receive()).await, None);
    assert!(connection.send("late").await.is_err());
    assert_eq!(server.poll("/x/0/a").await, "c[1002,\"Connection interrupted\"]\n");
    drop(connection);
    // Whoever asks keeps it from being forgotten, for no longer than the delay.
    timeout(async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if server.poll("/x/0/a").await == "o\n" {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn there_are_no_more_sessions_than_allowed() {
    let config = Config { max_sessions: 2, ..Config::default() };
    let (server, mut connections) = handing(config, Origins::default()).await;
    let mut held = Vec::new();
    for id in ["a", "b"] {
        assert_eq!(server.poll(&format!("/x/0/{id}")).await, "o\n");
        held.push(timeout(connections.recv()).await.unwrap());
    }
    assert_eq!(server.posted("/x/0/c/xhr", "").await.0, 503);
}

#[tokio::test]
async fn hostile_ids_callbacks_and_headers_do_no_harm() {
    let server = serve().await;
    let long = format!("/echo/0/{}/xhr", "x".repeat(300));
    assert_eq!(server.posted(&long, "").await.0, 404);
    for callback in ["alert(1)//", "%3Cscript%3E", "a%0d%0ab", "%00", "%F0%9F%98%80"] {
        for transport in ["jsonp", "htmlfile"] {
            let (status, text) = server.got(&format!("/echo/0/a/{transport}?c={callback}")).await;
            assert!(status == 500 && text.contains("callback"), "{callback}: {text}");
        }
    }
    let headers = [
        ("Access-Control-Request-Headers", "x\u{e9}y"),
        ("Cookie", "JSESSIONID=a\u{e9}b"),
        ("Origin", "null"),
    ];
    let path = format!("{}/xhr", server.session("/cookie_needed_echo"));
    let answer = server.ask("POST", &path, &headers, "").await;
    assert_eq!(answer.status, 200);
    answer.assert_cors(Some("null"));
}

#[tokio::test]
async fn heart_beats_come_while_nothing_else_does_until_the_service_has_its_own() {
    let config = Config { heartbeat: Duration::from_millis(100), ..Config::default() };
    let (server, mut connections) = handing(config, Origins::default()).await;
    let mut response = server.post("/x/0/a/xhr_streaming", "").await;
    response.chunk().await;
    assert_eq!(response.chunk().await, "o\n");
    let mut connection = timeout(connections.recv()).await.unwrap();
    assert_eq!(response.chunk().await, "h\n");
    assert_eq!(response.chunk().await, "h\n");
    connection.stop_heartbeats();
    let mut beats = 0;
    let quiet = async {
        loop {
            assert_eq!(response.chunk().await, "h\n");
            beats += 1;
        }
    };
    // One may have been on its way.
    let _ = tokio::time::timeout(Duration::from_millis(500), quiet).await;
    assert!(beats <= 1, "{beats}");
}

#[tokio::test]
async fn a_service_that_goes_without_a_word_and_one_that_sends_before_it_is_asked() {
    let (server, mut connections) = handing(Config::default(), Origins::default()).await;
    assert_eq!(server.poll("/x/0/a").await, "o\n");
    let mut connection = timeout(connections.recv()).await.unwrap();
    for text in ["one", "two"] {
        connection.send(text).await.unwrap();
    }
    let closing = tokio::spawn(connection.close(3001, "Enough"));
    assert_eq!(server.poll("/x/0/a").await, "a[\"one\",\"two\"]\n");
    assert_eq!(server.poll("/x/0/a").await, "c[3001,\"Enough\"]\n");
    timeout(closing).await.unwrap();
    assert_eq!(server.poll("/x/0/b").await, "o\n");
    drop(timeout(connections.recv()).await.unwrap());
    assert_eq!(server.poll("/x/0/b").await, "c[3000,\"Go away!\"]\n");
}

/// Has room for one session, finds each a moment late, and tells which ids are given up.
struct Scarce {
    handing: Handing,
    room: AtomicUsize,
    both: Barrier,
    forgotten: mpsc::UnboundedSender<String>,
}

#[async_trait]
impl Service for Scarce {
    type Ticket = ();
    type Owner = Option<String>;

    fn admit(&self, _: &Head, _: Over) -> Result<(), Box<Answer>> {
        let left = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(|_| ()).map_err(|_| {
            let mut answer = "full".into_response();
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Box::new(answer)
        })
    }

    fn run(&self, ticket: (), connection: Connection) {
        self.handing.run(ticket, connection);
    }

    fn owner(&self, head: &Head) -> Self::Owner {
        self.handing.owner(head)
    }

    async fn is_owner(&self, owner: &Self::Owner, head: &Head) -> bool {
        self.handing.is_owner(owner, head).await
    }

    async fn find(&self, _: &str, _: bool, _: &mut Request) -> Found {
        self.both.wait().await;
        Found::Here
    }

    async fn forgotten(&self, id: &str) {
        let _ = self.forgotten.send(id.to_owned());
    }
}

#[tokio::test]
async fn two_that_open_at_once_share_the_last_place_and_the_id_is_kept() {
    let (sender, mut connections) = mpsc::unbounded_channel();
    let (forgotten, mut given_up) = mpsc::unbounded_channel();
    let (handing, room, both) = (Handing(sender), AtomicUsize::new(1), Barrier::new(2));
    let service = Arc::new(Scarce { handing, room, both, forgotten });
    let websocket = websocket::Config::default();
    let config = Config { heartbeat: Duration::from_millis(100), ..Config::default() };
    let endpoint = Endpoint::new(config, websocket, Origins::default(), service);
    let server = serve_routes(sockjs::filter("/x", Arc::new(endpoint))).await;
    let open = async || server.posted("/x/0/a/xhr", "").await;
    let answers = timeout(async { tokio::join!(open(), open()) }).await;
    let (one, other) = (answers.0, answers.1);
    assert!(one.0 == 200 && other.0 == 200, "{one:?} {other:?}");
    assert!(timeout(connections.recv()).await.is_some());
    assert!(given_up.try_recv().is_err(), "the id of a session that is here was given up");
}

#[tokio::test]
async fn an_answer_that_is_not_read_holds_its_connection_no_longer_than_the_session_lasts() {
    let (sender, mut connections) = mpsc::unbounded_channel();
    let service = Arc::new(Handing(sender));
    let websocket = websocket::Config::default();
    let endpoint = Endpoint::new(Config::default(), websocket, Origins::default(), service);
    let place = Arc::new(());
    let ask = async |path: &str| {
        let taken = Arc::clone(&place);
        let head = Head {
            method: Method::POST,
            path: path.to_owned(),
            query: String::new(),
            headers: HeaderMap::new(),
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        let body = Body::whole(Bytes::new());
        let hold: Hold = Box::new(move || Box::new(taken));
        endpoint
            .answer(Request { head, body, upgrade: None, is_forwarded: false, hold: Some(hold) })
            .await
    };
    let is_held = || Arc::strong_count(&place) > 1;
    let _stalled = ask("/0/a/xhr_streaming").await;
    assert!(is_held());
    let connection = timeout(connections.recv()).await.unwrap();
    drop(connection);
    assert!(!is_held(), "it is held for a session that is over");
    let _refused = ask("/0/a/xhr").await;
    assert!(!is_held(), "it is held to say that another request receives");
    let mut polling = ask("/0/b/xhr").await;
    assert!(is_held());
    timeout(polling.body_mut().frame()).await.unwrap().unwrap();
    assert!(!is_held(), "it is held although there is nothing more to wait for");
}
