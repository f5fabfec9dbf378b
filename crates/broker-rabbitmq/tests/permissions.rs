//! A topic queue that RabbitMQ refuses: the state says why, closing does not wait for it, and once
//! the reason is gone all is well.

mod common;

use std::time::{Duration, Instant};

use broker::Link;
use broker_rabbitmq::RabbitMqBroker;
use common::{body, broker_up, config, publish, soon, subscribe, take, topic, until};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use testkit::RabbitMq;
use ulid::Ulid;

/// A user who may write and read everything and configure what `configure` matches.
async fn permit(rabbitmq: &RabbitMq, user: &str, configure: &str) {
    let permit = ["set_permissions", user, configure, ".*", ".*"];
    rabbitmq.ctl(&permit).await.expect("permissions");
}

fn names_the_refusal(link: &Link) -> bool {
    matches!(link, Link::Down(why) if why.contains("queue footbridge.topic.") && why.contains("ACCESS_REFUSED"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_that_are_missing_are_named_and_can_be_given_later() {
    let rabbitmq = testkit::rabbitmq().await;
    let user = format!("user-{}", Ulid::generate());
    rabbitmq.ctl(&["add_user", &user, "secret"]).await.expect("a user");
    permit(rabbitmq, &user, "^$").await;
    let uri = rabbitmq.uri().replace("guest:guest", &format!("{user}:secret"));

    let closed = RabbitMqBroker::new(config(&uri), Ulid::generate());
    until(&closed, names_the_refusal).await;
    let since = Instant::now();
    soon(closed.close()).await;
    // Far below what a publish or a subscription may wait.
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());

    let healed = RabbitMqBroker::new(config(&uri), Ulid::generate());
    until(&healed, names_the_refusal).await;
    permit(rabbitmq, &user, ".*").await;
    until(&healed, |link| *link == Link::Up).await;
    let topic = topic();
    let mut subscription = subscribe(&healed, &topic).await;
    soon(publish(&healed, 1, &topic, "hi").await).await.expect("it is confirmed");
    assert_eq!(body(&take(&mut subscription).await), "hi");
    soon(healed.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_queue_that_someone_declared_otherwise_is_left_to_them() {
    let rabbitmq = testkit::rabbitmq().await;
    let boot = Ulid::generate();
    let connection = Connection::connect(&rabbitmq.uri(), ConnectionProperties::default()).await;
    let channel = connection.expect("a connection").create_channel().await.expect("a channel");
    let name = format!("footbridge.topic.{boot}.1");
    let options = QueueDeclareOptions::default();
    let declare = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
    soon(declare).await.expect("a queue");
    let broker = RabbitMqBroker::new(config(&rabbitmq.uri()), boot);
    until(&broker, |link| *link == Link::Up).await;
    let topic = topic();
    let mut subscription = subscribe(&broker, &topic).await;
    let other = broker_up(config(&rabbitmq.uri())).await;
    soon(publish(&other, 1, &topic, "hi").await).await.expect("it is confirmed");
    assert_eq!(body(&take(&mut subscription).await), "hi");
    soon(broker.close()).await;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let find = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
    soon(find).await.expect("it is still there");
}
