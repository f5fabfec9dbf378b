//! A broker as the tests want it.

#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod application;

use std::time::Duration;

use broker::destination::Verb;
use broker::{
    Broker, Confirm, Delivery, Destination, Destinations, Link, Message, MessageId, PublisherId,
    SubscribeError, SubscribeRequest, Subscription,
};
use broker_rabbitmq::{Config, RabbitMqBroker, Uri};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use testkit::{Proxy, RabbitMq};
use ulid::Ulid;

/// How long anything may take before a test counts as failed: long, for a starved machine takes a
/// minute to start RabbitMQ.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn config(uri: &str) -> Config {
    Config {
        uris: vec![Uri::from(uri)],
        // A starved machine is silent for longer than a shorter one allows.
        heart_beat: Duration::from_secs(3),
        reconnect_pause: Duration::from_millis(500),
        publish_timeout: PATIENCE,
        subscribe_timeout: PATIENCE,
        ..Config::default()
    }
}

/// A broker that has made its first contact.
pub(crate) async fn broker_up(config: Config) -> RabbitMqBroker {
    config.check().expect("a configuration that can run");
    let broker = RabbitMqBroker::new(config, Ulid::generate());
    until(&broker, |link| *link == Link::Up).await;
    broker
}

/// Waits until the link is as `wanted`.
pub(crate) async fn until(broker: &RabbitMqBroker, wanted: impl Fn(&Link) -> bool) {
    let mut state = broker.state();
    let reached = soon(async {
        state.wait_for(|state| wanted(&state.link)).await.expect("the broker is there");
    });
    reached.await;
}

/// What `future` gives, in time.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A topic that no other test uses.
pub(crate) fn topic() -> Destination {
    destination(&format!("/topic/test-{}.a", MessageId::new()))
}

/// A queue that no other test uses.
pub(crate) fn queue() -> Destination {
    destination(&format!("/queue/test-{}", MessageId::new()))
}

pub(crate) fn destination(text: &str) -> Destination {
    Destinations::default().parse(text, Verb::Subscribe).expect("a destination")
}

pub(crate) async fn subscribe(broker: &RabbitMqBroker, to: &Destination) -> Subscription {
    let request = SubscribeRequest::new(to.clone(), 100);
    soon(broker.subscribe(request)).await.expect("a subscription")
}

/// Hands over a persistent message.
pub(crate) async fn publish(
    broker: &RabbitMqBroker,
    publisher: u64,
    to: &Destination,
    body: impl Into<String>,
) -> Confirm {
    let mut message = Message::new(to.clone(), body.into());
    message.persistent = true;
    soon(broker.publish(PublisherId(publisher), message)).await.expect("the message is taken")
}

pub(crate) async fn take(from: &mut Subscription) -> Delivery {
    soon(from.next()).await.expect("the subscription goes on")
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

/// A name that no other test uses.
pub(crate) fn name() -> String {
    format!("test-{}", MessageId::new())
}

/// A plain AMQP application.
pub(crate) async fn application(uri: &str) -> (Connection, Channel) {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await;
    let connection = connection.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// Subscribes as `request` says.
pub(crate) async fn subscribed(broker: &RabbitMqBroker, request: SubscribeRequest) -> Subscription {
    soon(broker.subscribe(request)).await.expect("a subscription")
}

/// Why `request` is refused for good.
pub(crate) async fn refusal(broker: &RabbitMqBroker, request: SubscribeRequest) -> String {
    match soon(broker.subscribe(request)).await {
        Err(SubscribeError::Refused(why)) => why,
        other => panic!("{other:?} is no refusal"),
    }
}

/// What `rabbitmqctl` shows of the queue `name`, with its columns separated by tabs; none if there is
/// no such queue.
pub(crate) async fn shown(rabbitmq: &RabbitMq, name: &str, columns: &[&str]) -> Option<String> {
    let list = [&["list_queues", "-q", "--no-table-headers", "name"], columns].concat();
    let queues = rabbitmq.ctl(&list).await.expect("the queues");
    queues.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('\t')?.to_owned()))
}

/// Waits until there is no queue `name`.
pub(crate) async fn until_gone(rabbitmq: &RabbitMq, name: &str) {
    soon(async { while shown(rabbitmq, name, &["messages"]).await.is_some() {} }).await;
}

/// Waits until the queue `name` holds nothing, not even unsettled.
pub(crate) async fn until_empty(rabbitmq: &RabbitMq, name: &str) {
    let empty =
        async { while shown(rabbitmq, name, &["messages"]).await.as_deref() != Some("0") {} };
    soon(empty).await;
}

/// Breaks the broker's connections, and waits until it has others.
pub(crate) async fn cut(proxy: &mut Proxy, broker: &RabbitMqBroker) {
    proxy.drop_connections().await;
    until(broker, |link| matches!(link, Link::Down(_))).await;
    until(broker, |link| *link == Link::Up).await;
}

/// Puts a message into the queue `name` as any AMQP application does.
pub(crate) async fn put(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &str,
    properties: BasicProperties,
) {
    let (exchange, key) = (exchange.into(), key.into());
    let options = BasicPublishOptions::default();
    let put = channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
    put.await.expect("it is written");
}
