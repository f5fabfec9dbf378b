//! What is so over WebSocket alone: the handshake, and the two kinds of messages.

mod support;

use support::{Node, config};

#[tokio::test]
async fn the_sub_protocol_is_the_clients_first_that_we_speak() {
    let node = Node::start(config()).await;
    let client = node.open(&[("sec-websocket-protocol", "foo, v11.stomp, v12.stomp")]).await;
    assert_eq!(client.unwrap().protocol.as_deref(), Some("v11.stomp"));
}

#[tokio::test]
async fn a_full_node_turns_clients_away_with_503() {
    let node = Node::start(gateway::Config { max_sessions: 1, ..config() }).await;
    let client = node.connect().await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = node.open(&[]).await else {
        panic!("admitted beyond the limit");
    };
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    drop(client);
    node.wait_for_metric("gateway_sessions", 0.0).await;
    node.connect().await;
}

#[tokio::test]
async fn text_bodies_come_as_text_and_others_as_binary() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("s", "/topic/a").await;
    client.publish("/topic/a", "gr\u{fc}n").await;
    assert_eq!(client.body().await, "gr\u{fc}n");
    assert!(!client.binary);
    client.publish("/topic/a", &b"\0\xff\0"[..]).await;
    assert_eq!(client.frame().await.body, &b"\0\xff\0"[..]);
    assert!(client.binary);
}
