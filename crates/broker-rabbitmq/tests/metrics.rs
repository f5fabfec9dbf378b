//! What operators see.

mod common;

use std::time::Duration;

use broker::{Broker, Link, Message, PublisherId};
use broker_rabbitmq::RabbitMqBroker;
use common::{PATIENCE, broker_up, config, publish, queue, soon, subscribe, topic, until};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use testkit::{Proxy, RabbitMq};

struct Scraped(Registry);

impl Scraped {
    fn of(broker: &RabbitMqBroker) -> Self {
        let mut registry = Registry::default();
        broker.register(&mut registry);
        Self(registry)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0).expect("a text");
        text
    }

    fn value(&self, name: &str) -> f64 {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    async fn until(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        let reached = async {
            while !wanted(self.value(name)) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("{name} in {}", self.text()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_counted_and_how_long() {
    let mut rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    let broker = broker_up(config(&rabbitmq.uri())).await;
    let metrics = Scraped::of(&broker);
    // The node's own messages wait for confirms as well.
    metrics.until("amqp_unconfirmed_messages", |n| n == 0.0).await;
    assert_eq!(metrics.value("amqp_unconfirmed_bytes"), 0.0);
    assert_eq!(metrics.value("amqp_oldest_unconfirmed_seconds"), 0.0);
    rabbitmq.alarm(true).await.expect("an alarm");
    let topic = topic();
    let held = [publish(&broker, 1, &topic, "a").await, publish(&broker, 2, &topic, "b").await];
    until(&broker, |link| matches!(link, Link::Blocked(_))).await;
    assert!(metrics.value("amqp_unconfirmed_messages") >= 2.0);
    assert!(metrics.value("amqp_unconfirmed_bytes") >= 2.0);
    metrics.until("amqp_oldest_unconfirmed_seconds", |n| n >= 1.0).await;
    rabbitmq.alarm(false).await.expect("no alarm");
    for confirm in held {
        assert_eq!(soon(confirm).await, Ok(()));
    }
    metrics.until("amqp_oldest_unconfirmed_seconds", |n| n == 0.0).await;
    metrics.until("amqp_unconfirmed_messages", |n| n == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_and_connections_are_counted() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let broker = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let metrics = Scraped::of(&broker);
    let subscriptions = (
        subscribe(&broker, &topic()).await,
        subscribe(&broker, &topic()).await,
        subscribe(&broker, &queue()).await,
    );
    assert_eq!(metrics.value("amqp_bindings"), 2.0);
    assert_eq!(metrics.value("amqp_consumers"), 1.0);
    for connection in ["publish", "consume"] {
        assert_eq!(metrics.value(&reconnects(connection)), 0.0);
    }
    proxy.drop_connections().await;
    for connection in ["publish", "consume"] {
        metrics.until(&reconnects(connection), |n| n >= 1.0).await;
    }
    metrics.until("amqp_consumers", |n| n == 1.0).await;
    drop(subscriptions);
    metrics.until("amqp_consumers", |n| n == 0.0).await;
    metrics.until("amqp_bindings", |n| n == 0.0).await;
    for skipped in ["version", "kind"] {
        let name = format!("amqp_skipped_total{{reason=\"{skipped}\"}}");
        assert_eq!(metrics.value(&name), 0.0);
    }
    assert_eq!(metrics.value("amqp_duplicates_total"), 0.0);
}

fn reconnects(connection: &str) -> String {
    format!("amqp_reconnects_total{{connection=\"{connection}\"}}")
}

/// A subscriber that takes nothing lets messages pile up at the node first, then in RabbitMQ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_piles_up_in_rabbitmq_is_seen() {
    const MESSAGES: usize = 1_000;
    let rabbitmq = testkit::rabbitmq().await;
    let slow = broker_rabbitmq::Config { topic_prefetch: 1, ..config(&rabbitmq.uri()) };
    let broker = broker_up(slow).await;
    let metrics = Scraped::of(&broker);
    let topic = topic();
    let request = broker::SubscribeRequest::new(topic.clone(), 1);
    let mut slow = soon(broker.subscribe(request)).await.expect("a subscription");
    let publishing = async {
        for n in 0..MESSAGES {
            let message = Message::new(topic.clone(), n.to_string());
            let confirm = soon(broker.publish(PublisherId(1), message)).await.expect("it is taken");
            assert_eq!(soon(confirm).await, Ok(()));
        }
        metrics.until("amqp_topic_queue_messages", |n| n >= 50.0).await;
    };
    let mut taken = 0;
    let mut next = async || {
        assert_eq!(common::body(&common::take(&mut slow).await), taken.to_string());
        taken += 1;
        taken
    };
    let taking = async {
        loop {
            next().await;
            // Slower than they come, and not so slow that the subscription is given up on.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    tokio::select! {
        () = publishing => {}
        () = taking => {}
    }
    while next().await < MESSAGES {}
    metrics.until("amqp_topic_queue_messages", |n| n == 0.0).await;
}
