//! A whole connection with a client written by others: its handshake, a message each way, a close.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{self, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use websocket::{Accepted, Config, Decoder, Event, Opcode, Origins, Request, close_code};

/// Answers one handshake, then echoes text until the client closes.
async fn serve(mut io: DuplexStream, origins: Origins) {
    let mut input = BytesMut::new();
    let end = loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        assert_ne!(io.read_buf(&mut input).await.unwrap(), 0);
    };
    let head = String::from_utf8(input.split_to(end).to_vec()).unwrap();
    let field = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let request = Request {
        method: head.split(' ').next().unwrap(),
        upgrade: field("upgrade"),
        connection: field("connection"),
        version: field("sec-websocket-version"),
        key: field("sec-websocket-key"),
        protocols: field("sec-websocket-protocol"),
        origin: field("origin"),
        host: field("host"),
        secure: false,
    };
    let Accepted { accept, protocol, .. } =
        match websocket::accept(&request, &["v12.stomp", "v11.stomp"], &origins) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                let answer = format!("HTTP/1.1 {} \r\ncontent-length: 0\r\n\r\n", refusal.status());
                io.write_all(answer.as_bytes()).await.unwrap();
                return;
            }
        };
    let protocol = protocol.map_or(String::new(), |p| format!("Sec-WebSocket-Protocol: {p}\r\n"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    io.write_all(answer.as_bytes()).await.unwrap();

    let mut decoder = Decoder::new(&Config::default());
    loop {
        while let Some(event) = decoder.decode(&mut input).unwrap() {
            match event {
                Event::Text(text) => {
                    io.write_all(&websocket::frame(Opcode::Text, &text)).await.unwrap();
                }
                Event::Close(Some(close)) => {
                    io.write_all(&websocket::close(close.code, &close.reason)).await.unwrap();
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_ne!(io.read_buf(&mut input).await.unwrap(), 0);
    }
}

fn request() -> http::Request<()> {
    let mut request = "ws://app.example.com/ws".into_client_request().unwrap();
    let protocols = HeaderValue::from_static("v10.stomp, v11.stomp, v12.stomp");
    request.headers_mut().insert("sec-websocket-protocol", protocols);
    request.headers_mut().insert("origin", HeaderValue::from_static("http://app.example.com"));
    request
}

#[tokio::test]
async fn a_client_takes_our_accept_key_and_speaks_with_us() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn(serve(ours, Origins::default()));

    let (mut client, answer) = tokio_tungstenite::client_async(request(), theirs).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v11.stomp");

    for text in ["", "Grüße", &"x".repeat(70_000)] {
        client.send(Message::text(text)).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text(text));
    }

    let close = CloseFrame { code: close_code::NORMAL.into(), reason: "done".into() };
    client.close(Some(close.clone())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(Some(close)));
    assert!(client.next().await.is_none());
    server.await.unwrap();
}

#[tokio::test]
async fn a_client_of_another_origin_sees_the_status_of_the_refusal() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn(serve(ours, Origins::default()));

    let mut request = request();
    request.headers_mut().insert("origin", HeaderValue::from_static("http://evil.example"));
    let error = tokio_tungstenite::client_async(request, theirs).await.unwrap_err();
    assert!(matches!(&error, Error::Http(answer) if answer.status() == 403), "{error}");
    server.await.unwrap();
}
