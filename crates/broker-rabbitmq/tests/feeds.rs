//! Subscriptions that have a queue of their own: to topics, to exchanges of others, and for replies.

mod common;

use std::collections::BTreeSet;

use broker::{
    Broker, Destination, Feed, Message, Outcome, PublisherId, QueueOptions, SubscribeError,
    SubscribeRequest, Subscription,
};
use broker_rabbitmq::{Config, RabbitMqBroker, SubscriptionNames};
use common::{
    application, body, broker_up, config, cut, destination, name, publish, put, refusal, shown,
    soon, subscribed, take, until_empty, until_gone,
};
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};
use testkit::{Proxy, RabbitMq};

async fn node() -> RabbitMqBroker {
    broker_up(config(&testkit::rabbitmq().await.uri())).await
}

/// A node whose connections can be broken.
async fn breakable() -> (Proxy, RabbitMqBroker) {
    let rabbitmq = testkit::rabbitmq().await;
    let proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    (proxy, node)
}

fn request(to: &Destination, feed: Feed) -> SubscribeRequest {
    SubscribeRequest { feed, ..SubscribeRequest::new(to.clone(), 10) }
}

fn kept(owner: &str, id: &str) -> Feed {
    Feed::Kept { owner: Some(owner.into()), id: id.into() }
}

fn queue_of(subscription: &Subscription) -> String {
    subscription.queue().expect("a queue").to_string()
}

async fn sent(node: &RabbitMqBroker, to: &Destination, body: &str) {
    assert_eq!(soon(publish(node, 1, to, body).await).await, Ok(()));
}

async fn declare(channel: &Channel, exchange: &str, kind: ExchangeKind) {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declare = channel.exchange_declare(exchange.into(), kind, options, FieldTable::default());
    declare.await.expect("an exchange");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_can_be_taken_from_a_queue_of_its_own() {
    let (mut proxy, node) = breakable().await;
    let (other, rabbitmq) = (self::node().await, testkit::rabbitmq().await);
    let root = name();
    let topic = destination(&format!("/topic/{root}.one"));
    let pattern = destination(&format!("/topic/{root}.*"));
    let mut subscription = subscribed(&node, request(&pattern, Feed::Own)).await;
    let queue = queue_of(&subscription);
    assert!(queue.starts_with("stomp-subscription-"), "{queue}");
    let shows = shown(rabbitmq, &queue, &["durable", "exclusive", "arguments"]).await;
    let shows = shows.expect("the queue");
    assert!(shows.starts_with("true\tfalse\t") && shows.contains("x-expires"), "{shows}");

    // Unlike those of a shared feed, its deliveries are the subscriber's to settle.
    sent(&other, &topic, "once more").await;
    let delivery = take(&mut subscription).await;
    assert_eq!((&delivery.message.destination, delivery.redelivered), (&topic, false));
    delivery.settle(Outcome::Requeue);
    let again = take(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("once more", true));
    again.settle(Outcome::Ack);

    // What comes while there is no connection waits.
    proxy.cut().await;
    common::until(&node, |link| matches!(link, broker::Link::Down(_))).await;
    sent(&other, &topic, "meanwhile").await;
    proxy.heal().await.expect("it heals");
    let delivery = take(&mut subscription).await;
    assert_eq!(body(&delivery), "meanwhile");
    delivery.settle(Outcome::Ack);
    assert_eq!(node.state().borrow().gaps, 0);
    drop(subscription);
    until_gone(rabbitmq, &queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_its_own_that_is_gone_is_a_gap_and_another_one() {
    let (mut proxy, node) = breakable().await;
    let rabbitmq = testkit::rabbitmq().await;
    let topic = common::topic();
    let mut subscription = subscribed(&node, request(&topic, Feed::Own)).await;
    let queue = queue_of(&subscription);
    proxy.cut().await;
    common::until(&node, |link| matches!(link, broker::Link::Down(_))).await;
    rabbitmq.ctl(&["delete_queue", &queue]).await.expect("it is deleted");
    let mut state = node.state();
    proxy.heal().await.expect("it heals");
    soon(state.wait_for(|state| state.gaps > 0)).await.expect("a gap");
    let there = async { while shown(rabbitmq, &queue, &["messages"]).await.is_none() {} };
    soon(there).await;
    let bound = async {
        let bindings = ["list_bindings", "source_name", "destination_name"];
        let ours = format!("amq.topic\t{queue}");
        while !rabbitmq.ctl(&bindings).await.expect("the bindings").contains(&ours) {}
    };
    soon(bound).await;
    sent(&node, &topic, "after").await;
    assert_eq!(body(&take(&mut subscription).await), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_say_what_a_queue_of_its_own_is() {
    let (node, rabbitmq) = (node().await, testkit::rabbitmq().await);
    let topic = common::topic();
    let exclusive = QueueOptions { exclusive: Some(true), ..QueueOptions::default() };
    let of_its_own = SubscribeRequest { queue: exclusive, ..request(&topic, Feed::Own) };
    let mut subscription = subscribed(&node, of_its_own).await;
    let queue = queue_of(&subscription);
    let flags = shown(rabbitmq, &queue, &["durable", "exclusive"]).await;
    assert_eq!(flags.as_deref(), Some("false\ttrue"));
    sent(&node, &topic, "hi").await;
    assert_eq!(body(&take(&mut subscription).await), "hi");
    drop(subscription);
    until_gone(rabbitmq, &queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_subscription_is_kept_while_its_subscriber_is_away() {
    let (node, other) = (node().await, node().await);
    let topic = common::topic();
    let subscription = subscribed(&node, request(&topic, kept("ann", "s"))).await;
    let queue = queue_of(&subscription);
    drop(subscription);
    sent(&node, &topic, "away").await;
    // On whichever node, and nobody else's.
    let mut again = subscribed(&other, request(&topic, kept("ann", "s"))).await;
    assert_eq!(queue_of(&again), queue);
    let bob = subscribed(&other, request(&topic, kept("bob", "s"))).await;
    assert_ne!(queue_of(&bob), queue);
    let delivery = take(&mut again).await;
    assert_eq!((body(&delivery).as_str(), &delivery.message.destination), ("away", &topic));
    delivery.settle(Outcome::Ack);
    for queue in [queue, queue_of(&bob)] {
        soon(other.delete(&Destination::AmqQueue(queue.into()))).await.expect("it is deleted");
    }
    assert!(soon(again.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_of_one_queue_compete() {
    let node = node().await;
    let topic = common::topic();
    let named = name();
    for feed in [kept("ann", "s"), Feed::Named(named.as_str().into())] {
        let one_each = SubscribeRequest { prefetch: 1, ..request(&topic, feed) };
        let mut one = subscribed(&node, one_each.clone()).await;
        let mut other = subscribed(&node, one_each).await;
        assert_eq!(one.queue(), other.queue());
        for body in ["1", "2"] {
            sent(&node, &topic, body).await;
        }
        // Each holds one, and there are no more.
        let held = [take(&mut one).await, take(&mut other).await];
        let bodies: BTreeSet<_> = held.iter().map(body).collect();
        assert_eq!(bodies, ["1".to_owned(), "2".to_owned()].into());
        let queue = queue_of(&one);
        drop(one);
        // The one that stays goes on, with what the other gave back.
        drop(held);
        for _ in 0..2 {
            take(&mut other).await.settle(Outcome::Ack);
        }
        soon(node.delete(&Destination::AmqQueue(queue.into()))).await.expect("it is deleted");
    }
}

/// The vector was observed at the plugin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_subscription_of_the_plugin_is_found_again() {
    let rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    let left = "stomp-subscription-tZkUyKxczL6C9kpilXdR9w";
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let declare = channel.queue_declare(left.into(), durable, FieldTable::default());
    declare.await.expect("a queue");
    put(&channel, "", left, "left", <_>::default()).await;
    let config =
        Config { subscription_names: SubscriptionNames::Plugin, ..config(&rabbitmq.uri()) };
    let node = broker_up(config).await;
    let topic = destination("/topic/a.b");
    let mut subscription = subscribed(&node, request(&topic, kept("ann", "s1"))).await;
    assert_eq!(queue_of(&subscription), left);
    let delivery = take(&mut subscription).await;
    assert_eq!(body(&delivery), "left");
    delivery.settle(Outcome::Ack);
    sent(&node, &topic, "new").await;
    assert_eq!(body(&take(&mut subscription).await), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_of_others_is_bound_to_on_each_connection() {
    let (mut proxy, node) = breakable().await;
    let rabbitmq = testkit::rabbitmq().await;
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let (direct, fanout) = (name(), name());
    declare(&channel, &direct, ExchangeKind::Direct).await;
    declare(&channel, &fanout, ExchangeKind::Fanout).await;
    let keyed = destination(&format!("/exchange/{direct}/k"));
    let all = destination(&format!("/exchange/{fanout}"));
    let mut keyed_ones = subscribed(&node, request(&keyed, Feed::Own)).await;
    let mut all_of_them = subscribed(&node, request(&all, kept("ann", "s"))).await;
    put(&channel, &direct, "other", "not bound", <_>::default()).await;
    put(&channel, &direct, "k", "keyed", <_>::default()).await;
    put(&channel, &fanout, "any", "all", <_>::default()).await;
    let delivery = take(&mut keyed_ones).await;
    assert_eq!((body(&delivery).as_str(), &delivery.message.destination), ("keyed", &keyed));
    delivery.settle(Outcome::Ack);
    let delivery = take(&mut all_of_them).await;
    let came = destination(&format!("/exchange/{fanout}/any"));
    assert_eq!((body(&delivery).as_str(), &delivery.message.destination), ("all", &came));
    delivery.settle(Outcome::Ack);
    until_empty(rabbitmq, &queue_of(&keyed_ones)).await;

    // Declared anew by the application, it has no bindings.
    proxy.cut().await;
    common::until(&node, |link| matches!(link, broker::Link::Down(_))).await;
    let delete = channel.exchange_delete(direct.as_str().into(), ExchangeDeleteOptions::default());
    delete.await.expect("it is deleted");
    declare(&channel, &direct, ExchangeKind::Direct).await;
    proxy.heal().await.expect("it heals");
    let bound = async {
        let queue = queue_of(&keyed_ones);
        let bindings = ["list_bindings", "source_name", "destination_name"];
        let ours = format!("{direct}\t{queue}");
        while !rabbitmq.ctl(&bindings).await.expect("the bindings").contains(&ours) {}
    };
    soon(bound).await;
    put(&channel, &direct, "k", "again", <_>::default()).await;
    assert_eq!(body(&take(&mut keyed_ones).await), "again");
    let queue = queue_of(&all_of_them);
    soon(node.delete(&Destination::AmqQueue(queue.into()))).await.expect("it is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_is_not_there_is_refused() {
    let (node, rabbitmq) = (node().await, testkit::rabbitmq().await);
    let missing = name();
    let named = Feed::Named(missing.as_str().into());
    for feed in [Feed::Shared, Feed::Own, named] {
        let to = destination(&format!("/exchange/{missing}/k"));
        let why = refusal(&node, request(&to, feed)).await;
        assert!(why.starts_with(&format!("NOT_FOUND - no exchange '{missing}'")), "{why}");
    }
    assert_eq!(shown(rabbitmq, &missing, &["messages"]).await, None, "no queue is left behind");
    let default = Destination::Exchange { exchange: "".into(), key: Some("q".into()) };
    let why = refusal(&node, request(&default, Feed::Own)).await;
    assert!(why.starts_with("ACCESS_REFUSED"), "{why}");
}

/// The node holds one such subscription for all its clients; nobody settles it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_exchange_settles_itself_and_repeats_nothing() {
    const MESSAGES: usize = 20;
    let (mut proxy, node) = breakable().await;
    let (other, rabbitmq) = (self::node().await, testkit::rabbitmq().await);
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let exchange = name();
    declare(&channel, &exchange, ExchangeKind::Topic).await;
    let to = destination(&format!("/exchange/{exchange}/a.*"));
    let shared = SubscribeRequest { prefetch: 1, ..request(&to, Feed::Shared) };
    let mut subscription = subscribed(&node, shared).await;
    let queue = queue_of(&subscription);
    // Such as a node publishes them: with an id to know them by.
    let (own, mut ids) = (common::queue(), Vec::new());
    let mut originals = subscribed(&other, SubscribeRequest::new(own.clone(), 100)).await;
    for n in 0..MESSAGES {
        let message = Message::new(own.clone(), n.to_string());
        let id = message.id;
        ids.push(id);
        let confirm = soon(other.publish(PublisherId(1), message)).await.expect("it is taken");
        assert_eq!(soon(confirm).await, Ok(()));
        put(&channel, &exchange, "a.b", &n.to_string(), of_a_node(&id.to_string())).await;
        take(&mut originals).await.settle(Outcome::Ack);
    }
    for n in 0..MESSAGES {
        if n % 7 == 3 {
            cut(&mut proxy, &node).await;
        }
        let delivery = take(&mut subscription).await;
        assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
        assert_eq!(delivery.message.destination, destination(&format!("/exchange/{exchange}/a.b")));
    }
    put(&channel, &exchange, "a.b", "end", <_>::default()).await;
    assert_eq!(body(&take(&mut subscription).await), "end");
    // All of them are acked.
    let empty =
        async { while shown(rabbitmq, &queue, &["messages"]).await.as_deref() != Some("0") {} };
    soon(empty).await;
    soon(other.delete(&own)).await.expect("it is deleted");
}

fn of_a_node(id: &str) -> BasicProperties {
    let long = |text: &str| lapin::types::AMQPValue::LongString(text.into());
    let mut table = FieldTable::default();
    table.insert("x-footbridge-v".into(), lapin::types::AMQPValue::LongInt(1));
    table.insert("x-footbridge-id".into(), long(id));
    table.insert("x-footbridge-from".into(), long(id));
    BasicProperties::default().with_headers(table)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_queue_is_known_to_whom_it_was_told_and_outlives_a_connection() {
    let (mut proxy, node) = breakable().await;
    let rabbitmq = testkit::rabbitmq().await;
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let to = Destination::TempQueue("replies".into());
    let mut subscription = subscribed(&node, request(&to, Feed::Shared)).await;
    let other = subscribed(&node, request(&to, Feed::Shared)).await;
    let queue = queue_of(&subscription);
    assert!(queue.starts_with("stomp-reply-") && queue != queue_of(&other), "{queue}");
    let by_name = Destination::ReplyQueue(queue.as_str().into());
    for n in 0..3 {
        put(&channel, "", &queue, &n.to_string(), <_>::default()).await;
        let delivery = take(&mut subscription).await;
        assert_eq!((body(&delivery), &delivery.message.destination), (n.to_string(), &by_name));
        delivery.settle(Outcome::Ack);
        // An ack may be lost with the connection, and an application's message has no id to know it by.
        until_empty(rabbitmq, &queue).await;
        cut(&mut proxy, &node).await;
    }
    drop(other);
    drop(subscription);
    until_gone(rabbitmq, &queue).await;
    let why = refusal(&node, SubscribeRequest::new(by_name, 1)).await;
    assert!(why.starts_with("NOT_FOUND"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_closes_leaves_no_queue_behind_that_nobody_else_has() {
    let (node, rabbitmq) = (node().await, testkit::rabbitmq().await);
    let mut subscriptions = Vec::new();
    for _ in 0..5 {
        subscriptions.push(subscribed(&node, request(&common::topic(), Feed::Own)).await);
    }
    let queues: Vec<_> = subscriptions.iter().map(queue_of).collect();
    drop(subscriptions);
    soon(node.close()).await;
    for queue in queues {
        assert_eq!(shown(rabbitmq, &queue, &["messages"]).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_queues_have_rules() {
    let node = node().await;
    let named = |name: &str| request(&common::topic(), Feed::Named(name.into()));
    let misnamed = soon(node.subscribe(named("amq.mine"))).await.map(drop);
    assert!(matches!(misnamed, Err(SubscribeError::Misnamed(_))), "{misnamed:?}");
    let why = refusal(&node, named("footbridge.topic.01.1")).await;
    assert!(why.starts_with("ACCESS_REFUSED"), "{why}");
    let why = refusal(&node, named(&"x".repeat(256))).await;
    assert!(why.contains("longer than the limit of 255"), "{why}");
}
