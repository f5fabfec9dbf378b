//! What clients cost RabbitMQ: nothing, however many there are.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod support;

use std::ops::Range;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt, stream};
use stomp::{Command, Decoder, Frame, Limits, Version, header};
use testkit::RabbitMq;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::{PATIENCE, Settings};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// So many clients connect at a time.
const CONNECTING: usize = 32;

/// Open files that this process needs: its clients, and a margin.
const FILES: u64 = 10_500;

/// How much RabbitMQ may grow from 1,000 clients to 10,000, in bytes.
const GROWTH: u64 = 16 << 20;

const LIMITS: Limits = Limits { frame: 65_536, headers: 100, header_length: 8_192, body: 65_536 };

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_holds_for_10_000_clients_what_it_holds_for_1_000() {
    // RabbitMQ makes room for as many connections as it may open files, and so is started before
    // that is more.
    let rabbitmq = RabbitMq::start().await.unwrap();
    rlimit::increase_nofile_limit(FILES).unwrap();
    let gateway = Settings::gateway()
        .set("rabbitmq.uris", &rabbitmq.uri())
        .set("access.rules", "open")
        .set("gateway.max_sessions", "6000")
        .set("log.level", "warn");
    let mut nodes = [gateway.clone().start().await, gateway.start().await];
    let urls = [nodes[0].websocket().await, nodes[1].websocket().await];

    let mut clients = connect(&urls, 0..1_000).await;
    let few = Held::by(&rabbitmq).await;
    println!("1,000 clients: {few:?}");
    clients.extend(connect(&urls, 1_000..10_000).await);
    let deadline = Instant::now() + Duration::from_secs(60);
    let many = loop {
        let many = Held::by(&rabbitmq).await;
        println!("10,000 clients: {many:?}");
        // Erlang gives memory back in its own time.
        if many.memory <= few.memory + GROWTH || Instant::now() > deadline {
            break many;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };

    assert_eq!(few.connections, 2 * nodes.len());
    assert_eq!(many.connections, few.connections);
    // One for topics, one for what the nodes have among themselves.
    assert_eq!(few.queues, 2 * nodes.len());
    assert_eq!(many.queues, few.queues);
    assert_eq!((many.bindings, many.channels), (few.bindings, few.channels));
    assert!(many.memory <= few.memory + GROWTH, "{few:?}, then {many:?}");
    // They are there, and served.
    let hello =
        Frame::new(Command::Send).with_header(header::DESTINATION, "/topic/all").with_body("hello");
    send(&mut clients[0], &hello).await;
    for client in &mut clients {
        assert_eq!(receive(client, Command::Message).await.body, "hello");
    }
    for node in nodes {
        node.stop().await;
    }
}

/// What RabbitMQ holds.
#[derive(Debug)]
struct Held {
    connections: usize,
    channels: usize,
    queues: usize,
    bindings: usize,
    /// Resident bytes, after Erlang has collected its garbage.
    memory: u64,
}

impl Held {
    async fn by(rabbitmq: &RabbitMq) -> Self {
        let count = async |what: &str, column: &str| {
            let list = rabbitmq.ctl(&["--silent", what, column]).await.unwrap();
            list.lines().filter(|line| !line.trim().is_empty()).count()
        };
        rabbitmq.ctl(&["force_gc"]).await.unwrap();
        Self {
            connections: count("list_connections", "name").await,
            channels: count("list_channels", "name").await,
            queues: count("list_queues", "name").await,
            bindings: count("list_bindings", "routing_key").await,
            memory: rabbitmq.resident_memory().unwrap(),
        }
    }
}

/// Connects clients to the nodes in turn. Each has two subscriptions: one topic that all have, and
/// one that it shares with a hundredth of them.
async fn connect(urls: &[String], clients: Range<usize>) -> Vec<Client> {
    stream::iter(clients)
        .map(|n| async move {
            let (mut client, _) =
                tokio_tungstenite::connect_async(&urls[n % urls.len()]).await.unwrap();
            let connect = Frame::new(Command::Connect)
                .with_header(header::ACCEPT_VERSION, "1.2")
                .with_header(header::HOST, "test")
                .with_header(header::HEART_BEAT, "0,0");
            send(&mut client, &connect).await;
            receive(&mut client, Command::Connected).await;
            for topic in ["/topic/all".to_owned(), format!("/topic/room.{}", n % 100)] {
                let subscribe = Frame::new(Command::Subscribe)
                    .with_header(header::ID, topic.clone())
                    .with_header(header::DESTINATION, topic)
                    .with_header(header::RECEIPT, "subscribed");
                send(&mut client, &subscribe).await;
                receive(&mut client, Command::Receipt).await;
            }
            client
        })
        .buffer_unordered(CONNECTING)
        .collect()
        .await
}

async fn send(client: &mut Client, frame: &Frame) {
    let mut bytes = BytesMut::new();
    frame.encode(Version::V1_2, &mut bytes);
    client.send(Message::binary(bytes.freeze())).await.unwrap();
}

/// The next frame, which is an `expected` one.
async fn receive(client: &mut Client, expected: Command) -> Frame {
    let message = tokio::time::timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap();
    let mut input = BytesMut::from(&*message.into_data());
    let mut decoder = Decoder::new(LIMITS);
    decoder.set_version(Version::V1_2);
    let frame = decoder.decode(&mut input).unwrap().unwrap();
    assert_eq!(frame.command, expected, "{frame:?}");
    frame
}
