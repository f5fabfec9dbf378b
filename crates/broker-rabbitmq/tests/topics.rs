//! Topic subscriptions that are full: nothing is lost while they are read, and one that is not read
//! holds up the others for a bounded time only. And one whose binding goes away.

mod common;

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Destination, Link, SubscribeRequest, Subscription};
use broker_rabbitmq::{Config, RabbitMqBroker};
use common::{body, broker_up, config, publish, soon, subscribe, take, topic, until};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use testkit::Proxy;
use tokio::task::JoinSet;
use ulid::Ulid;

/// A subscription that is full with two deliveries.
async fn subscribe_small(broker: &RabbitMqBroker, to: &Destination) -> Subscription {
    let request = SubscribeRequest::new(to.clone(), 2);
    soon(broker.subscribe(request)).await.expect("a subscription")
}

async fn publish_confirmed(broker: &RabbitMqBroker, to: &Destination, body: &str) {
    soon(publish(broker, 1, to, body).await).await.expect("it is confirmed");
}

async fn bodies(from: &mut Subscription, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        bodies.push(body(&take(from).await));
    }
    bodies
}

fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_while_a_full_subscription_is_waited_for_costs_nothing() {
    let rabbit = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbit.port())).await.expect("a proxy");
    let receiving = broker_up(config(&rabbit.uri_at(proxy.port()))).await;
    let publishing = broker_up(config(&rabbit.uri())).await;
    let to = topic();
    // The roomy ones come before and after the full one, as it happens.
    let mut before = subscribe(&receiving, &to).await;
    let mut full = subscribe_small(&receiving, &to).await;
    let mut after = subscribe(&receiving, &to).await;
    for n in numbers(0, 3) {
        publish_confirmed(&publishing, &to, &n).await;
    }
    // By then the third is being dispatched, and the full one is waited for.
    assert_eq!(bodies(&mut before, 3).await, numbers(0, 3));
    proxy.drop_connections().await;
    until(&receiving, |link| matches!(link, Link::Down(_))).await;
    for n in numbers(3, 10) {
        publish_confirmed(&publishing, &to, &n).await;
    }
    until(&receiving, |link| *link == Link::Up).await;
    assert_eq!(bodies(&mut full, 10).await, numbers(0, 10));
    assert_eq!(bodies(&mut before, 7).await, numbers(3, 10));
    assert_eq!(bodies(&mut after, 10).await, numbers(0, 10));
    assert_eq!(receiving.state().borrow().gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_never_read_loses_messages_alone_and_that_is_a_gap() {
    let rabbit = testkit::rabbitmq().await;
    // As few on their way as can be: what is dispatched decides.
    let broker = broker_up(Config { topic_prefetch: 1, ..config(&rabbit.uri()) }).await;
    let (to, elsewhere) = (topic(), topic());
    let mut never_read = subscribe_small(&broker, &to).await;
    let mut read = subscribe(&broker, &to).await;
    let mut other = subscribe(&broker, &elsewhere).await;
    for n in numbers(0, 50) {
        publish_confirmed(&broker, &to, &n).await;
        publish_confirmed(&broker, &elsewhere, &n).await;
    }
    assert_eq!(bodies(&mut other, 50).await, numbers(0, 50));
    assert_eq!(bodies(&mut read, 50).await, numbers(0, 50));
    assert_eq!(broker.state().borrow().gaps, 1);
    // Once it is read, it gets what comes from then on.
    assert_eq!(bodies(&mut never_read, 2).await, numbers(0, 2));
    publish_confirmed(&broker, &to, "again").await;
    assert_eq!(body(&take(&mut never_read).await), "again");
    assert_eq!(broker.state().borrow().gaps, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_beyond_what_a_subscription_holds_is_slowed_down_and_not_lost() {
    let rabbit = testkit::rabbitmq().await;
    let broker = broker_up(config(&rabbit.uri())).await;
    let to = topic();
    let mut small = subscribe_small(&broker, &to).await;
    let mut large = subscribe(&broker, &to).await;
    let reading = tokio::spawn(async move { bodies(&mut small, 3_000).await });
    let reading_all = tokio::spawn(async move { bodies(&mut large, 3_000).await });
    let mut confirms = Vec::new();
    for n in numbers(0, 3_000) {
        confirms.push(publish(&broker, 1, &to, n).await);
    }
    for confirm in confirms {
        soon(confirm).await.expect("it is confirmed");
    }
    assert_eq!(reading.await.expect("it is read"), numbers(0, 3_000));
    assert_eq!(reading_all.await.expect("it is read"), numbers(0, 3_000));
    assert_eq!(broker.state().borrow().gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_someone_undid_is_made_again() {
    let uri = testkit::rabbitmq().await.uri();
    let boot = Ulid::generate();
    let broker = RabbitMqBroker::new(config(&uri), boot);
    let to = topic();
    let mut subscription = subscribe(&broker, &to).await;
    let Destination::Topic(name) = &to else { panic!("{to} is no topic") };
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await;
    let channel = connection.expect("a connection").create_channel().await.expect("a channel");
    let queue = format!("footbridge.topic.{boot}.1").into();
    let (exchange, key) = ("amq.topic".into(), (&**name.key()).into());
    let unbind = channel.queue_unbind(queue, exchange, key, FieldTable::default());
    soon(unbind).await.expect("it is unbound");
    // Published again and again, for what comes before the binding is back is lost.
    soon(async {
        let mut n = 0;
        loop {
            publish_confirmed(&broker, &to, &n.to_string()).await;
            let next = tokio::time::timeout(Duration::from_millis(200), subscription.next());
            if next.await.is_ok() {
                break;
            }
            n += 1;
        }
        assert!(n > 0, "it was not undone");
    })
    .await;
}

/// Whoever subscribes and leaves without end keeps a node that has reconnected from nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_subscribing_holds_up_no_topic_after_a_reconnect() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let broker = Arc::new(broker_up(config(&rabbitmq.uri_at(proxy.port()))).await);
    let to = topic();
    let mut steady = subscribe(&broker, &to).await;
    let mut restless = JoinSet::new();
    for _ in 0..24 {
        let broker = broker.clone();
        restless.spawn(async move {
            loop {
                drop(subscribe(&broker, &topic()).await);
            }
        });
    }
    for n in 0..3 {
        proxy.drop_connections().await;
        until(&broker, |link| matches!(link, Link::Down(_))).await;
        until(&broker, |link| *link == Link::Up).await;
        assert_eq!(soon(publish(&broker, 1, &to, n.to_string()).await).await, Ok(()));
        assert_eq!(body(&take(&mut steady).await), n.to_string());
    }
    restless.shutdown().await;
}
