//! SockJS at the endpoints: whose a session is, what it lacks beside WebSocket, and what its connections cost.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use access::token::Signer;
use async_trait::async_trait;
use broker_embedded::EmbeddedBroker;
use gateway::Config;
use presence::{Boot, Claim, MemoryPresence, Owners, SessionName, Unavailable};
use serde_json::{Map, json};
use support::{Node, config, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const SECRET: &str = "a secret that is long enough: 32 bytes.";

const CONNECT: &str = "CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0";

/// A node that lets in whoever shows a token, and others.
async fn node(config: Config) -> Node {
    let access = format!(
        "jwt_secret = '{SECRET}'\nfailure_delay = '0s'\ntoken_cookie = 'session'\nrules = 'open'"
    );
    let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
    Node::start_for(toml::from_str(&access).unwrap(), broker, config, stomp::Config::default())
        .await
}

fn token(user: &str, id: u32) -> String {
    let mut claims = Map::new();
    claims.insert("sub".into(), user.into());
    claims.insert("exp".into(), json!(4_000_000_000_u64));
    claims.insert("jti".into(), id.into());
    let signer = Signer::of_secret(&SECRET.into()).unwrap();
    signer.sign(claims, None, SystemTime::now()).unwrap()
}

/// The status and the body of a request, which is the last one on its connection.
async fn ask_from(
    address: Ipv4Addr,
    node: &Node,
    line: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    let mut socket = timeout(socket.connect(node.address)).await.unwrap();
    let len = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}",
        node.address
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(socket.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = match head.to_lowercase().contains("transfer-encoding: chunked") {
        true => body.split("\r\n").skip(1).step_by(2).collect(),
        false => body.to_owned(),
    };
    (status, body)
}

async fn ask(node: &Node, line: &str, headers: &str, body: &str) -> (u16, String) {
    ask_from(Ipv4Addr::LOCALHOST, node, line, headers, body).await
}

fn array(message: &str) -> String {
    serde_json::to_string(&[message]).unwrap()
}

/// What a poll brings until it brings a frame that is not of SockJS alone.
async fn poll(node: &Node, session: &str, headers: &str) -> String {
    let (status, frame) = ask(node, &format!("POST /ws/0/{session}/xhr"), headers, "").await;
    assert_eq!(status, 200, "{frame}");
    frame
}

async fn send(node: &Node, session: &str, headers: &str, message: &str) -> u16 {
    let line = format!("POST /ws/0/{session}/xhr_send");
    ask(node, &line, headers, &array(message)).await.0
}

/// Opens a session that is subscribed to /topic/a.
async fn subscribe(node: &Node, session: &str) {
    assert_eq!(poll(node, session, "").await, "o\n");
    send(node, session, "", CONNECT).await;
    assert!(poll(node, session, "").await.contains("CONNECTED"));
    send(node, session, "", "SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:r\n\n\0").await;
    assert!(poll(node, session, "").await.contains("RECEIPT"));
}

#[tokio::test]
async fn a_session_is_had_by_who_shows_what_its_first_request_showed_or_is_the_same_user() {
    let node = node(config()).await;
    let bearer = |token: String| format!("authorization: Bearer {token}\r\n");
    let (ann, again, bob) =
        (bearer(token("ann", 1)), bearer(token("ann", 2)), bearer(token("bob", 1)));
    assert_eq!(poll(&node, "a", &ann).await, "o\n");
    assert_eq!(send(&node, "a", &ann, CONNECT).await, 204);
    assert!(poll(&node, "a", &again).await.contains("user-name:ann"));
    let forged = bearer(format!("{}x", token("ann", 1)));
    for stranger in [&bob, &forged, &String::new()] {
        assert_eq!(send(&node, "a", stranger, "\n").await, 404, "{stranger}");
        for transport in ["xhr", "xhr_streaming"] {
            let line = format!("POST /ws/0/a/{transport}");
            assert_eq!(ask(&node, &line, stranger, "").await.0, 404, "{stranger}");
        }
        for transport in ["eventsource", "htmlfile?c=x", "jsonp?c=x"] {
            let line = format!("GET /ws/0/a/{transport}");
            assert_eq!(ask(&node, &line, stranger, "").await.0, 404, "{stranger}");
        }
    }
    assert_eq!(send(&node, "a", &again, "\n").await, 204);
}

#[tokio::test]
async fn nobody_in_particular_keeps_a_session_from_one_address() {
    let node = Node::start(config()).await;
    assert_eq!(poll(&node, "a", "").await, "o\n");
    let (line, body) = ("POST /ws/0/a/xhr_send", array(CONNECT));
    let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    assert_eq!(ask_from(elsewhere, &node, line, "", &body).await.0, 404);
    assert_eq!(ask(&node, line, "", &body).await.0, 204);
    let connected = poll(&node, "a", "").await;
    assert!(connected.starts_with("a[\"CONNECTED"), "{connected}");
}

#[tokio::test]
async fn a_cookie_counts_only_for_pages_that_are_known_to_be_let_in() {
    let node = node(config()).await;
    let cookie = format!("cookie: session={}\r\n", token("ann", 1));
    let own = format!("origin: http://{}\r\n", node.address);
    for (session, site, user) in [
        ("own", own, Some("ann")),
        ("fetched", "sec-fetch-site: same-origin\r\n".to_owned(), Some("ann")),
        ("script", "sec-fetch-site: cross-site\r\n".to_owned(), None),
        ("old", String::new(), None),
    ] {
        let headers = format!("{cookie}{site}");
        assert_eq!(poll(&node, session, &headers).await, "o\n");
        assert_eq!(send(&node, session, &headers, CONNECT).await, 204);
        let connected = poll(&node, session, &headers).await;
        assert_eq!(connected.contains("user-name:ann"), user.is_some(), "{session}: {connected}");
    }
    let foreign = format!("{cookie}origin: https://evil.example\r\n");
    assert_eq!(ask(&node, "POST /ws/0/x/xhr", &foreign, "").await.0, 403);
    assert_eq!(ask(&node, "GET /ws/info", &foreign, "").await.0, 403);
}

#[tokio::test]
async fn a_body_that_is_no_text_becomes_some_and_its_length_is_that() {
    let node = Node::start(config()).await;
    subscribe(&node, "a").await;
    let mut other = node.connect().await;
    other.publish("/topic/a", &b"x\xff\xfe"[..]).await;
    let message = poll(&node, "a", "").await;
    assert!(message.contains(r"content-length:7\n\nx\ufffd\ufffd\u0000"), "{message}");
}

#[tokio::test]
async fn the_heart_beats_of_sockjs_end_where_stomp_has_its_own() {
    let heartbeat = Duration::from_millis(100);
    let node = Node::start_with_sockjs(sockjs::Config { heartbeat, ..Default::default() }).await;
    for (agreed, session) in [("0,0", "none"), ("0,10000", "some")] {
        let mut socket = TcpStream::connect(node.address).await.unwrap();
        next(&mut socket, &format!("POST /ws/0/{session}/xhr_streaming"), "").await;
        let connect = CONNECT.replace("0,0", agreed);
        assert_eq!(send(&node, session, "", &connect).await, 204);
        let mut seen = String::new();
        while !seen.contains("user-name") {
            seen.push(timeout(socket.read_u8()).await.unwrap().into());
        }
        let after = seen.len();
        let reading = async {
            // The rest of CONNECTED, and what comes after it.
            while seen[after..].matches("\nh\n").count() < 3 {
                seen.push(socket.read_u8().await.unwrap().into());
            }
        };
        let patience = if agreed == "0,0" { Duration::from_secs(30) } else { 8 * heartbeat };
        let beats = tokio::time::timeout(patience, reading).await.is_ok();
        assert_eq!(beats, agreed == "0,0", "{session}: {}", &seen[after..]);
    }
}

/// A store of who has which session, which can go away.
struct Leaving {
    store: MemoryPresence,
    is_away: AtomicBool,
}

impl Leaving {
    fn there(&self) -> Result<&MemoryPresence, Unavailable> {
        let is_away = self.is_away.load(Ordering::Relaxed);
        if is_away { Err(Unavailable("away".into())) } else { Ok(&self.store) }
    }
}

#[async_trait]
impl Owners for Leaving {
    async fn claim(
        &self,
        session: &SessionName,
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Claim, Unavailable> {
        self.there()?.claim(session, boot, lifetime).await
    }

    async fn owner(&self, session: &SessionName) -> Result<Option<Boot>, Unavailable> {
        self.there()?.owner(session).await
    }

    async fn keep(
        &self,
        sessions: &[SessionName],
        boot: Boot,
        lifetime: Duration,
    ) -> Result<Vec<SessionName>, Unavailable> {
        self.there()?.keep(sessions, boot, lifetime).await
    }

    async fn release(&self, sessions: &[SessionName], boot: Boot) -> Result<(), Unavailable> {
        self.there()?.release(sessions, boot).await
    }
}

#[tokio::test]
async fn with_the_store_away_sessions_go_on_and_new_ones_are_told_to_wait() {
    let store = MemoryPresence::new(&Default::default(), Boot::generate());
    let owners = Arc::new(Leaving { store, is_away: AtomicBool::new(false) });
    let node = Node::start_with_owners(owners.clone()).await;
    assert_eq!(poll(&node, "a", "").await, "o\n");
    owners.is_away.store(true, Ordering::Relaxed);
    assert_eq!(send(&node, "a", "", CONNECT).await, 204);
    assert!(poll(&node, "a", "").await.contains("CONNECTED"));
    for line in ["POST /ws/0/b/xhr", "POST /ws/0/b/xhr_send"] {
        let (status, text) = ask(&node, line, "", &array("x")).await;
        assert!(status == 503 && text.contains("try again"), "{line}: {status} {text}");
    }
    owners.is_away.store(false, Ordering::Relaxed);
    assert_eq!(poll(&node, "b", "").await, "o\n");
}

#[tokio::test]
async fn a_full_node_says_so_and_ids_of_one_node_are_bounded() {
    let node = Node::start(Config { max_sessions: 1, ..config() }).await;
    assert_eq!(poll(&node, "a", "").await, "o\n");
    let (status, text) = ask(&node, "POST /ws/0/b/xhr", "", "").await;
    assert_eq!((status, text.contains("no room")), (503, true));
}

#[tokio::test]
async fn who_never_polls_again_is_gone_after_the_disconnect_delay() {
    let node = Node::start(config()).await;
    assert_eq!(poll(&node, "a", "").await, "o\n");
    send(&node, "a", "", CONNECT).await;
    node.wait_for_metric("gateway_sessions", 1.0).await;
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"client_lost\"}", 1.0).await;
    node.wait_for_metric("gateway_sessions", 0.0).await;
}

#[tokio::test]
async fn who_asks_for_nothing_more_holds_a_mailbox_and_no_more() {
    let node = Node::start(config()).await;
    subscribe(&node, "a").await;
    let mut publisher = node.connect().await;
    for _ in 0..40 {
        publisher.publish_confirmed("/topic/a", "x".repeat(60_000)).await;
    }
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"slow_consumer\"}", 1.0).await;
    let last = poll(&node, "a", "").await;
    assert!(last.contains("ERROR") || last.starts_with("c[4500,"), "{}", &last[..200]);
}

#[tokio::test]
async fn what_is_too_long_is_refused_with_413_or_an_error() {
    let node = Node::start(config()).await;
    assert_eq!(poll(&node, "a", "").await, "o\n");
    let line = "POST /ws/0/a/xhr_send";
    assert_eq!(ask(&node, line, "", &array(&"x".repeat(2 << 20))).await.0, 413);
    // The session goes on.
    assert_eq!(send(&node, "a", "", CONNECT).await, 204);
    assert!(poll(&node, "a", "").await.contains("CONNECTED"));
    let frame = format!("SEND\ndestination:/topic/a\n\n{}\0", "x".repeat(100_000));
    assert_eq!(send(&node, "a", "", &frame).await, 204);
    assert!(poll(&node, "a", "").await.starts_with("a[\"ERROR"));
    assert!(poll(&node, "a", "").await.starts_with("c[1009,"));
    assert!(poll(&node, "a", "").await.starts_with("c[1009,"));
}

#[tokio::test]
async fn a_node_that_stops_tells_its_sessions() {
    let mut node = Node::start(config()).await;
    assert_eq!(poll(&node, "a", "").await, "o\n");
    send(&node, "a", "", CONNECT).await;
    poll(&node, "a", "").await;
    let address = node.address;
    let mut polling = TcpStream::connect(address).await.unwrap();
    let head = next(&mut polling, "POST /ws/0/a/xhr_streaming", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    node.stop();
    let mut rest = String::new();
    while !rest.contains("c[1001,") {
        rest.push(timeout(polling.read_u8()).await.unwrap().into());
    }
}

#[tokio::test]
async fn clients_without_stomp_use_it_too() {
    let node = Node::start(config()).await;
    let (status, frame) = ask(&node, "POST /plain/0/p/xhr?login=ann", "", "").await;
    assert_eq!((status, &*frame), (200, "o\n"));
    // Without an application it is told so.
    let line = "POST /plain/0/p/xhr_send?login=ann";
    assert_eq!(ask(&node, line, "", &array("hello")).await.0, 204);
    let (_, frame) = ask(&node, "POST /plain/0/p/xhr?login=ann", "", "").await;
    assert!(frame.starts_with("a[\"nothing handles"), "{frame}");
}

/// A request on a connection that is kept, and the head of its answer; what follows is left.
async fn next(socket: &mut TcpStream, line: &str, body: &str) -> String {
    let len = body.len();
    let request = format!("{line} HTTP/1.1\r\nhost: h\r\ncontent-length: {len}\r\n\r\n{body}");
    timeout(socket.write_all(request.as_bytes())).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(socket.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request_while_there_are_few() {
    let node = Node::start(Config { max_handshakes: 4, ..config() }).await;
    let mut socket = TcpStream::connect(node.address).await.unwrap();
    for _ in 0..3 {
        let head = next(&mut socket, "GET /ws/info", "").await;
        assert!(head.starts_with("http/1.1 200") && !head.contains("connection: close"), "{head}");
        let len = head.split_once("content-length: ").unwrap().1;
        let len = len.split("\r\n").next().unwrap().parse().unwrap();
        timeout(socket.read_exact(&mut vec![0; len])).await.unwrap();
    }
    // Of four places three are taken, with the one for whoever comes next: one more had better end.
    let _other = TcpStream::connect(node.address).await.unwrap();
    let crowded = async {
        loop {
            let mut another = TcpStream::connect(node.address).await.unwrap();
            let head = next(&mut another, "GET /ws/info", "").await;
            if head.contains("connection: close") {
                return;
            }
        }
    };
    timeout(crowded).await;
    drop(socket);
}

#[tokio::test]
async fn one_that_waits_for_a_session_takes_no_place_among_connections() {
    let timeouts = Duration::from_millis(500);
    let config = Config { max_handshakes: 2, request_timeout: timeouts, ..config() };
    let node = Node::start(config).await;
    let mut waiting = Vec::new();
    // Each would hold one of two places, and be ended after a second.
    for n in 0..6 {
        let mut socket = TcpStream::connect(node.address).await.unwrap();
        let head = next(&mut socket, &format!("POST /ws/0/s{n}/xhr_streaming"), "").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        waiting.push(socket);
    }
    tokio::time::sleep(3 * timeouts).await;
    for (n, socket) in waiting.iter_mut().enumerate() {
        assert_eq!(send(&node, &format!("s{n}"), "", CONNECT).await, 204);
        let mut seen = Vec::new();
        while !seen.windows(9).any(|part| part == b"CONNECTED") {
            seen.push(timeout(socket.read_u8()).await.unwrap());
        }
    }
}
