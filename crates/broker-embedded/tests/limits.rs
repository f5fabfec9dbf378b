//! What the embedded broker refuses, what makes a publisher wait, and what it forgets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::task::{Context, Poll, Waker};

use broker::destination::{Topic, Verb};
use broker::internal::Internal;
use broker::{
    Broker, ConfirmError, Destination, Destinations, Message, Outcome, PublishError, PublisherId,
    SubscribeError, SubscribeRequest, Subscription,
};
use broker_embedded::{Config, EmbeddedBroker};
use bytesize::ByteSize;

fn to(text: &str) -> Destination {
    Destinations::default().parse(text, Verb::Send).unwrap()
}

async fn publish(
    broker: &EmbeddedBroker,
    to: &Destination,
    body: &'static str,
) -> Result<Result<(), ConfirmError>, PublishError> {
    match broker.publish(PublisherId(1), Message::new(to.clone(), body)).await {
        Ok(confirm) => Ok(confirm.await),
        Err(error) => Err(error),
    }
}

async fn subscribe(
    broker: &EmbeddedBroker,
    to: &Destination,
    prefetch: u16,
) -> Result<Subscription, SubscribeError> {
    broker.subscribe(SubscribeRequest::new(to.clone(), prefetch)).await
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit() {
    let broker = EmbeddedBroker::new(Config { max_message: ByteSize(3), ..Config::default() });
    for to in [to("/topic/a"), to("/queue/a")] {
        assert_eq!(publish(&broker, &to, "123").await, Ok(Ok(())));
        let too_large = PublishError::TooLarge { size: 4, limit: 3 };
        assert_eq!(publish(&broker, &to, "1234").await, Err(too_large));
    }
    // A message of that length to a user is a longer letter.
    let nodes = Topic::exact(Internal::Nodes.prefix().into(), "all".into());
    assert_eq!(publish(&broker, &Destination::Topic(nodes), "1234").await, Ok(Ok(())));
}

#[tokio::test]
async fn a_queue_holds_so_many_messages_settled_ones_not_counted() {
    let broker = EmbeddedBroker::new(Config { max_queue_length: 2, ..Config::default() });
    let queue = to("/queue/orders");
    let mut consumer = subscribe(&broker, &queue, 1).await.unwrap();
    assert_eq!(publish(&broker, &queue, "1").await, Ok(Ok(())));
    assert_eq!(publish(&broker, &queue, "2").await, Ok(Ok(())));
    let refused = publish(&broker, &queue, "3").await.unwrap().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the broker has no room for the message: queue 'orders' is full, it may hold 2 messages; \
         its consumers do not keep up"
    );
    let first = consumer.next().await.unwrap();
    assert!(publish(&broker, &queue, "4").await.unwrap().is_err(), "unsettled ones count");
    first.settle(Outcome::Ack);
    assert_eq!(publish(&broker, &queue, "5").await, Ok(Ok(())));
}

#[tokio::test]
async fn a_queue_holds_so_many_bytes_headers_counted() {
    // 256 bytes for each message and 64 for each header count besides what they say.
    let broker =
        EmbeddedBroker::new(Config { max_queue_bytes: ByteSize(600), ..Config::default() });
    let queue = to("/queue/a");
    let mut message = Message::new(queue.clone(), "body");
    message.headers.push(("key".into(), "val".into()));
    let confirm = broker.publish(PublisherId(1), message).await.unwrap();
    assert_eq!(confirm.await, Ok(()));
    assert!(publish(&broker, &queue, "0123456789abcdef").await.unwrap().is_err());
    assert_eq!(publish(&broker, &queue, "").await, Ok(Ok(())));

    let mut consumer = subscribe(&broker, &queue, 1).await.unwrap();
    consumer.next().await.unwrap().settle(Outcome::Reject);
    assert_eq!(publish(&broker, &queue, "0123456789abcdef").await, Ok(Ok(())));
}

#[tokio::test]
async fn all_queues_together_hold_so_many_bytes() {
    let config =
        Config { max_queue_bytes: ByteSize(600), max_bytes: ByteSize(600), ..Config::default() };
    let broker = EmbeddedBroker::new(config);
    let (one, other) = (to("/queue/1"), to("/queue/2"));
    for queue in [&one, &other] {
        assert_eq!(publish(&broker, queue, "").await, Ok(Ok(())));
    }
    let refused = publish(&broker, &other, "").await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("all queues together are full"), "{refused}");
    broker.delete(&one).await.unwrap();
    assert_eq!(publish(&broker, &other, "").await, Ok(Ok(())));
}

#[tokio::test]
async fn there_are_so_many_queues_empty_ones_not_counted() {
    let broker = EmbeddedBroker::new(Config { max_queues: 1, ..Config::default() });
    let (one, other) = (to("/queue/1"), to("/queue/2"));
    assert_eq!(publish(&broker, &one, "").await, Ok(Ok(())));
    let limit = PublishError::LimitReached { what: "queue", limit: 1 };
    assert_eq!(publish(&broker, &other, "").await, Err(limit));
    let limit = SubscribeError::LimitReached { what: "queue", limit: 1 };
    assert_eq!(subscribe(&broker, &other, 1).await.unwrap_err(), limit);

    // Neither while there is a consumer nor while a delivery is unsettled.
    let mut consumer = subscribe(&broker, &one, 1).await.unwrap();
    let delivery = consumer.next().await.unwrap();
    drop(consumer);
    assert!(publish(&broker, &other, "").await.is_err());
    delivery.settle(Outcome::Ack);
    assert_eq!(publish(&broker, &other, "").await, Ok(Ok(())));

    broker.delete(&other).await.unwrap();
    let consumer = subscribe(&broker, &one, 1).await.unwrap();
    assert!(publish(&broker, &other, "").await.is_err());
    drop(consumer);
    assert_eq!(publish(&broker, &other, "").await, Ok(Ok(())));
}

#[tokio::test]
async fn a_refused_message_leaves_no_queue_behind() {
    let config = Config { max_queues: 1, max_queue_bytes: ByteSize(257), ..Config::default() };
    let broker = EmbeddedBroker::new(config);
    assert!(publish(&broker, &to("/queue/1"), "22").await.unwrap().is_err());
    assert_eq!(publish(&broker, &to("/queue/2"), "1").await, Ok(Ok(())));
}

#[tokio::test]
async fn a_publisher_waits_for_a_full_topic_subscription_and_for_no_other() {
    let broker = EmbeddedBroker::new(Config::default());
    let topic = to("/topic/a");
    let mut full = subscribe(&broker, &topic, 1).await.unwrap();
    let mut roomy = subscribe(&broker, &topic, 2).await.unwrap();
    assert_eq!(publish(&broker, &topic, "1").await, Ok(Ok(())));

    let mut second = Box::pin(publish(&broker, &topic, "2"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    assert_eq!(&*roomy.next().await.unwrap().message.body, b"1");
    assert_eq!(&*roomy.next().await.unwrap().message.body, b"2");
    assert_eq!(&*full.next().await.unwrap().message.body, b"1");
    assert_eq!(second.await, Ok(Ok(())));
    assert_eq!(&*full.next().await.unwrap().message.body, b"2");
    assert!(roomy.poll_next(&mut cx).is_pending());
}

#[tokio::test]
async fn a_publisher_that_waits_is_let_go_by_cancelling() {
    let broker = EmbeddedBroker::new(Config::default());
    let topic = to("/topic/a");
    let full = subscribe(&broker, &topic, 1).await.unwrap();
    assert_eq!(publish(&broker, &topic, "1").await, Ok(Ok(())));
    let mut second = Box::pin(publish(&broker, &topic, "2"));
    assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(full);
    assert_eq!(second.await, Ok(Ok(())));
}

#[tokio::test]
async fn a_kind_that_is_not_there_is_refused_with_what_to_use() {
    let broker = EmbeddedBroker::new(Config::default());
    let refused = ["/exchange/x/k", "/user/u/queue/q", "/group/g", "/app/a"].map(to);
    for destination in refused {
        let named = destination.kind().as_str();
        let Err(PublishError::Unsupported { kind, instead }) =
            publish(&broker, &destination, "").await
        else {
            panic!("{destination} was taken")
        };
        assert_eq!(kind, named);
        assert!(instead.contains("use ") || instead.contains("gateway"), "{instead}");
        let Err(SubscribeError::Unsupported { kind, .. }) =
            subscribe(&broker, &destination, 1).await
        else {
            panic!("{destination} was subscribed to")
        };
        assert_eq!(kind, named);
        assert!(broker.delete(&destination).await.is_err());
    }
}

#[tokio::test]
async fn the_end_of_the_broker_is_the_end_of_its_subscriptions() {
    let broker = EmbeddedBroker::new(Config::default());
    let queue = to("/queue/a");
    let mut topics = subscribe(&broker, &to("/topic/a"), 1).await.unwrap();
    let mut consumer = subscribe(&broker, &queue, 1).await.unwrap();
    publish(&broker, &queue, "1").await.unwrap().unwrap();
    drop(broker);
    assert!(topics.next().await.is_none());
    // What it had been sent is there still, and settling it is to no effect.
    consumer.next().await.unwrap().settle(Outcome::Ack);
    assert!(consumer.next().await.is_none());
}

#[tokio::test]
async fn keys_of_other_systems_are_matched_word_by_word() {
    let broker = EmbeddedBroker::new(Config::default());
    let all = Destinations::default().parse("/topic/a.#", Verb::Subscribe).unwrap();
    let mut subscription = subscribe(&broker, &all, 1).await.unwrap();
    let odd = Destination::Topic(Topic::exact("/topic".into(), "a..*".into()));
    publish(&broker, &odd, "").await.unwrap().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Some(delivery)) = subscription.poll_next(&mut cx) else { panic!("no match") };
    assert_eq!(delivery.message.destination, odd);
}
