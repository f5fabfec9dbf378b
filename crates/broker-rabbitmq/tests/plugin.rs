//! Headers, as RabbitMQ's own STOMP plugin maps them: the plugin stands on one side, a node on the
//! other. And what RabbitMQ closes an AMQP channel for, which no sender may reach.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;

use broker::{Broker, Destination, Feed, Message, PublishError, PublisherId, SubscribeRequest};
use broker_rabbitmq::{Config, RabbitMqBroker, SubscriptionNames};
use common::{body, broker_up, config, destination, publish, soon, subscribe, take, topic};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use testkit::{Plugin, RabbitMq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Headers = BTreeMap<String, String>;

/// A client of the plugin.
struct Stomp(TcpStream);

impl Stomp {
    async fn connect(rabbitmq: &RabbitMq) -> Self {
        let port = rabbitmq.plugin_port(Plugin::Stomp);
        let mut client = Self(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        client.send("CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0").await;
        assert!(client.frame().await.starts_with("CONNECTED"));
        client
    }

    async fn send(&mut self, frame: &str) {
        self.0.write_all(frame.as_bytes()).await.unwrap();
    }

    async fn frame(&mut self) -> String {
        let mut frame = Vec::new();
        loop {
            match soon(self.0.read_u8()).await.unwrap() {
                0 => break,
                b'\n' if frame.is_empty() => {}
                byte => frame.push(byte),
            }
        }
        String::from_utf8(frame).unwrap()
    }

    async fn subscribe(&mut self, to: &Destination) {
        self.send(&format!("SUBSCRIBE\nid:s\ndestination:{to}\nreceipt:r\n\n\0")).await;
        assert!(self.frame().await.starts_with("RECEIPT"));
    }

    /// The headers of the next MESSAGE, without those that the plugin sets itself.
    async fn headers(&mut self) -> Headers {
        let frame = self.frame().await;
        let (head, _) = frame.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("MESSAGE"));
        let headers = lines.map(|line| line.split_once(':').unwrap());
        let servers =
            ["subscription", "destination", "message-id", "redelivered", "content-length"];
        headers
            .filter(|(name, _)| !servers.contains(name) && !name.starts_with("x-footbridge-"))
            .map(|(name, value)| (name.to_owned(), value.replace("\\c", ":").replace("\\\\", "\\")))
            .collect()
    }
}

/// What a gateway shows of `message` besides what it sets itself.
fn shown(message: &Message) -> Headers {
    let mut headers: Headers =
        message.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    assert_eq!(headers.len(), message.headers.len(), "a name is there twice: {headers:?}");
    if message.persistent {
        headers.insert("persistent".to_owned(), "true".to_owned());
    }
    headers
}

fn key(topic: &Destination) -> String {
    match topic {
        Destination::Topic(topic) => topic.key().to_string(),
        other => panic!("{other} is no topic"),
    }
}

async fn with_plugin() -> (RabbitMq, RabbitMqBroker) {
    let rabbitmq = RabbitMq::options().plugin(Plugin::Stomp).start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    (rabbitmq, node)
}

async fn application(rabbitmq: &RabbitMq) -> (Connection, Channel) {
    let connection =
        Connection::connect(&rabbitmq.uri(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

fn table(entries: Vec<(&str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// A client of the plugin leaves a durable subscription behind, and comes back to a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_subscription_of_the_plugin_goes_on_at_a_node() {
    let rabbitmq = RabbitMq::options().plugin(Plugin::Stomp).start().await.unwrap();
    let config =
        Config { subscription_names: SubscriptionNames::Plugin, ..config(&rabbitmq.uri()) };
    let node = broker_up(config).await;
    let topics = ["/topic/prices.*", "/exchange/amq.topic/prices.#"];
    let mut plugin = Stomp::connect(&rabbitmq).await;
    for (n, topic) in topics.iter().enumerate() {
        let subscribe = format!(
            "SUBSCRIBE\nid:s{n}\ndestination:{topic}\ndurable:true\nauto-delete:false\n\
             exclusive:false\nack:client\nreceipt:r\n\n\0"
        );
        plugin.send(&subscribe).await;
        assert!(plugin.frame().await.starts_with("RECEIPT"));
    }
    plugin.send("DISCONNECT\nreceipt:r\n\n\0").await;
    assert!(plugin.frame().await.starts_with("RECEIPT"));
    let to = destination("/topic/prices.oil");
    assert_eq!(soon(publish(&node, 1, &to, "away").await).await, Ok(()));
    for (n, topic) in topics.iter().enumerate() {
        let feed = Feed::Kept { owner: Some("ann".into()), id: format!("s{n}").into() };
        let request = SubscribeRequest { feed, ..SubscribeRequest::new(destination(topic), 1) };
        let mut subscription = soon(node.subscribe(request)).await.unwrap();
        assert_eq!(body(&take(&mut subscription).await), "away", "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_publishes_is_shown_as_the_plugin_shows_it() {
    let (rabbitmq, node) = with_plugin().await;
    let topic = topic();
    let mut plugin = Stomp::connect(&rabbitmq).await;
    plugin.subscribe(&topic).await;
    let mut subscription = subscribe(&node, &topic).await;
    let (_connection, channel) = application(&rabbitmq).await;

    let text = |text: &str| AMQPValue::LongString(text.into());
    let of_all_types = table(vec![
        ("text", text("t: a\\b")),
        ("empty", text("")),
        ("int", AMQPValue::LongInt(-7)),
        ("long", AMQPValue::LongLongInt(1 << 40)),
        ("short", AMQPValue::ShortInt(1)),
        ("short-short", AMQPValue::ShortShortInt(1)),
        ("unsigned", AMQPValue::LongUInt(1)),
        ("short-unsigned", AMQPValue::ShortUInt(1)),
        ("byte", AMQPValue::ShortShortUInt(1)),
        ("float", AMQPValue::Float(1.5)),
        ("double", AMQPValue::Double(1.5)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 1, value: 15 })),
        ("bool", AMQPValue::Boolean(true)),
        ("time", AMQPValue::Timestamp(1)),
        ("nothing", AMQPValue::Void),
        ("table", AMQPValue::FieldTable(table(vec![("a", text("b"))]))),
        ("array", AMQPValue::FieldArray(FieldArray::from(vec![text("a")]))),
        ("bytes", AMQPValue::ByteArray(b"ab".to_vec().into())),
    ]);
    let all = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(5)
        .with_correlation_id("c".into())
        .with_reply_to("amq.gen-1".into())
        .with_expiration("60000".into())
        .with_message_id("m".into())
        .with_timestamp(1_700_000_000)
        .with_type("t".into())
        .with_user_id("guest".into())
        .with_app_id("app".into());
    let published = [
        (BasicProperties::default().with_headers(of_all_types), None),
        (all, None),
        (BasicProperties::default().with_reply_to("/topic/replies".into()), None),
        // Both say it: as STOMP has it, the first counts.
        (
            BasicProperties::default()
                .with_content_type("text/plain".into())
                .with_headers(table(vec![("content-type", text("text/html"))])),
            Some("content-type"),
        ),
        (BasicProperties::default(), None),
    ];
    for (properties, twice) in published {
        let (options, key) = (BasicPublishOptions::default(), key(&topic).into());
        let publish = channel.basic_publish("amq.topic".into(), key, options, b"x", properties);
        publish.await.unwrap();
        let (plugins, ours) = (plugin.headers().await, take(&mut subscription).await);
        let mut ours = shown(&ours.message);
        let mut plugins = plugins;
        if let Some(twice) = twice {
            assert!(ours.remove(twice).is_some() && plugins.remove(twice).is_some());
        }
        assert_eq!(ours, plugins);
    }
}

/// Once through the plugin and once through a node: an application must not see the difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_arrives_as_through_the_plugin() {
    let (rabbitmq, node) = with_plugin().await;
    let topic = topic();
    let (_connection, channel) = application(&rabbitmq).await;
    let exclusive = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await.unwrap();
    let name = queue.name().clone();
    let bind = channel.queue_bind(
        name.clone(),
        "amq.topic".into(),
        key(&topic).into(),
        Default::default(),
        FieldTable::default(),
    );
    bind.await.unwrap();
    let consume = lapin::options::BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer =
        channel.basic_consume(name, "".into(), consume, FieldTable::default()).await.unwrap();
    let headers = [
        ("content-type", "text/plain"),
        ("content-encoding", "utf-8"),
        ("persistent", "true"),
        ("priority", "5"),
        ("correlation-id", "c"),
        ("reply-to", "/queue/replies"),
        ("expiration", "60000"),
        ("amqp-message-id", "m"),
        ("timestamp", "1700000000"),
        ("type", "t"),
        ("user-id", "guest"),
        ("app-id", "app"),
        ("x-colour", "red"),
        ("id", "1"),
        ("Priority", "high"),
        ("count", "7"),
        ("empty", ""),
    ];
    let mut plugin = Stomp::connect(&rabbitmq).await;
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    plugin.send(&format!("SEND\ndestination:{topic}\n{lines}\nhi\0")).await;
    let through_plugin = soon(futures_util::StreamExt::next(&mut consumer)).await.unwrap().unwrap();

    let mut message = Message::new(topic, "hi");
    // The gateway takes this one for what it says.
    message.headers = headers
        .iter()
        .filter(|(name, _)| *name != "persistent")
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    message.persistent = true;
    soon(node.publish(PublisherId(1), message).await.unwrap()).await.unwrap();
    let through_us = soon(futures_util::StreamExt::next(&mut consumer)).await.unwrap().unwrap();

    let without_table =
        |properties: &BasicProperties| properties.clone().with_headers(FieldTable::default());
    let in_table = |properties: &BasicProperties| {
        let table = properties.headers().clone().unwrap();
        let entries = table.inner().iter().filter(|(name, _)| {
            // The length of the body is in AMQP anyway.
            !name.as_str().starts_with("x-footbridge-") && name.as_str() != "content-length"
        });
        entries.map(|(name, value)| (name.to_string(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let (theirs, ours) = (&through_plugin.properties, &through_us.properties);
    assert_eq!(without_table(ours), without_table(theirs));
    assert_eq!(in_table(ours), in_table(theirs));
    assert_eq!(through_us.data, through_plugin.data);
}

/// The sender hears why; the channel that it shares goes on.
async fn refused(node: &RabbitMqBroker, topic: &Destination, name: &str, value: &str) {
    let before = publish(node, 1, topic, "before").await;
    let mut message = Message::new(topic.clone(), "no");
    message.headers.push((name.to_owned().into(), value.to_owned().into()));
    let refused = soon(node.publish(PublisherId(1), message)).await;
    assert!(matches!(refused, Err(PublishError::Unfit(_))), "{name}:{value}: {refused:?}");
    assert_eq!(soon(before).await, Ok(()));
}

/// Each of these ends a channel, with all who publish on it. A node refuses them before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_a_channel_is_refused_to_its_sender_alone() {
    let rabbitmq = testkit::rabbitmq().await;
    let node = broker_up(config(&rabbitmq.uri())).await;
    let topic = topic();
    let (connection, _) = application(rabbitmq).await;
    let long = |text: &str| AMQPValue::LongString(text.into());
    let properties = BasicProperties::default;
    let closing = [
        ("expiration", "soon", properties().with_expiration("soon".into())),
        ("expiration", "-1", properties().with_expiration("-1".into())),
        ("expiration", "1.5", properties().with_expiration("1.5".into())),
        ("expiration", "315360000001", properties().with_expiration("315360000001".into())),
        ("user-id", "root", properties().with_user_id("root".into())),
        ("CC", "a", properties().with_headers(table(vec![("CC", long("a"))]))),
        ("BCC", "a", properties().with_headers(table(vec![("BCC", long("a"))]))),
    ];
    for (name, value, properties) in closing {
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let (options, key) = (BasicPublishOptions::default(), key(&topic).into());
        let publish = channel.basic_publish("amq.topic".into(), key, options, b"raw", properties);
        let word = async { publish.await?.await };
        assert!(soon(word).await.is_err(), "RabbitMQ took {name}:{value}");
        assert!(!channel.status().connected(), "the channel outlived {name}:{value}");

        refused(&node, &topic, name, value).await;
    }
    // Nor what AMQP has no room for, or no type.
    let longer = "x".repeat(256);
    for (name, value) in [
        ("priority", "high"),
        ("priority", "256"),
        ("timestamp", "today"),
        ("correlation-id", &longer),
        ("reply-to", &longer),
        ("content-type", &longer),
        (&longer, "a"),
    ] {
        refused(&node, &topic, name, value).await;
    }
    // What RabbitMQ takes is taken.
    let topic = common::topic();
    let mut subscription = subscribe(&node, &topic).await;
    for (name, value) in [("expiration", "315360000000"), ("user-id", "guest"), ("priority", "255")]
    {
        let mut message = Message::new(topic.clone(), "taken");
        message.headers.push((name.into(), value.into()));
        let confirm = soon(node.publish(PublisherId(1), message)).await.unwrap();
        assert_eq!(soon(confirm).await, Ok(()), "{name}:{value}");
        assert_eq!(body(&take(&mut subscription).await), "taken");
    }
    // A name that is too long for AMQP.
    let endless = destination(&format!("/queue/{}", "q".repeat(255)));
    assert_eq!(soon(publish(&node, 1, &endless, "").await).await, Ok(()));
    soon(node.delete(&endless)).await.unwrap();
}
