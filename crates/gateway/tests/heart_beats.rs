//! Heart-beats over real sockets: what was agreed is what arrives.

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use support::{Client, Node, config, timeout};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);

async fn node() -> Node {
    let stomp = stomp::Config {
        heart_beat_send: SECOND,
        heart_beat_receive: SECOND,
        ..stomp::Config::default()
    };
    Node::start_with(config(), stomp).await
}

async fn next(client: &mut Client) -> Message {
    timeout(client.socket.next()).await.expect("the socket is open").expect("no error")
}

#[tokio::test]
async fn an_idle_server_beats_within_each_interval() {
    let interval = 5 * SECOND;
    let stomp = stomp::Config { heart_beat_send: interval, ..stomp::Config::default() };
    let node = Node::start_with(config(), stomp).await;
    let mut client = node.connect_with("1.2", "0,5000").await;
    let connected = Instant::now();
    assert_eq!(next(&mut client).await, Message::text("\n"));
    // Due after four seconds. One that waits for the next wake-up comes after eight; what a busy
    // machine adds is less than that.
    let silent = connected.elapsed();
    assert!(silent < interval + 2 * SECOND, "{silent:?}");
}

#[tokio::test]
async fn a_late_client_is_pinged_and_lives_as_long_as_it_answers() {
    let node = node().await;
    let mut client = node.connect_with("1.2", "1000,0").await;
    for _ in 0..3 {
        // The client library answers while it reads.
        assert!(matches!(next(&mut client).await, Message::Ping(_)));
    }
    client.subscribe("s", "/topic/a").await;
    client.publish("/topic/a", "x").await;
    assert_eq!(client.body().await, "x");
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_with_4408() {
    let node = node().await;
    let mut client = node.connect_with("1.2", "1000,0").await;
    // Answers are written while the socket is read: nothing is read until it is too late.
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"heart_beat_timeout\"}", 1.0).await;
    let (message, _, close) = client.error().await;
    assert!(message.contains("heard nothing for"), "{message}");
    assert_eq!(close, Some(4408));
}
