//! What clients do wrong: a clear ERROR to whoever did it, then a close, and harm to nobody else.

mod support;

use std::time::Duration;

use futures_util::SinkExt;
use stomp::{Command, Frame, header};
use support::{Client, Node, config, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A client that exchanges messages before and after somebody else misbehaved.
struct Bystander(Client);

impl Bystander {
    async fn new(node: &Node) -> Self {
        let mut client = node.connect().await;
        client.subscribe("s", "/topic/bystander").await;
        Self(client)
    }

    async fn is_well(&mut self) {
        self.0.publish("/topic/bystander", "x").await;
        assert_eq!(self.0.body().await, "x");
    }
}

#[tokio::test]
async fn each_mistake_gets_its_error_and_close_code() {
    let node = Node::start(config()).await;
    let mut bystander = Bystander::new(&node).await;
    let long = "x".repeat(70_000);
    let header = format!("SEND\ndestination:/topic/a\nreceipt:r\nh:{}\n\nx\0", "y".repeat(9_000));
    let headers = format!("SEND\nreceipt:r\ndestination:/topic/a\n{}\nx\0", "h:1\n".repeat(101));
    let too_long =
        format!("SEND\nreceipt:r\ndestination:/topic/a\ncontent-length:70000\n\n{long}\0");
    let cases: &[(&str, &str, Option<&str>, u16)] = &[
        ("GET / HTTP/1.1\r\n\r\n", "unknown command", None, 1002),
        ("HELLO\n\n\0", "unknown command \"HELLO\"", None, 1002),
        ("CONNECT\naccept-version:1.2\n\n\0", "a second CONNECT", None, 1002),
        ("SUBSCRIBE\ndestination:/topic/a\nreceipt:r\n\n\0", "\"id\"", Some("r"), 1002),
        ("SUBSCRIBE\nid:1\nreceipt:r\n\n\0", "\"destination\"", Some("r"), 1002),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0\
             SUBSCRIBE\nid:1\ndestination:/topic/b\nreceipt:r\n\n\0",
            "the id \"1\" exists already",
            Some("r"),
            1002,
        ),
        ("SEND\nreceipt:r\n\nx\0", "\"destination\"", Some("r"), 1002),
        ("SEND\ndestination:/topic/\nreceipt:r\n\nx\0", "/topic/", Some("r"), 1002),
        ("SEND\ndestination:/topic/a..b\nreceipt:r\n\nx\0", "/topic/a..b", Some("r"), 1002),
        ("SEND\ndestination:/topic/a?\nreceipt:r\n\nx\0", "/topic/a?", Some("r"), 1002),
        ("SEND\ndestination:/topic/{a}\nreceipt:r\n\nx\0", "/topic/{a}", Some("r"), 1002),
        ("SEND\ndestination:/topic/a.*\nreceipt:r\n\nx\0", "/topic/a.*", Some("r"), 1002),
        ("SEND\ndestination:/nope/a\nreceipt:r\n\nx\0", "/nope/a", Some("r"), 1002),
        ("SUBSCRIBE\nid:1\ndestination:/topic/a*\nreceipt:r\n\n\0", "/topic/a*", Some("r"), 1002),
        ("SEND\ndestination:/exchange/e/k\nreceipt:r\n\nx\0", "exchange", Some("r"), 1002),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/a\nselector:a > 1\nreceipt:r\n\n\0",
            "selector:a > 1 is not available",
            Some("r"),
            1002,
        ),
        (
            "SUBSCRIBE\nid:1\ndestination:/topic/a\ndurable:maybe\nreceipt:r\n\n\0",
            "SUBSCRIBE has durable:maybe, which should be true or false",
            Some("r"),
            1002,
        ),
        (
            "SUBSCRIBE\nid:1\ndestination:/queue/a\nx-max-length:many\nreceipt:r\n\n\0",
            "SUBSCRIBE has x-max-length:many, which should be a whole number, 0 or more",
            Some("r"),
            1002,
        ),
        (
            "SEND\ndestination:/queue/a\nx-message-ttl:soon\nreceipt:r\n\nx\0",
            "SEND has x-message-ttl:soon, which should be a whole number, 0 or more",
            Some("r"),
            1002,
        ),
        (
            "SUBSCRIBE\nid:/temp-queue/t\ndestination:/topic/a\nreceipt:r\n\n\0",
            "SUBSCRIBE has id:/temp-queue/t, which should be no temp-queue",
            Some("r"),
            1002,
        ),
        (
            "SEND\ndestination:/queue/a\nreply-to:/temp-queue/a/b\nreceipt:r\n\nx\0",
            "'/temp-queue/a/b' has more words",
            Some("r"),
            1002,
        ),
        ("ACK\nid:0.0.nonsense\nreceipt:r\n\n\0", "nothing to acknowledge", Some("r"), 1002),
        ("COMMIT\ntransaction:t\nreceipt:r\n\n\0", "\"t\", which is not open", Some("r"), 1002),
        ("SEND\ndestination:/app/nope\nreceipt:r\n\nx\0", "nope", Some("r"), 1002),
        ("SEND\ndestination:/topic/a\nreceipt:r\nbad\n\nx\0", "colon", Some("r"), 1002),
        ("SEND\ndestination:/topic/a\nreceipt:r\nh:\\t\n\nx\0", "\\t", Some("r"), 1002),
        ("SEND\nreceipt:r\ncontent-length:3\n\nabcd\0", "content-length", Some("r"), 1002),
        (&too_long, "65536", Some("r"), 1009),
        (&header, "8192", Some("r"), 1009),
        (&headers, "100", Some("r"), 1009),
    ];
    for (frames, expected, receipt, code) in cases {
        let mut client = node.connect().await;
        client.send_text(frames).await;
        let (message, got_receipt, close) = client.error().await;
        let start: String = frames.chars().take(80).collect();
        assert!(message.contains(expected), "{start:?}: {message}");
        assert_eq!(
            (got_receipt.as_deref(), close),
            (*receipt, Some(*code)),
            "{start:?}: {message}"
        );
        bystander.is_well().await;
    }
}

#[tokio::test]
async fn frames_before_connect_are_refused() {
    let node = Node::start(config()).await;
    let mut client = node.open(&[]).await.unwrap();
    client.send_text("SEND\ndestination:/topic/a\nreceipt:r\n\nx\0").await;
    let (message, receipt, close) = client.error().await;
    assert!(message.contains("expected CONNECT"), "{message}");
    assert_eq!((receipt.as_deref(), close), (Some("r"), Some(1002)));
}

#[tokio::test]
async fn a_websocket_message_beyond_the_limit_is_refused_before_it_is_read() {
    let node = Node::start(config()).await;
    let mut bystander = Bystander::new(&node).await;
    let mut client = node.connect().await;
    // The server answers from the length alone; sending the rest may fail.
    let _ = client.socket.send(Message::binary(vec![b'x'; 1 << 20])).await;
    let (message, _, close) = client.error().await;
    assert!(message.contains("131072"), "{message}");
    assert_eq!(close, Some(1009));
    bystander.is_well().await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused_with_1007() {
    let node = Node::start(config()).await;
    let mut bystander = Bystander::new(&node).await;
    let mut socket = TcpStream::connect(node.address).await.unwrap();
    socket
        .write_all(
            b"GET /ws HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
              \x81\x82\0\0\0\0\xff\xfe",
        )
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(socket.read_to_end(&mut answer)).await.unwrap();
    let close = answer.len() - answer.iter().rev().position(|byte| *byte == 0x88).unwrap() - 1;
    assert_eq!(&answer[close + 2..close + 4], &1007_u16.to_be_bytes());
    bystander.is_well().await;
}

#[tokio::test]
async fn a_frame_may_arrive_in_any_pieces() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("s", "/topic/a").await;
    for byte in b"SEND\ndestination:/topic/a\n\nhello\0\n\n" {
        client.send_binary(vec![*byte]).await;
    }
    client.send_text("SEND\ndestination:/topic/a\n\n1\0SEND\ndestination:/topic/a\n\n2\0").await;
    for body in ["hello", "1", "2"] {
        assert_eq!(client.body().await, body);
    }
}

#[tokio::test]
async fn silence_and_half_a_connect_end_in_time() {
    let stomp = stomp::Config { connect_timeout: Duration::from_millis(300), ..Default::default() };
    let node = Node::start_with(config(), stomp).await;
    let mut silent = node.open(&[]).await.unwrap();
    let mut half = node.open(&[]).await.unwrap();
    half.send_text("CONNECT\naccept-version").await;
    for client in [&mut silent, &mut half] {
        let (message, _, close) = client.error().await;
        assert!(message.contains("no CONNECT frame within 300ms"), "{message}");
        assert_eq!(close, Some(4408));
    }
}

#[tokio::test]
async fn a_flood_of_frames_ends_the_session_that_floods() {
    let stomp = stomp::Config { max_frames_per_second: 10, ..Default::default() };
    let node = Node::start_with(config(), stomp).await;
    let mut client = node.connect().await;
    client.send_text(&"SEND\ndestination:/topic/a\n\nx\0".repeat(100)).await;
    let (message, _, close) = client.error().await;
    assert!(message.contains("more than 10 frames per second"), "{message}");
    assert_eq!(close, Some(4429));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_the_others_lose_nothing() {
    const MESSAGES: usize = 400;
    let node =
        Node::start(gateway::Config { mailbox: bytesize::ByteSize::kib(64), ..config() }).await;
    let mut slow = node.connect().await;
    slow.subscribe("s", "/topic/a").await;
    let mut reader = node.connect().await;
    reader.subscribe("r", "/topic/a").await;
    let mut publisher = node.connect().await;
    // More than the kernel's buffers hold for a client that does not read.
    let body = "x".repeat(60_000);
    for _ in 0..MESSAGES {
        publisher.publish_confirmed("/topic/a", body.clone()).await;
        assert_eq!(reader.body().await.len(), body.len());
    }
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"slow_consumer\"}", 1.0).await;
    node.wait_for_metric("gateway_sessions", 2.0).await;
}

#[tokio::test]
async fn a_write_that_takes_too_long_closes_the_client() {
    let node = Node::start(gateway::Config {
        send_timeout: Duration::from_millis(300),
        mailbox: bytesize::ByteSize::mib(64),
        ..config()
    })
    .await;
    let mut slow = node.connect().await;
    slow.subscribe("s", "/topic/a").await;
    let mut publisher = node.connect().await;
    for _ in 0..200 {
        publisher.publish_confirmed("/topic/a", "x".repeat(60_000)).await;
    }
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"slow_consumer\"}", 1.0).await;
    // It reads on, too late: what was being written, the ERROR, the close code.
    let close = loop {
        match slow.frame_or_close().await {
            Ok(frame) if frame.command == Command::Error => {
                assert!(frame.header(header::MESSAGE).unwrap().contains("300ms"), "{frame:?}");
            }
            Ok(_) => {}
            Err(close) => break close,
        }
    };
    assert!(matches!(close, Some(4500) | None), "{close:?}");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let node = Node::start(config()).await;
    let own = format!("http://{}", node.address);
    assert!(node.open(&[("origin", &own)]).await.is_ok());
    let Err(Error::Http(response)) = node.open(&[("origin", "https://evil.example")]).await else {
        panic!("let in from another origin");
    };
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn what_is_no_handshake_gets_the_status_that_says_so() {
    let node = Node::start(config()).await;
    let request = |method: &str, headers: &str| {
        format!("{method} /ws HTTP/1.1\r\nhost: h\r\nconnection: close{headers}\r\n\r\n")
    };
    for (request, status) in [
        (request("GET", "\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="), "400 Bad Request"),
        (request("POST", "\r\ncontent-length: 0"), "405 Method Not Allowed"),
        (
            request(
                "GET",
                ", upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            ),
            "426 Upgrade Required",
        ),
    ] {
        let answer = node.http(node.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    // Who says no word of WebSocket hears that SockJS is here.
    let answer = node.http(node.address, &request("GET", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("SockJS"), "{answer}");
    let elsewhere = node.get(node.address, "/elsewhere").await;
    assert!(elsewhere.starts_with("HTTP/1.1 404") && elsewhere.contains("/ws"), "{elsewhere}");
}

#[tokio::test]
async fn operators_see_metrics() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("s", "/topic/a").await;
    client.publish("/topic/a", "x").await;
    assert_eq!(client.body().await, "x");
    for (name, value) in [
        ("gateway_sessions", 1.0),
        ("gateway_subscriptions", 1.0),
        ("gateway_frames_received_total{command=\"SEND\"}", 1.0),
        ("gateway_messages_sent_total", 1.0),
        ("gateway_fan_out_sessions_count", 1.0),
        ("broker_publishes_total{outcome=\"confirmed\"}", 1.0),
    ] {
        assert_eq!(node.metric(name), value, "{name}");
    }
    client.send(Frame::new(Command::Disconnect)).await;
    node.wait_for_metric("gateway_sessions", 0.0).await;
}

/// Although messages come for it all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_after_an_error() {
    let node = Node::start(config()).await;
    let mut publisher = node.connect().await;
    let publishing = tokio::spawn(async move {
        loop {
            publisher.publish("/topic/busy", "x").await;
        }
    });
    for _ in 0..100 {
        let mut client = node.connect().await;
        // The second is a mistake. Messages may come before the first one's receipt.
        for _ in 0..2 {
            client.tell(Command::Subscribe, &[("id", "1"), ("destination", "/topic/busy")]).await;
        }
        let end = loop {
            let frame = client.frame().await;
            if frame.command == Command::Error {
                break client.frame_or_close().await;
            }
        };
        assert_eq!(end.unwrap_err(), Some(1002));
    }
    publishing.abort();
}
