//! Headers of all kinds, thrown at RabbitMQ through one lane of each sort: each message is refused
//! before it is sent, or confirmed, and no channel is ever closed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use broker::{Broker, ConfirmError, Destination, Message, PublishError, PublisherId};
use common::{broker_up, config, queue, soon, topic};
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use testkit::RabbitMq;

/// How many messages are sent.
const MESSAGES: usize = 4_000;

/// How many may be unconfirmed.
const WINDOW: usize = 100;

/// Names that mean something to RabbitMQ, to its plugins or to a node.
const NAMES: &[&str] = &[
    "content-type",
    "content-encoding",
    "priority",
    "correlation-id",
    "reply-to",
    "expiration",
    "amqp-message-id",
    "timestamp",
    "type",
    "user-id",
    "app-id",
    "persistent",
    "CC",
    "BCC",
    "cc",
    "x-match",
    "x-death",
    "x-first-death-queue",
    "x-first-death-exchange",
    "x-first-death-reason",
    "x-last-death-queue",
    "x-delay",
    "x-delivery-count",
    "x-acquired-count",
    "x-received-from",
    "x-original-exchange",
    "x-original-routing-key",
    "x-stream-offset",
    "x-stream-filter-value",
    "x-basic-type",
    "x-routing-key",
    "x-exchange",
    "x-cc",
    "x-reply-to-topic",
    "x-opt-rabbitmq-received-time",
    "x-footbridge-v",
    "x-footbridge-id",
    "x-footbridge-republished",
    "x-footbridge-",
    "delivery-mode",
    "delivery_mode",
    "cluster-id",
    "headers",
    "destination",
    "colour",
    "",
];

const VALUES: &[&str] = &[
    "",
    "0",
    "-0",
    "+1",
    " 1",
    "1 ",
    "01",
    "1.5",
    "1e3",
    "-1",
    "255",
    "256",
    "true",
    "guest",
    "root",
    "red",
    "all",
    "4294967295",
    "4294967296",
    "315360000000",
    "315360000001",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "0x10",
    "\u{661}",
    "amq.rabbitmq.reply-to",
    "amq.rabbitmq.reply-to.g2dkAA5yYWJi.x",
    "/reply-queue/amq.rabbitmq.reply-to.x.y",
    "/temp-queue/t",
    "\u{0}",
    "\u{fffd}",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(NAMES).prop_map(str::to_owned),
        2 => "\\PC{0,8}",
        1 => any::<String>(),
        1 => (250_usize..260).prop_map(|n| "n".repeat(n)),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(VALUES).prop_map(str::to_owned),
        2 => "\\PC{0,16}",
        1 => any::<String>(),
        1 => (250_usize..260).prop_map(|n| "v".repeat(n)),
        1 => any::<i64>().prop_map(|n| n.to_string()),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop_oneof![
        20 => vec((name(), value()), 0..4),
        4 => vec((name(), value()), 0..20),
        // As many as a frame holds, and somewhat more.
        1 => (1_000_usize..9_000).prop_map(|n| (0..n).map(|n| (n.to_string(), String::new())).collect()),
        1 => (0_usize..140_000).prop_map(|n| vec![("long".to_owned(), "v".repeat(n))]),
    ]
}

fn table(entries: &[(&'static str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Every kind of exchange and queue that looks into messages, behind `odd`.
async fn declare(channel: &Channel) {
    let none = FieldTable::default;
    let text = |text: &str| AMQPValue::LongString(text.into());
    for (name, kind) in [
        ("odd", ExchangeKind::Fanout),
        ("odd.headers", ExchangeKind::Headers),
        ("odd.topics", ExchangeKind::Topic),
    ] {
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare(name.into(), kind, options, none()).await.unwrap();
    }
    let x_match =
        |how| table(&[("x-match", text(how)), ("colour", text("red")), ("CC", text("a"))]);
    for (name, arguments) in [("odd.headers", x_match("any")), ("odd.topics", none())] {
        let options = ExchangeBindOptions::default();
        let bind = channel.exchange_bind(name.into(), "odd".into(), "".into(), options, arguments);
        bind.await.unwrap();
    }
    let short = ("x-max-length", AMQPValue::LongLongInt(10));
    for (name, exchange, arguments, bound) in [
        ("odd.classic", "odd", table(std::slice::from_ref(&short)), none()),
        (
            "odd.priority",
            "odd.headers",
            table(&[short.clone(), ("x-max-priority", AMQPValue::LongInt(5))]),
            x_match("any"),
        ),
        (
            "odd.dead",
            "odd.headers",
            table(&[
                ("x-message-ttl", AMQPValue::LongInt(0)),
                ("x-dead-letter-exchange", text("odd.topics")),
            ]),
            x_match("all"),
        ),
        ("odd.quorum", "odd", table(&[short, ("x-queue-type", text("quorum"))]), none()),
        (
            "odd.stream",
            "odd.topics",
            table(&[
                ("x-queue-type", text("stream")),
                ("x-max-length-bytes", AMQPValue::LongLongInt(10_000_000)),
            ]),
            none(),
        ),
    ] {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.into(), durable, arguments).await.unwrap();
        let options = QueueBindOptions::default();
        let bind = channel.queue_bind(name.into(), exchange.into(), "#".into(), options, bound);
        bind.await.unwrap();
    }
    let options = QueueBindOptions::default();
    for queue in ["odd.priority", "odd.dead"] {
        let bind = channel.queue_bind(queue.into(), "odd".into(), "".into(), options, none());
        bind.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_headers_close_a_channel() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let uri = rabbitmq.uri();
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    declare(&channel).await;
    let node = broker_up(config(&rabbitmq.uri())).await;
    let publisher = PublisherId(1);
    let destinations = [
        Destination::Exchange { exchange: "odd".into(), key: Some("a".into()) },
        Destination::Exchange { exchange: "odd.headers".into(), key: None },
        Destination::AmqQueue("odd.priority".into()),
        Destination::ReplyQueue("odd.classic".into()),
        topic(),
        queue(),
    ];
    // Every lane is in use.
    for to in &destinations {
        let confirm = soon(node.publish(publisher, Message::new(to.clone(), "first"))).await;
        soon(confirm.unwrap()).await.unwrap();
    }
    // A channel that was closed is replaced by another process.
    let channels = ["list_channels", "-q", "--no-table-headers", "pid", "number"];
    let sorted = async || {
        let channels = rabbitmq.ctl(&channels).await.unwrap();
        let mut channels: Vec<_> = channels.lines().map(str::to_owned).collect();
        channels.sort();
        channels
    };
    let before = sorted().await;

    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut confirms, mut refused, mut confirmed) = (Vec::new(), 0, 0);
    for n in 0..MESSAGES {
        let headers = headers().new_tree(&mut runner).unwrap().current();
        let mut message = Message::new(destinations[n % destinations.len()].clone(), "odd");
        message.headers =
            headers.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect();
        message.persistent = n % 7 == 0;
        match soon(node.publish(publisher, message)).await {
            Ok(confirm) => confirms.push((headers, confirm)),
            Err(PublishError::Unfit(_)) => refused += 1,
            Err(other) => panic!("{other} for {headers:?}"),
        }
        if confirms.len() == WINDOW || n + 1 == MESSAGES {
            confirmed += confirms.len();
            for (headers, confirm) in confirms.drain(..) {
                let word = soon(confirm).await;
                assert_eq!(word, Ok(()), "{headers:?}");
            }
        }
    }
    assert!(refused > MESSAGES / 20 && confirmed > MESSAGES / 4, "{refused}, {confirmed}");
    assert_eq!(sorted().await, before);
    soon(node.close()).await;
}

/// Longer than a frame of this RabbitMQ: it would end the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_no_frame_holds_are_refused_alone() {
    let rabbitmq = RabbitMq::options().config("frame_max = 8192").start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    let mut registry = prometheus_client::registry::Registry::default();
    node.register(&mut registry);
    let topic = topic();
    for size in [7_000, 9_000, 7_000] {
        let mut message = Message::new(topic.clone(), "");
        message.headers.push(("long".into(), "v".repeat(size).into()));
        let confirm = soon(node.publish(PublisherId(1), message)).await.unwrap();
        match soon(confirm).await {
            Ok(()) => assert_eq!(size, 7_000),
            Err(ConfirmError::Refused(why)) => {
                assert!(size == 9_000 && why.contains("where a frame has at most 8192"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    let mut scraped = String::new();
    prometheus_client::encoding::text::encode(&mut scraped, &registry).unwrap();
    assert!(scraped.contains("amqp_reconnects_total{connection=\"publish\"} 0\n"), "{scraped}");
}
