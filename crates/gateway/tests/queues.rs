//! Queues through sessions: competing consumers, ack modes, redelivery.

mod support;

use std::time::Duration;

use gateway::Config;
use stomp::{Command, Frame, header};
use support::{Client, Node, config};

async fn acknowledge(client: &mut Client, command: Command, message: &Frame) {
    let token = message.header(header::ACK).expect("an ack token").clone();
    let frame = Frame::new(command).with_header(header::ID, token);
    client.send(frame.with_header(header::RECEIPT, "settled")).await;
}

async fn settled(client: &mut Client) {
    assert_eq!(client.frame().await.command, Command::Receipt);
}

#[tokio::test]
async fn a_queue_keeps_messages_and_each_goes_to_one_consumer() {
    let node = Node::start(config()).await;
    let mut sender = node.connect().await;
    for n in 0..10 {
        sender.publish_confirmed("/queue/work", n.to_string()).await;
    }
    let mut first = node.connect().await;
    first.subscribe("1", "/queue/work").await;
    for n in 0..10 {
        assert_eq!(first.body().await, n.to_string());
    }
    let mut second = node.connect().await;
    second.subscribe("1", "/queue/work").await;
    for n in 0..10 {
        sender.publish_confirmed("/queue/work", n.to_string()).await;
    }
    let mut got = Vec::new();
    for _ in 0..5 {
        got.push(first.body().await);
        got.push(second.body().await);
    }
    got.sort();
    assert_eq!(got, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_not_acknowledged_goes_to_another_marked_redelivered() {
    let node = Node::start(config()).await;
    let mut first = node.connect().await;
    first.subscribe_with("1", "/queue/q", &[("ack", "client-individual")]).await;
    first.publish("/queue/q", "x").await;
    first.publish("/queue/q", "y").await;
    let x = first.frame().await;
    assert_eq!(x.header(header::REDELIVERED), None);
    assert_eq!(first.body().await, "y");
    acknowledge(&mut first, Command::Ack, &x).await;
    settled(&mut first).await;
    drop(first);
    let mut second = node.connect().await;
    second.subscribe_with("1", "/queue/q", &[("ack", "client-individual")]).await;
    let y = second.frame().await;
    assert_eq!((&y.body[..], &**y.header(header::REDELIVERED).unwrap()), (&b"y"[..], "true"));
}

#[tokio::test]
async fn an_ack_in_client_mode_covers_all_before_it() {
    let node = Node::start(config()).await;
    let mut first = node.connect().await;
    first.subscribe_with("1", "/queue/q", &[("ack", "client")]).await;
    for n in 0..4 {
        first.publish("/queue/q", n.to_string()).await;
    }
    let mut messages = Vec::new();
    for _ in 0..4 {
        messages.push(first.frame().await);
    }
    acknowledge(&mut first, Command::Ack, &messages[2]).await;
    settled(&mut first).await;
    drop(first);
    let mut second = node.connect().await;
    second.subscribe("1", "/queue/q").await;
    assert_eq!(second.body().await, "3");
    second.publish("/queue/q", "sentinel").await;
    assert_eq!(second.body().await, "sentinel");
}

#[tokio::test]
async fn a_nack_gives_back_or_drops_as_it_says() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe_with("1", "/queue/q", &[("ack", "client-individual")]).await;
    client.publish("/queue/q", "x").await;
    let once = client.frame().await;
    acknowledge(&mut client, Command::Nack, &once).await;
    let mut again = client.frame().await;
    if again.command == Command::Receipt {
        again = client.frame().await;
    } else {
        settled(&mut client).await;
    }
    assert_eq!(again.header(header::REDELIVERED).unwrap(), "true");
    let token = again.header(header::ACK).unwrap().clone();
    client
        .send(
            Frame::new(Command::Nack)
                .with_header(header::ID, token)
                .with_header(header::REQUEUE, "false"),
        )
        .await;
    client.publish("/queue/q", "sentinel").await;
    assert_eq!(client.body().await, "sentinel");
}

#[tokio::test]
async fn prefetch_bounds_what_is_outstanding() {
    let node = Node::start(config()).await;
    let mut slow = node.connect().await;
    slow.subscribe_with("1", "/queue/q", &[("ack", "client"), ("prefetch-count", "1")]).await;
    for n in 0..3 {
        slow.publish_confirmed_with_messages("/queue/q", n).await;
    }
    let mut other = node.connect().await;
    other.subscribe("1", "/queue/q").await;
    assert_eq!(other.body().await, "1");
    assert_eq!(other.body().await, "2");
}

#[tokio::test]
async fn an_ack_of_anything_else_is_an_error_to_that_session_alone() {
    let node = Node::start(config()).await;
    let mut holder = node.connect().await;
    holder.subscribe_with("1", "/queue/q", &[("ack", "client")]).await;
    holder.publish("/queue/q", "x").await;
    let held = holder.frame().await;
    let mut thief = node.connect().await;
    let token = held.header(header::ACK).unwrap().clone();
    thief
        .send(
            Frame::new(Command::Ack)
                .with_header(header::ID, token)
                .with_header(header::RECEIPT, "r"),
        )
        .await;
    let (message, receipt, close) = thief.error().await;
    assert!(message.starts_with("nothing to acknowledge under"), "{message}");
    assert_eq!((receipt.as_deref(), close), (Some("r"), Some(1002)));
    acknowledge(&mut holder, Command::Ack, &held).await;
    settled(&mut holder).await;
}

#[tokio::test]
async fn before_1_2_messages_are_acknowledged_by_their_id() {
    let node = Node::start(config()).await;
    let mut client = node.connect_as("1.1").await;
    client.subscribe_with("1", "/queue/q", &[("ack", "client")]).await;
    client.publish("/queue/q", "x").await;
    let message = client.frame().await;
    assert_eq!(message.header(header::ACK), None);
    let id = message.header(header::MESSAGE_ID).unwrap().clone();
    client
        .send(
            Frame::new(Command::Ack)
                .with_header(header::MESSAGE_ID, id)
                .with_header(header::SUBSCRIPTION, "1")
                .with_header(header::RECEIPT, "r"),
        )
        .await;
    settled(&mut client).await;
}

#[tokio::test]
async fn a_transaction_takes_effect_at_commit() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("1", "/topic/a").await;
    let in_transaction = |command| Frame::new(command).with_header(header::TRANSACTION, "t");
    client.send(in_transaction(Command::Begin)).await;
    client
        .send(
            in_transaction(Command::Send)
                .with_header(header::DESTINATION, "/topic/a")
                .with_body("held"),
        )
        .await;
    client.publish("/topic/a", "first").await;
    assert_eq!(client.body().await, "first");
    client.send(in_transaction(Command::Commit).with_header(header::RECEIPT, "r")).await;
    let (one, other) = (client.frame().await, client.frame().await);
    let mut commands = [one.command.as_str(), other.command.as_str()];
    commands.sort_unstable();
    assert_eq!(commands, ["MESSAGE", "RECEIPT"]);
}

#[tokio::test]
async fn a_commit_does_all_or_nothing_and_its_error_names_it() {
    let node = Node::start(config()).await;
    let mut witness = node.connect().await;
    witness.subscribe("1", "/topic/a").await;
    let mut client = node.connect().await;
    let in_transaction = |command| Frame::new(command).with_header(header::TRANSACTION, "t");
    client.send(in_transaction(Command::Begin)).await;
    for destination in ["/topic/a", "/nope/b"] {
        let send = in_transaction(Command::Send).with_header(header::DESTINATION, destination);
        client.send(send.with_body("half")).await;
    }
    client.send(in_transaction(Command::Commit).with_header(header::RECEIPT, "c")).await;
    let (message, receipt, _) = client.error().await;
    assert!(message.contains("/nope/b"), "{message}");
    assert_eq!(receipt.as_deref(), Some("c"));
    witness.publish("/topic/a", "sentinel").await;
    assert_eq!(witness.body().await, "sentinel");
}

#[tokio::test]
async fn a_token_settles_nothing_in_another_session() {
    let node = Node::start(config()).await;
    let (mut one, mut other) = (node.connect().await, node.connect().await);
    for (client, queue) in [(&mut one, "/queue/one"), (&mut other, "/queue/other")] {
        client.subscribe_with("1", queue, &[("ack", "client-individual")]).await;
        client.publish(queue, "job").await;
    }
    let (held, _) = (one.frame().await, other.frame().await);
    acknowledge(&mut other, Command::Ack, &held).await;
    let (message, receipt, _) = other.error().await;
    assert!(message.starts_with("nothing to acknowledge under"), "{message}");
    assert_eq!(receipt.as_deref(), Some("settled"));
    let mut next = node.connect().await;
    next.subscribe("1", "/queue/other").await;
    assert_eq!(next.body().await, "job");
}

#[tokio::test]
async fn in_1_0_a_queues_message_is_settled_although_a_topic_is_acknowledged_too() {
    let node = Node::start(config()).await;
    let mut client = node.connect_as("1.0").await;
    client.subscribe_with("t", "/topic/a", &[("ack", "client")]).await;
    client.subscribe_with("q", "/queue/q", &[("ack", "client")]).await;
    client.publish("/queue/q", "x").await;
    let id = client.frame().await.header(header::MESSAGE_ID).unwrap().clone();
    let ack = Frame::new(Command::Ack).with_header(header::MESSAGE_ID, id);
    client.send(ack.with_header(header::RECEIPT, "r")).await;
    settled(&mut client).await;
    drop(client);
    let mut next = node.connect().await;
    next.subscribe("1", "/queue/q").await;
    next.publish("/queue/q", "sentinel").await;
    assert_eq!(next.body().await, "sentinel");
}

#[tokio::test]
async fn many_acks_in_one_message_hold_up_nobody() {
    const DELIVERIES: usize = 5_000;
    let node = Node::start(config()).await;
    let mut client = node.connect_as("1.1").await;
    let headers = [("ack", "client-individual"), ("prefetch-count", "10000")];
    client.subscribe_with("1", "/queue/q", &headers).await;
    let mut sender = node.connect().await;
    for n in 0..DELIVERIES {
        sender.publish("/queue/q", n.to_string()).await;
    }
    let mut ids = Vec::new();
    for _ in 0..DELIVERIES {
        ids.push(client.frame().await.header(header::MESSAGE_ID).unwrap().clone());
    }
    let acks = ids.iter().rev().map(|id| format!("ACK\nsubscription:1\nmessage-id:{id}\n\n\0"));
    for some in acks.collect::<Vec<_>>().chunks(500) {
        client.send_text(&some.concat()).await;
    }
    client.subscribe("2", "/topic/end").await;
    drop(client);
    let mut next = node.connect().await;
    next.subscribe("1", "/queue/q").await;
    next.publish("/queue/q", "sentinel").await;
    assert_eq!(next.body().await, "sentinel");
}

impl Client {
    /// Publishes and waits for the receipt, whatever messages come meanwhile.
    async fn publish_confirmed_with_messages(&mut self, destination: &str, n: usize) {
        self.send(
            Frame::new(Command::Send)
                .with_header(header::DESTINATION, destination.to_owned())
                .with_header(header::RECEIPT, "published")
                .with_body(n.to_string()),
        )
        .await;
        while self.frame().await.command != Command::Receipt {}
    }
}

#[tokio::test]
async fn a_delivery_unacknowledged_for_too_long_ends_its_session_and_goes_to_another() {
    let node = Node::start(Config { ack_timeout: Duration::from_secs(5), ..config() }).await;
    let mut forgetful = node.connect().await;
    forgetful.subscribe_with("1", "/queue/q", &[("ack", "client-individual")]).await;
    forgetful.publish("/queue/q", "x").await;
    forgetful.publish("/queue/q", "y").await;
    let x = forgetful.frame().await;
    assert_eq!(forgetful.body().await, "y");
    // One of two is not enough.
    acknowledge(&mut forgetful, Command::Ack, &x).await;
    settled(&mut forgetful).await;
    let error = forgetful.frame().await;
    assert_eq!(error.command, Command::Error);
    let message = error.header(header::MESSAGE).unwrap();
    assert!(message.contains("neither acknowledged nor refused within 5s"), "{message}");
    assert_eq!(forgetful.frame_or_close().await, Err(Some(4408)));
    let mut other = node.connect().await;
    other.subscribe("1", "/queue/q").await;
    assert_eq!(other.body().await, "y");
}

#[tokio::test]
async fn what_is_acknowledged_by_being_written_is_not_waited_for() {
    let node = Node::start(Config { ack_timeout: Duration::from_secs(5), ..config() }).await;
    let mut client = node.connect().await;
    client.subscribe("1", "/queue/auto").await;
    client.publish("/queue/auto", "x").await;
    assert_eq!(client.body().await, "x");
    // Twice as long as it might have been unsettled.
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.publish("/queue/auto", "y").await;
    assert_eq!(client.body().await, "y");
}
