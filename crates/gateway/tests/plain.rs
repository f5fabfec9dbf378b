//! Sessions without STOMP: what they send, what reaches them, how they begin and end.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::rules::Config as Rules;
use access::token::Signer;
use async_trait::async_trait;
use broker::MessageId;
use cluster::{Content, Letter, Outbound, Target};
use futures_util::StreamExt;
use gateway::application::{self, Answer, Application, Call, CallError, To};
use gateway::plain::{Config, Ping};
use presence::{GroupName, Groups, Member, Presence, SessionId, UserName};
use stomp::Command;
use support::{Client, Node, SERVICE, timeout};
use tokio_tungstenite::tungstenite::Message;

const SECRET: &str = "a secret that is long enough: 32 bytes.";

/// Answers who asked, and everybody at `/topic/said`; what begins with `slow` waits for ever.
struct Echo;

#[async_trait]
impl Application for Echo {
    async fn message(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        assert_eq!(call.destination, "/app/plain");
        if call.body.starts_with(b"slow") {
            std::future::pending::<()>().await;
        }
        if call.body == "bad" {
            return Err(CallError::Refused { code: "bad".into(), message: "say it well".into() });
        }
        let content = application::Content::new(Vec::new(), call.body);
        let said = To::Destination("/topic/said".into());
        Ok(vec![
            Answer { to: To::Session("/queue/any".into()), content: content.clone() },
            Answer { to: said, content },
        ])
    }

    async fn subscribe(&self, call: Call) -> Result<Vec<application::Content>, CallError> {
        Err(CallError::NoHandler { destination: call.destination, hint: "" })
    }
}

fn open() -> access::Config {
    access::Config { rules: Rules::Open, ..access::Config::default() }
}

async fn node() -> Node {
    node_with(open(), Config::default()).await
}

async fn node_with(access: access::Config, plain: Config) -> Node {
    Node::start_plain(Arc::new(Echo), access, plain).await
}

/// A plain session, by this query.
async fn connect(node: &Node, query: &str) -> Client {
    node.open_from(std::net::Ipv4Addr::LOCALHOST, &format!("/plain{query}"), &[]).await.unwrap()
}

async fn next(client: &mut Client) -> Message {
    timeout(client.socket.next()).await.unwrap().unwrap()
}

/// The next message, which is text.
async fn text(client: &mut Client) -> String {
    match next(client).await {
        Message::Text(text) => text.to_string(),
        other => panic!("{other:?} instead of text"),
    }
}

/// The code and reason of the close frame that comes next.
async fn closed(client: &mut Client) -> (u16, String) {
    match next(client).await {
        Message::Close(Some(close)) => (close.code.into(), close.reason.to_string()),
        other => panic!("{other:?} instead of a close"),
    }
}

/// The sessions of a user, once there are so many.
async fn sessions(node: &Node, user: &str, count: usize) -> Vec<SessionId> {
    let user = [UserName::new(user).unwrap()];
    loop {
        let found = node.presence.lookup(&user).await.unwrap();
        let sessions = found.sessions_of(&user[0]);
        if sessions.len() == count {
            return sessions.iter().map(|session| session.id.clone()).collect();
        }
        tokio::task::yield_now().await;
    }
}

fn content(body: impl Into<bytes::Bytes>) -> Content {
    Content { id: MessageId::new(), headers: vec![("a".into(), "b".into())], body: body.into() }
}

fn outbound(body: impl Into<bytes::Bytes>) -> Outbound {
    let (path, audience) = ("/queue/whatever".into(), Vec::new());
    Outbound { path, audience, content: content(body), persistent: false }
}

#[tokio::test]
async fn what_it_says_is_answered_and_reaches_clients_that_speak_stomp() {
    let node = node().await;
    let mut stomp = node.connect().await;
    stomp.subscribe("1", "/topic/said").await;
    let mut plain = connect(&node, "").await;
    plain.send_text("hello").await;
    assert_eq!(text(&mut plain).await, "hello");
    assert_eq!(stomp.body().await, "hello");
    plain.send_binary(&b"\xff\x00"[..]).await;
    assert_eq!(next(&mut plain).await, Message::binary(&b"\xff\x00"[..]));
    // What goes wrong it is told, and goes on.
    plain.send_text("bad").await;
    assert_eq!(text(&mut plain).await, "say it well");
    plain.send_text("good").await;
    assert_eq!(text(&mut plain).await, "good");
}

#[tokio::test]
async fn what_is_sent_to_its_session_user_groups_or_to_all_reaches_it() {
    let node = node().await;
    let group = GroupName::new("dev").unwrap();
    let late = GroupName::new("late").unwrap();
    let ann = UserName::new("ann").unwrap();
    let member = [Member::User(ann.clone())];
    node.presence.add(&group, &member, None).await.unwrap();
    let mut plain = connect(&node, "?login=ann").await;
    let id = sessions(&node, "ann", 1).await.remove(0);
    let router = &node.router;
    let to_session = router.to_sessions(SERVICE, &[id], &outbound("session")).await.unwrap();
    to_session.confirm.await.unwrap();
    assert_eq!(text(&mut plain).await, "session");
    let to_user =
        router.to_users(SERVICE, std::slice::from_ref(&ann), &outbound("user")).await.unwrap();
    to_user.confirm.await.unwrap();
    assert_eq!(text(&mut plain).await, "user");
    router.to_all(SERVICE, &outbound(&b"\xfe"[..])).await.unwrap().await.unwrap();
    assert_eq!(next(&mut plain).await, Message::binary(&b"\xfe"[..]));
    // It joined when it came; nothing says when that is done but that it hears.
    let send = async |group: &GroupName, body: &'static str| {
        router.to_group(SERVICE, group, content(body), false).await.unwrap().await.unwrap();
    };
    loop {
        send(&group, "group").await;
        let heard = tokio::time::timeout(Duration::from_millis(50), plain.socket.next()).await;
        if let Ok(message) = heard {
            assert_eq!(message.unwrap().unwrap(), Message::text("group"));
            break;
        }
    }
    // A group that it is added to later.
    node.presence.add(&late, &member, None).await.unwrap();
    let members = vec![Target::User(ann.clone())];
    let grant = Letter::Grant { group: late.clone(), members: members.clone() };
    router.tell_all(SERVICE, &grant).await.unwrap().await.unwrap();
    let heard = loop {
        send(&late, "late").await;
        let heard = tokio::time::timeout(Duration::from_millis(50), async {
            loop {
                match text(&mut plain).await {
                    again if again == "group" => {}
                    other => return other,
                }
            }
        });
        if let Ok(heard) = heard.await {
            break heard;
        }
    };
    assert_eq!(heard, "late");
    // And one that it is removed from: the user's message comes behind, the group's never.
    node.presence.remove(&late, &member).await.unwrap();
    router.revoke(SERVICE, &late, members).await.unwrap().await.unwrap();
    send(&late, "removed").await;
    let sent = router.to_users(SERVICE, &[ann], &outbound("last")).await.unwrap();
    sent.confirm.await.unwrap();
    loop {
        match &*text(&mut plain).await {
            "late" => {}
            other => break assert_eq!(other, "last"),
        }
    }
}

#[tokio::test]
async fn services_choose_plain_sessions_by_an_attribute() {
    let node = node().await;
    let mut stomp = node.connect_named("ann").await;
    stomp.subscribe("1", "/user/queue/whatever").await;
    let mut plain = connect(&node, "?login=ann").await;
    sessions(&node, "ann", 2).await;
    let audience = vec![("plain".into(), "true".into())];
    let only_plain = Outbound { audience, ..outbound("plain") };
    node.router.to_all(SERVICE, &only_plain).await.unwrap().await.unwrap();
    node.router.to_all(SERVICE, &outbound("all")).await.unwrap().await.unwrap();
    assert_eq!(text(&mut plain).await, "plain");
    assert_eq!(text(&mut plain).await, "all");
    assert_eq!(stomp.body().await, "all");
}

#[tokio::test]
async fn a_token_comes_with_the_handshake_and_a_bad_one_closes_with_the_code_configured() {
    let text_of = format!("jwt_secret = '{SECRET}'\nfailure_delay = '0s'\nrules = 'open'");
    let access: access::Config = toml::from_str(&text_of).unwrap();
    let node = node_with(access, Config { unauthenticated_code: 1003, ..Config::default() }).await;
    let claims = serde_json::json!({ "sub": "ann" }).as_object().unwrap().clone();
    let signer = Signer::of_secret(&SECRET.into()).unwrap();
    let hour = Some(Duration::from_secs(3600));
    let token = signer.sign(claims, hour, SystemTime::now()).unwrap();
    let mut known = connect(&node, &format!("?access_token={token}")).await;
    known.send_text("hello").await;
    assert_eq!(text(&mut known).await, "hello");
    sessions(&node, "ann", 1).await;
    for query in ["", "?access_token=x", "?login=ann"] {
        let mut unknown = connect(&node, query).await;
        assert_eq!(closed(&mut unknown).await.0, 1003, "{query}");
    }
}

#[tokio::test]
async fn a_service_ends_it_with_a_reason() {
    let node = node().await;
    let mut plain = connect(&node, "?login=ann").await;
    let id = sessions(&node, "ann", 1).await.remove(0);
    let letter = Letter::Disconnect { of: vec![Target::Session(id)], reason: "go".into() };
    node.router.tell_all(SERVICE, &letter).await.unwrap().await.unwrap();
    assert_eq!(closed(&mut plain).await, (4403, "go".into()));
    drop(plain);
    sessions(&node, "ann", 0).await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_and_one_that_does_is_not() {
    let second = Duration::from_secs(1);
    let plain = Config { ping: Ping::Text, ping_interval: second, ..Config::default() };
    let node = node_with(open(), plain).await;
    let mut silent = connect(&node, "").await;
    let mut there = connect(&node, "").await;
    // Three intervals: a silent one would have been closed after two.
    for _ in 0..3 {
        let mut pinged = [next(&mut there).await, next(&mut there).await];
        pinged.sort_by_key(Message::is_text);
        assert!(pinged[0].is_ping(), "{pinged:?}");
        assert_eq!(pinged[1], Message::text("ping"));
        // Not handed to anybody.
        there.send_text("pong").await;
    }
    // It reads nothing until then, and so answers nothing.
    node.wait_for_metric("gateway_sessions", 1.0).await;
    assert!(timeout(silent.socket.next()).await.unwrap().unwrap().is_ping());
    there.send_text("still here").await;
    loop {
        match next(&mut there).await {
            Message::Text(text) if text == "ping" => {}
            Message::Text(text) => break assert_eq!(text, "still here"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_slow_handler_holds_up_its_session_alone() {
    let node = node().await;
    let mut plain = connect(&node, "").await;
    for _ in 0..200 {
        plain.send_text("slow").await;
    }
    let mut other = connect(&node, "").await;
    other.send_text("quick").await;
    assert_eq!(text(&mut other).await, "quick");
    plain.socket.close(None).await.unwrap();
}

#[tokio::test]
async fn without_an_application_it_is_told_so() {
    let none = Arc::new(application::NoApplication);
    let node = Node::start_plain(none, open(), Config::default()).await;
    let mut plain = connect(&node, "").await;
    plain.send_text("hello").await;
    let told = text(&mut plain).await;
    assert!(told.contains("nothing handles /app/plain"), "{told}");
}

#[tokio::test]
async fn a_message_that_rules_do_not_allow_ends_it() {
    let rule = "[[rules]]\nallow = 'send'\ndestination = '/app/other'\nwho = 'everyone'";
    let access: access::Config = toml::from_str(&format!("otherwise = 'deny'\n{rule}")).unwrap();
    let node = node_with(access, Config::default()).await;
    let mut plain = connect(&node, "").await;
    plain.send_text("hello").await;
    assert_eq!(closed(&mut plain).await.0, 4403);
}

#[tokio::test]
async fn a_node_that_stops_sends_it_away() {
    let mut node = node().await;
    let mut plain = connect(&node, "").await;
    plain.send_text("hello").await;
    assert_eq!(text(&mut plain).await, "hello");
    node.stop();
    assert_eq!(closed(&mut plain).await.0, 1001);
    drop(plain);
    node.stopped().await;
}

#[tokio::test]
async fn stomp_is_spoken_at_its_own_path_only() {
    let node = node().await;
    let mut plain = connect(&node, "").await;
    plain.send_text("CONNECT\naccept-version:1.2\n\n\0").await;
    assert_eq!(text(&mut plain).await, "CONNECT\naccept-version:1.2\n\n\0");
    let mut stomp = node.open(&[]).await.unwrap();
    stomp.send_text("hello").await;
    assert_eq!(stomp.frame().await.command, Command::Error);
}
