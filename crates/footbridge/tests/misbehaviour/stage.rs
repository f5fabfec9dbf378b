//! What is there besides the sessions under test: an AMQP application with queues and exchanges of its
//! own, and for each node a session with an exclusive queue.

use std::sync::Arc;

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use testkit::RabbitMq;

use crate::peer::Peer;
use crate::support::Node;

/// How many messages the stream holds.
pub(crate) const STREAM: usize = 10;

/// See the module. The names of all that is here begin with `m.`.
pub(crate) struct Stage {
    pub(crate) nodes: Vec<Place>,
    /// What the application has, which ends with its last holder.
    _application: (Connection, Channel, Consumer),
    _owners: Vec<Peer>,
}

/// A node, and where it takes STOMP.
pub(crate) struct Place {
    pub(crate) node: Arc<Node>,
    pub(crate) stomp: u16,
    /// Held by the one peer that reads nothing, so that there is one at a time.
    pub(crate) deaf: tokio::sync::Mutex<()>,
}

impl Stage {
    pub(crate) async fn set(rabbitmq: &RabbitMq, nodes: Vec<(Arc<Node>, u16)>) -> Self {
        let uri = rabbitmq.uri();
        let application = Connection::connect(&uri, ConnectionProperties::default());
        let application = application.await.expect("a connection");
        let channel = application.create_channel().await.expect("a channel");
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        declare(&channel, "m.plain", durable, FieldTable::default()).await;
        declare(&channel, "m.taken", durable, FieldTable::default()).await;
        declare(&channel, "m.locked", exclusive, FieldTable::default()).await;
        let mut stream = FieldTable::default();
        stream.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        declare(&channel, "m.stream", durable, stream).await;
        for n in 0..STREAM {
            let (options, none) = (BasicPublishOptions::default(), BasicProperties::default());
            let body = n.to_string();
            let publish =
                channel.basic_publish("".into(), "m.stream".into(), options, body.as_bytes(), none);
            publish.await.expect("it is published");
        }
        let internal = ExchangeDeclareOptions { internal: true, ..Default::default() };
        let (kind, none) = (ExchangeKind::Fanout, FieldTable::default());
        let declared = channel.exchange_declare("m.internal".into(), kind, internal, none);
        declared.await.expect("an exchange");
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let consume =
            channel.basic_consume("m.taken".into(), "".into(), options, FieldTable::default());
        let taken = consume.await.expect("a consumer");

        let mut owners = Vec::new();
        for (number, (_, stomp)) in nodes.iter().enumerate() {
            let mut owner = Peer::connect(*stomp).await.expect("a session");
            let own =
                format!("SUBSCRIBE\nid:1\ndestination:/queue/m.own.{number}\nexclusive:true\n\n");
            owner.ask(&own).await.expect("an exclusive queue");
            owners.push(owner);
        }
        let place = |(node, stomp)| Place { node, stomp, deaf: Default::default() };
        Self {
            nodes: nodes.into_iter().map(place).collect(),
            _application: (application, channel, taken),
            _owners: owners,
        }
    }
}

async fn declare(channel: &Channel, name: &str, options: QueueDeclareOptions, with: FieldTable) {
    channel.queue_declare(name.into(), options, with).await.expect("a queue");
}
