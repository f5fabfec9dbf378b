//! Destinations of users: who gets what is sent to a user or a session, and what clients see of it.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use access::rules::Config as Rules;
use broker::MessageId;
use broker_embedded::EmbeddedBroker;
use cluster::{Content, Letter, Outbound, Target};
use gateway::Config;
use presence::{Presence, UserName};
use stomp::{Command, Frame, header};
use support::{Client, Node, SERVICE, config, frame};

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn outbound(path: &str, body: &str) -> Outbound {
    Outbound {
        path: path.into(),
        audience: Vec::new(),
        content: Content {
            id: MessageId::new(),
            headers: vec![("kind".into(), "news".into())],
            body: body.to_owned().into(),
        },
        persistent: false,
    }
}

/// A service sends to users: how many sessions and nodes it reached.
async fn send(node: &Node, users: &[&str], outbound: &Outbound) -> (usize, usize) {
    let users: Vec<_> = users.iter().map(|name| user(name)).collect();
    let sent = node.router.to_users(SERVICE, &users, outbound).await.unwrap();
    sent.confirm.await.unwrap();
    (sent.sessions, sent.nodes)
}

async fn order(node: &Node, letter: &Letter) {
    node.router.tell_all(SERVICE, letter).await.unwrap().await.unwrap();
}

fn shown(message: &Frame) -> (String, String, String) {
    let text = |name| message.header(name).map(|value| value.to_string()).unwrap_or_default();
    let body = str::from_utf8(&message.body).unwrap().to_owned();
    (text(header::SUBSCRIPTION), text(header::DESTINATION), body)
}

fn message(subscription: &str, destination: &str, body: &str) -> (String, String, String) {
    (subscription.into(), destination.into(), body.into())
}

/// The next frame, which is a message.
async fn next(client: &mut Client) -> (String, String, String) {
    let frame = client.frame().await;
    assert_eq!(frame.command, Command::Message, "{frame:?}");
    shown(&frame)
}

async fn refused(client: &mut Client) -> (String, u16) {
    let (text, _, code) = client.error().await;
    (text, code.unwrap())
}

#[tokio::test]
async fn every_session_of_a_user_gets_a_message_once_and_sees_the_destination_it_subscribed_to() {
    let node = Node::start(config()).await;
    let mut first = node.connect_named("ann").await;
    let mut second = node.connect_named("ann").await;
    let mut other = node.connect_named("bob").await;
    for client in [&mut first, &mut second, &mut other] {
        client.subscribe("1", "/user/queue/news").await;
        client.subscribe("2", "/user/queue/other").await;
    }
    assert_eq!(send(&node, &["ann"], &outbound("/queue/news", "one")).await, (2, 1));
    assert_eq!(send(&node, &["ann", "bob", "eve"], &outbound("/queue/other", "two")).await, (3, 1));
    for client in [&mut first, &mut second] {
        assert_eq!(next(client).await, message("1", "/user/queue/news", "one"));
    }
    for client in [&mut first, &mut second, &mut other] {
        assert_eq!(next(client).await, message("2", "/user/queue/other", "two"));
    }
}

#[tokio::test]
async fn a_session_is_reached_alone_by_its_id_and_so_is_one_without_a_user() {
    let node = Node::start(config()).await;
    let mut first = node.connect_named("ann").await;
    let mut second = node.connect_named("ann").await;
    for client in [&mut first, &mut second] {
        client.subscribe("1", "/user/queue/x").await;
    }
    let to_it = outbound("/queue/x", "for one");
    let sent = node.router.to_sessions(SERVICE, &[second.session()], &to_it).await.unwrap();
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain), (1, 1, 0));
    assert_eq!(next(&mut second).await.2, "for one");
    let to_all = outbound("/queue/x", "for all");
    node.router.to_all(SERVICE, &to_all).await.unwrap().await.unwrap();
    assert_eq!(next(&mut second).await.2, "for all");
    assert_eq!(next(&mut first).await.2, "for all");
    let mut nobody = node.connect_anonymous().await;
    nobody.subscribe("1", "/user/queue/x").await;
    let sent = node.router.to_sessions(SERVICE, &[nobody.session()], &to_it).await.unwrap();
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain), (1, 1, 0));
    assert_eq!(next(&mut nobody).await.2, "for one");
    // Many are called so, and none of them is.
    assert_eq!(send(&node, &["anonymous"], &to_it).await, (0, 0));
}

#[tokio::test]
async fn one_that_is_named_by_user_and_session_gets_a_message_once() {
    let node = Node::start(config()).await;
    let mut client = node.connect_named("ann").await;
    client.subscribe("1", "/user/queue/x").await;
    let both = vec![Target::Session(client.session()), Target::User(user("ann")), Target::All];
    let Outbound { path, audience, content, .. } = outbound("/queue/x", "once");
    for to in [both[..2].to_vec(), both] {
        let addressed = cluster::Addressed {
            to,
            path: path.clone(),
            audience: audience.clone(),
            content: content.clone(),
        };
        order(&node, &Letter::Message(addressed)).await;
    }
    send(&node, &["ann"], &outbound("/queue/x", "last")).await;
    // What comes to all and what comes to one may overtake each other.
    let mut bodies = Vec::new();
    while bodies.len() < 3 {
        bodies.push(next(&mut client).await.2);
    }
    bodies.sort();
    assert_eq!(bodies, ["last", "once", "once"]);
}

#[tokio::test]
async fn a_client_sends_to_users_and_to_sessions() {
    let node = Node::start(config()).await;
    let mut ann = node.connect_named("ann").await;
    let mut bob = node.connect_named("bob").await;
    bob.subscribe("1", "/user/queue/x").await;
    ann.publish_confirmed("/user/bob/queue/x", "by name").await;
    let by_id = format!("/user/{}/queue/x", bob.session());
    ann.publish_confirmed(&by_id, "by id").await;
    ann.publish_confirmed("/user/nobody/queue/x", "lost").await;
    // It names no node that there is, so it is a name.
    ann.publish_confirmed(&format!("/user/{}/queue/x", "0".repeat(30)), "lost").await;
    assert_eq!(next(&mut bob).await, message("1", "/user/queue/x", "by name"));
    assert_eq!(next(&mut bob).await, message("1", "/user/queue/x", "by id"));
}

#[tokio::test]
async fn an_audience_is_chosen_by_attributes() {
    let config = Config { attribute_claims: vec!["tenant".into(), "roles".into()], ..config() };
    let secret = "a secret that is long enough: 32 bytes.";
    let access: access::Config = toml::from_str(&format!("jwt_secret = '{secret}'")).unwrap();
    let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
    let node = Node::start_for(access, broker, config, stomp::Config::default()).await;
    let signer = access::token::Signer::of_secret(&secret.into()).unwrap();
    let mut clients = Vec::new();
    for (tenant, roles) in [("a", vec!["boss"]), ("a", vec![]), ("b", vec!["boss", "cook"])] {
        let claims = serde_json::json!({ "sub": "ann", "tenant": tenant, "roles": roles });
        let claims = claims.as_object().unwrap().clone();
        let hour = Some(Duration::from_secs(3600));
        let token = signer.sign(claims, hour, std::time::SystemTime::now()).unwrap();
        let mut client = node.open(&[("authorization", &format!("Bearer {token}"))]).await.unwrap();
        client.send_text("CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0").await;
        assert_eq!(client.frame().await.command, Command::Connected);
        client.subscribe("1", "/user/queue/x").await;
        clients.push(client);
    }
    let audience = |pairs: &[(&'static str, &'static str)], body| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Outbound { audience: pairs.collect(), ..outbound("/queue/x", body) }
    };
    let bosses = audience(&[("roles", "boss")], "bosses");
    assert_eq!(send(&node, &["ann"], &bosses).await, (2, 1));
    let bosses_of_a = audience(&[("roles", "boss"), ("tenant", "a")], "bosses of a");
    assert_eq!(send(&node, &["ann"], &bosses_of_a).await, (1, 1));
    assert_eq!(send(&node, &["ann"], &audience(&[("none", "")], "nobody")).await, (0, 0));
    send(&node, &["ann"], &outbound("/queue/x", "all")).await;
    for (client, expected) in clients.iter_mut().zip([
        &["bosses", "bosses of a", "all"][..],
        &["all"],
        &["bosses", "all"],
    ]) {
        for body in expected {
            assert_eq!(next(client).await.2, *body);
        }
    }
}

#[tokio::test]
async fn nobody_subscribes_to_another_users_destination() {
    let node = Node::start(config()).await;
    for destination in ["/user/bob/queue/x", "/user//queue/x", "/user/queue/*", "/user/topic/#"] {
        let mut client = node.connect_named("ann").await;
        client.tell(Command::Subscribe, &[("id", "1"), ("destination", destination)]).await;
        let (text, code) = refused(&mut client).await;
        assert_eq!(code, 1002, "{destination}: {text}");
    }
}

#[tokio::test]
async fn a_user_is_in_presence_from_connected_to_its_last_sessions_end() {
    let node = Node::start(config()).await;
    let first = node.connect_named("ann").await;
    let mut second = node.connect_named("ann").await;
    let ann = [user("ann")];
    let found = node.presence.lookup(&ann).await.unwrap();
    let mut ids: Vec<_> =
        found.sessions_of(&ann[0]).iter().map(|session| session.id.clone()).collect();
    let mut expected = vec![first.session(), second.session()];
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    assert!(found.sessions_of(&ann[0]).iter().all(|session| session.address == "127.0.0.1"));
    drop(first);
    second.ask(Command::Disconnect, &[]).await;
    for _ in 0.. {
        if node.presence.lookup(&ann).await.unwrap().sessions_of(&ann[0]).is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_service_ends_sessions_and_subscriptions_and_bans_a_user() {
    let node = Node::start(config()).await;
    let mut ann = node.connect_named("ann").await;
    let mut bob = node.connect_named("bob").await;
    for client in [&mut ann, &mut bob] {
        client.subscribe("errors", "/user/queue/errors").await;
        client.subscribe("1", "/topic/a.b").await;
        client.subscribe("2", "/user/queue/x").await;
    }
    for destination in ["/topic/a/b", "/user/queue/x"] {
        order(
            &node,
            &Letter::Unsubscribe {
                of: vec![Target::User(user("bob"))],
                destination: destination.into(),
            },
        )
        .await;
        let note = bob.frame().await;
        assert_eq!(note.header("error").unwrap(), "unsubscribed", "{note:?}");
        assert_eq!(note.header(header::SUBSCRIPTION).unwrap(), "errors");
    }
    send(&node, &["ann", "bob"], &outbound("/queue/x", "for ann")).await;
    assert_eq!(next(&mut ann).await.2, "for ann");
    // Its id is free again.
    bob.subscribe("2", "/user/queue/x").await;
    send(&node, &["bob"], &outbound("/queue/x", "again")).await;
    assert_eq!(next(&mut bob).await, message("2", "/user/queue/x", "again"));

    node.presence.ban_for(&user("bob"), Duration::from_secs(60)).await.unwrap();
    let of = vec![Target::User(user("bob"))];
    order(&node, &Letter::Disconnect { of, reason: "you were rude".into() }).await;
    assert_eq!(refused(&mut bob).await, ("you were rude".into(), 4403));
    let mut again = node.open(&[]).await.unwrap();
    again.send_text("CONNECT\naccept-version:1.2\nlogin:bob\n\n\0").await;
    let (text, code) = refused(&mut again).await;
    assert!(text.contains("banned for another"), "{text}");
    assert_eq!(code, 4403);
    send(&node, &["ann"], &outbound("/queue/x", "undisturbed")).await;
    assert_eq!(next(&mut ann).await.2, "undisturbed");
}

#[tokio::test]
async fn a_user_has_no_more_sessions_than_it_may_have() {
    let node = Node::start(Config { max_user_sessions: 2, ..config() }).await;
    let _first = node.connect_named("ann").await;
    let second = node.connect_named("ann").await;
    let _other = node.connect_named("bob").await;
    let mut third = node.open(&[]).await.unwrap();
    third.send_text("CONNECT\naccept-version:1.2\nlogin:ann\n\n\0").await;
    let (text, code) = refused(&mut third).await;
    assert!(text.contains("max_user_sessions"), "{text}");
    assert_eq!(code, 4429);
    drop(second);
    node.wait_for_metric("gateway_sessions", 2.0).await;
    node.connect_named("ann").await;
}

#[tokio::test]
async fn acknowledging_a_users_messages_is_accepted() {
    let node = Node::start(config()).await;
    let mut client = node.connect_named("ann").await;
    client.subscribe_with("1", "/user/queue/x", &[("ack", "client")]).await;
    send(&node, &["ann"], &outbound("/queue/x", "one")).await;
    let one = client.frame().await;
    let token = one.header(header::ACK).unwrap().to_string();
    client.send(frame(Command::Ack, &[(header::ID, &token), (header::RECEIPT, "r")])).await;
    assert_eq!(client.frame().await.command, Command::Receipt);
}

#[tokio::test]
async fn by_default_a_client_hears_its_own_user_and_sends_to_none() {
    let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
    let node = Node::start_by(Rules::Default, broker, config(), stomp::Config::default()).await;
    let mut client = node.connect().await;
    client.subscribe("1", "/user/queue/x").await;
    client.tell(Command::Send, &[("destination", "/user/bob/queue/x")]).await;
    assert_eq!(refused(&mut client).await.1, 4403);
}
