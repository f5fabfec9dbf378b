//! Queue subscriptions share channels without putting each other at risk, and there are always some
//! channels left for the rest.

mod common;

use std::collections::BTreeSet;

use broker::{Broker, Link, Outcome, SubscribeError, SubscribeRequest, Subscription};
use broker_rabbitmq::RabbitMqBroker;
use common::{body, broker_up, config, publish, queue, soon, subscribe, take, topic};
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use testkit::RabbitMq;

async fn subscribe_to_any(
    broker: &RabbitMqBroker,
    prefetch: u16,
) -> Result<Subscription, SubscribeError> {
    soon(broker.subscribe(SubscribeRequest::new(queue(), prefetch))).await
}

/// The channels that consume queues whose name begins so.
async fn channels_of(rabbit: &RabbitMq, name: &str) -> BTreeSet<String> {
    let list = ["list_consumers", "-q", "--no-table-headers", "queue_name", "channel_pid"];
    let consumers = rabbit.ctl(&list).await.expect("the consumers");
    let of_name = consumers.lines().filter(|line| line.starts_with(name));
    of_name.filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

/// A queue that an application keeps to itself.
async fn taken(rabbit: &RabbitMq, name: &str) -> (Connection, Channel, Consumer) {
    let application = Connection::connect(&rabbit.uri(), ConnectionProperties::default()).await;
    let application = application.expect("a connection");
    let channel = application.create_channel().await.expect("a channel");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let declared = channel.queue_declare(name.into(), durable, FieldTable::default());
    declared.await.expect("a queue");
    let consumed = channel.basic_consume(name.into(), "".into(), exclusive, FieldTable::default());
    let consumer = consumed.await.expect("a consumer");
    (application, channel, consumer)
}

/// Of three consumers that hold unsettled deliveries, none hears of a fourth that RabbitMQ refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_refused_disturbs_no_neighbour() {
    let rabbit = RabbitMq::start().await.expect("a RabbitMQ");
    let broker = broker_up(config(&rabbit.uri())).await;
    let _application = taken(&rabbit, "test-taken").await;
    let shared = queue();
    let mut neighbours = Vec::new();
    for _ in 0..3 {
        let request = SubscribeRequest::new(shared.clone(), 1);
        neighbours.push(soon(broker.subscribe(request)).await.expect("a subscription"));
    }
    for n in 0..6 {
        soon(publish(&broker, 1, &shared, n.to_string()).await).await.expect("it is confirmed");
    }
    let mut held = Vec::new();
    for neighbour in &mut neighbours {
        held.push(take(neighbour).await);
    }
    let before = channels_of(&rabbit, "test-").await;
    for _ in 0..5 {
        let request = SubscribeRequest::new(common::destination("/queue/test-taken"), 1);
        let refused = soon(broker.subscribe(request)).await.map(drop);
        let Err(SubscribeError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("exclusive use"), "{why}");
    }
    assert!(channels_of(&rabbit, "test-").await.is_superset(&before), "they are the same");
    // The tags of then still count, and nothing came again.
    let mut bodies: Vec<_> = held.iter().map(body).collect();
    held.into_iter().for_each(|delivery| delivery.settle(Outcome::Ack));
    for neighbour in &mut neighbours {
        let delivery = take(neighbour).await;
        assert!(!delivery.redelivered);
        bodies.push(body(&delivery));
        delivery.settle(Outcome::Ack);
    }
    bodies.sort();
    assert_eq!(bodies, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_consumed_already_shares_a_channel_and_a_newcomer_does_not() {
    let rabbit = RabbitMq::start().await.expect("a RabbitMQ");
    let broker = broker_up(config(&rabbit.uri())).await;
    let (one, other) = (queue(), queue());
    let mut subscriptions = Vec::new();
    for to in [&one, &other, &one, &other, &one, &other] {
        subscriptions.push(subscribe(&broker, to).await);
    }
    assert_eq!(channels_of(&rabbit, "test-").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_on_one_channel_have_a_prefetch_each() {
    let rabbit = RabbitMq::start().await.expect("a RabbitMQ");
    let broker = broker_up(config(&rabbit.uri())).await;
    let mut subscriptions = Vec::new();
    let queues = [queue(), queue(), queue()];
    // Each begins on a channel of its own; with the second consumers they have proven themselves.
    let mut firsts = Vec::new();
    for to in &queues {
        firsts.push(subscribe(&broker, to).await);
    }
    for (to, prefetch) in queues.into_iter().zip([2, 5, 1]) {
        let request = SubscribeRequest::new(to.clone(), prefetch);
        let subscription = soon(broker.subscribe(request)).await.expect("a subscription");
        subscriptions.push((to, prefetch, subscription));
    }
    assert_eq!(channels_of(&rabbit, "test-").await.len(), 3);
    drop(firsts);
    let gone = async { while channels_of(&rabbit, "test-").await.len() > 1 {} };
    soon(gone).await;
    let consumers =
        rabbit.ctl(&["list_consumers", "-q", "--no-table-headers", "queue_name", "channel_pid"]);
    let consumers = consumers.await.expect("the consumers");
    let mut channels: Vec<_> = consumers
        .lines()
        .filter(|line| line.starts_with("test-"))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(channels.len(), 3, "{consumers}");
    channels.dedup();
    assert_eq!(channels.len(), 1, "{consumers}");
    for (to, prefetch, subscription) in &mut subscriptions {
        for n in 0..20 {
            soon(publish(&broker, 1, to, n.to_string()).await).await.expect("it is confirmed");
        }
        let mut unsettled = Vec::new();
        for _ in 0..*prefetch {
            unsettled.push(take(subscription).await);
        }
        let name = to.to_string();
        let name = name.trim_start_matches("/queue/");
        // RabbitMQ counts what is outstanding and what is not.
        let list = ["list_queues", "-q", "--no-table-headers", "name", "messages_unacknowledged"];
        let queues = rabbit.ctl(&list).await.expect("the queues");
        let expected = format!("{name}\t{prefetch}");
        assert!(queues.lines().any(|line| line == expected), "{expected}: {queues}");
        unsettled.into_iter().for_each(|delivery| delivery.settle(Outcome::Ack));
        assert_eq!(body(&take(subscription).await), prefetch.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_leave_channels_for_the_rest() {
    let rabbit = RabbitMq::options().config("channel_max = 18").start().await;
    let rabbit = rabbit.expect("a RabbitMQ");
    let broker = broker_up(config(&rabbit.uri())).await;
    let mut subscriptions = Vec::new();
    // Two channels are for consumers, so that newcomers share; each client chooses a prefetch of its own.
    for prefetch in 1..=128 {
        subscriptions.push(subscribe_to_any(&broker, prefetch).await.expect("a subscription"));
    }
    let refused = subscribe_to_any(&broker, 1).await.map(drop);
    assert_eq!(refused, Err(SubscribeError::LimitReached { what: "consumers", limit: 128 }));
    let to = topic();
    let mut topics = subscribe(&broker, &to).await;
    soon(publish(&broker, 1, &to, "goes on").await).await.expect("it is confirmed");
    assert_eq!(body(&take(&mut topics).await), "goes on");
    // Who leaves makes room.
    drop(subscriptions.pop());
    soon(async {
        loop {
            match subscribe_to_any(&broker, 7).await {
                Ok(_) => break,
                Err(SubscribeError::LimitReached { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

/// RabbitMQ closes a channel with each refusal, and a connection has only so many numbers for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_use_up_no_connection() {
    let rabbit = RabbitMq::options().config("channel_max = 64").start().await;
    let rabbit = rabbit.expect("a RabbitMQ");
    let _application = taken(&rabbit, "test-taken").await;
    let broker = broker_up(common::config(&rabbit.uri())).await;
    let to = topic();
    let mut topics = subscribe(&broker, &to).await;
    let taken = common::destination("/queue/test-taken");
    let mut refused = 0;
    while refused < 150 {
        let request = SubscribeRequest::new(taken.clone(), 1);
        match soon(broker.subscribe(request)).await {
            Err(SubscribeError::Refused(why)) if why.contains("exclusive use") => refused += 1,
            // The connection was replaced meanwhile.
            Err(SubscribeError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    common::until(&broker, |link| *link == Link::Up).await;
    for _ in 0..3 {
        let new = queue();
        let mut consumed = subscribe(&broker, &new).await;
        soon(publish(&broker, 1, &new, "new").await).await.expect("it is confirmed");
        assert_eq!(body(&take(&mut consumed).await), "new");
    }
    soon(publish(&broker, 1, &to, "goes on").await).await.expect("it is confirmed");
    assert_eq!(body(&take(&mut topics).await), "goes on");
}
