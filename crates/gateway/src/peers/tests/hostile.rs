//! Tests that nobody but a node is served on the port, and that nobody holds it up.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::signature::{BodyHash, FORWARDED, Signed};
use super::*;

/// A node whose handler nobody should reach.
async fn guarded(network: &Network) -> Node {
    let (node, listener) = network.node(Store::Memory).await;
    network.serve(&node, listener, async |_| panic!("the handler is reached"));
    node
}

/// What the port says to these bytes, until it closes.
async fn said_to(node: &Node, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(node.port.unwrap()).await.unwrap();
    // It may be closed meanwhile.
    let _ = socket.write_all(bytes).await;
    let mut said = Vec::new();
    let _ = soon(socket.read_to_end(&mut said)).await;
    String::from_utf8(said).unwrap()
}

/// The head of a request with that body, signed with `secret` at `time`.
fn head(path: &str, body: &[u8], secret: &str, time: u64) -> String {
    let (parts, ()) = Request::post(path).body(()).unwrap().into_parts();
    let signed = Signed { client: client(), body: BodyHash::of(body) };
    let signature = Key::new(secret.as_bytes()).sign(&parts, signed, time).unwrap();
    let (signature, length) = (signature.to_str().unwrap(), body.len());
    format!("POST {path} HTTP/1.1\r\n{FORWARDED}: {signature}\r\ncontent-length: {length}\r\n\r\n")
}

#[track_caller]
fn assert_status(said: &str, status: u16) {
    assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said:?}");
    assert!(said.to_lowercase().contains("connection: close"), "{said:?}");
}

#[tokio::test]
async fn what_no_node_signed_is_refused_and_counted() {
    let network = Network::new();
    let node = guarded(&network).await;
    let now = forwarding::now();
    let right = head("/xhr", b"", SECRET, now);
    for (request, reason) in [
        ("POST /xhr HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".to_owned(), "unsigned"),
        (head("/xhr", b"", "another secret that is long enough", now), "forged"),
        (right.replace("POST", "PUT"), "forged"),
        (right.replace("/xhr", "/xhr?"), "forged"),
        (right.replace("\r\n\r\n", "\r\nx-user: root\r\n\r\n"), "forged"),
        (right.replace("c=192.0.2.7", "c=127.0.0.1"), "forged"),
        (right.replace("v1 ", "v2 "), "unreadable"),
        // As it was overheard some time ago.
        (head("/xhr", b"", SECRET, now - 60), "stale"),
        (head("/xhr", b"", SECRET, now + 60), "stale"),
        (head("/xhr", b"[\"x\"]", SECRET, now) + "[\"y\"]", "body"),
    ] {
        let before = node.metrics.strangers(reason);
        assert_status(&said_to(&node, request.as_bytes()).await, 403);
        assert_eq!(node.metrics.strangers(reason), before + 1, "{request}");
    }
    assert_eq!(node.metrics.handed("in"), 0);
}

#[tokio::test]
async fn there_is_no_port_without_a_secret() {
    let network = Network::new();
    let (node, listener) = network.node(Store::Memory).await;
    let peers = Arc::into_inner(node.peers).expect("nobody else has it");
    let Peers { owners, nodes, metrics, .. } = peers;
    for secret in ["", "short"] {
        let config = Config { secret: secret.into(), ..listening(&listener) };
        let (boot, owners, nodes) = (node.presence, owners.clone(), nodes.clone());
        let peers = Peers::new(&config, boot, owners, nodes, 10, metrics.clone());
        assert!(peers.forwarding.is_none());
    }
}

#[tokio::test]
async fn a_body_that_nobody_signed_is_not_waited_for() {
    let network = Network::new();
    let node = guarded(&network).await;
    let request = "POST /xhr HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n";
    assert_status(&said_to(&node, request.as_bytes()).await, 403);
}

#[tokio::test]
async fn a_head_is_bounded() {
    let network = Network::new();
    let node = guarded(&network).await;
    let long = "x".repeat(32 * 1024);
    let said = said_to(&node, format!("POST /{long} HTTP/1.1\r\n\r\n").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431 ") || said.starts_with("HTTP/1.1 414 "), "{said:?}");
    let many = "a: b\r\n".repeat(1_000);
    let said = said_to(&node, format!("POST / HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_not_waited_for() {
    let network = Network::new();
    let node = guarded(&network).await;
    // Nothing, a part of a head, and a part of a body.
    assert_eq!(said_to(&node, b"").await, "");
    let said = said_to(&node, b"POST /xhr HTTP/1.1\r\nhost: a\r\n").await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said:?}");
    let request = head("/xhr", b"[\"x\"]", SECRET, forwarding::now()) + "[";
    assert_status(&said_to(&node, request.as_bytes()).await, 408);
}
