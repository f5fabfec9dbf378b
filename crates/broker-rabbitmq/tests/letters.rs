//! What the nodes have among themselves: by exchanges of its own, to a queue of its own, where neither
//! clients nor a flood of topics come in its way.

mod common;

use broker::destination::Topic;
use broker::internal::{Internal, ROSTER};
use broker::{
    Broker, Destination, Feed, Message, Outcome, PublishError, PublisherId, SubscribeRequest,
    Subscription,
};
use broker_rabbitmq::{Config, RabbitMqBroker};
use common::application::Application;
use common::{
    application, body, broker_up, config, cut, name, publish, put, refusal, shown, soon, subscribe,
    subscribed, take, topic, until, until_gone,
};
use lapin::BasicProperties;
use testkit::Proxy;
use ulid::Ulid;

/// A namespace of its own, so that nothing of other tests comes by its exchanges.
fn namespaced(uri: &str) -> Config {
    Config { namespace: name(), ..config(uri) }
}

fn internal(internal: Internal, key: &str) -> Destination {
    Destination::Topic(Topic::exact(internal.prefix().into(), key.into()))
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

fn numbers(to: usize) -> Vec<String> {
    (0..to).map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_comes_by_its_exchange_to_who_subscribed() {
    let rabbitmq = testkit::rabbitmq().await;
    let config = namespaced(&rabbitmq.uri());
    let (one, other) = (broker_up(config.clone()).await, broker_up(config.clone()).await);
    let kinds = [
        (Internal::Nodes, "boot", "direct", "direct"),
        (Internal::Nodes, "all", "direct", "direct"),
        (Internal::Nodes, ROSTER, "roster", "fanout"),
        (Internal::Groups, "a%2Eb", "group", "direct"),
        (Internal::Events, "user.online", "events", "topic"),
    ];
    for (kind, key, exchange, exchange_type) in kinds {
        let to = internal(kind, key);
        let pattern = if kind == Internal::Events { "user.*" } else { key };
        let mut got = subscribe(&one, &internal(kind, pattern)).await;
        let elsewhere = internal(kind, if kind == Internal::Nodes { "boo" } else { "other" });
        // What is said to all nodes has no other key.
        if key != ROSTER {
            publish_confirmed(&other, &elsewhere, "for others").await;
        }
        publish_confirmed(&other, &to, "for it").await;
        let delivery = take(&mut got).await;
        assert_eq!((body(&delivery).as_str(), &delivery.message.destination), ("for it", &to));
        let name = format!("{}.{exchange}", config.namespace);
        let exchanges = rabbitmq.ctl(&["list_exchanges", "-q", "name", "type", "durable"]).await;
        let expected = format!("{name}\t{exchange_type}\ttrue");
        assert!(exchanges.expect("a list").lines().any(|line| line == expected), "{expected}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_letters_is_there_once_it_is_used_and_goes_with_the_node() {
    let rabbitmq = testkit::rabbitmq().await;
    let (config, boot) = (namespaced(&rabbitmq.uri()), Ulid::generate());
    let node = RabbitMqBroker::new(config.clone(), boot);
    let queue = |what| format!("{}.{what}.{boot}.1", config.namespace);
    drop(subscribe(&node, &topic()).await);
    publish_confirmed(&node, &internal(Internal::Nodes, "all"), "nobody hears it").await;
    assert_eq!(shown(rabbitmq, &queue("direct"), &["name"]).await, None);
    let _letters = subscribe(&node, &internal(Internal::Nodes, "all")).await;
    let arguments = shown(rabbitmq, &queue("direct"), &["durable", "arguments"]).await;
    let arguments = arguments.expect("it is there");
    assert!(arguments.starts_with("true\t") && arguments.contains("x-expires"), "{arguments}");
    assert!(arguments.contains("x-single-active-consumer"), "{arguments}");
    assert!(!arguments.contains("x-max-length"), "{arguments}");
    node.close().await;
    until_gone(rabbitmq, &queue("direct")).await;
    until_gone(rabbitmq, &queue("topic")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_topics_pushes_no_letter_out() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let config = namespaced(&rabbitmq.uri());
    let publishing = broker_up(config.clone()).await;
    let receiving = broker_up(Config {
        uris: vec![rabbitmq.uri_at(proxy.port()).as_str().into()],
        topic_queue_length: 10,
        ..config
    })
    .await;
    let (to, letters) = (topic(), internal(Internal::Nodes, "boot"));
    let _topic = subscribe(&receiving, &to).await;
    let mut received = subscribe(&receiving, &letters).await;
    proxy.cut().await;
    until(&receiving, |link| matches!(link, broker::Link::Down(_))).await;
    for n in numbers(100) {
        publish_confirmed(&publishing, &to, "a flood").await;
        publish_confirmed(&publishing, &letters, &n).await;
    }
    proxy.heal().await.expect("it is there again");
    assert_eq!(bodies(&mut received, 100).await, numbers(100));
    assert!(receiving.state().borrow().gaps > 0, "the topics were pushed out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_wait_where_topics_are_shed() {
    let rabbitmq = testkit::rabbitmq().await;
    let config = Config { topic_prefetch: 1, ..namespaced(&rabbitmq.uri()) };
    let node = broker_up(config).await;
    let (to, letters) = (topic(), internal(Internal::Nodes, "boot"));
    let small = |to: &Destination| SubscribeRequest::new(to.clone(), 2);
    let mut never_read = subscribed(&node, small(&to)).await;
    let mut received = subscribed(&node, small(&letters)).await;
    for n in numbers(50) {
        publish_confirmed(&node, &letters, &n).await;
        publish_confirmed(&node, &to, &n).await;
    }
    // As long as topics are waited for, letters have waited as well.
    let mut state = node.state();
    soon(state.wait_for(|state| state.gaps > 0)).await.expect("the node is there");
    assert_eq!(bodies(&mut received, 50).await, numbers(50));
    assert_eq!(node.state().borrow().gaps, 1);
    assert_eq!(bodies(&mut never_read, 2).await, numbers(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_loses_no_letter_and_repeats_none() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(namespaced(&rabbitmq.uri_at(proxy.port()))).await;
    let to = internal(Internal::Groups, "g");
    let mut received = subscribe(&node, &to).await;
    let mut confirms = Vec::new();
    for (at, n) in numbers(500).into_iter().enumerate() {
        confirms.push(publish(&node, 1, &to, n).await);
        if at % 200 == 100 {
            cut(&mut proxy, &node).await;
        }
    }
    for confirm in confirms {
        soon(confirm).await.expect("it is confirmed");
    }
    publish_confirmed(&node, &to, "end").await;
    let mut expected = numbers(500);
    expected.push("end".to_owned());
    assert_eq!(bodies(&mut received, 501).await, expected);
    assert_eq!(node.state().borrow().gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_someone_deleted_is_there_again_with_its_bindings() {
    let rabbitmq = testkit::rabbitmq().await;
    let config = namespaced(&rabbitmq.uri());
    let node = broker_up(config.clone()).await;
    let to = internal(Internal::Nodes, "boot");
    let mut received = subscribe(&node, &to).await;
    publish_confirmed(&node, &to, "before").await;
    assert_eq!(body(&take(&mut received).await), "before");
    let application = Application::of(rabbitmq).await;
    application.delete(&format!("{}.direct", config.namespace)).await;
    // Again and again, for what comes before the binding is back is lost.
    soon(async {
        loop {
            publish_confirmed(&node, &to, "after").await;
            let pause = std::time::Duration::from_millis(200);
            if tokio::time::timeout(pause, received.next()).await.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_name_nothing_of_it() {
    let rabbitmq = testkit::rabbitmq().await;
    let config = namespaced(&rabbitmq.uri());
    let node = broker_up(config.clone()).await;
    let mut letters = subscribe(&node, &internal(Internal::Nodes, "all")).await;
    let mut entrance = entrance(&node).await;
    let ours = |what: &str| format!("{}.{what}", config.namespace).into();
    let exchange = |what: &str, key: &str| Destination::Exchange {
        exchange: ours(what),
        key: Some(key.into()),
    };
    let exchanges = [
        exchange("direct", "all"),
        exchange("roster", "roster"),
        exchange("group", "g"),
        exchange("events", "user.online"),
        exchange("to", "all"),
    ];
    let queues = [
        Destination::Queue(ours("to")),
        Destination::AmqQueue(ours("to")),
        Destination::ReplyQueue(ours("to")),
        Destination::Queue(ours("direct.x.1")),
        Destination::AmqQueue(ours("direct.x.1")),
    ];
    for to in exchanges.iter().chain(&queues) {
        let message = Message::new(to.clone(), "forged");
        let published = node.publish(PublisherId(1), message).await;
        assert!(matches!(published, Err(PublishError::Misnamed(_))), "{to}: {published:?}");
    }
    for to in exchanges.iter().chain(&queues) {
        let request = SubscribeRequest { feed: Feed::Own, ..SubscribeRequest::new(to.clone(), 1) };
        let why = refusal(&node, request).await;
        assert!(why.starts_with("ACCESS_REFUSED"), "{to}: {why}");
    }
    let named = Feed::Named(ours("to"));
    let request = SubscribeRequest { feed: named, ..SubscribeRequest::new(topic(), 1) };
    assert!(refusal(&node, request).await.starts_with("ACCESS_REFUSED"));
    let declared = node.declare(PublisherId(1), &ours("to"), &<_>::default()).await;
    assert!(declared.is_err(), "{declared:?}");
    assert!(node.delete(&Destination::Queue(ours("to"))).await.is_err());
    // Nothing of all that came.
    publish_confirmed(&node, &internal(Internal::Nodes, "all"), "a letter").await;
    assert_eq!(body(&take(&mut letters).await), "a letter");
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    put(&channel, &ours("to"), "user.ann", "from a service", BasicProperties::default()).await;
    assert_eq!(body(&take(&mut entrance).await), "from a service");
}

async fn entrance(node: &RabbitMqBroker) -> Subscription {
    subscribe(node, &internal(Internal::Entrance, "#")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_services_send_waits_in_one_queue_until_a_node_settles_it() {
    let rabbitmq = testkit::rabbitmq().await;
    let config = namespaced(&rabbitmq.uri());
    let one = broker_up(config.clone()).await;
    let first = entrance(&one).await;
    let exchange = format!("{}.to", config.namespace);
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let properties = || BasicProperties::default().with_delivery_mode(2);
    drop(first);
    one.close().await;
    put(&channel, &exchange, "user.a.b", "one", properties()).await;
    put(&channel, &exchange, "all", "two", properties()).await;
    let other = broker_up(config.clone()).await;
    let mut second = entrance(&other).await;
    let delivery = take(&mut second).await;
    assert_eq!(delivery.message.destination, internal(Internal::Entrance, "user.a.b"));
    assert_eq!(body(&delivery), "one");
    delivery.settle(Outcome::Requeue);
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let delivery = take(&mut second).await;
        bodies.push(body(&delivery));
        delivery.settle(Outcome::Ack);
    }
    bodies.sort();
    assert_eq!(bodies, ["one", "two"]);
    common::until_empty(rabbitmq, &exchange).await;
    rabbitmq.ctl(&["delete_queue", &exchange]).await.expect("it is deleted");
}
