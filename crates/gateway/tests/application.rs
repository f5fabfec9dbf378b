//! What clients see of an application: its answers, its failures, its word on who comes in.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway::CloseReason;
use gateway::application::{
    Answer, Application, Call, CallError, Caller, ConnectError, Connecting, Content, Hook, To,
};
use presence::{Presence, UserName};
use serde_json::{Map, Value, json};
use stomp::{Command, Frame, header};
use support::{Client, Node, frame, timeout};
use tokio::sync::{Semaphore, mpsc};

/// Does what the path of a call says.
struct Scripted {
    hook: Option<Hook>,
    /// Calls to `slow/...` take a permit each before they are answered.
    gate: Semaphore,
    seen: mpsc::UnboundedSender<Seen>,
}

#[derive(Debug)]
enum Seen {
    Call(Call),
    Connect(Connecting),
    Disconnect(Caller, CloseReason),
}

/// How many messages a long answer has, and how many bytes each: more than sockets hold.
const MANY: usize = 1000;
const LONG: usize = 32 * 1024;

type Log = mpsc::UnboundedReceiver<Seen>;

fn scripted(hook: Option<Hook>) -> (Arc<Scripted>, Log) {
    let (seen, log) = mpsc::unbounded_channel();
    (Arc::new(Scripted { hook, gate: Semaphore::new(0), seen }), log)
}

async fn start(hook: Option<Hook>) -> (Node, Arc<Scripted>, Log) {
    let (application, log) = scripted(hook);
    let stomp = stomp::Config { max_frames_per_second: 0, ..stomp::Config::default() };
    (Node::start_with_application(application.clone(), stomp).await, application, log)
}

fn to(to: To, body: &str) -> Answer {
    Answer { to, content: Content::new(Vec::new(), body.to_owned()) }
}

fn header_of(name: &str, value: &str) -> Answer {
    let headers = vec![(name.into(), value.into())];
    Answer { to: To::Session("/queue/a".into()), content: Content::new(headers, "x") }
}

#[async_trait]
impl Application for Scripted {
    fn hook(&self) -> Option<&Hook> {
        self.hook.as_ref()
    }

    async fn connect(&self, connecting: Connecting) -> Result<Map<String, Value>, ConnectError> {
        let name = connecting.caller.principal.name.clone();
        self.seen.send(Seen::Connect(connecting)).unwrap();
        let refused = |unauthenticated| {
            Err(ConnectError::Refused { reason: "we do not want you".into(), unauthenticated })
        };
        match &*name {
            "forbidden" => refused(false),
            "unknown" => refused(true),
            "nobody-home" => Err(ConnectError::Unanswered),
            "never" => std::future::pending().await,
            "too-much" => Ok(Map::from_iter([("a".into(), "x".repeat(5000).into())])),
            _ => Ok(Map::from_iter([("plan".into(), json!(["gold"]))])),
        }
    }

    async fn message(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        let (path, body) = (call.path.clone(), call.body.clone());
        let text = String::from_utf8_lossy(&body).into_owned();
        self.seen.send(Seen::Call(call.clone())).unwrap();
        if path.starts_with("slow/") {
            self.gate.acquire().await.unwrap().forget();
        }
        match path.split('/').next_back().unwrap() {
            "everywhere" => Ok(vec![
                to(To::Destination("/topic/all".into()), &text),
                to(To::Session("/queue/a".into()), "session"),
                to(To::User("/queue/a".into()), "user"),
                to(To::Destination("/user/bob/queue/a".into()), "bob"),
            ]),
            "topic" => Ok(vec![to(To::Destination("/topic/all".into()), &text)]),
            "refused" => Err(CallError::Refused {
                code: "no_such_room".into(),
                message: "no: \nroom".into(),
            }),
            "unavailable" => Err(CallError::Unavailable),
            "half" => {
                Ok(vec![to(To::Destination("/topic/all".into()), "x"), header_of("ack", "x")])
            }
            "no-destination" => Ok(vec![to(To::Destination("/nowhere/x".into()), "x")]),
            "pattern" => Ok(vec![to(To::Destination("/topic/*".into()), "x")]),
            "itself" => Ok(vec![to(To::Destination("/app/topic".into()), "x")]),
            "no-path" => Ok(vec![to(To::Session("nowhere".into()), "x")]),
            "forged" => Ok(vec![header_of("x-footbridge-user", "x")]),
            "injected" => Ok(vec![header_of("a", "b\nc:d")]),
            "unsent" => Ok(vec![to(To::Destination("/exchange/none/a".into()), "x")]),
            "nothing" => Ok(Vec::new()),
            "panics" => panic!("it breaks down"),
            _ => Err(CallError::NoHandler { destination: call.destination, hint: "" }),
        }
    }

    async fn subscribe(&self, call: Call) -> Result<Vec<Content>, CallError> {
        let path = call.path.clone();
        self.seen.send(Seen::Call(call)).unwrap();
        if path.starts_with("slow/") {
            self.gate.acquire().await.unwrap().forget();
        }
        let json = vec![("content-type".into(), "application/json".into())];
        match path.split('/').next_back().unwrap() {
            "long" => Ok(vec![Content::new(Vec::new(), vec![b'x'; LONG]); MANY]),
            "history" => Ok(vec![Content::new(json, "1"), Content::new(Vec::new(), "2")]),
            _ => Err(CallError::Refused {
                code: "no_history".into(),
                message: "there is none".into(),
            }),
        }
    }

    async fn disconnect(&self, caller: Caller, reason: CloseReason) {
        self.seen.send(Seen::Disconnect(caller, reason)).unwrap();
    }
}

fn send(destination: &str, receipt: &str, body: &'static str) -> Frame {
    frame(Command::Send, &[(header::DESTINATION, destination), (header::RECEIPT, receipt)])
        .with_body(body)
}

/// Command, receipt and code of error of the next frame.
async fn told(client: &mut Client) -> (Command, String, Option<String>) {
    let frame = client.frame().await;
    let receipt = frame.header(header::RECEIPT_ID).map(ToString::to_string);
    (frame.command, receipt.unwrap_or_default(), frame.header("error").map(ToString::to_string))
}

async fn receipt(client: &mut Client, id: &str) {
    assert_eq!(told(client).await, (Command::Receipt, id.to_owned(), None));
}

async fn call(log: &mut Log) -> Call {
    match timeout(log.recv()).await.unwrap() {
        Seen::Call(call) => call,
        other => panic!("{other:?} instead of a call"),
    }
}

async fn connect_as(node: &Node, login: &str) -> Client {
    let mut client = node.open(&[]).await.unwrap();
    client
        .send_text(&format!("CONNECT\naccept-version:1.2\nheart-beat:0,0\nlogin:{login}\n\n\0"))
        .await;
    assert_eq!(client.frame().await.command, Command::Connected);
    client
}

#[tokio::test]
async fn an_answer_goes_wherever_it_says_and_the_receipt_follows() {
    let (node, _application, _log) = start(None).await;
    let (mut ann, mut also_ann, mut bob) = (
        connect_as(&node, "ann").await,
        connect_as(&node, "ann").await,
        connect_as(&node, "bob").await,
    );
    for client in [&mut ann, &mut also_ann, &mut bob] {
        client.subscribe("a", "/user/queue/a").await;
    }
    bob.subscribe("all", "/topic/all").await;
    ann.send(send("/app/everywhere", "r", "hi")).await;
    assert_eq!(ann.body().await, "session");
    // Confirmed is not delivered: the receipt may come before what goes by the broker.
    let mut rest = [ann.frame().await, ann.frame().await];
    rest.sort_by_key(|frame| frame.command == Command::Receipt);
    assert_eq!(rest[0].body, "user");
    assert_eq!(rest[0].header(header::DESTINATION).unwrap(), "/user/queue/a");
    assert_eq!(rest[1].header(header::RECEIPT_ID).unwrap(), "r");
    assert_eq!(also_ann.body().await, "user");
    let mut bodies = [bob.body().await, bob.body().await];
    bodies.sort();
    assert_eq!(bodies, ["bob", "hi"]);
}

#[tokio::test]
async fn an_answer_to_the_user_of_nobody_in_particular_reaches_who_asked_and_no_namesake() {
    let (node, _application, _log) = start(None).await;
    let mut nobody = node.connect_anonymous().await;
    let mut namesake = connect_as(&node, "anonymous").await;
    for client in [&mut nobody, &mut namesake] {
        client.subscribe("a", "/user/queue/a").await;
    }
    nobody.send(send("/app/everywhere", "r", "hi")).await;
    assert_eq!(nobody.body().await, "session");
    assert_eq!(nobody.body().await, "user");
    receipt(&mut nobody, "r").await;
    // Behind whatever came for it.
    namesake.send(send("/app/everywhere", "r", "hi")).await;
    assert_eq!(namesake.body().await, "session");
}

#[tokio::test]
async fn calls_keep_their_order_and_hold_up_nothing_else() {
    let (node, application, mut log) = start(None).await;
    let (mut client, mut subscriber) = (node.connect().await, node.connect().await);
    subscriber.subscribe("t", "/topic/all").await;
    client.send(send("/app/slow/topic", "one", "1")).await;
    client.send(send("/app/topic", "two", "2")).await;
    client.send(send("/topic/all", "other", "0")).await;
    receipt(&mut client, "other").await;
    assert_eq!(subscriber.body().await, "0");
    assert_eq!(call(&mut log).await.path, "slow/topic");
    assert!(log.try_recv().is_err(), "the second waits for the first");
    application.gate.add_permits(1);
    receipt(&mut client, "one").await;
    receipt(&mut client, "two").await;
    assert_eq!([subscriber.body().await, subscriber.body().await], ["1", "2"]);
}

#[tokio::test]
async fn a_client_is_not_read_while_too_many_calls_wait() {
    const SENDS: &str = "gateway_frames_received_total{command=\"SEND\"}";
    let (node, application, mut log) = start(None).await;
    let (mut eager, mut other) = (node.connect().await, node.connect().await);
    other.subscribe("t", "/topic/all").await;
    let calls = "SEND\ndestination:/app/slow/nothing\n\n\0".repeat(65);
    eager.send_text(&format!("{calls}SEND\ndestination:/topic/all\n\nlate\0")).await;
    node.wait_for_metric(SENDS, 65.0).await;
    call(&mut log).await;
    other.publish_confirmed_by_message("/topic/all", "early").await;
    assert_eq!(node.metric(SENDS), 66.0, "that of the other");
    application.gate.add_permits(65);
    assert_eq!(other.body().await, "late");
}

#[tokio::test]
async fn a_failure_is_told_to_who_asked_alone_and_ends_nothing() {
    let (node, _application, _log) = start(None).await;
    let (mut ann, mut other) = (connect_as(&node, "ann").await, connect_as(&node, "ann").await);
    for client in [&mut ann, &mut other] {
        client.subscribe("e", "/user/queue/errors").await;
        client.subscribe("t", "/topic/all").await;
    }
    for (path, code) in [
        ("refused", "no_such_room"),
        ("unavailable", "unavailable"),
        ("half", "bad_answer"),
        ("no-destination", "bad_answer"),
        ("pattern", "bad_answer"),
        ("itself", "bad_answer"),
        ("no-path", "bad_answer"),
        ("forged", "bad_answer"),
        ("injected", "bad_answer"),
        ("unsent", "not_sent"),
        ("nobody", "no_handler"),
    ] {
        let destination = format!("/app/{path}");
        ann.send(send(&destination, path, "x")).await;
        let error = ann.frame().await;
        assert_eq!(error.command, Command::Message, "{error:?}");
        for (name, value) in [
            (header::DESTINATION, "/user/queue/errors"),
            ("error", code),
            ("error-destination", &*destination),
            (header::RECEIPT_ID, path),
        ] {
            assert_eq!(error.header(name).map(|value| &**value), Some(value), "{path}: {error:?}");
        }
        let body = String::from_utf8(error.body.to_vec()).unwrap();
        match path {
            "refused" => assert_eq!(body, "no: \nroom"),
            _ => assert!(
                !body.contains("header"),
                "what is wrong with an answer is not told: {body}"
            ),
        }
        assert_eq!(told(&mut ann).await, (Command::Receipt, path.into(), Some(code.into())));
    }
    ann.publish_confirmed_by_message("/topic/all", "end").await;
    assert_eq!(other.body().await, "end", "nothing came before it");
    assert_eq!(node.metric("gateway_application_calls_total{outcome=\"bad_answer\"}"), 7.0);
}

#[tokio::test]
async fn who_calls_is_said_by_the_node() {
    let (node, _application, mut log) = start(None).await;
    let mut ann = connect_as(&node, "ann").await;
    let forged = [
        (header::DESTINATION, "/app/nothing"),
        ("x-footbridge-user", "root"),
        (" x-footbridge-session", "other"),
        ("kind", "own"),
    ];
    ann.ask(Command::Send, &forged).await;
    let call = call(&mut log).await;
    assert_eq!(call.headers, [("kind".into(), "own".into())]);
    assert_eq!((&*call.caller.principal.name, &*call.path), ("ann", "nothing"));
    assert_eq!(call.caller.session.len(), 30);
    assert!(call.caller.address.is_loopback());
}

#[tokio::test]
async fn calls_are_made_though_their_client_is_gone() {
    let (node, application, mut log) = start(Some(Hook::default())).await;
    let mut client = node.connect().await;
    for n in 0..10 {
        client.send(send(&format!("/app/slow/{n}"), "r", "x")).await;
    }
    // So all of it is read.
    client.send(send("/topic/x", "read", "x")).await;
    receipt(&mut client, "read").await;
    drop(client);
    node.wait_for_metric("gateway_sessions", 0.0).await;
    application.gate.add_permits(10);
    assert!(matches!(timeout(log.recv()).await, Some(Seen::Connect(_))));
    for n in 0..10 {
        assert_eq!(call(&mut log).await.path, format!("slow/{n}"));
    }
    match timeout(log.recv()).await {
        Some(Seen::Disconnect(caller, reason)) => {
            assert_eq!(reason, CloseReason::ClientLost);
            assert_eq!(caller.attributes["plan"], json!(["gold"]));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_receipt_of_disconnect_comes_behind_those_of_calls() {
    let (node, application, mut log) = start(None).await;
    let mut client = node.connect().await;
    client.send(send("/app/slow/nothing", "call", "x")).await;
    client.tell(Command::Disconnect, &[]).await;
    call(&mut log).await;
    application.gate.add_permits(1);
    receipt(&mut client, "call").await;
    receipt(&mut client, "r").await;
    assert_eq!(client.frame_or_close().await.unwrap_err(), Some(1000));
}

#[tokio::test]
async fn a_transaction_calls_when_it_is_committed_and_is_confirmed_when_all_is_answered() {
    let (node, _application, mut log) = start(None).await;
    let (mut client, mut subscriber) = (node.connect().await, node.connect().await);
    subscriber.subscribe("t", "/topic/all").await;
    client.ask(Command::Begin, &[(header::TRANSACTION, "t")]).await;
    for body in ["1", "2"] {
        client.send(send("/app/topic", body, body).with_header(header::TRANSACTION, "t")).await;
    }
    client.send(send("/topic/all", "0", "0")).await;
    receipt(&mut client, "0").await;
    assert!(log.try_recv().is_err());
    client.tell(Command::Commit, &[(header::TRANSACTION, "t")]).await;
    for id in ["1", "2", "r"] {
        receipt(&mut client, id).await;
    }
    for body in ["0", "1", "2"] {
        assert_eq!(subscriber.body().await, body);
    }
}

#[tokio::test]
async fn a_subscription_is_answered_once_and_alone() {
    let (node, application, mut log) = start(None).await;
    let mut client = node.connect().await;
    client.subscribe("e", "/user/queue/errors").await;
    let subscribe = |id: &'static str, to: &str| {
        frame(
            Command::Subscribe,
            &[(header::ID, id), (header::DESTINATION, to), (header::RECEIPT, id)],
        )
    };
    client.send(subscribe("h", "/app/history")).await;
    let first = client.frame().await;
    assert_eq!(first.body, "1");
    for (name, value) in [
        (header::SUBSCRIPTION, "h"),
        (header::DESTINATION, "/app/history"),
        (header::CONTENT_TYPE, "application/json"),
    ] {
        assert_eq!(first.header(name).map(|value| &**value), Some(value));
    }
    assert_eq!(client.body().await, "2");
    receipt(&mut client, "h").await;
    assert_eq!(call(&mut log).await.destination, "/app/history");
    // One that is refused stays open, too.
    client.send(subscribe("n", "/app/none")).await;
    assert_eq!(told(&mut client).await, (Command::Message, "n".into(), Some("no_history".into())));
    assert_eq!(told(&mut client).await, (Command::Receipt, "n".into(), Some("no_history".into())));
    client.ask(Command::Unsubscribe, &[(header::ID, "n")]).await;
    // What was left before the answer came gets none.
    client.send(subscribe("s", "/app/slow/history")).await;
    client.ask(Command::Unsubscribe, &[(header::ID, "s")]).await;
    application.gate.add_permits(1);
    receipt(&mut client, "s").await;
    client.ask(Command::Unsubscribe, &[(header::ID, "h")]).await;
    client.ask(Command::Unsubscribe, &[(header::ID, "e")]).await;
    assert_eq!(node.metric("gateway_subscriptions"), 0.0);
}

#[tokio::test]
async fn a_long_answer_takes_no_more_room_than_there_is() {
    let (node, _application, _log) = start(None).await;
    let (mut slow, mut other) = (node.connect().await, node.connect().await);
    slow.subscribe("t", "/topic/all").await;
    slow.send(frame(
        Command::Subscribe,
        &[(header::ID, "l"), (header::DESTINATION, "/app/long"), (header::RECEIPT, "l")],
    ))
    .await;
    slow.send(send("/app/topic", "behind", "behind")).await;
    let sent = || node.metric("gateway_messages_sent_total");
    let begun = async {
        while sent() < 20.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(begun).await;
    other.ask(Command::Send, &[(header::DESTINATION, "/topic/all")]).await;
    assert!(sent() < MANY as f64, "{}", sent());
    let mut answered = 0;
    loop {
        let frame = slow.frame().await;
        match frame.header(header::SUBSCRIPTION).map(|id| &**id) {
            Some("l") => answered += 1,
            Some(_) => assert_eq!(frame.body.len(), 0, "what others sent comes between"),
            None => {
                assert_eq!(frame.command, Command::Receipt);
                break;
            }
        }
    }
    assert_eq!(answered, MANY);
}

#[tokio::test]
async fn what_a_subscription_with_ack_was_answered_can_be_acknowledged() {
    let (node, _application, _log) = start(None).await;
    let mut client = node.connect().await;
    let asked = [(header::ID, "h"), (header::DESTINATION, "/app/history"), (header::ACK, "client")];
    client.send(frame(Command::Subscribe, &asked)).await;
    let first = client.frame().await;
    assert_eq!(client.body().await, "2");
    let token = first.header(header::ACK).unwrap().to_string();
    client.ask(Command::Ack, &[(header::ID, &token)]).await;
    client.ask(Command::Unsubscribe, &[(header::ID, "h")]).await;
    client.ask(Command::Nack, &[(header::ID, &token)]).await;
}

#[tokio::test]
async fn the_hook_sees_what_it_asked_for_and_annotates_the_session() {
    let hook = Hook {
        headers: vec!["x-device".into()],
        query: vec!["room".into()],
        cookies: vec!["lang".into()],
    };
    let (node, _application, mut log) = start(Some(hook)).await;
    let from = std::net::Ipv4Addr::LOCALHOST;
    let headers = [("x-device", "phone"), ("x-other", "y"), ("cookie", "lang=fr; sid=secret")];
    let mut client = node.open_from(from, "/ws?room=a&other=b", &headers).await.unwrap();
    client
        .send_text("CONNECT\naccept-version:1.2\nheart-beat:0,0\nX-Device:frame\nlogin:ann\n\n\0")
        .await;
    assert_eq!(client.frame().await.command, Command::Connected);
    let Some(Seen::Connect(seen)) = timeout(log.recv()).await else { panic!("no connect") };
    let pair = |name: &str, value: &str| [(name.into(), value.into())];
    assert_eq!(seen.headers, pair("x-device", "phone"));
    assert_eq!(seen.connect_headers, pair("x-device", "frame"));
    assert_eq!(seen.query, pair("room", "a"));
    assert_eq!(seen.cookies, pair("lang", "fr"));
    client.ask(Command::Send, &[(header::DESTINATION, "/app/nothing")]).await;
    assert_eq!(call(&mut log).await.caller.attributes["plan"], json!(["gold"]));
}

#[tokio::test]
async fn a_call_that_breaks_down_is_answered_as_failed_and_the_next_is_made() {
    let (node, _application, _log) = start(None).await;
    let mut client = node.connect().await;
    client.send(send("/app/panics", "1", "")).await;
    client.send(send("/app/nothing", "2", "")).await;
    assert_eq!(told(&mut client).await, (Command::Receipt, "1".into(), Some("failed".into())));
    receipt(&mut client, "2").await;
}

#[tokio::test]
async fn who_the_hook_lets_in_and_who_does_not_come_in_is_said_to_have_gone() {
    let (node, _application, mut log) = start(Some(Hook::default())).await;
    let ann = UserName::new("ann").unwrap();
    node.presence.ban_for(&ann, Duration::from_secs(60)).await.unwrap();
    let mut client = node.open(&[]).await.unwrap();
    client.send_text("CONNECT\naccept-version:1.2\nlogin:ann\n\n\0").await;
    assert_eq!(client.error().await.2, Some(4403));
    let Some(Seen::Connect(came)) = timeout(log.recv()).await else { panic!("no connect") };
    let gone = timeout(log.recv()).await;
    let Some(Seen::Disconnect(caller, reason)) = gone else { panic!("{gone:?}") };
    assert_eq!((caller.session, reason), (came.caller.session, CloseReason::Forbidden));
}

#[tokio::test]
async fn who_the_hook_does_not_let_in_is_told_why() {
    let (application, mut log) = scripted(Some(Hook::default()));
    let connect_timeout = Duration::from_secs(3);
    let stomp = stomp::Config { connect_timeout, ..stomp::Config::default() };
    let node = Node::start_with_application(application, stomp).await;
    for (login, words, code) in [
        ("forbidden", "we do not want you", 4403),
        ("unknown", "we do not want you", 4401),
        ("nobody-home", "cannot be asked now", 1013),
        ("never", "cannot be asked now", 1013),
        ("too-much", "cannot be asked now", 1013),
    ] {
        let mut client = node.open(&[]).await.unwrap();
        client.send_text(&format!("CONNECT\naccept-version:1.2\nlogin:{login}\n\n\0")).await;
        let (message, _, close) = client.error().await;
        assert!(message.contains(words), "{login}: {message}");
        assert_eq!(close, Some(code), "{login}");
        assert!(matches!(timeout(log.recv()).await, Some(Seen::Connect(_))));
    }
    // Who was never in is not said to have gone.
    let client = connect_as(&node, "ann").await;
    assert!(matches!(timeout(log.recv()).await, Some(Seen::Connect(_))));
    drop(client);
    let gone = timeout(log.recv()).await;
    assert!(
        matches!(&gone, Some(Seen::Disconnect(caller, _)) if *caller.principal.name == *"ann"),
        "{gone:?}"
    );
}
