//! Clients, holders of tokens and neighbours in the broker that mean harm to users and groups.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::destination::Topic;
use broker::{Broker, Destination, Message, MessageId};
use broker_embedded::EmbeddedBroker;
use bytes::Bytes;
use cluster::{Addressed, Content, Letter, Outbound, Target};
use futures_util::future::join_all;
use gateway::Config;
use presence::{GroupName, Groups, Member, Presence, UserName};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use stomp::{Command, header};
use support::{Client, Node, SERVICE, config, frame};

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn content(body: impl Into<Bytes>) -> Content {
    Content { id: MessageId::new(), headers: Vec::new(), body: body.into() }
}

fn outbound(path: &str, body: impl Into<Bytes>) -> Outbound {
    Outbound { path: path.into(), audience: Vec::new(), content: content(body), persistent: false }
}

async fn send(node: &Node, name: &str, path: &str, body: impl Into<Bytes>) {
    let sent = node.router.to_users(SERVICE, &[user(name)], &outbound(path, body)).await.unwrap();
    sent.confirm.await.unwrap();
}

async fn send_to_group(node: &Node, group: &str, body: &str) {
    let (group, content) = (GroupName::new(group).unwrap(), content(body.to_owned()));
    node.router.to_group(SERVICE, &group, content, false).await.unwrap().await.unwrap();
}

/// The close code that a SUBSCRIBE is answered with.
async fn subscribing_is_refused(node: &Node, name: &str, destination: &str) -> u16 {
    let mut client = node.connect_named(name).await;
    client.tell(Command::Subscribe, &[("id", "1"), ("destination", destination)]).await;
    client.error().await.2.unwrap()
}

/// Waits until presence knows so many sessions of a user.
async fn has_sessions(node: &Node, name: &str, count: usize) {
    let name = user(name);
    support::timeout(async {
        let users = [name.clone()];
        while node.presence.lookup(&users).await.unwrap().sessions_of(&name).len() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_nodes_have_among_themselves_is_no_destination() {
    let node = Node::start(config()).await;
    for destination in ["/~nodes/all", "/~nodes/#", "/~groups/dev", "/~to/user.bob", "/~events/#"] {
        assert_eq!(subscribing_is_refused(&node, "eve", destination).await, 1002, "{destination}");
        let mut client = node.connect_named("eve").await;
        client.tell(Command::Send, &[("destination", destination)]).await;
        assert_eq!(client.error().await.2, Some(1002), "{destination}");
    }
    // Topics that are called alike are others.
    let mut eve = node.connect_named("eve").await;
    for (id, destination) in [
        ("1", "/topic/#"),
        ("2", "/topic/~nodes.#"),
        ("3", "/topic/~groups/dev"),
        ("4", "/queue/~nodes"),
    ] {
        eve.subscribe(id, destination).await;
    }
    let mut bob = node.connect_named("bob").await;
    node.presence
        .add(&GroupName::new("dev").unwrap(), &[Member::User(user("bob"))], None)
        .await
        .unwrap();
    bob.subscribe("1", "/user/queue/x").await;
    bob.subscribe("2", "/group/dev").await;
    send(&node, "bob", "/queue/x", "for bob").await;
    send_to_group(&node, "dev", "for members").await;
    for _ in 0..2 {
        bob.body().await;
    }
    eve.publish("/topic/last", "last").await;
    assert_eq!(eve.body().await, "last");
}

#[tokio::test]
async fn a_group_is_one_name_whatever_is_in_it() {
    let node = Node::start(config()).await;
    let names = ["*", "#", "a.b", "a", "b", "a/b", "%2A", "a%2Eb", "**", "a.*"];
    let mut members = Vec::new();
    for (number, group) in names.iter().enumerate() {
        let name = format!("member{number}");
        let member = Member::User(user(&name));
        node.presence.add(&GroupName::new(*group).unwrap(), &[member], None).await.unwrap();
        let mut client = node.connect_named(&name).await;
        client.subscribe("1", &format!("/group/{}", group.replace('/', "%2F"))).await;
        members.push(client);
        // Nobody else's.
        for other in names.iter().filter(|other| *other != group) {
            let other = format!("/group/{}", other.replace('/', "%2F"));
            assert_eq!(subscribing_is_refused(&node, &name, &other).await, 4403, "{group} {other}");
        }
    }
    for group in names {
        send_to_group(&node, group, group).await;
    }
    for (group, member) in names.iter().zip(&mut members) {
        assert_eq!(member.body().await, *group);
    }
    for round in names {
        send_to_group(&node, round, "last").await;
    }
    for member in &mut members {
        assert_eq!(member.body().await, "last");
    }
    for destination in [
        format!("/group/{}", "x".repeat(600)),
        format!("/group/{}", "*".repeat(86)),
        "/group/a/b".into(),
        "/group/".into(),
    ] {
        assert_eq!(subscribing_is_refused(&node, "eve", &destination).await, 1002, "{destination}");
        let mut client = node.connect_named("eve").await;
        client.tell(Command::Send, &[("destination", &destination)]).await;
        assert_eq!(client.error().await.2, Some(1002), "{destination}");
    }
}

#[tokio::test]
async fn each_of_a_sessions_subscriptions_to_one_destination_gets_a_message_once() {
    let node = Node::start(config()).await;
    let mut client = node.connect_named("ann").await;
    client.subscribe("1", "/user/queue/x").await;
    client.subscribe("2", "/user/queue/x").await;
    send(&node, "ann", "/queue/x", "twice").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let message = client.frame().await;
        assert_eq!(&message.body[..], b"twice");
        ids.push(message.header(header::SUBSCRIPTION).unwrap().to_string());
    }
    ids.sort();
    assert_eq!(ids, ["1", "2"]);
    client.ask(Command::Unsubscribe, &[("id", "1")]).await;
    send(&node, "ann", "/queue/x", "once").await;
    send(&node, "ann", "/queue/x", "last").await;
    assert_eq!([client.body().await, client.body().await], ["once", "last"]);
}

#[tokio::test]
async fn a_users_name_that_is_a_sessions_id_reaches_nothing_of_the_session() {
    let node = Node::start(config()).await;
    let mut victim = node.connect_named("ann").await;
    victim.subscribe("1", "/user/queue/x").await;
    let id = victim.session();
    let mut impostor = node.connect_named(id.as_str()).await;
    impostor.subscribe("1", "/user/queue/x").await;
    let mut sender = node.connect_named("bob").await;
    sender.publish_confirmed(&format!("/user/{id}/queue/x"), "for the session").await;
    send(&node, id.as_str(), "/queue/x", "for the user of that name").await;
    let to_session = outbound("/queue/x", "last");
    let sent =
        node.router.to_sessions(SERVICE, std::slice::from_ref(&id), &to_session).await.unwrap();
    assert_eq!((sent.sessions, sent.nodes), (1, 1));
    assert_eq!(victim.body().await, "for the session");
    assert_eq!(victim.body().await, "last");
    assert_eq!(impostor.body().await, "for the user of that name");
    // Nor is it in a group by it.
    let group = GroupName::new("dev").unwrap();
    node.presence.add(&group, &[Member::Session(id)], None).await.unwrap();
    victim.subscribe("2", "/group/dev").await;
    impostor.tell(Command::Subscribe, &[("id", "2"), ("destination", "/group/dev")]).await;
    assert_eq!(impostor.error().await.2, Some(4403));
}

#[tokio::test]
async fn nonsense_in_the_place_of_letters_harms_nobody() {
    let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
    let stomp = stomp::Config { max_frames_per_second: 0, ..stomp::Config::default() };
    let node = Node::start_over(Arc::<EmbeddedBroker>::clone(&broker), config(), stomp).await;
    let mut ann = node.connect_named("ann").await;
    ann.subscribe("1", "/user/queue/x").await;
    ann.subscribe("2", "/topic/a").await;
    let boot = node.presence.boot().to_string();
    let publish = async |key: &str, body: Bytes| {
        let topic = Topic::exact("/~nodes".into(), key.to_owned().into());
        let message = Message::new(Destination::Topic(topic), body);
        broker.publish(SERVICE, message).await.unwrap().await.unwrap();
    };
    let addressed = |to, path: &str| {
        let addressed = Addressed {
            to,
            path: path.to_owned().into(),
            audience: Vec::new(),
            content: content("x"),
        };
        Letter::Message(addressed).write()
    };
    let mut bodies = vec![
        Bytes::new(),
        Bytes::from_static(b"hello"),
        Bytes::from(vec![0xff; 100_000]),
        addressed(vec![], "/queue/x"),
        addressed(vec![Target::User(user("ann")); 1000], ""),
        addressed(vec![Target::All], "/queue/\0\n"),
        Letter::Unsubscribe { of: vec![Target::All], destination: "nonsense".into() }.write(),
        Letter::Unsubscribe { of: vec![Target::All], destination: "/topic/#.#".into() }.write(),
        Letter::Disconnect { of: vec![], reason: "x".into() }.write(),
        Letter::Revoke { group: GroupName::new("g").unwrap(), members: vec![] }.write(),
        Letter::GoodBye(node.presence.boot()).write(),
    ];
    // Letters of which a few bytes are others, from a seed that is always the same.
    let mut runner = TestRunner::deterministic();
    let whole = addressed(vec![Target::Session(ann.session())], "/queue/other");
    let changes = proptest::collection::vec((0..whole.len(), any::<u8>()), 1..6);
    for _ in 0..500 {
        let mut changed = whole.to_vec();
        for (at, byte) in changes.new_tree(&mut runner).unwrap().current() {
            changed[at] = byte;
        }
        bodies.push(changed.into());
    }
    for body in bodies {
        publish(&boot, body.clone()).await;
        publish("all", body.clone()).await;
        publish("roster", body).await;
    }
    send(&node, "ann", "/queue/x", "last").await;
    ann.publish("/topic/a", "still here").await;
    let mut got = [ann.body().await, ann.body().await];
    got.sort();
    assert_eq!(got, ["last", "still here"]);
}

#[tokio::test]
async fn headers_that_a_neighbour_makes_up_are_told_from_the_servers() {
    let node = Node::start(config()).await;
    let mut clients = Vec::new();
    for version in ["1.0", "1.1", "1.2"] {
        let mut client = node.connect_as(version).await;
        client.subscribe("1", "/user/queue/x").await;
        clients.push(client);
    }
    let evil = [
        ("subscription", "2"),
        ("a\nsubscription", "2\nmessage-id:evil\n\nbody\0"),
        ("destination", "/topic/other"),
        ("content-length", "1"),
        ("", "x"),
        (":", "x:y"),
    ];
    let headers = evil.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let content = Content { headers, ..content("the body") };
    let outbound = Outbound { content, ..outbound("/queue/x", "") };
    node.router.to_all(SERVICE, &outbound).await.unwrap().await.unwrap();
    for client in &mut clients {
        let message = client.frame().await;
        assert_eq!(&message.body[..], b"the body", "{message:?}");
        assert_eq!(message.header(header::SUBSCRIPTION).unwrap(), "1", "{message:?}");
        assert_eq!(message.header(header::DESTINATION).unwrap(), "/user/queue/x", "{message:?}");
        assert_ne!(message.header(header::MESSAGE_ID).unwrap(), "evil", "{message:?}");
    }
}

#[tokio::test]
async fn a_session_that_does_not_read_holds_up_no_other_of_its_user() {
    const MESSAGES: usize = 400;
    let config = Config { mailbox: bytesize::ByteSize::kib(256), ..config() };
    let node = Node::start(config).await;
    let mut idle = node.connect_named("ann").await;
    idle.subscribe("1", "/user/queue/x").await;
    let mut readers = Vec::new();
    for name in ["ann", "ann", "bob"] {
        let mut client = node.connect_named(name).await;
        client.subscribe("1", "/user/queue/x").await;
        readers.push(client);
    }
    let read = readers.iter_mut().map(async |client| {
        for n in 0..MESSAGES {
            let body = client.body().await;
            assert!(body.starts_with(&format!("{n} ")), "{n}");
        }
    });
    let publish = async {
        let both = [user("ann"), user("bob")];
        for n in 0..MESSAGES {
            let body = format!("{n} {}", "x".repeat(32 * 1024));
            let sent =
                node.router.to_users(SERVICE, &both, &outbound("/queue/x", body)).await.unwrap();
            sent.confirm.await.unwrap();
        }
    };
    tokio::join!(join_all(read), publish);
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"slow_consumer\"}", 1.0).await;
    has_sessions(&node, "ann", 2).await;
}

#[tokio::test]
async fn who_subscribes_and_unsubscribes_all_the_time_gets_messages_in_order_and_disturbs_nobody() {
    const MESSAGES: usize = 2000;
    let node = Node::start(config()).await;
    let mut steady = node.connect_named("ann").await;
    steady.subscribe("1", "/user/queue/x").await;
    let mut restless = node.connect_named("ann").await;
    let (done, mut over) = tokio::sync::oneshot::channel();
    let churn = async {
        let mut last = None;
        for round in 0.. {
            let id = format!("{}", round % 3);
            let mut subscribed = false;
            for command in [Command::Subscribe, Command::Unsubscribe] {
                let headers = [("id", &*id), ("destination", "/user/queue/x"), ("receipt", "r")];
                restless.send(frame(command, &headers)).await;
                loop {
                    let frame = restless.frame().await;
                    if frame.command == Command::Receipt {
                        subscribed = command == Command::Subscribe;
                        break;
                    }
                    assert_eq!(
                        frame.header(header::SUBSCRIPTION).unwrap(),
                        id.as_str(),
                        "{subscribed}"
                    );
                    let n: usize = str::from_utf8(&frame.body).unwrap().parse().unwrap();
                    assert!(last.is_none_or(|last| last < n), "{n} after {last:?}");
                    last = Some(n);
                }
            }
            if over.try_recv().is_ok() {
                break;
            }
        }
    };
    let read = async {
        for n in 0..MESSAGES {
            assert_eq!(steady.body().await, n.to_string());
        }
        done.send(()).unwrap();
    };
    let publish = async {
        for n in 0..MESSAGES {
            send(&node, "ann", "/queue/x", n.to_string()).await;
        }
    };
    tokio::join!(churn, read, publish);
    node.wait_for_metric("gateway_subscriptions", 1.0).await;
}

#[tokio::test]
async fn no_more_sessions_of_a_user_come_at_once_than_it_may_have() {
    let node = Node::start(Config { max_user_sessions: 5, ..config() }).await;
    let mut sockets = Vec::new();
    for _ in 0..40 {
        sockets.push(node.open(&[]).await.unwrap());
    }
    let answers = sockets.iter_mut().map(async |client: &mut Client| {
        client.send_text("CONNECT\naccept-version:1.2\nlogin:ann\n\n\0").await;
        client.frame().await.command
    });
    let answers = join_all(answers).await;
    let connected = answers.iter().filter(|answer| **answer == Command::Connected).count();
    assert_eq!(connected, 5);
    has_sessions(&node, "ann", 5).await;
    drop(sockets);
    has_sessions(&node, "ann", 0).await;
    node.connect_named("ann").await;
}

#[tokio::test]
async fn clients_that_go_in_the_middle_of_connecting_leave_nobody_behind() {
    let node = Node::start(config()).await;
    for round in 0..100 {
        let mut client = node.open(&[]).await.unwrap();
        client.send_text("CONNECT\naccept-version:1.2\nlogin:ann\n\n\0").await;
        if round % 2 == 0 {
            client.send_text("SUBSCRIBE\nid:1\ndestination:/user/queue/x\n\n\0").await;
        }
        drop(client);
    }
    node.wait_for_metric("gateway_sessions", 0.0).await;
    has_sessions(&node, "ann", 0).await;
    assert_eq!(node.metric("gateway_subscriptions"), 0.0);
}

#[tokio::test]
async fn nobody_slips_in_between_a_ban_and_the_end_of_its_sessions() {
    let node = Node::start(config()).await;
    let banned = std::sync::atomic::AtomicBool::new(false);
    let attacks = (0..8).map(async |_| {
        loop {
            let began_banned = banned.load(std::sync::atomic::Ordering::SeqCst);
            let mut client = node.open(&[]).await.unwrap();
            client.send_text("CONNECT\naccept-version:1.2\nlogin:bob\nheart-beat:0,0\n\n\0").await;
            match client.frame_or_close().await {
                Ok(frame) if frame.command == Command::Connected => {
                    assert!(!began_banned, "let in after the ban");
                    // Stays until it is ended.
                    let told = client.error().await;
                    assert_eq!((&*told.0, told.2), ("you were rude", Some(4403)));
                }
                Ok(frame) => assert_eq!(frame.command, Command::Error),
                Err(_) => {}
            }
            if began_banned {
                break;
            }
        }
    });
    let ban = async {
        node.wait_for_metric("gateway_sessions", 8.0).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        node.presence.ban_for(&user("bob"), Duration::from_secs(60)).await.unwrap();
        banned.store(true, std::sync::atomic::Ordering::SeqCst);
        let letter = Letter::Disconnect {
            of: vec![Target::User(user("bob"))],
            reason: "you were rude".into(),
        };
        node.router.tell_all(SERVICE, &letter).await.unwrap().await.unwrap();
    };
    tokio::join!(join_all(attacks), ban);
    node.wait_for_metric("gateway_sessions", 0.0).await;
    has_sessions(&node, "bob", 0).await;
}

#[tokio::test]
async fn as_many_subscriptions_to_ones_own_as_there_may_be_cost_others_nothing() {
    let node = Node::start(config()).await;
    let limit = stomp::Config::default().max_subscriptions;
    let mut greedy = node.connect_named("ann").await;
    for n in 0..limit {
        greedy.subscribe(&n.to_string(), "/user/queue/x").await;
    }
    let mut other = node.connect_named("ann").await;
    other.subscribe("1", "/user/queue/x").await;
    let publish = async {
        for n in 0..20 {
            send(&node, "ann", "/queue/x", format!("{n} {}", "x".repeat(4096))).await;
        }
    };
    let read = async {
        for n in 0..20 {
            assert!(other.body().await.starts_with(&format!("{n} ")));
        }
    };
    let read_all = async {
        let mut counts = BTreeMap::new();
        for _ in 0..20 * limit {
            let message = greedy.frame().await;
            let id = message.header(header::SUBSCRIPTION).unwrap().to_string();
            *counts.entry(id).or_insert(0) += 1;
        }
        assert!(counts.len() == limit && counts.values().all(|count| *count == 20));
    };
    tokio::join!(publish, read, read_all);
    greedy.tell(Command::Subscribe, &[("id", "one more"), ("destination", "/user/queue/y")]).await;
    assert_eq!(greedy.error().await.2, Some(4429));
    node.wait_for_metric("gateway_subscriptions", 1.0).await;
}

#[tokio::test]
async fn a_session_of_nobody_in_particular_leaves_its_groups_when_it_ends() {
    let node = Node::start(config()).await;
    let group = GroupName::new("dev").unwrap();
    let nobody = node.connect_anonymous().await;
    let named = node.connect_named("ann").await;
    let members = [nobody.session(), named.session()].map(Member::Session);
    node.presence.add(&group, &members, None).await.unwrap();
    drop((nobody, named));
    support::timeout(async {
        while node.presence.size(&group).await.unwrap() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
