//! How a client says a queue to be: as it says it is declared, stays so, and is refused otherwise.

mod common;

use broker::{
    Argument, Broker, ConfirmError, Destination, Outcome, PublisherId, QueueOptions,
    SubscribeError, SubscribeRequest,
};
use broker_rabbitmq::RabbitMqBroker;
use common::{
    application, body, broker_up, config, cut, name, publish, refusal, shown, soon, subscribe,
    subscribed, take, until_gone,
};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use testkit::Proxy;

const SHOWN: [&str; 4] = ["durable", "auto_delete", "exclusive", "arguments"];

async fn node() -> RabbitMqBroker {
    broker_up(config(&testkit::rabbitmq().await.uri())).await
}

fn with(arguments: &[(&str, Argument)]) -> QueueOptions {
    let arguments = arguments.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    QueueOptions { arguments, ..QueueOptions::default() }
}

fn text(text: &str) -> Argument {
    Argument::Text(text.into())
}

fn request(name: &str, queue: QueueOptions) -> SubscribeRequest {
    let to = Destination::Queue(name.into());
    SubscribeRequest { queue, ..SubscribeRequest::new(to, 10) }
}

fn by(publisher: u64, request: SubscribeRequest) -> SubscribeRequest {
    SubscribeRequest { subscriber: PublisherId(publisher), ..request }
}

fn exclusive() -> QueueOptions {
    QueueOptions { exclusive: Some(true), ..QueueOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_declared_as_its_options_say() {
    let (node, rabbitmq) = (node().await, testkit::rabbitmq().await);
    let (plain, limited, quorum) = (name(), name(), name());
    let _plain = subscribed(&node, request(&plain, QueueOptions::default())).await;
    assert_eq!(shown(rabbitmq, &plain, &SHOWN).await.as_deref(), Some("true\tfalse\tfalse\t[]"));
    let options = with(&[
        ("x-max-length", Argument::Integer(7)),
        ("x-dead-letter-exchange", text("dead")),
        ("x-single-active-consumer", Argument::Flag(true)),
    ]);
    let options = QueueOptions { auto_delete: Some(true), ..options };
    let subscription = subscribed(&node, request(&limited, options)).await;
    let flags = shown(rabbitmq, &limited, &SHOWN).await.expect("the queue");
    assert!(flags.starts_with("true\ttrue\tfalse\t"), "{flags}");
    for argument in ["{\"x-max-length\",7}", "{\"x-dead-letter-exchange\",\"dead\"}", "true"] {
        assert!(flags.contains(argument), "{argument} of {flags}");
    }
    drop(subscription);
    until_gone(rabbitmq, &limited).await;

    let options = QueueOptions {
        durable: Some(false),
        exclusive: Some(true),
        ..with(&[("x-queue-type", text("quorum"))])
    };
    let mut subscription = subscribed(&node, request(&quorum, options)).await;
    let kind = shown(rabbitmq, &quorum, &["durable", "type"]).await.expect("the queue");
    assert!(kind.starts_with("true\t") && kind.contains("quorum"), "{kind}");
    // A message goes there although its sender says nothing of the queue.
    let to = Destination::Queue(quorum.as_str().into());
    soon(publish(&node, 1, &to, "hi").await).await.expect("it is confirmed");
    let delivery = take(&mut subscription).await;
    assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("hi", false));
    delivery.settle(Outcome::Requeue);
    let again = take(&mut subscription).await;
    assert!(again.redelivered);
    again.settle(Outcome::Ack);
    soon(node.delete(&to)).await.expect("it is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_otherwise_is_refused_with_what_to_do() {
    let node = node().await;
    let name = name();
    let to = Destination::Queue(name.as_str().into());
    let limited = with(&[("x-max-length", Argument::Integer(7))]);
    let mut subscription = subscribed(&node, request(&name, limited)).await;
    let other = with(&[("x-max-length", Argument::Integer(8))]);
    for refused in [
        refusal(&node, request(&name, other.clone())).await,
        match soon(node.declare(PublisherId(1), &name.as_str().into(), &other)).await {
            Err(SubscribeError::Refused(why)) => why,
            other => panic!("{other:?}"),
        },
    ] {
        assert!(refused.starts_with("PRECONDITION_FAILED - inequivalent arg"), "{refused}");
        assert!(refused.contains("x-max-length") && refused.contains("/amq/queue/"), "{refused}");
    }
    // It hurts nobody who is there, nor who says nothing.
    soon(publish(&node, 1, &to, "hi").await).await.expect("it is confirmed");
    let _silent = subscribe(&node, &to).await;
    assert_eq!(body(&take(&mut subscription).await), "hi");
    soon(node.delete(&to)).await.expect("it is deleted");
    // How it was counts no more.
    let _plain = subscribe(&node, &to).await;
    assert_eq!(
        shown(testkit::rabbitmq().await, &name, &["arguments"]).await.as_deref(),
        Some("[]")
    );
    soon(node.delete(&to)).await.expect("it is deleted");
}

/// Declared with a message, as a SEND does; nobody who says nothing contradicts it, also after a
/// reconnect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declaration_is_remembered_over_connections() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let name = name();
    let to = Destination::Queue(name.as_str().into());
    let limited = with(&[("x-message-ttl", Argument::Integer(600_000))]);
    let declare = async |options: &QueueOptions| {
        soon(node.declare(PublisherId(1), &name.as_str().into(), options)).await
    };
    declare(&limited).await.expect("it is declared");
    declare(&QueueOptions::default()).await.expect("nothing is contradicted");
    for n in 0..3 {
        soon(publish(&node, 1, &to, n.to_string()).await).await.expect("it is confirmed");
        cut(&mut proxy, &node).await;
        // Makes the node forget what it knew of the connection before.
        let _other = subscribe(&node, &common::queue()).await;
    }
    let mut subscription = subscribe(&node, &to).await;
    for n in 0..3 {
        let delivery = take(&mut subscription).await;
        assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
        delivery.settle(Outcome::Ack);
    }
    soon(node.delete(&to)).await.expect("it is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_close_a_channel_is_refused_before() {
    let node = node().await;
    let refused = async |consumer: &str, value: Argument| {
        let consumer = vec![(consumer.into(), value)];
        let request = request(&name(), QueueOptions::default());
        soon(node.subscribe(SubscribeRequest { consumer, ..request })).await.map(drop)
    };
    for (name, value) in [("x-priority", text("high")), ("x-stream-offset", text("never"))] {
        let refused = refused(name, value).await;
        assert!(matches!(refused, Err(SubscribeError::Refused(_))), "{refused:?}");
    }
    let unknown = refused("x-unknown", text("a")).await;
    assert!(matches!(unknown, Err(SubscribeError::UnsupportedOption { .. })), "{unknown:?}");
    let priority = vec![("x-priority".into(), Argument::Integer(5))];
    let queue = name();
    let request = request(&queue, QueueOptions::default());
    let _first = subscribed(&node, SubscribeRequest { consumer: priority, ..request }).await;
    let list = ["list_consumers", "-q", "--no-table-headers", "queue_name", "arguments"];
    let consumers = testkit::rabbitmq().await.ctl(&list).await.expect("the consumers");
    let consumer = consumers.lines().find(|line| line.starts_with(&queue)).expect("ours");
    assert!(consumer.contains("x-priority") && consumer.contains('5'), "{consumer}");
    soon(node.delete(&Destination::Queue(queue.into()))).await.expect("it is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_others_is_found_and_not_made() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let (name, missing) = (name(), name());
    let (_connection, channel) = application(&rabbitmq.uri()).await;
    let auto_delete = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    let declare = channel.queue_declare(name.as_str().into(), auto_delete, FieldTable::default());
    declare.await.expect("a queue");
    for of_kind in [Destination::AmqQueue, Destination::ReplyQueue] {
        let request = SubscribeRequest::new(of_kind(missing.as_str().into()), 1);
        let why = refusal(&node, request).await;
        assert!(why.starts_with("NOT_FOUND - no queue"), "{why}");
    }
    assert_eq!(shown(rabbitmq, &missing, &["messages"]).await, None);
    let to = Destination::AmqQueue(name.as_str().into());
    let mut subscription = subscribe(&node, &to).await;
    common::put(&channel, "", &name, "hi", <_>::default()).await;
    let delivery = take(&mut subscription).await;
    assert_eq!((body(&delivery).as_str(), &delivery.message.destination), ("hi", &to));
    delivery.settle(Outcome::Ack);

    // Its consumer goes with the connection, and the queue with that.
    cut(&mut proxy, &node).await;
    assert!(soon(subscription.next()).await.is_none(), "the subscription has ended");
    assert_eq!(shown(rabbitmq, &name, &["messages"]).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_others_can_be_deleted_by_its_name() {
    let (node, other) = (node().await, node().await);
    for of_kind in [Destination::AmqQueue, Destination::ReplyQueue] {
        let name = name();
        let to = of_kind(name.as_str().into());
        let mut ours = subscribe(&node, &Destination::Queue(name.as_str().into())).await;
        let mut theirs = subscribe(&other, &to).await;
        soon(node.delete(&to)).await.expect("it is deleted");
        assert!(soon(ours.next()).await.is_none());
        assert!(soon(theirs.next()).await.is_none());
    }
    let topics = Destination::AmqQueue("footbridge.topic.01.1".into());
    assert!(soon(node.delete(&topics)).await.is_err(), "it is a node's own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_queue_is_its_sessions_alone() {
    let (node, other, rabbitmq) = (node().await, node().await, testkit::rabbitmq().await);
    let name = name();
    let to = Destination::Queue(name.as_str().into());
    let one = subscribed(&node, by(1, request(&name, exclusive()))).await;
    let mut two = subscribed(&node, by(1, request(&name, QueueOptions::default()))).await;
    let flags = shown(rabbitmq, &name, &["durable", "exclusive"]).await;
    assert_eq!(flags.as_deref(), Some("false\ttrue"));
    let locked = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost"
    );
    for why in [
        refusal(&node, by(2, request(&name, QueueOptions::default()))).await,
        refusal(&node, by(2, request(&name, exclusive()))).await,
        refusal(
            &node,
            by(2, SubscribeRequest::new(Destination::AmqQueue(name.as_str().into()), 1)),
        )
        .await,
        refusal(&other, by(1, request(&name, QueueOptions::default()))).await,
    ] {
        assert!(why.starts_with(&locked), "{why}");
    }
    let declared = soon(node.declare(PublisherId(2), &name.as_str().into(), &exclusive())).await;
    assert!(matches!(declared, Err(SubscribeError::Refused(why)) if why.starts_with(&locked)));
    let sent = soon(publish(&node, 2, &to, "no").await).await;
    assert!(matches!(sent, Err(ConfirmError::Refused(why)) if why.starts_with(&locked)));

    drop(one);
    soon(publish(&node, 1, &to, "hi").await).await.expect("it is confirmed");
    assert_eq!(body(&take(&mut two).await), "hi");
    drop(two);
    // Deleted with the last, and nobody's.
    until_gone(rabbitmq, &name).await;
    let _next = soon(async {
        loop {
            match node.subscribe(by(2, request(&name, exclusive()))).await {
                Ok(next) => break next,
                Err(SubscribeError::Refused(why)) if why.starts_with(&locked) => {}
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_queue_is_there_again_after_a_reconnect() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let node = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let name = name();
    let to = Destination::Queue(name.as_str().into());
    // As RabbitMQ's plugin reads it: a queue that is not durable is exclusive.
    let transient = QueueOptions { durable: Some(false), ..QueueOptions::default() };
    soon(node.declare(PublisherId(1), &name.as_str().into(), &transient)).await.expect("it is");
    let mut subscription = subscribed(&node, by(1, request(&name, transient))).await;
    let flags = shown(rabbitmq, &name, &["durable", "auto_delete", "exclusive"]).await;
    assert_eq!(flags.as_deref(), Some("false\ttrue\ttrue"));
    cut(&mut proxy, &node).await;
    let there = async { while shown(rabbitmq, &name, &["consumers"]).await.is_none() {} };
    soon(there).await;
    soon(publish(&node, 1, &to, "after").await).await.expect("it is confirmed");
    assert_eq!(body(&take(&mut subscription).await), "after");
    let why = refusal(&node, by(2, request(&name, QueueOptions::default()))).await;
    assert!(why.starts_with("RESOURCE_LOCKED"), "{why}");
    drop(subscription);
    until_gone(rabbitmq, &name).await;
}

/// Someone else's queue is not deleted because somebody would have had it to himself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_exclusive_does_not_become_it() {
    let (node, rabbitmq) = (node().await, testkit::rabbitmq().await);
    let name = name();
    let to = Destination::Queue(name.as_str().into());
    soon(publish(&node, 1, &to, "kept").await).await.expect("it is confirmed");
    let why = refusal(&node, by(1, request(&name, exclusive()))).await;
    assert!(why.starts_with("RESOURCE_LOCKED") || why.contains("inequivalent arg"), "{why}");
    let mut subscription = subscribed(&node, by(2, request(&name, QueueOptions::default()))).await;
    assert_eq!(body(&take(&mut subscription).await), "kept");
    drop(subscription);
    assert_eq!(shown(rabbitmq, &name, &["durable"]).await.as_deref(), Some("true"));
    soon(node.delete(&to)).await.expect("it is deleted");
}

/// Whoever asks for everybody's queue as his own has it to himself at no time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_in_vain_is_locked_for_nobody() {
    let node = node().await;
    let name = name();
    let to = Destination::Queue(name.as_str().into());
    soon(publish(&node, 1, &to, "0").await).await.expect("it is confirmed");
    for n in 1..20 {
        let queue = name.as_str().into();
        let declare = async { soon(node.declare(PublisherId(2), &queue, &exclusive())).await };
        let subscribe = refusal(&node, by(3, request(&name, exclusive())));
        // While both are asked about; a message goes without asking.
        let publish = async { soon(publish(&node, 1, &to, n.to_string()).await).await };
        let (declared, refused, published) = tokio::join!(declare, subscribe, publish);
        assert!(declared.is_err(), "{refused}");
        assert_eq!(published, Ok(()));
    }
    let mut subscription = subscribed(&node, by(4, request(&name, QueueOptions::default()))).await;
    for n in 0..20 {
        let delivery = take(&mut subscription).await;
        assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
        delivery.settle(Outcome::Ack);
    }
    soon(node.delete(&to)).await.expect("it is deleted");
}
