//! RabbitMQ goes away under a gateway: no session closes, what was asked for meanwhile is done once it
//! is back, and what takes too long fails with the reason.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Link};
use broker_rabbitmq::{RabbitMqBroker, Uri};
use futures_util::StreamExt;
use gateway::Config;
use stomp::{Command, Frame, header};
use support::{Client, Node, config};
use testkit::{Proxy, RabbitMq};
use tokio_tungstenite::tungstenite::Message;
use ulid::Ulid;

/// How long anything may take: a starved machine takes a minute to start RabbitMQ.
const PATIENCE: Duration = Duration::from_secs(180);

fn rabbitmq_config(uri: &str) -> broker_rabbitmq::Config {
    broker_rabbitmq::Config {
        uris: vec![Uri::from(uri)],
        heart_beat: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(5),
        reconnect_pause: Duration::from_millis(500),
        publish_timeout: PATIENCE,
        subscribe_timeout: PATIENCE,
        ..broker_rabbitmq::Config::default()
    }
}

/// A gateway over RabbitMQ, which is there.
async fn node(rabbitmq: broker_rabbitmq::Config, config: Config) -> (Node, Arc<RabbitMqBroker>) {
    let broker = Arc::new(RabbitMqBroker::new(rabbitmq, Ulid::generate()));
    until(&broker, |link| *link == Link::Up).await;
    let stomp = stomp::Config {
        heart_beat_send: Duration::from_secs(1),
        heart_beat_receive: Duration::from_secs(1),
        max_frames_per_second: 0,
        ..stomp::Config::default()
    };
    (Node::start_over(broker.clone(), config, stomp).await, broker)
}

async fn until(broker: &RabbitMqBroker, wanted: impl Fn(&Link) -> bool) {
    let mut state = broker.state();
    let reached = state.wait_for(|state| wanted(&state.link));
    tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap();
}

/// A name that no other test uses.
fn name() -> String {
    format!("test-{}", Ulid::generate())
}

fn send(destination: &str, receipt: &str, body: impl Into<bytes::Bytes>) -> Frame {
    Frame::new(Command::Send)
        .with_header(header::DESTINATION, destination.to_owned())
        .with_header(header::RECEIPT, receipt.to_owned())
        .with_body(body)
}

/// The next frame, however long RabbitMQ takes.
async fn frame(client: &mut Client) -> Frame {
    client.frame_in(PATIENCE).await
}

async fn receipt(client: &mut Client, expected: &str) {
    let frame = frame(client).await;
    assert_eq!(frame.command, Command::Receipt, "{frame:?}");
    assert_eq!(frame.header(header::RECEIPT_ID).unwrap(), expected);
}

/// Waits for as many bodies as there are in `expected`, in whatever order of destinations.
async fn bodies(client: &mut Client, expected: &[&str]) {
    let mut came = Vec::new();
    while came.len() < expected.len() {
        let frame = frame(client).await;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        came.push(String::from_utf8(frame.body.to_vec()).unwrap());
    }
    came.sort();
    assert_eq!(came, expected);
}

/// What clients ask for while RabbitMQ is away is done once it is back, and nobody is closed.
async fn sessions_outlive(
    node: &Node,
    broker: &RabbitMqBroker,
    away: impl AsyncFnOnce(),
    back: impl AsyncFnOnce(),
) {
    let (topic, late) = (format!("/topic/{}", name()), format!("/topic/{}", name()));
    let (queue, late_queue) = (format!("/queue/{}", name()), format!("/queue/{}", name()));
    let mut subscriber = node.connect().await;
    subscriber.subscribe("t", &topic).await;
    subscriber.subscribe("q", &queue).await;
    let mut asking = node.connect().await;
    asking.subscribe("t", &topic).await;
    let mut sender = node.connect().await;
    sender.publish_confirmed(&topic, "before").await;
    bodies(&mut subscriber, &["before"]).await;
    bodies(&mut asking, &["before"]).await;

    away().await;
    until(broker, |link| *link != Link::Up).await;
    sender.send(send(&topic, "r1", "a topic")).await;
    sender.send(send(&queue, "r2", "b queue")).await;
    let unsubscribe = Frame::new(Command::Unsubscribe)
        .with_header(header::ID, "t")
        .with_header(header::RECEIPT, "gone");
    asking.send(unsubscribe).await;
    receipt(&mut asking, "gone").await;
    for (id, destination) in [("l", &late), ("m", &late_queue)] {
        let subscribe = Frame::new(Command::Subscribe)
            .with_header(header::ID, id)
            .with_header(header::DESTINATION, destination.clone())
            .with_header(header::RECEIPT, id);
        asking.send(subscribe).await;
    }
    let mut newcomer = node.connect().await;
    newcomer.send(send(&late_queue, "r3", "c late")).await;
    back().await;

    receipt(&mut sender, "r1").await;
    receipt(&mut sender, "r2").await;
    bodies(&mut subscriber, &["a topic", "b queue"]).await;
    receipt(&mut newcomer, "r3").await;
    receipt(&mut asking, "l").await;
    receipt(&mut asking, "m").await;
    bodies(&mut asking, &["c late"]).await;
    sender.send(send(&late, "r4", "d after")).await;
    receipt(&mut sender, "r4").await;
    bodies(&mut asking, &["d after"]).await;
    let closed = node.metrics();
    let closed = closed.lines().filter(|line| {
        line.starts_with("gateway_sessions_closed_total") && !line.contains("client_lost")
    });
    assert!(closed.clone().count() > 0);
    assert_eq!(closed.filter(|line| !line.ends_with(" 0")).collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_a_kill_and_a_stop_of_rabbitmq() {
    let mut rabbitmq = RabbitMq::start().await.unwrap();
    let (node, broker) = node(rabbitmq_config(&rabbitmq.uri()), config()).await;
    let rabbitmq = tokio::sync::Mutex::new(&mut rabbitmq);
    for clean in [false, true] {
        let away = async || match clean {
            false => rabbitmq.lock().await.kill(),
            true => rabbitmq.lock().await.stop().await,
        };
        let back = async || rabbitmq.lock().await.start_again().await.unwrap();
        sessions_outlive(&node, &broker, away, back).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_a_cut_and_a_half_open_connection() {
    let rabbitmq = testkit::rabbitmq().await;
    let proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.unwrap();
    let (node, broker) = node(rabbitmq_config(&rabbitmq.uri_at(proxy.port())), config()).await;
    let proxy = tokio::sync::Mutex::new(proxy);
    for half_open in [false, true] {
        let away = async || match half_open {
            false => proxy.lock().await.cut().await,
            true => proxy.lock().await.half_open(),
        };
        let back = async || proxy.lock().await.heal().await.unwrap();
        sessions_outlive(&node, &broker, away, back).await;
    }
}

/// How many SENDs the node has looked at.
/// What the sender of a message that may be there is told.
const LOST: &str =
    "the broker did not confirm the message, which may or may not have been delivered";

const SENDS: &str = "gateway_frames_received_total{command=\"SEND\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_too_much_unconfirmed_is_not_read_and_lives_on() {
    let mut rabbitmq = RabbitMq::start().await.unwrap();
    let limits =
        Config { max_unconfirmed: 20, max_unconfirmed_bytes: "10kB".parse().unwrap(), ..config() };
    let (node, broker) = node(rabbitmq_config(&rabbitmq.uri()), limits).await;
    let topic = format!("/topic/{}", name());
    rabbitmq.alarm(true).await.unwrap();
    // Beats when it is asked to, and never by itself: its silence must not count meanwhile.
    let mut sender = node.connect_with("1.2", "1000,1000").await;
    for n in 0..30 {
        sender.send(send(&topic, &n.to_string(), "x")).await;
    }
    until(&broker, |link| matches!(link, Link::Blocked(_))).await;
    node.wait_for_metric(SENDS, 20.0).await;
    let mut large = node.connect_with("1.2", "1000,1000").await;
    for n in 0..30 {
        large.send(send(&topic, &n.to_string(), vec![b'x'; 3000])).await;
    }
    // The fourth exceeds the bytes.
    node.wait_for_metric(SENDS, 24.0).await;
    for client in [&mut sender, &mut large] {
        for _ in 0..5 {
            let beat = tokio::time::timeout(PATIENCE, client.socket.next()).await.unwrap();
            assert_eq!(beat.unwrap().unwrap(), Message::text("\n"));
        }
    }
    assert_eq!(node.metric(SENDS), 24.0);
    rabbitmq.alarm(false).await.unwrap();
    for n in 0..30 {
        receipt(&mut sender, &n.to_string()).await;
        receipt(&mut large, &n.to_string()).await;
    }
    assert_eq!(node.metric(SENDS), 60.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_fails_and_does_not_say_where_the_broker_is() {
    let mut rabbitmq = RabbitMq::start().await.unwrap();
    let impatient = broker_rabbitmq::Config {
        publish_timeout: Duration::from_secs(2),
        subscribe_timeout: Duration::from_secs(2),
        ..rabbitmq_config(&rabbitmq.uri())
    };
    let (node, broker) = node(impatient, config()).await;
    let topic = format!("/topic/{}", name());
    let (mut idle, mut sender) = (node.connect().await, node.connect().await);
    idle.subscribe("t", &topic).await;
    rabbitmq.alarm(true).await.unwrap();
    sender.send(send(&topic, "r", "held")).await;
    let (message, receipt_id, code) = sender.error().await;
    assert_eq!(message, LOST);
    assert_eq!((receipt_id.as_deref(), code), (Some("r"), Some(1013)));

    rabbitmq.kill();
    until(&broker, |link| matches!(link, Link::Down(_))).await;
    let (mut sender, mut subscriber) = (node.connect().await, node.connect().await);
    sender.send(send(&topic, "r", "lost")).await;
    let subscribe = Frame::new(Command::Subscribe)
        .with_header(header::ID, "s")
        .with_header(header::DESTINATION, format!("/queue/{}", name()))
        .with_header(header::RECEIPT, "s");
    subscriber.send(subscribe).await;
    let away = "the broker is not to be had now: try again later";
    for (client, asked, told) in [(&mut sender, "r", LOST), (&mut subscriber, "s", away)] {
        let (message, receipt_id, code) = client.error().await;
        assert_eq!(message, told);
        assert_eq!((receipt_id.as_deref(), code), (Some(asked), Some(1013)));
    }
    // Who asked for nothing is not told.
    rabbitmq.start_again().await.unwrap();
    until(&broker, |link| *link == Link::Up).await;
    node.connect().await.publish_confirmed(&topic, "after").await;
    bodies(&mut idle, &["after"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_of_a_sender_that_is_gone_is_published() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.unwrap();
    let (node, broker) = node(rabbitmq_config(&rabbitmq.uri_at(proxy.port())), config()).await;
    let topic = format!("/topic/{}", name());
    let mut subscriber = node.connect().await;
    subscriber.subscribe("t", &topic).await;
    proxy.cut().await;
    until(&broker, |link| matches!(link, Link::Down(_))).await;
    let mut sender = node.connect().await;
    for n in 0..5 {
        sender.publish(&topic, n.to_string()).await;
    }
    node.wait_for_metric(SENDS, 5.0).await;
    drop(sender);
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"client_lost\"}", 1.0).await;
    proxy.heal().await.unwrap();
    bodies(&mut subscriber, &["0", "1", "2", "3", "4"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_would_close_a_channel_for_fails_its_sender_alone() {
    let rabbitmq = testkit::rabbitmq().await;
    let (node, _broker) = node(rabbitmq_config(&rabbitmq.uri()), config()).await;
    let topic = format!("/topic/{}", name());
    let mut other = node.connect().await;
    other.subscribe("t", &topic).await;
    for (name, value) in [
        ("expiration", "soon"),
        ("user-id", "root"),
        ("priority", "high"),
        ("CC", "a"),
        ("BCC", "a"),
    ] {
        let mut sender = node.connect().await;
        sender.send(send(&topic, "r", "no").with_header(name, value)).await;
        let (message, receipt_id, code) = sender.error().await;
        assert!(message.contains(&format!("header {name} ")), "{message}");
        assert_eq!((receipt_id.as_deref(), code), (Some("r"), Some(1002)));
        other.send(send(&topic, "r", "yes")).await;
        let frames = [frame(&mut other).await, frame(&mut other).await];
        assert!(frames.iter().any(|frame| frame.command == Command::Receipt), "{frames:?}");
        assert!(frames.iter().any(|frame| &*frame.body == b"yes"), "{frames:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_message_is_shown_as_one() {
    let rabbitmq = testkit::rabbitmq().await;
    let (node, _broker) = node(rabbitmq_config(&rabbitmq.uri()), config()).await;
    let topic = format!("/topic/{}", name());
    let mut client = node.connect().await;
    client.subscribe("t", &topic).await;
    for (said, shown) in [("true", Some("true")), ("false", None)] {
        let frame = Frame::new(Command::Send)
            .with_header(header::DESTINATION, topic.clone())
            .with_header("persistent", said);
        client.send(frame).await;
        let message = client.frame().await;
        assert_eq!(message.header("persistent").map(|value| &**value), shown);
    }
}
