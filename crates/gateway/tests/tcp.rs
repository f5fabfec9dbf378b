//! Sessions on the listener for STOMP without WebSocket: the same as over WebSocket, and among them.

mod support;

use std::time::Duration;

use gateway::Config;
use stomp::{Command, header};
use support::tcp::{TcpClient, tcp_config};
use support::{Node, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn every_version_exchanges_messages_with_websocket_clients() {
    let node = Node::start(tcp_config()).await;
    let mut tcp = Vec::new();
    let mut websocket = Vec::new();
    for version in ["1.0", "1.1", "1.2"] {
        let mut client = TcpClient::connect_with(&node, version, "0,0").await;
        client.subscribe("t", "/topic/all", "").await;
        tcp.push(client);
        let mut client = node.connect_as(version).await;
        client.subscribe("w", "/topic/all").await;
        websocket.push(client);
    }
    websocket[0].publish("/topic/all", "from a page").await;
    for sender in 0..3 {
        let send = format!("SEND\ndestination:/topic/all\n\nfrom {sender}\0");
        for client in &mut tcp {
            assert_eq!(client.body().await, if sender == 0 { "from a page" } else { "again" });
        }
        tcp[sender].send(send).await;
        for client in &mut tcp {
            let frame = client.frame().await;
            assert_eq!(frame.header(header::SUBSCRIPTION).unwrap(), "t");
            assert_eq!(frame.header(header::DESTINATION).unwrap(), "/topic/all");
            assert_eq!(frame.body, format!("from {sender}"));
        }
        websocket[0].publish("/topic/all", "again").await;
    }
    for client in &mut websocket {
        for body in ["from a page", "from 0", "again", "from 1", "again", "from 2", "again"] {
            assert_eq!(client.body().await, body);
        }
    }
}

#[tokio::test]
async fn frames_may_arrive_in_any_pieces() {
    let node = Node::start(tcp_config()).await;
    let stream = "\n\nSTOMP\r\naccept-version:1.2\r\n\r\n\0\r\nSUBSCRIBE\nid:s\n\
        destination:/queue/$\nreceipt:r1\n\n\0SEND\ndestination:/queue/$\nreceipt:r2\n\
        content-length:3\n\na\0b\0\nDISCONNECT\nreceipt:r3\n\n\0";
    for cut in 0..=stream.len() {
        // Its own queue each time: nothing is left of another connection.
        let stream = stream.replace('$', &format!("{cut:03}"));
        let mut client = TcpClient::open(&node).await;
        match cut {
            // All in one packet.
            0 => client.send(&stream).await,
            1 => {
                for byte in stream.bytes() {
                    client.send([byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            _ => {
                let (begin, end) = stream.as_bytes().split_at(cut);
                client.send(begin).await;
                tokio::task::yield_now().await;
                client.send(end).await;
            }
        }
        assert_eq!(client.frame().await.command, Command::Connected);
        client.receipt("r1").await;
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let frame = client.frame().await;
            if frame.command == Command::Message {
                assert_eq!(frame.body.as_ref(), b"a\0b");
            }
            seen.push(frame.command);
        }
        seen.sort_by_key(|command| command.as_str());
        assert_eq!(seen, [Command::Message, Command::Receipt], "cut at {cut}");
        client.receipt("r3").await;
        assert_eq!(client.rest().await.unwrap(), b"");
    }
}

#[tokio::test]
async fn heart_beats_go_both_ways_and_silence_ends_the_session_unprobed() {
    let stomp = stomp::Config {
        heart_beat_send: SECOND,
        heart_beat_receive: SECOND,
        ..stomp::Config::default()
    };
    let node = Node::start_with(tcp_config(), stomp).await;
    let mut alive = TcpClient::connect_with(&node, "1.1", "1000,1000").await;
    let connecting = Instant::now();
    let mut silent = TcpClient::connect_with(&node, "1.2", "1000,0").await;
    let beating = async {
        // It answers each beat with its own, for longer than silence is borne.
        for _ in 0..5 {
            assert_eq!(timeout(alive.socket.read_u8()).await.unwrap(), b'\n');
            alive.send("\n").await;
        }
        alive.send("SEND\ndestination:/topic/a\nreceipt:r\n\n\0").await;
        loop {
            // Nothing but beats comes before the receipt.
            match timeout(alive.socket.read_u8()).await.unwrap() {
                b'\n' => {}
                other => break assert_eq!(other, b'R'),
            }
        }
    };
    let ending = async {
        let mut first = [0; 5];
        timeout(silent.socket.read_exact(&mut first)).await.unwrap();
        (first, connecting.elapsed())
    };
    let ((), (first, after)) = tokio::join!(beating, ending);
    // The first that comes is the ERROR, a whole interval after the client was late.
    assert_eq!(&first, b"ERROR");
    assert!(after >= 2 * SECOND, "{after:?}");
    let rest = String::from_utf8(silent.rest().await.unwrap()).unwrap();
    assert!(rest.contains("heard nothing for"), "{rest}");
}

#[tokio::test]
async fn an_error_is_read_before_the_end_whatever_the_client_still_sends() {
    let node = Node::start(tcp_config()).await;
    let mut client = TcpClient::connect(&node).await;
    client.send("SEND\nreceipt:r\n\nno destination\0").await;
    // More than the server's socket takes unread; closed with that, it would be reset.
    let junk = vec![b'x'; 8 << 20];
    let (mut reading, mut writing) = client.socket.split();
    let mut read = Vec::new();
    let (wrote, ended) =
        timeout(async { tokio::join!(writing.write_all(&junk), reading.read_to_end(&mut read)) })
            .await;
    wrote.unwrap();
    ended.unwrap();
    let text = String::from_utf8(read).unwrap();
    assert!(text.starts_with("ERROR\nmessage:SEND needs the header"), "{text}");
    assert!(text.contains("\nreceipt-id:r\n"), "{text}");
}

#[tokio::test]
async fn http_and_tls_by_mistake_get_an_error() {
    let node = Node::start(tcp_config()).await;
    for (mistake, told) in [
        (&b"GET /ws HTTP/1.1\r\nhost: h\r\n\r\n"[..], "unknown command \"GET /ws HTTP/1.1\""),
        (b"POST / HTTP/1.1\r\n\r\nCONNECT\n\n\0", "unknown command \"POST / HTTP/1.1\""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "unknown command \"\\x16\\x03"),
    ] {
        let mut client = TcpClient::open(&node).await;
        client.send(mistake).await;
        let error = client.error().await;
        assert!(error.starts_with(told), "{error}");
    }
    node.wait_for_metric("gateway_sessions", 0.0).await;
}

#[tokio::test]
async fn silence_and_half_frames_end_in_time() {
    let soon = Duration::from_millis(300);
    let stomp =
        stomp::Config { connect_timeout: soon, frame_timeout: soon, ..stomp::Config::default() };
    let node = Node::start_with(tcp_config(), stomp).await;
    for begin in ["", "\n", "CONNECT\naccept-ver"] {
        let mut client = TcpClient::open(&node).await;
        client.send(begin).await;
        assert!(client.error().await.contains("no CONNECT frame within 300ms"));
    }
    // For the other, CONNECT may take its time.
    let stomp = stomp::Config { frame_timeout: soon, ..stomp::Config::default() };
    let node = Node::start_with(tcp_config(), stomp).await;
    let mut client = TcpClient::connect(&node).await;
    client.send("SEND\ndestination:/topic/a\n").await;
    assert!(client.error().await.contains("a frame was begun and not ended within 300ms"));
}

#[tokio::test]
async fn limits_hold() {
    let node = Node::start(tcp_config()).await;
    let mut client = TcpClient::connect(&node).await;
    client.send("SEND\ndestination:/topic/a\ncontent-length:65537\n\n").await;
    assert_eq!(client.error().await, "a body of more than 65536 bytes");
    let mut client = TcpClient::connect(&node).await;
    client.send("BEGIN\ntransaction:a\nlong:").await;
    client.send("x".repeat(9 << 10)).await;
    assert_eq!(client.error().await, "a header line of more than 8192 bytes");
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"too_big\"}", 2.0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_the_others_lose_nothing() {
    let node = Node::start(Config { mailbox: "64 KiB".parse().unwrap(), ..tcp_config() }).await;
    let mut slow = TcpClient::connect(&node).await;
    slow.subscribe("s", "/topic/a", "").await;
    let mut well = node.connect().await;
    well.subscribe("w", "/topic/a").await;
    let mut other = TcpClient::connect(&node).await;
    other.subscribe("o", "/topic/a", "").await;
    let closed = "gateway_sessions_closed_total{reason=\"slow_consumer\"}";
    let body = "x".repeat(60 << 10);
    let mut sent = 0;
    // As much as all buffers of the system take.
    while node.metric(closed) == 0.0 {
        assert!(sent < 2_000, "the slow client is still there");
        well.publish("/topic/a", body.clone()).await;
        sent += 1;
        assert_eq!(well.body().await.len(), body.len());
        assert_eq!(other.body().await.len(), body.len());
    }
    assert_eq!(node.metric(closed), 1.0);
    // It is gone within the time of a good-bye, whether it reads or not.
    node.wait_for_metric("gateway_sessions", 2.0).await;
}

#[tokio::test]
async fn a_stopping_node_ends_its_connections_in_good_order() {
    let mut node = Node::start(tcp_config()).await;
    let mut connected = TcpClient::connect(&node).await;
    let mut greeting = TcpClient::open(&node).await;
    node.wait_for_metric("gateway_sessions", 2.0).await;
    node.stop();
    assert_eq!(connected.rest().await.unwrap(), b"");
    assert_eq!(greeting.rest().await.unwrap(), b"");
    drop((connected, greeting));
    node.stopped().await;
}

#[tokio::test]
async fn both_ports_share_the_nodes_sessions_and_handshakes() {
    let config = Config { max_sessions: 2, max_handshakes: 1, ..tcp_config() };
    let node = Node::start(config).await;
    let tcp = TcpClient::connect(&node).await;
    let websocket = node.connect().await;
    let error = TcpClient::open(&node).await.error().await;
    assert!(error.contains("no room for another session"), "{error}");
    assert!(node.open(&[]).await.is_err());
    assert_eq!(node.metric("gateway_connections_refused_total{status=\"503\"}"), 2.0);
    drop(tcp);
    node.wait_for_metric("gateway_sessions", 1.0).await;
    let another = node.connect().await;
    drop(websocket);
    node.wait_for_metric("gateway_sessions", 1.0).await;
    TcpClient::connect(&node).await;
    drop(another);
}

#[tokio::test]
async fn what_a_lost_client_had_not_acknowledged_goes_to_another() {
    let node = Node::start(tcp_config()).await;
    let mut lost = TcpClient::connect(&node).await;
    lost.subscribe("q", "/queue/q", "ack:client-individual\n").await;
    let mut sender = node.connect().await;
    sender.publish_confirmed("/queue/q", "one").await;
    sender.publish_confirmed("/queue/q", "two").await;
    let first = lost.frame().await;
    assert_eq!((&*first.body, lost.body().await.as_str()), (&b"one"[..], "two"));
    let token = first.header(header::ACK).unwrap();
    lost.send(format!("ACK\nid:{token}\nreceipt:acked\n\n\0")).await;
    lost.receipt("acked").await;
    // No good-bye, and a reset instead of an end.
    lost.socket.set_zero_linger().unwrap();
    drop(lost);

    let mut other = TcpClient::connect(&node).await;
    other.subscribe("q", "/queue/q", "").await;
    let frame = other.frame().await;
    assert_eq!(frame.body, "two");
    assert_eq!(frame.header(header::REDELIVERED).unwrap(), "true");
}
