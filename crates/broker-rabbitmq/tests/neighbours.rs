//! Others on the same RabbitMQ: plain AMQP applications, other nodes, and operators who delete or
//! declare what is ours.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;

use broker::{
    Broker, BrokerState, Confirm, ConfirmError, Destination, Link, Message, Outcome, PublishError,
    PublisherId, SubscribeError, SubscribeRequest,
};
use broker_rabbitmq::{Config, RabbitMqBroker};
use common::{body, broker_up, config, destination, publish, queue, soon, subscribe, take, topic};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use testkit::RabbitMq;
use ulid::Ulid;

/// A plain AMQP application.
async fn application() -> (Connection, Channel) {
    let uri = testkit::rabbitmq().await.uri();
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn node() -> RabbitMqBroker {
    broker_up(config(&testkit::rabbitmq().await.uri())).await
}

fn key(topic: &Destination) -> String {
    match topic {
        Destination::Topic(topic) => topic.key().to_string(),
        other => panic!("{other} is no topic"),
    }
}

/// The lines that `rabbitmqctl` prints of the objects whose name holds `name`.
async fn listed(rabbitmq: &RabbitMq, what: &[&str], name: &str) -> Vec<String> {
    let all = rabbitmq.ctl(what).await.unwrap();
    all.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_publishes_reaches_subscribers() {
    let node = node().await;
    let topic = topic();
    let mut subscription = subscribe(&node, &topic).await;
    let (_connection, channel) = application().await;
    let mut table = FieldTable::default();
    table.insert("colour".into(), AMQPValue::LongString("red".into()));
    let properties =
        BasicProperties::default().with_headers(table).with_content_type("text/plain".into());
    let (options, key) = (BasicPublishOptions::default(), key(&topic));
    let publish = channel.basic_publish("amq.topic".into(), key.into(), options, b"hi", properties);
    publish.await.unwrap();
    let delivery = take(&mut subscription).await;
    assert_eq!(delivery.message.destination, topic);
    assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("hi", false));
    let headers: BTreeMap<_, _> =
        delivery.message.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(headers, [("colour", "red"), ("content-type", "text/plain")].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_by_another_key_reaches_its_subscribers_once() {
    let node = node().await;
    let (one, other) = (topic(), topic());
    let mut subscription = subscribe(&node, &one).await;
    let mut both = subscribe(&node, &destination("/topic/#.a")).await;
    let (_connection, channel) = application().await;
    for (first, second, text) in [(&other, &one, "copied"), (&one, &one, "end")] {
        let mut table = FieldTable::default();
        let copies = FieldArray::from(vec![AMQPValue::LongString(key(second).into())]);
        table.insert("CC".into(), AMQPValue::FieldArray(copies));
        let properties = BasicProperties::default().with_headers(table);
        let (options, key) = (BasicPublishOptions::default(), key(first).into());
        let publish =
            channel.basic_publish("amq.topic".into(), key, options, text.as_bytes(), properties);
        publish.await.unwrap();
    }
    let root = key(&other);
    for expected in ["copied", "end"] {
        assert_eq!(body(&take(&mut subscription).await), expected);
    }
    // Others on this RabbitMQ publish as well.
    let mut copies = 0;
    loop {
        let delivery = take(&mut both).await;
        copies += usize::from(delivery.message.destination == other && root == key(&other));
        if delivery.message.destination == one {
            break;
        }
    }
    assert_eq!(copies, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sender_publishes_reaches_an_application() {
    let node = node().await;
    let topic = topic();
    let (_connection, channel) = application().await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let none = FieldTable::default;
    let queue = channel.queue_declare("".into(), exclusive, none()).await.unwrap();
    let name = queue.name().clone();
    let (bind, key) = (QueueBindOptions::default(), key(&topic).into());
    channel.queue_bind(name.clone(), "amq.topic".into(), key, bind, none()).await.unwrap();
    let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume(name, "".into(), consume, none()).await.unwrap();

    let mut message = Message::new(topic, "hi");
    message.headers = vec![
        ("content-type".into(), "text/plain".into()),
        ("correlation-id".into(), "c".into()),
        ("colour".into(), "red".into()),
    ];
    message.persistent = true;
    soon(node.publish(PublisherId(1), message).await.unwrap()).await.unwrap();
    let delivery = soon(consumer.next()).await.unwrap().unwrap();
    let properties = &delivery.properties;
    assert_eq!(delivery.data, b"hi");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
    assert_eq!(properties.correlation_id().as_ref().unwrap().as_str(), "c");
    assert_eq!(*properties.delivery_mode(), Some(2));
    let colour = properties.headers().as_ref().unwrap().inner().get("colour");
    assert_eq!(colour, Some(&AMQPValue::LongString("red".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_another_node_deleted_is_declared_again() {
    let (one, other) = (node().await, node().await);
    let queue = queue();
    soon(publish(&one, 1, &queue, "gone").await).await.unwrap();
    let mut ended = subscribe(&one, &queue).await;
    take(&mut ended).await.settle(Outcome::Ack);
    soon(other.delete(&queue)).await.unwrap();
    assert!(soon(ended.next()).await.is_none(), "its subscriptions end at every node");
    let mut confirms = Vec::new();
    for n in 0..20 {
        confirms.push(publish(&one, 1, &queue, n.to_string()).await);
    }
    for confirm in confirms {
        assert_eq!(soon(confirm).await, Ok(()));
    }
    let mut subscription = subscribe(&other, &queue).await;
    for n in 0..20 {
        assert_eq!(body(&take(&mut subscription).await), n.to_string());
    }
    soon(other.delete(&queue)).await.unwrap();
}

/// As above, but nobody tells the publisher: it has no consumer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_is_published_once_more_in_its_place() {
    let (one, other) = (node().await, node().await);
    let queue = queue();
    for round in 0..5 {
        let mut confirms = Vec::new();
        for n in 0..50 {
            confirms.push(publish(&one, 1, &queue, format!("{round}:{n}")).await);
        }
        for confirm in confirms {
            assert_eq!(soon(confirm).await, Ok(()));
        }
        let mut subscription = subscribe(&other, &queue).await;
        for n in 0..50 {
            let delivery = take(&mut subscription).await;
            assert_eq!(body(&delivery), format!("{round}:{n}"));
        }
        soon(other.delete(&queue)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_declared_otherwise_is_refused_by_its_reason() {
    let node = node().await;
    let queue = queue();
    let Destination::Queue(name) = &queue else { panic!("a queue") };
    let (_connection, channel) = application().await;
    let mut limited = FieldTable::default();
    limited.insert("x-max-length".into(), AMQPValue::LongInt(1));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare((&**name).into(), durable, limited).await.unwrap();

    let request = SubscribeRequest::new(queue.clone(), 1);
    let Err(SubscribeError::Refused(why)) = soon(node.subscribe(request)).await else {
        panic!("it was subscribed to")
    };
    assert!(why.contains("inequivalent arg"), "{why}");
    let refused = soon(publish(&node, 1, &queue, "").await).await;
    assert!(matches!(refused, Err(ConfirmError::Refused(why)) if why.contains("inequivalent arg")));
    // It is nobody else's trouble.
    let topic = topic();
    let mut subscription = subscribe(&node, &topic).await;
    soon(publish(&node, 1, &topic, "on").await).await.unwrap();
    assert_eq!(body(&take(&mut subscription).await), "on");
    assert_eq!(*node.state().borrow(), BrokerState::up());
    soon(node.delete(&queue)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_rabbitmq_refuses_fails_alone() {
    let options = RabbitMq::options().config("max_message_size = 1000");
    let rabbitmq = options.start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    let (topic, queue) = (topic(), queue());
    let mut topics = subscribe(&node, &topic).await;
    let mut queues = subscribe(&node, &queue).await;
    for (to, subscription) in [(&topic, &mut topics), (&queue, &mut queues)] {
        let mut confirms: Vec<Confirm> = Vec::new();
        for n in 0..40 {
            let body = if n == 20 { "x".repeat(1001) } else { n.to_string() };
            confirms.push(publish(&node, 1, to, body).await);
        }
        for (n, confirm) in confirms.into_iter().enumerate() {
            let word = soon(confirm).await;
            match n {
                20 => assert!(
                    matches!(&word, Err(ConfirmError::Refused(why)) if why.contains("message size")),
                    "{word:?}"
                ),
                _ => assert_eq!(word, Ok(()), "{n}"),
            }
        }
        let mut next = 0;
        while next < 40 {
            let delivery = take(subscription).await;
            let n: usize = body(&delivery).parse().unwrap();
            delivery.settle(Outcome::Ack);
            next += usize::from(next == 20);
            assert!(n == next || (n < next && matches!(to, Destination::Queue(_))), "{n}, {next}");
            next = next.max(n + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_queue_that_is_gone_is_replaced_and_a_gap_is_announced() {
    let rabbitmq = testkit::rabbitmq().await;
    let boot = Ulid::generate();
    let node = RabbitMqBroker::new(config(&rabbitmq.uri()), boot);
    common::until(&node, |link| *link == Link::Up).await;
    let topic = topic();
    let mut subscription = subscribe(&node, &topic).await;
    let mut state = node.state();
    rabbitmq.ctl(&["delete_queue", &format!("footbridge.topic.{boot}.1")]).await.unwrap();
    let again = state.wait_for(|state| state.gaps == 1 && state.link == Link::Up);
    soon(again).await.unwrap();
    soon(publish(&node, 1, &topic, "after").await).await.unwrap();
    assert_eq!(body(&take(&mut subscription).await), "after");
    let queues = listed(rabbitmq, &["list_queues", "name"], &boot.to_string()).await;
    assert_eq!(queues, [format!("footbridge.topic.{boot}.2")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_three_connections_and_one_queue_however_many_subscribe() {
    let rabbitmq = testkit::rabbitmq().await;
    let boot = Ulid::generate();
    let node = RabbitMqBroker::new(config(&rabbitmq.uri()), boot);
    let queue = queue();
    let name = boot.to_string();
    let connections = ["list_connections", "client_properties", "channels"];
    let mut subscriptions = Vec::new();
    for _ in 0..150 {
        subscriptions.push(subscribe(&node, &topic()).await);
    }
    assert_eq!(listed(rabbitmq, &connections, &name).await.len(), 2);
    for _ in 0..150 {
        subscriptions.push(subscribe(&node, &queue).await);
    }
    let connections = listed(rabbitmq, &connections, &name).await;
    assert_eq!(connections.len(), 3, "{connections:?}");
    let channels = connections.iter().map(|line| {
        line.rsplit_once(|c: char| c.is_whitespace()).unwrap().1.parse::<usize>().unwrap()
    });
    let mut channels: Vec<usize> = channels.collect();
    channels.sort_unstable();
    // What clients declare; topics, their bindings, seals, and 64 consumers each; eight to publish on.
    assert_eq!(channels, [1, 1 + 1 + 1 + 3, 8]);
    let queues = listed(rabbitmq, &["list_queues", "name"], &name).await;
    assert_eq!(queues.len(), 1, "{queues:?}");

    drop(subscriptions);
    soon(node.close()).await;
    let queues = listed(rabbitmq, &["list_queues", "name"], &name).await;
    assert!(queues.is_empty(), "{queues:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_subscription_of_a_topic_takes_its_binding_along() {
    let rabbitmq = testkit::rabbitmq().await;
    let node = node().await;
    let topic = topic();
    let key = key(&topic);
    let bindings = ["list_bindings", "source_name", "routing_key"];
    let (one, other) = (subscribe(&node, &topic).await, subscribe(&node, &topic).await);
    drop(one);
    // Bindings change one after the other: once this one is there, the one before would be gone.
    let _later = subscribe(&node, &common::topic()).await;
    assert_eq!(listed(rabbitmq, &bindings, &key).await.len(), 1);
    drop(other);
    let _later = subscribe(&node, &common::topic()).await;
    assert!(listed(rabbitmq, &bindings, &key).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_amqp_cannot_carry_is_refused_by_its_reason() {
    let node = node().await;
    let mut message = Message::new(topic(), "");
    message.headers.push(("expiration".into(), "soon".into()));
    let refused = node.publish(PublisherId(1), message).await.unwrap_err().to_string();
    assert!(refused.contains("header expiration must be a whole number"), "{refused}");

    let limited =
        Config { max_message: bytesize::ByteSize(3), ..config(&testkit::rabbitmq().await.uri()) };
    let limited = RabbitMqBroker::new(limited, Ulid::generate());
    let refused = limited.publish(PublisherId(1), Message::new(topic(), "1234")).await;
    assert_eq!(refused.unwrap_err(), PublishError::TooLarge { size: 4, limit: 3 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_not_there_is_refused_with_what_to_use() {
    let node = node().await;
    for text in ["/group/g", "/app/a"] {
        let destination = destination(text);
        let named = destination.kind().as_str();
        let message = Message::new(destination.clone(), "");
        let Err(PublishError::Unsupported { kind, instead }) =
            node.publish(PublisherId(1), message).await
        else {
            panic!("{destination} was taken")
        };
        assert_eq!(kind, named);
        assert!(instead.contains("gateway"), "{instead}");
        let request = SubscribeRequest::new(destination.clone(), 1);
        assert!(matches!(node.subscribe(request).await, Err(SubscribeError::Unsupported { .. })));
        assert!(node.delete(&destination).await.is_err());
    }
}

/// What a node writes, as one of another version would.
fn of_a_node(version: i32, kind: Option<&str>) -> BasicProperties {
    let long = |text: String| AMQPValue::LongString(text.into());
    let mut table = FieldTable::default();
    table.insert("x-footbridge-v".into(), AMQPValue::LongInt(version));
    table.insert("x-footbridge-id".into(), long(Ulid::generate().to_string()));
    table.insert("x-footbridge-from".into(), long(Ulid::generate().to_string()));
    if let Some(kind) = kind {
        table.insert("x-footbridge-kind".into(), long(kind.to_owned()));
    }
    BasicProperties::default().with_headers(table)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_node_says_is_skipped_and_not_kept() {
    let node = node().await;
    let mut registry = prometheus_client::registry::Registry::default();
    node.register(&mut registry);
    let (topic, queue) = (topic(), queue());
    let mut topics = subscribe(&node, &topic).await;
    let mut queues = subscribe(&node, &queue).await;
    let (_connection, channel) = application().await;
    let Destination::Queue(name) = &queue else { panic!("a queue") };
    for (exchange, key, subscription) in
        [("amq.topic", key(&topic), &mut topics), ("", name.to_string(), &mut queues)]
    {
        for properties in [
            of_a_node(2, None),
            of_a_node(1, Some("doorbell")),
            of_a_node(1, Some("message")),
            // No node has written this, whatever it says.
            BasicProperties::default().with_headers({
                let mut table = FieldTable::default();
                table.insert("x-footbridge-v".into(), AMQPValue::LongInt(2));
                table
            }),
        ] {
            let options = BasicPublishOptions::default();
            let (exchange, key) = (exchange.into(), key.clone().into());
            channel.basic_publish(exchange, key, options, b"hi", properties).await.unwrap();
        }
        for _ in 0..2 {
            let delivery = take(subscription).await;
            assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("hi", false));
            assert_eq!(delivery.message.headers, []);
            delivery.settle(Outcome::Ack);
        }
    }
    let mut scraped = String::new();
    prometheus_client::encoding::text::encode(&mut scraped, &registry).unwrap();
    for reason in ["version", "kind"] {
        let counted = format!("amqp_skipped_total{{reason=\"{reason}\"}} 2\n");
        assert!(scraped.contains(&counted), "{scraped}");
    }
    // They are settled: who comes later does not get them either.
    drop(queues);
    let mut later = subscribe(&node, &queue).await;
    soon(publish(&node, 1, &queue, "later").await).await.unwrap();
    assert_eq!(body(&take(&mut later).await), "later");
    soon(node.delete(&queue)).await.unwrap();
}

/// Such as a service that consumes a queue and republishes to a topic what it got, headers and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_sends_on_is_another_message() {
    let node = node().await;
    let (one, other) = (topic(), topic());
    let mut ones = subscribe(&node, &one).await;
    let mut others = subscribe(&node, &other).await;
    let (_connection, channel) = application().await;
    let mut properties = of_a_node(1, None);
    let mut table = properties.headers().clone().unwrap();
    table.insert("x-footbridge-republished".into(), AMQPValue::LongString("true".into()));
    properties = properties.with_headers(table);
    for topic in [&one, &one, &other] {
        let (options, key) = (BasicPublishOptions::default(), key(topic).into());
        let publish =
            channel.basic_publish("amq.topic".into(), key, options, b"copy", properties.clone());
        publish.await.unwrap();
    }
    assert_eq!(body(&take(&mut others).await), "copy");
    assert_eq!(body(&take(&mut ones).await), "copy");
    // The second to the same topic is the repeat that it says it is.
    soon(publish(&node, 1, &one, "end").await).await.unwrap();
    assert_eq!(body(&take(&mut ones).await), "end");
}
