//! Sessions over real WebSockets, against the embedded broker.

mod support;

use stomp::{Command, Frame, header};
use support::{Node, config};

#[tokio::test]
async fn a_message_reaches_every_subscriber_and_nobody_else() {
    let node = Node::start(config()).await;
    let (mut ann, mut bob, mut eve) =
        (node.connect().await, node.connect().await, node.connect().await);
    ann.subscribe("a", "/topic/prices").await;
    bob.subscribe("b", "/topic/prices").await;
    eve.subscribe("e", "/topic/other").await;
    ann.publish("/topic/prices", "42").await;
    for (client, id) in [(&mut ann, "a"), (&mut bob, "b")] {
        let frame = client.frame().await;
        assert_eq!(frame.command, Command::Message);
        assert_eq!(frame.header(header::SUBSCRIPTION).unwrap(), id);
        assert_eq!(frame.header(header::DESTINATION).unwrap(), "/topic/prices");
        assert_eq!(frame.header(header::MESSAGE_ID).unwrap().len(), 26);
        assert_eq!(frame.body, "42");
    }
    ann.publish("/topic/other", "sentinel").await;
    assert_eq!(eve.body().await, "sentinel");
}

#[tokio::test]
async fn every_version_exchanges_messages() {
    let node = Node::start(config()).await;
    let mut all = Vec::new();
    for version in ["1.0", "1.1", "1.2"] {
        let mut client = node.connect_as(version).await;
        client.subscribe("s", "/topic/all").await;
        all.push(client);
    }
    all[0].publish("/topic/all", "x").await;
    for client in &mut all {
        assert_eq!(client.body().await, "x");
    }
}

#[tokio::test]
async fn both_spellings_of_a_topic_meet_and_each_sees_its_own() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    for (id, destination) in
        [("1", "/topic/a/b"), ("2", "/topic/a.b"), ("3", "/topic/a/*"), ("4", "/topic/a.*")]
    {
        client.subscribe(id, destination).await;
    }
    client.publish("/topic/a/b", "x").await;
    let mut shown = Vec::new();
    for _ in 0..4 {
        let frame = client.frame().await;
        shown.push((
            frame.header(header::SUBSCRIPTION).unwrap().to_string(),
            frame.header(header::DESTINATION).unwrap().to_string(),
        ));
    }
    shown.sort();
    let expected =
        [("1", "/topic/a/b"), ("2", "/topic/a.b"), ("3", "/topic/a/b"), ("4", "/topic/a.b")];
    assert_eq!(shown, expected.map(|(id, shown)| (id.to_owned(), shown.to_owned())));
}

#[tokio::test]
async fn headers_the_server_sets_cannot_be_forged() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("s", "/topic/a").await;
    let mut forged = Frame::new(Command::Send).with_header(header::DESTINATION, "/topic/a");
    for name in ["message-id", "subscription", "ack", "redelivered", "x-footbridge-user", "mine"] {
        forged = forged.with_header(name, "forged");
    }
    client.send(forged.with_body("x")).await;
    let frame = client.frame().await;
    let shown: Vec<_> = frame
        .headers
        .iter()
        .filter(|(_, value)| *value == "forged")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(shown, ["mine"]);
}

#[tokio::test]
async fn a_subscriber_gets_everything_in_order_exactly_once_under_load() {
    const SUBSCRIBERS: usize = 200;
    const MESSAGES: usize = 500;
    let node = Node::start(config()).await;
    let mut subscribers = Vec::new();
    for n in 0..SUBSCRIBERS {
        let mut client = node.connect().await;
        client.subscribe(&format!("sub-{}", n % 3), "/topic/load").await;
        subscribers.push(client);
    }
    let mut publisher = node.connect().await;
    let publish = async {
        for n in 0..MESSAGES {
            publisher.publish("/topic/load", n.to_string()).await;
        }
        publisher.publish_confirmed("/topic/load", "end").await;
    };
    let receive = futures_util::future::join_all(subscribers.iter_mut().map(async |client| {
        for n in 0..MESSAGES {
            assert_eq!(client.body().await, n.to_string());
        }
        assert_eq!(client.body().await, "end");
    }));
    tokio::join!(publish, receive);
    node.wait_for_metric("gateway_sessions", SUBSCRIBERS as f64 + 1.0).await;
}

#[tokio::test]
async fn unsubscribe_stops_exactly_one() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("1", "/topic/a").await;
    client.subscribe("2", "/topic/a").await;
    client
        .send(
            Frame::new(Command::Unsubscribe)
                .with_header(header::ID, "1")
                .with_header(header::RECEIPT, "r"),
        )
        .await;
    assert_eq!(client.frame().await.command, Command::Receipt);
    for body in ["x", "y"] {
        client.publish("/topic/a", body).await;
        let frame = client.frame().await;
        assert_eq!(
            (&*frame.header(header::SUBSCRIPTION).unwrap().clone(), &frame.body[..]),
            ("2", body.as_bytes())
        );
    }
}

#[tokio::test]
async fn disconnect_is_answered_before_the_close() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.send(Frame::new(Command::Disconnect).with_header(header::RECEIPT, "bye")).await;
    let receipt = client.frame().await;
    assert_eq!(receipt.header(header::RECEIPT_ID).unwrap(), "bye");
    assert_eq!(client.frame_or_close().await, Err(Some(1000)));
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"disconnect\"}", 1.0).await;
    node.wait_for_metric("gateway_sessions", 0.0).await;
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_subscriptions() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("1", "/topic/a").await;
    client.subscribe("2", "/queue/a").await;
    node.wait_for_metric("gateway_subscriptions", 2.0).await;
    drop(client);
    node.wait_for_metric("gateway_subscriptions", 0.0).await;
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"client_lost\"}", 1.0).await;
}

#[tokio::test]
async fn a_stopping_node_sends_its_sessions_away_and_ends() {
    let mut node = Node::start(config()).await;
    let mut client = node.connect().await;
    node.stop();
    assert_eq!(client.frame_or_close().await, Err(Some(1001)));
    drop(client);
    node.stopped().await;
}
