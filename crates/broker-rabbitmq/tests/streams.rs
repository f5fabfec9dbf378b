//! Streams: read from where a consumer asks, and on from where it was after a reconnect.

mod common;

use broker::{
    Argument, Arguments, Broker, Destination, MessageId, Outcome, PublisherId, QueueOptions,
    SubscribeRequest,
};
use broker_rabbitmq::RabbitMqBroker;
use common::application::Scraped;
use common::{
    application, body, broker_up, config, cut, name, publish, put, refusal, shown, soon,
    subscribed, take, until,
};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use testkit::Proxy;

fn text(text: &str) -> Argument {
    Argument::Text(text.into())
}

fn stream() -> QueueOptions {
    let arguments = vec![("x-queue-type".into(), text("stream"))];
    QueueOptions { arguments, ..QueueOptions::default() }
}

fn from(to: &Destination, offset: Option<Argument>) -> SubscribeRequest {
    let consumer: Arguments =
        offset.map(|offset| ("x-stream-offset".into(), offset)).into_iter().collect();
    SubscribeRequest { queue: stream(), consumer, ..SubscribeRequest::new(to.clone(), 4) }
}

/// A stream with `count` numbers in it.
async fn numbered(node: &RabbitMqBroker, count: usize) -> Destination {
    let name = name();
    soon(node.declare(PublisherId(1), &name.as_str().into(), &stream())).await.expect("it is");
    let to = Destination::Queue(name.into());
    for n in 0..count {
        soon(publish(node, 1, &to, n.to_string()).await).await.expect("it is confirmed");
    }
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_read_from_where_one_asks() {
    let rabbitmq = testkit::rabbitmq().await;
    let node = broker_up(config(&rabbitmq.uri())).await;
    let to = numbered(&node, 10).await;
    let Destination::Queue(name) = &to else { panic!("a queue") };
    let kind = shown(rabbitmq, name, &["durable", "type"]).await.expect("the stream");
    assert!(kind.starts_with("true\t") && kind.contains("stream"), "{kind}");
    for (offset, first) in
        [(text("first"), 0), (Argument::Integer(7), 7), (Argument::Time(1_000_000_000), 0)]
    {
        let mut subscription = subscribed(&node, from(&to, Some(offset))).await;
        for n in first..10 {
            let delivery = take(&mut subscription).await;
            assert_eq!(body(&delivery), n.to_string());
            let headers = &delivery.message.headers;
            let offset = headers.iter().find(|(name, _)| *name == "x-stream-offset");
            assert_eq!(offset.map(|(_, offset)| offset.to_string()), Some(n.to_string()));
            delivery.settle(Outcome::Ack);
        }
    }
    let why = refusal(&node, from(&to, Some(text("somewhere")))).await;
    assert!(why.starts_with("PRECONDITION_FAILED - invalid arg 'x-stream-offset'"), "{why}");
    soon(node.delete(&to)).await.expect("it is deleted");
}

/// RabbitMQ ends the connection of whoever refuses what came from a stream, or gives it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_stays_in_the_stream_and_disturbs_nobody() {
    let node = broker_up(config(&testkit::rabbitmq().await.uri())).await;
    let metrics = Scraped::of(&node);
    let to = numbered(&node, 12).await;
    let Destination::Queue(name) = &to else { panic!("a queue") };
    let consumer = || vec![("x-stream-offset".into(), text("first"))];
    let found = SubscribeRequest {
        consumer: consumer(),
        ..SubscribeRequest::new(Destination::AmqQueue(name.clone()), 4)
    };
    for request in [from(&to, Some(text("first"))), found] {
        let mut subscription = subscribed(&node, request).await;
        // Each makes room for another: all of them count as settled.
        for n in 0..10 {
            let delivery = take(&mut subscription).await;
            assert_eq!(body(&delivery), n.to_string());
            match n % 4 {
                0 => delivery.settle(Outcome::Requeue),
                1 => delivery.settle(Outcome::Reject),
                2 => drop(delivery),
                _ => delivery.settle(Outcome::Ack),
            }
        }
        let kept = take(&mut subscription).await;
        drop(subscription);
        drop(kept);
    }
    // An answer from RabbitMQ, which comes after its word on all that.
    let mut again = subscribed(&node, from(&to, Some(text("first")))).await;
    for n in 0..12 {
        let delivery = take(&mut again).await;
        assert_eq!(body(&delivery), n.to_string());
        delivery.settle(Outcome::Ack);
    }
    assert_eq!(metrics.value("amqp_reconnects_total{connection=\"consume\"}"), 0);
    soon(node.delete(&to)).await.expect("it is deleted");
}

/// Also one that nobody said to be a stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reconnect_a_stream_goes_on_behind_the_last_delivery() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let to = numbered(&node, 60).await;
    let Destination::Queue(name) = &to else { panic!("a queue") };
    let found = SubscribeRequest {
        destination: Destination::AmqQueue(name.clone()),
        queue: QueueOptions::default(),
        ..from(&to, Some(text("first")))
    };
    for request in [from(&to, Some(text("first"))), found] {
        let mut subscription = subscribed(&node, request).await;
        let mut held = None;
        for n in 0..60 {
            if n % 20 == 7 {
                cut(&mut proxy, &node).await;
            }
            let delivery = take(&mut subscription).await;
            assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
            // One is unsettled over each cut.
            held.replace(delivery).into_iter().for_each(|held| held.settle(Outcome::Ack));
        }
    }
    soon(node.delete(&to)).await.expect("it is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_for_what_is_next_misses_nothing_while_there_is_no_connection() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let other = broker_up(config(&rabbitmq.uri())).await;
    let to = numbered(&other, 3).await;
    // So that what is there is from another second.
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let mut said = subscribed(&node, from(&to, Some(text("next")))).await;
    let mut usual = subscribed(&node, from(&to, None)).await;
    proxy.cut().await;
    until(&node, |link| matches!(link, broker::Link::Down(_))).await;
    soon(publish(&other, 1, &to, "meanwhile").await).await.expect("it is confirmed");
    proxy.heal().await.expect("it heals");
    for subscription in [&mut said, &mut usual] {
        assert_eq!(body(&take(subscription).await), "meanwhile");
    }
    soon(other.delete(&to)).await.expect("it is deleted");
}

/// A node publishes again, marked, what it got no confirm for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_again_reaches_every_reader() {
    let rabbitmq = testkit::rabbitmq().await;
    let node = broker_up(config(&rabbitmq.uri())).await;
    let to = numbered(&node, 0).await;
    let Destination::Queue(name) = &to else { panic!("a queue") };
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let id = MessageId::new().to_string();
    let mut table = FieldTable::default();
    table.insert("x-footbridge-v".into(), AMQPValue::LongInt(1));
    for (name, value) in [
        ("x-footbridge-id", id.as_str()),
        ("x-footbridge-from", id.as_str()),
        ("x-footbridge-republished", "true"),
    ] {
        table.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default().with_headers(table);
    put(&channel, "", name, "again", properties).await;
    put(&channel, "", name, "end", BasicProperties::default()).await;
    for _ in 0..2 {
        let mut reader = subscribed(&node, from(&to, Some(text("first")))).await;
        let again = take(&mut reader).await;
        assert_eq!((body(&again).as_str(), again.redelivered), ("again", true));
        again.settle(Outcome::Ack);
        let end = take(&mut reader).await;
        assert_eq!(body(&end), "end");
        end.settle(Outcome::Ack);
    }
    soon(node.delete(&to)).await.expect("it is deleted");
}

/// RabbitMQ would end the whole connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_to_a_stream_disturbs_nobody() {
    let rabbitmq = testkit::rabbitmq().await;
    let node = broker_up(config(&rabbitmq.uri())).await;
    let to = numbered(&node, 8).await;
    let Destination::Queue(name) = &to else { panic!("a queue") };
    let found = SubscribeRequest {
        destination: Destination::AmqQueue(name.clone()),
        queue: QueueOptions::default(),
        ..from(&to, Some(text("first")))
    };
    let state = node.state();
    for request in [from(&to, Some(text("first"))), found] {
        let mut subscription = subscribed(&node, request.clone()).await;
        for (n, outcome) in [Outcome::Requeue, Outcome::Reject, Outcome::Requeue, Outcome::Reject]
            .into_iter()
            .enumerate()
        {
            let delivery = take(&mut subscription).await;
            assert_eq!(body(&delivery), n.to_string());
            delivery.settle(outcome);
        }
        // It has room again for the rest, and the one that is held goes back with it.
        let held = take(&mut subscription).await;
        assert_eq!(body(&held), "4");
        drop(subscription);
        drop(held);
        let mut again = subscribed(&node, request).await;
        for n in 0..8 {
            let delivery = take(&mut again).await;
            assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
            delivery.settle(Outcome::Ack);
        }
    }
    assert!(!state.has_changed().expect("the broker is there"), "the connection has stayed");
    soon(node.delete(&to)).await.expect("it is deleted");
}
