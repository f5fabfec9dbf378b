//! What was acked or rejected does not come again, although RabbitMQ never heard of it.

mod common;

use broker::{
    Argument, Broker, Delivery, Destination, Link, MessageId, Outcome, QueueOptions,
    SubscribeRequest,
};
use broker_rabbitmq::RabbitMqBroker;
use common::{
    application, body, broker_up, config, publish, put, queue, soon, subscribe, subscribed, take,
    until,
};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use testkit::{Proxy, RabbitMq};

fn repeats(registry: &Registry) -> usize {
    let mut text = String::new();
    encode(&mut text, registry).expect("a text");
    let repeats = text.lines().find_map(|line| line.strip_prefix("amqp_duplicates_total "));
    repeats.expect("the metric").parse().expect("a number")
}

async fn sent(node: &RabbitMqBroker, to: &Destination, body: &str) {
    assert_eq!(soon(publish(node, 1, to, body).await).await, Ok(()));
}

fn name(queue: &Destination) -> &str {
    match queue {
        Destination::Queue(name) => name,
        other => panic!("{other} is no queue"),
    }
}

/// The acks are lost for sure: they are given after the connection has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_settled_while_there_was_no_connection_does_not_come_again() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let other = broker_up(config(&rabbitmq.uri())).await;
    let mut registry = Registry::default();
    node.register(&mut registry);
    let to = queue();
    let mut subscription = subscribe(&node, &to).await;
    for body in ["acked", "rejected", "requeued"] {
        sent(&other, &to, body).await;
    }
    let mut held: Vec<Delivery> = Vec::new();
    for _ in 0..3 {
        held.push(take(&mut subscription).await);
    }
    proxy.cut().await;
    until(&node, |link| matches!(link, Link::Down(_))).await;
    for (delivery, outcome) in
        held.into_iter().zip([Outcome::Ack, Outcome::Reject, Outcome::Requeue])
    {
        delivery.settle(outcome);
    }
    proxy.heal().await.expect("it heals");
    let again = take(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("requeued", true));
    again.settle(Outcome::Ack);
    sent(&other, &to, "end").await;
    let end = take(&mut subscription).await;
    assert_eq!(body(&end), "end");
    end.settle(Outcome::Ack);
    assert_eq!(repeats(&registry), 2);
    // They are settled by now, and come to nobody else either.
    drop(subscription);
    let mut later = subscribe(&other, &to).await;
    sent(&other, &to, "later").await;
    assert_eq!(body(&take(&mut later).await), "later");
    soon(other.delete(&to)).await.expect("it is deleted");
}

/// The reject is lost for sure: it is given after the connection has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_rejected_while_there_was_no_connection_is_dead_lettered() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let other = broker_up(config(&rabbitmq.uri())).await;
    let (to, dead) = (queue(), queue());
    let text = |text: &str| Argument::Text(text.into());
    let arguments = vec![
        ("x-dead-letter-exchange".into(), text("")),
        ("x-dead-letter-routing-key".into(), text(name(&dead))),
    ];
    let options = QueueOptions { arguments, ..QueueOptions::default() };
    let mut dead_letters = subscribe(&other, &dead).await;
    let request = SubscribeRequest { queue: options, ..SubscribeRequest::new(to.clone(), 10) };
    let mut subscription = subscribed(&node, request).await;
    sent(&node, &to, "rejected").await;
    let delivery = take(&mut subscription).await;
    proxy.cut().await;
    until(&node, |link| matches!(link, Link::Down(_))).await;
    delivery.settle(Outcome::Reject);
    proxy.heal().await.expect("it heals");
    let rejected = take(&mut dead_letters).await;
    assert_eq!(body(&rejected), "rejected");
    rejected.settle(Outcome::Ack);
    for queue in [to, dead] {
        soon(other.delete(&queue)).await.expect("it is deleted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_before_a_kill_does_not_come_again() {
    const MESSAGES: usize = 300;
    let mut rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    let node = broker_up(config(&rabbitmq.uri())).await;
    let to = queue();
    let request = SubscribeRequest::new(to.clone(), 50);
    let mut subscription = subscribed(&node, request).await;
    let mut confirms = Vec::new();
    for n in 0..MESSAGES {
        confirms.push(publish(&node, 1, &to, n.to_string()).await);
    }
    for confirm in confirms {
        assert_eq!(soon(confirm).await, Ok(()));
    }
    let mut held = Vec::new();
    for n in 0..MESSAGES {
        let delivery = take(&mut subscription).await;
        assert_eq!(body(&delivery), n.to_string());
        // The last ones are acked only once RabbitMQ is dead.
        if n < MESSAGES - 10 {
            delivery.settle(Outcome::Ack);
        } else {
            held.push(delivery);
        }
    }
    rabbitmq.kill();
    held.into_iter().for_each(|delivery| delivery.settle(Outcome::Ack));
    rabbitmq.start_again().await.expect("it starts again");
    sent(&node, &to, "end").await;
    assert_eq!(body(&take(&mut subscription).await), "end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_sends_on_to_the_same_queue_is_another_message() {
    let rabbitmq = testkit::rabbitmq().await;
    let node = broker_up(config(&rabbitmq.uri())).await;
    let to = queue();
    let mut subscription = subscribe(&node, &to).await;
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let long = |text: &str| AMQPValue::LongString(text.into());
    let id = MessageId::new().to_string();
    let mut table = FieldTable::default();
    table.insert("x-footbridge-v".into(), AMQPValue::LongInt(1));
    table.insert("x-footbridge-id".into(), long(&id));
    table.insert("x-footbridge-from".into(), long(&id));
    let properties = BasicProperties::default().with_headers(table);
    put(&channel, "", name(&to), "one", properties.clone()).await;
    let one = take(&mut subscription).await;
    assert_eq!((body(&one).as_str(), one.message.id.to_string()), ("one", id));
    one.settle(Outcome::Ack);
    put(&channel, "", name(&to), "two", properties).await;
    let two = take(&mut subscription).await;
    assert_eq!((body(&two).as_str(), two.redelivered), ("two", false));
    // Nor is its requeue a repeat of the first.
    two.settle(Outcome::Requeue);
    let two = take(&mut subscription).await;
    assert_eq!((body(&two).as_str(), two.redelivered), ("two", true));
    two.settle(Outcome::Ack);
    soon(node.delete(&to)).await.expect("it is deleted");
}
