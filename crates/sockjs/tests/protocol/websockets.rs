//! WebSocket, with SockJS's framing and without.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::{Server, serve, timeout};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(server: Server, path: &str) -> Socket {
    let url = format!("ws://{}{path}", server.address);
    timeout(tokio_tungstenite::connect_async(url)).await.unwrap().0
}

/// The next text; none at the end.
async fn next(socket: &mut Socket) -> Option<String> {
    loop {
        match timeout(socket.next()).await {
            Some(Ok(Message::Text(text))) => return Some(text.to_string()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

async fn say(socket: &mut Socket, text: &str) {
    timeout(socket.send(Message::text(text))).await.unwrap();
}

#[tokio::test]
async fn what_is_no_handshake_is_told_why() {
    let server = serve().await;
    let (status, text) = server.got("/echo/0/0/websocket").await;
    assert!(status == 400 && text.contains("Can \"Upgrade\" only to \"WebSocket\"."), "{text}");
    let headers = [("Upgrade", "WebSocket"), ("Connection", "close")];
    let answer = server.ask("GET", "/echo/0/0/websocket", &headers, "").await;
    let (status, text) = answer.whole().await;
    assert!(status == 400 && text.contains("\"Connection\" must be \"Upgrade\"."), "{text}");
}

#[tokio::test]
async fn every_version_with_this_framing_is_taken_and_kept_alive_beside_upgrade() {
    let server = serve().await;
    for (version, connection) in
        [("7", "Upgrade"), ("8", "Upgrade"), ("13", "Upgrade"), ("7", "keep-alive, Upgrade")]
    {
        let headers = [
            ("Upgrade", "websocket"),
            ("Connection", connection),
            ("Sec-WebSocket-Version", version),
            ("Sec-WebSocket-Origin", "http://asd"),
            ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
        ];
        let path = format!("{}/websocket", server.session("/echo"));
        let answer = server.ask("GET", &path, &headers, "").await;
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("sec-websocket-accept"), Some("HSmrc0sMlYUkAGmm5OPpG2HaGWk="));
        assert_eq!(answer.header("connection").unwrap().to_lowercase(), "upgrade");
        assert_eq!(answer.header("upgrade").unwrap().to_lowercase(), "websocket");
        assert_eq!(answer.header("content-length"), None);
    }
}

#[tokio::test]
async fn messages_come_and_go_and_empty_ones_are_nothing() {
    let server = serve().await;
    let path = format!("{}/websocket", server.session("/echo"));
    let mut socket = connect(server, &path).await;
    assert_eq!(next(&mut socket).await.unwrap(), "o");
    say(&mut socket, "").await;
    say(&mut socket, "[\"a\"]").await;
    assert_eq!(next(&mut socket).await.unwrap(), "a[\"a\"]");
    say(&mut socket, "\"alone\"").await;
    assert_eq!(next(&mut socket).await.unwrap(), "a[\"alone\"]");
    for n in 0..1000 {
        say(&mut socket, &format!("[\"{n}\"]")).await;
    }
    for n in 0..1000 {
        assert_eq!(next(&mut socket).await.unwrap(), format!("a[\"{n}\"]"));
    }
}

#[tokio::test]
async fn a_close_says_why_and_then_the_connection_ends() {
    let server = serve().await;
    let path = format!("{}/websocket", server.session("/close"));
    let mut socket = connect(server, &path).await;
    assert_eq!(next(&mut socket).await.unwrap(), "o");
    assert_eq!(next(&mut socket).await.unwrap(), "c[3000,\"Go away!\"]");
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test]
async fn an_id_may_be_used_by_several_at_once_and_again() {
    let server = serve().await;
    let path = format!("{}/websocket", server.session("/echo"));
    let (mut one, mut other) = (connect(server, &path).await, connect(server, &path).await);
    for socket in [&mut one, &mut other] {
        assert_eq!(next(socket).await.unwrap(), "o");
    }
    say(&mut one, "[\"a\"]").await;
    say(&mut other, "[\"b\"]").await;
    assert_eq!(next(&mut one).await.unwrap(), "a[\"a\"]");
    assert_eq!(next(&mut other).await.unwrap(), "a[\"b\"]");
    drop((one, other));
    let mut again = connect(server, &path).await;
    assert_eq!(next(&mut again).await.unwrap(), "o");
}

#[tokio::test]
async fn nonsense_ends_the_connection_at_once() {
    let server = serve().await;
    for nonsense in ["[\"a", "{}", "1", "[1]"] {
        let path = format!("{}/websocket", server.session("/echo"));
        let mut socket = connect(server, &path).await;
        assert_eq!(next(&mut socket).await.unwrap(), "o");
        say(&mut socket, nonsense).await;
        assert_eq!(next(&mut socket).await, None, "{nonsense}");
    }
    let path = format!("{}/websocket", server.session("/echo"));
    let mut socket = connect(server, &path).await;
    assert_eq!(next(&mut socket).await.unwrap(), "o");
    timeout(socket.send(Message::binary(&b"[\"a\"]"[..]))).await.unwrap();
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test]
async fn without_framing_messages_are_as_they_are() {
    let server = serve().await;
    let mut socket = connect(server, "/echo/websocket").await;
    say(&mut socket, "Hello world!\u{ffff}").await;
    assert_eq!(next(&mut socket).await.unwrap(), "Hello world!\u{ffff}");
    let mut closed = connect(server, "/close/websocket").await;
    assert_eq!(next(&mut closed).await, None);
}

#[tokio::test]
async fn where_it_is_turned_off_there_is_none() {
    let server = serve().await;
    for path in ["/disabled_websocket_echo/websocket", "/disabled_websocket_echo/0/0/websocket"] {
        assert_eq!(server.get(path).await.status, 404);
    }
}
