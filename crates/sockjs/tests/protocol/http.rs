//! That HTTP 1.0 and 1.1 are what they should be.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Exchange, Server, serve, timeout};

/// All that comes until the server ends the connection.
async fn by_http_1_0(server: Server, request: &str) -> String {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    timeout(socket.write_all(request.as_bytes())).await.unwrap();
    let mut answer = String::new();
    timeout(socket.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn over_1_0_an_answer_has_its_length_or_ends_with_the_connection() {
    let server = serve().await;
    let answer = by_http_1_0(server, "GET /echo HTTP/1.0\r\nHost: h\r\n\r\n").await;
    assert!(answer.contains(" 200 OK") && answer.ends_with("\r\n\r\nWelcome to SockJS!\n"));
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn over_1_0_a_stream_has_no_length_and_no_chunks() {
    let server = serve().await;
    let path = format!("{}/xhr_streaming", server.session("/close"));
    let request = format!("POST {path} HTTP/1.0\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    let answer = by_http_1_0(server, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    let prelude = format!("{}\n", "h".repeat(2048));
    assert_eq!(body.strip_prefix(&*prelude).unwrap(), "o\nc[3000,\"Go away!\"]\n");
}

#[tokio::test]
async fn over_1_1_a_connection_is_kept_and_an_answer_has_its_length() {
    let server = serve().await;
    let mut answer = server.get("/echo").await;
    let connection = answer.header("connection").unwrap_or_default().to_lowercase();
    assert!(["", "keep-alive"].contains(&&*connection), "{connection}");
    assert_eq!(answer.header("content-length"), Some("19"));
    assert_eq!(answer.body().await, "Welcome to SockJS!\n");
    let again = Exchange::on(answer.into_socket(), "GET", "/echo", &[], "").await;
    assert_eq!(again.status, 200);
}

#[tokio::test]
async fn over_1_1_a_stream_has_a_chunk_for_each_frame() {
    let server = serve().await;
    let mut answer = server.post(&format!("{}/xhr_streaming", server.session("/close")), "").await;
    assert_eq!(answer.header("content-length"), None);
    assert!(answer.chunk().await.starts_with('h'));
    assert_eq!(answer.chunk().await, "o\n");
    assert_eq!(answer.chunk().await, "c[3000,\"Go away!\"]\n");
    assert_eq!(answer.chunk().await, "");
}
