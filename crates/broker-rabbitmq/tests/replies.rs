//! What clients publish to queues that others declared, and replies.

mod common;

use broker::{
    Broker, ConfirmError, Destination, Outcome, PublisherId, SubscribeError, SubscribeRequest,
};
use common::application::{Application, Scraped, misnamed, next, node, text, word};
use common::{broker_up, config, destination, publish, queue, soon, subscribe, take, topic};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use testkit::RabbitMq;
use ulid::Ulid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_others_takes_messages_and_is_never_declared() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let queue = application.queue().await;
    assert!(queue.starts_with("amq.gen-"), "{queue}");
    let mut consumer = application.consume(&queue).await;
    let missing = format!("test-{}", Ulid::generate());
    let destinations = [&missing, &queue].map(|name| Destination::AmqQueue((&**name).into()));
    let mut confirms = Vec::new();
    for n in 0..200 {
        confirms.push(publish(&node, 1, &destinations[n % 2], n.to_string()).await);
    }
    for (n, confirm) in confirms.into_iter().enumerate() {
        let expected = if n % 2 == 0 { Err(ConfirmError::Unroutable) } else { Ok(()) };
        assert_eq!(soon(confirm).await, expected, "{n}");
    }
    for n in (1..200).step_by(2) {
        assert_eq!(text(&next(&mut consumer).await), n.to_string());
    }
    assert_eq!(Application::length(rabbitmq, &missing).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_reaches_who_asked_and_is_dropped_if_they_have_gone() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let queue = application.queue().await;
    let mut replies = application.consume(&queue).await;
    let gone = format!("test-{}", Ulid::generate());
    for name in [&gone, &queue, &gone] {
        let to = Destination::ReplyQueue((&**name).into());
        assert_eq!(word(&node, &to).await, Ok(()), "{name}");
    }
    assert_eq!(text(&next(&mut replies).await), "hi");
    assert_eq!(Application::length(rabbitmq, &gone).await, None);
}

/// Whoever replies knows the name of the queue, on whichever node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_are_read_by_who_asked_alone() {
    let (node, other) = (node().await, node().await);
    let by = |who, to: &Destination| SubscribeRequest {
        subscriber: PublisherId(who),
        ..SubscribeRequest::new(to.clone(), 10)
    };
    let asking = by(1, &Destination::TempQueue("answers".into()));
    let mut replies = soon(node.subscribe(asking)).await.unwrap();
    let name = replies.queue().unwrap().clone();
    let reply_to = Destination::ReplyQueue(name.clone());
    for to in [&reply_to, &Destination::AmqQueue(name.clone()), &Destination::Queue(name.clone())] {
        for (node, who) in [(&node, 2), (&other, 1)] {
            let refused = soon(node.subscribe(by(who, to))).await.expect_err("it is not theirs");
            let SubscribeError::Refused(why) = refused else { panic!("{refused}") };
            // Another node declares a queue before it is anybody's there.
            let words = match (to, who) {
                (Destination::Queue(_), 1) => "PRECONDITION_FAILED - inequivalent arg",
                _ => "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue",
            };
            assert!(why.starts_with(words), "{to} {who}: {why}");
        }
    }
    let mut same = soon(node.subscribe(by(1, &reply_to))).await.unwrap();
    assert_eq!(word(&other, &reply_to).await, Ok(()));
    let reply = take(&mut replies).await;
    assert_eq!(&reply.message.body[..], b"hi");
    reply.settle(Outcome::Ack);
    drop(replies);
    assert!(soon(same.next()).await.is_none());
}

/// Each of these names ends the connection of whoever publishes to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_reply_goes_only_to_who_asked_here() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let (application, node) =
        (Application::of(&rabbitmq).await, broker_up(config(&rabbitmq.uri())).await);
    let metrics = Scraped::of(&node);
    let direct = "amq.rabbitmq.reply-to";
    let mut replies = application.consume(direct).await;
    let (topic, queue) = (topic(), queue());
    let mut topics = subscribe(&node, &topic).await;
    let mut queues = subscribe(&node, &queue).await;
    let Destination::Topic(named) = &topic else { panic!("a topic") };
    let Destination::Queue(queue) = &queue else { panic!("a queue") };
    let mut asked = String::new();
    for (exchange, key, requests) in
        [("amq.topic", &**named.key(), &mut topics), ("", &**queue, &mut queues)]
    {
        let properties = BasicProperties::default().with_reply_to(direct.into());
        let (options, exchange) = (BasicPublishOptions::default(), exchange.into());
        let ask =
            application.channel.basic_publish(exchange, key.into(), options, b"?", properties);
        ask.await.unwrap();
        let request = take(requests).await;
        let headers = &request.message.headers;
        let reply_to = headers.iter().find(|(name, _)| **name == *"reply-to").unwrap();
        asked = reply_to.1.to_string();
        request.settle(Outcome::Ack);
        assert_eq!(word(&node, &destination(&asked)).await, Ok(()));
        assert_eq!(text(&next(&mut replies).await), "hi");
    }
    let reply = asked.strip_prefix("/reply-queue/").unwrap();
    let (_, key) = reply.rsplit_once('.').unwrap();
    for forged in [
        format!("{direct}.x.y"),
        format!("{direct}.abcd.{key}"),
        format!("{direct}."),
        format!("{reply}x"),
        reply.replace(key, "AAAA"),
    ] {
        let why = misnamed(&node, Destination::ReplyQueue((&*forged).into())).await;
        assert!(why.contains("only to what has come here"), "{why}");
        let why = misnamed(&node, Destination::AmqQueue((&*forged).into())).await;
        assert!(why.contains("name it as a reply queue"), "{why}");
    }
    // An application writes what it likes into a property.
    for forged in [format!("{direct}.x.y"), format!("{direct}.abcd.{key}")] {
        let properties = BasicProperties::default().with_reply_to((&*forged).into());
        let (options, key) = (BasicPublishOptions::default(), (&**queue).into());
        application.channel.basic_publish("".into(), key, options, b"?", properties).await.unwrap();
        take(&mut queues).await.settle(Outcome::Ack);
        misnamed(&node, Destination::ReplyQueue((&*forged).into())).await;
    }
    // Who asked has gone.
    let closed = application.connection.close(200, "".into());
    closed.await.unwrap();
    assert_eq!(word(&node, &destination(&asked)).await, Ok(()));
    assert_eq!(metrics.value("amqp_reconnects_total{connection=\"publish\"}"), 0);
}
