//! A plain AMQP application beside a node, and what the node says to a message.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use broker::{Broker, ConfirmError, Destination, Message, PublishError, PublisherId};
use broker_rabbitmq::RabbitMqBroker;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use prometheus_client::registry::Registry;
use testkit::RabbitMq;
use ulid::Ulid;

use super::{broker_up, config, publish, soon};

/// A plain AMQP application.
pub(crate) struct Application {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Application {
    pub(crate) async fn of(rabbitmq: &RabbitMq) -> Self {
        let uri = rabbitmq.uri();
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { connection, channel }
    }

    /// An exchange that no other test uses.
    pub(crate) async fn exchange(&self, kind: ExchangeKind, internal: bool) -> String {
        let name = format!("test-{}", Ulid::generate());
        let options = ExchangeDeclareOptions { internal, ..Default::default() };
        let none = FieldTable::default();
        self.channel.exchange_declare((&*name).into(), kind, options, none).await.unwrap();
        name
    }

    pub(crate) async fn delete(&self, exchange: &str) {
        let options = ExchangeDeleteOptions::default();
        self.channel.exchange_delete(exchange.into(), options).await.unwrap();
    }

    /// A queue of its own, named by RabbitMQ.
    pub(crate) async fn queue(&self) -> String {
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let declare = self.channel.queue_declare("".into(), exclusive, FieldTable::default());
        declare.await.unwrap().name().to_string()
    }

    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str, arguments: FieldTable) {
        let options = QueueBindOptions::default();
        let (queue, exchange) = (queue.into(), exchange.into());
        self.channel.queue_bind(queue, exchange, key.into(), options, arguments).await.unwrap();
    }

    /// A queue of its own that is bound to `exchange`, and its consumer.
    pub(crate) async fn bound(&self, exchange: &str, key: &str, arguments: FieldTable) -> Consumer {
        let queue = self.queue().await;
        self.bind(&queue, exchange, key, arguments).await;
        self.consume(&queue).await
    }

    pub(crate) async fn consume(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let none = FieldTable::default();
        self.channel.basic_consume(queue.into(), "".into(), options, none).await.unwrap()
    }

    /// How many messages `queue` holds, if it is there.
    pub(crate) async fn length(rabbitmq: &RabbitMq, queue: &str) -> Option<u32> {
        let application = Self::of(rabbitmq).await;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let find =
            application.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        find.ok().map(|queue| queue.message_count())
    }
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.clone()).unwrap()
}

pub(crate) fn entry(name: &'static str, value: &str) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(name.into(), AMQPValue::LongString(value.into()));
    table
}

pub(crate) fn to(exchange: &str, key: &str) -> Destination {
    Destination::Exchange { exchange: exchange.into(), key: (!key.is_empty()).then(|| key.into()) }
}

/// What RabbitMQ says to a message.
pub(crate) async fn word(node: &RabbitMqBroker, to: &Destination) -> Result<(), ConfirmError> {
    soon(publish(node, 1, to, "hi").await).await
}

/// Why a message is not taken.
pub(crate) async fn misnamed(node: &RabbitMqBroker, to: Destination) -> &'static str {
    match node.publish(PublisherId(1), Message::new(to.clone(), "")).await {
        Err(PublishError::Misnamed(why)) => why,
        other => panic!("{to}: {other:?}"),
    }
}

pub(crate) fn refusal(word: Result<(), ConfirmError>) -> String {
    match word {
        Err(ConfirmError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

pub(crate) struct Scraped(Registry);

impl Scraped {
    pub(crate) fn of(node: &RabbitMqBroker) -> Self {
        let mut registry = Registry::default();
        node.register(&mut registry);
        Self(registry)
    }

    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

pub(crate) async fn node() -> RabbitMqBroker {
    broker_up(config(&testkit::rabbitmq().await.uri())).await
}
