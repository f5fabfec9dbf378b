//! What is stored for users: who gets it, in which order, and what settles it.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use bytestring::ByteString;
use inbox::{Address, Appended, Count, Draft, Inbox, State};
use presence::{Boot, UserName};
use stomp::{Command, Frame, Version, header};
use support::{Client, Node, config, frame, timeout};
use tokio_tungstenite::tungstenite::Message;
use ulid::Ulid;

const PATH: &str = "/queue/news";

fn address(user: &str) -> Address {
    Address::of_user(UserName::new(user).unwrap(), PATH.into())
}

fn draft(body: &str) -> Draft {
    Draft::new(Boot::generate(), Bytes::copy_from_slice(body.as_bytes()))
}

/// A service stores a message for `user`.
async fn store(node: &Node, user: &str, body: &str) -> Ulid {
    let draft = draft(body);
    let appended = node.dispatcher.append(&[address(user)], &draft).await.unwrap();
    assert!(matches!(appended[..], [Appended::Stored { .. }]), "{appended:?}");
    draft.id
}

async fn store_all(node: &Node, user: &str, bodies: &[&str]) {
    for body in bodies {
        store(node, user, body).await;
    }
}

async fn count(node: &Node, user: &str) -> Count {
    node.dispatcher.inbox().count(&address(user)).await.unwrap()
}

/// Waits until nothing is in the inbox of `user`.
async fn until_empty(node: &Node, user: &str) {
    timeout(async {
        while count(node, user).await.messages() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until a message stands so.
async fn until(node: &Node, user: &str, id: Ulid, state: State) {
    timeout(async {
        loop {
            let status = node.dispatcher.inbox().status(&address(user), &[id]).await.unwrap();
            if status[0].is_some_and(|status| status.state == state) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The next message: its body, whether it is marked, and by what it is acknowledged.
async fn next(client: &mut Client) -> (String, bool, Option<ByteString>) {
    let frame = client.frame().await;
    assert_eq!(frame.command, Command::Message, "{frame:?}");
    assert_eq!(frame.header(header::DESTINATION).unwrap(), "/user/queue/news");
    let marked = frame.header(header::REDELIVERED).is_some_and(|value| **value == *"true");
    let ack = frame.header(header::ACK).cloned();
    (String::from_utf8(frame.body.to_vec()).unwrap(), marked, ack)
}

async fn bodies(client: &mut Client, count: usize) -> Vec<(String, bool)> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let (body, marked, _) = next(client).await;
        bodies.push((body, marked));
    }
    bodies
}

fn fresh(bodies: &[&str]) -> Vec<(String, bool)> {
    bodies.iter().map(|body| ((*body).to_owned(), false)).collect()
}

fn marked(bodies: &[&str]) -> Vec<(String, bool)> {
    bodies.iter().map(|body| ((*body).to_owned(), true)).collect()
}

async fn settle(client: &mut Client, command: Command, token: &str, more: &[(&'static str, &str)]) {
    let mut headers = vec![(header::ID, token)];
    headers.extend(more);
    client.ask(command, &headers).await;
}

#[tokio::test]
async fn what_was_stored_while_a_user_was_away_comes_in_order_and_then_what_is_stored_live() {
    let node = Node::start(config()).await;
    store_all(&node, "ann", &["1", "2", "3"]).await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe("s", "/user/queue/news").await;
    assert_eq!(bodies(&mut ann, 3).await, fresh(&["1", "2", "3"]));
    store_all(&node, "ann", &["4", "5"]).await;
    assert_eq!(bodies(&mut ann, 2).await, fresh(&["4", "5"]));
    until_empty(&node, "ann").await;
    let mut again = node.connect_named("ann").await;
    again.subscribe("s", "/user/queue/news").await;
    store(&node, "ann", "6").await;
    let (body, ..) = next(&mut again).await;
    assert_eq!(body, "6", "what was written is settled");
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_marked_at_any_session_and_what_is_does_not() {
    let node = Node::start(config()).await;
    store_all(&node, "ann", &["1", "2", "3"]).await;
    let mut first = node.connect_named("ann").await;
    first.subscribe_with("s", "/user/queue/news", &[("ack", "client-individual")]).await;
    assert_eq!(next(&mut first).await.0, "1");
    let (body, _, token) = next(&mut first).await;
    assert_eq!(body, "2");
    assert_eq!(next(&mut first).await.0, "3");
    settle(&mut first, Command::Ack, &token.unwrap(), &[]).await;
    drop(first);
    let mut second = node.connect_named("ann").await;
    second.subscribe_with("s", "/user/queue/news", &[("ack", "client")]).await;
    let (body, is_marked, _) = next(&mut second).await;
    assert_eq!((&*body, is_marked), ("1", true));
    let (body, is_marked, token) = next(&mut second).await;
    assert_eq!((&*body, is_marked), ("3", true));
    settle(&mut second, Command::Ack, &token.unwrap(), &[]).await;
    until_empty(&node, "ann").await;
}

#[tokio::test]
async fn every_session_of_the_user_gets_what_is_stored_while_it_is_there() {
    let node = Node::start(config()).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let mut session = node.connect_named("ann").await;
        session.subscribe("s", "/user/queue/news").await;
        sessions.push(session);
    }
    let sent: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    for body in &sent {
        store(&node, "ann", body).await;
    }
    let mut unmarked = 0;
    for session in &mut sessions {
        let got = bodies(session, sent.len()).await;
        unmarked += got.iter().filter(|(_, marked)| !marked).count();
        let got: Vec<_> = got.into_iter().map(|(body, _)| body).collect();
        assert_eq!(got, sent);
    }
    assert!(unmarked <= sent.len(), "a user gets each once unmarked: {unmarked}");
    until_empty(&node, "ann").await;
}

#[tokio::test]
async fn what_is_refused_comes_again_until_it_has_failed() {
    let limits = inbox::Config {
        retry: Duration::from_millis(20),
        max_attempts: 3,
        ..inbox::Config::default()
    };
    let node = Node::start_storing(limits).await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe_with("s", "/user/queue/news", &[("ack", "client-individual")]).await;
    let id = store(&node, "ann", "poison").await;
    for attempt in 0..3 {
        let (body, is_marked, token) = next(&mut ann).await;
        assert_eq!((&*body, is_marked), ("poison", attempt > 0));
        settle(&mut ann, Command::Nack, &token.unwrap(), &[]).await;
    }
    until(&node, "ann", id, State::Failed).await;
    let id = store(&node, "ann", "unwanted").await;
    let (_, _, token) = next(&mut ann).await;
    settle(&mut ann, Command::Nack, &token.unwrap(), &[("requeue", "false")]).await;
    until(&node, "ann", id, State::Failed).await;
    until_empty(&node, "ann").await;
}

#[tokio::test]
async fn what_has_failed_goes_where_the_configuration_says_and_tells_whose_it_was() {
    let limits = inbox::Config {
        keeps_failed: true,
        dead_letter: "/queue/dead".to_owned(),
        ..inbox::Config::default()
    };
    let node = Node::start_storing(limits).await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe_with("s", "/user/queue/news", &[("ack", "client-individual")]).await;
    let id = store(&node, "ann", "unwanted").await;
    let (_, _, token) = next(&mut ann).await;
    settle(&mut ann, Command::Nack, &token.unwrap(), &[("requeue", "false")]).await;
    let mut operator = node.connect().await;
    operator.subscribe("d", "/queue/dead").await;
    let dead = operator.frame().await;
    assert_eq!(
        (&*dead.body, dead.header("inbox-user").map(|user| &**user)),
        (&b"unwanted"[..], Some("ann"))
    );
    assert_eq!(dead.header("inbox-destination").unwrap(), PATH);
    assert_eq!(dead.header("inbox-attempts").unwrap(), "1");
    assert_eq!(dead.header(header::MESSAGE_ID).unwrap(), &*id.to_string());
    until_empty(&node, "ann").await;
}

#[tokio::test]
async fn a_client_holds_no_more_than_it_asked_for() {
    let node = Node::start(config()).await;
    store_all(&node, "ann", &["1", "2", "3", "4"]).await;
    let mut ann = node.connect_named("ann").await;
    let two = [("ack", "client"), ("prefetch-count", "2")];
    ann.subscribe_with("s", "/user/queue/news", &two).await;
    next(&mut ann).await;
    let (_, _, token) = next(&mut ann).await;
    // Were there more, it would come before the receipt.
    ann.ask(Command::Begin, &[(header::TRANSACTION, "t")]).await;
    assert_eq!(count(&node, "ann").await.delivered, 2);
    settle(&mut ann, Command::Ack, &token.unwrap(), &[]).await;
    assert_eq!(bodies(&mut ann, 2).await, fresh(&["3", "4"]));
}

#[tokio::test]
async fn clients_of_older_versions_acknowledge_by_message() {
    let node = Node::start(config()).await;
    store_all(&node, "ann", &["1", "2"]).await;
    let mut ann = node.open(&[]).await.unwrap();
    ann.send_text("CONNECT\naccept-version:1.1\nlogin:ann\n\n\0").await;
    assert_eq!(ann.frame().await.header(header::VERSION).unwrap(), Version::V1_1.as_str());
    ann.subscribe_with("s", "/user/queue/news", &[("ack", "client")]).await;
    ann.frame().await;
    let second = ann.frame().await;
    let id = second.header(header::MESSAGE_ID).unwrap().to_string();
    ann.ask(Command::Ack, &[(header::MESSAGE_ID, &*id), (header::SUBSCRIPTION, "s")]).await;
    until_empty(&node, "ann").await;
}

#[tokio::test]
async fn a_client_may_store_for_another_and_may_not_for_one_that_has_enough() {
    let limits = inbox::Config {
        max_messages: 2,
        durable: vec!["/queue/alerts/*".to_owned()],
        ..inbox::Config::default()
    };
    let node = Node::start_storing(limits).await;
    let mut bob = node.connect_named("bob").await;
    let to = "/user/ann/queue/news";
    for body in ["1", "2"] {
        let persistent = frame(
            Command::Send,
            &[(header::DESTINATION, to), ("persistent", "true"), (header::RECEIPT, "r")],
        );
        bob.send(persistent.with_body(body)).await;
        assert_eq!(bob.frame().await.command, Command::Receipt);
    }
    // What says nothing of it is not stored, with a receipt or without.
    bob.publish_confirmed(to, "gone").await;
    // Where everything is stored nobody has to say it.
    bob.publish_confirmed("/user/ann/queue/alerts/fire", "stored").await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe("a", "/user/queue/alerts/fire").await;
    assert_eq!(ann.body().await, "stored");
    assert_eq!(count(&node, "ann").await.messages(), 2);
    let too_many = frame(Command::Send, &[(header::DESTINATION, to), ("persistent", "true")]);
    bob.send(too_many.with_body("3")).await;
    let (text, _, code) = bob.error().await;
    assert!(text.contains("inbox /queue/news of ann is full: 2 messages"), "{text}");
    assert_eq!(code, Some(4429));
    ann.subscribe("n", "/user/queue/news").await;
    assert_eq!(bodies(&mut ann, 2).await, fresh(&["1", "2"]));
}

#[tokio::test]
async fn a_session_without_stomp_gets_what_waits_for_its_user_wherever_it_is() {
    let node = Node::start(config()).await;
    let other = Address::of_user(UserName::new("ann").unwrap(), "/queue/other".into());
    store_all(&node, "ann", &["1", "2"]).await;
    node.dispatcher.append(&[other], &draft("other")).await.unwrap();
    let local = std::net::Ipv4Addr::LOCALHOST;
    let mut ann = node.open_from(local, "/plain?login=ann", &[]).await.unwrap();
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(plain(&mut ann).await);
    }
    got.sort();
    assert_eq!(got, ["1", "2", "other"]);
    store(&node, "ann", "live").await;
    assert_eq!(plain(&mut ann).await, "live");
    let new = Address::of_user(UserName::new("ann").unwrap(), "/queue/new".into());
    node.dispatcher.append(&[new], &draft("elsewhere")).await.unwrap();
    assert_eq!(plain(&mut ann).await, "elsewhere");
    until_empty(&node, "ann").await;
}

async fn plain(client: &mut Client) -> String {
    use futures_util::StreamExt;
    match timeout(client.socket.next()).await {
        Some(Ok(Message::Text(text))) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_scheduled_comes_when_it_is_due_and_what_has_expired_does_not() {
    let node = Node::start(config()).await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe("s", "/user/queue/news").await;
    let now = SystemTime::now();
    let later = Draft { deliver_at: Some(now + Duration::from_millis(600)), ..draft("later") };
    let appended = node.dispatcher.append(&[address("ann")], &later).await.unwrap();
    assert!(matches!(appended[..], [Appended::Scheduled { .. }]), "{appended:?}");
    store(&node, "ann", "now").await;
    assert_eq!(bodies(&mut ann, 2).await, fresh(&["now", "later"]));
    assert!(now.elapsed().unwrap() >= Duration::from_millis(600));
    let short = Draft { expires_at: Some(now + Duration::from_secs(2)), ..draft("short") };
    node.dispatcher.append(&[address("bob")], &short).await.unwrap();
    until(&node, "bob", short.id, State::Expired).await;
    store(&node, "bob", "after").await;
    let mut bob = node.connect_named("bob").await;
    bob.subscribe("s", "/user/queue/news").await;
    assert_eq!(next(&mut bob).await.0, "after");
}

#[tokio::test]
async fn unsubscribing_gives_back_and_a_receipt_speaks_for_one_subscription() {
    let node = Node::start(config()).await;
    store(&node, "ann", "1").await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe_with("s", "/user/queue/news", &[("ack", "client")]).await;
    let (_, _, token) = next(&mut ann).await;
    ann.ask(Command::Unsubscribe, &[(header::ID, "s")]).await;
    // What crossed with it is accepted and settles nothing.
    settle(&mut ann, Command::Ack, &token.unwrap(), &[]).await;
    ann.subscribe_with("t", "/user/queue/news", &[("ack", "client")]).await;
    assert_eq!(bodies(&mut ann, 1).await, marked(&["1"]));
    node.wait_for_metric("gateway_subscriptions", 1.0).await;
}

#[tokio::test]
async fn long_messages_come_whole_and_in_order() {
    let node = Node::start(config()).await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe("s", "/user/queue/news").await;
    for n in 0..20_u8 {
        let body = vec![b'a' + n; 200_000];
        let draft = Draft::new(Boot::generate(), body);
        node.dispatcher.append(&[address("ann")], &draft).await.unwrap();
    }
    for n in 0..20_u8 {
        let message: Frame = ann.frame().await;
        assert_eq!(message.body.len(), 200_000);
        assert!(message.body.iter().all(|byte| *byte == b'a' + n));
    }
    until_empty(&node, "ann").await;
}

#[tokio::test]
async fn nobody_in_particular_is_known_to_no_store() {
    let node = Node::start(config()).await;
    let _nobody = node.connect_anonymous().await;
    let _ann = node.connect_named("ann").await;
    let inbox: &Arc<dyn Inbox> = node.dispatcher.inbox();
    let known = inbox.known(&presence::PageRequest::first(10)).await.unwrap().items;
    assert_eq!(known, [UserName::new("ann").unwrap()]);
}
