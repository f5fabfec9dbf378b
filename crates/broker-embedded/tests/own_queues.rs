//! What queues of a subscription's own are bounded by, whose they are, and what they leave behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use broker::destination::Verb;
use broker::{
    Broker, ConfirmError, DeleteError, Delivery, Destination, Destinations, Feed, Message, Outcome,
    PublishError, PublisherId, QueueOptions, SubscribeError, SubscribeRequest, Subscription,
};
use broker_embedded::{Config, EmbeddedBroker};
use bytesize::ByteSize;

const SESSION: PublisherId = PublisherId(1);
const ANOTHER_SESSION: PublisherId = PublisherId(2);

fn to(text: &str) -> Destination {
    Destinations::default().parse(text, Verb::Subscribe).unwrap()
}

async fn publish(
    broker: &EmbeddedBroker,
    to: &Destination,
    body: &'static str,
) -> Result<(), ConfirmError> {
    let message = Message::new(to.clone(), body);
    broker.publish(SESSION, message).await.unwrap().await
}

fn request(to: &Destination, prefetch: u16) -> SubscribeRequest {
    SubscribeRequest {
        feed: Feed::Own,
        subscriber: SESSION,
        ..SubscribeRequest::new(to.clone(), prefetch)
    }
}

async fn subscribe(broker: &EmbeddedBroker, to: &Destination, prefetch: u16) -> Subscription {
    broker.subscribe(request(to, prefetch)).await.unwrap()
}

async fn temporary(broker: &EmbeddedBroker) -> (Subscription, Destination) {
    let subscription = subscribe(broker, &Destination::TempQueue("t".into()), 1).await;
    let reply_to = Destination::ReplyQueue(subscription.queue().unwrap().clone());
    (subscription, reply_to)
}

fn poll(subscription: &mut Subscription) -> Option<Delivery> {
    match subscription.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(delivery) => Some(delivery.unwrap()),
        Poll::Pending => None,
    }
}

/// Acks what there is, and says what it was.
fn drain(subscription: &mut Subscription) -> String {
    let mut bodies = Vec::new();
    while let Some(delivery) = poll(subscription) {
        bodies.push(String::from_utf8(delivery.message.body.to_vec()).unwrap());
        delivery.settle(Outcome::Ack);
    }
    bodies.join(" ")
}

fn gaps(broker: &EmbeddedBroker) -> u64 {
    broker.state().borrow().gaps
}

#[tokio::test]
async fn a_full_one_misses_what_comes_until_half_of_it_is_free() {
    let broker = EmbeddedBroker::new(Config { max_queue_length: 4, ..Config::default() });
    let topic = to("/topic/a");
    let mut slow = subscribe(&broker, &topic, 1).await;
    let mut quick = subscribe(&broker, &topic, 1).await;
    for body in ["1", "2", "3", "4"] {
        assert_eq!(publish(&broker, &topic, body).await, Ok(()));
        assert_eq!(drain(&mut quick), body);
    }
    assert_eq!(gaps(&broker), 0);

    for body in ["5", "6"] {
        assert_eq!(publish(&broker, &topic, body).await, Ok(()), "its publisher is refused");
        assert_eq!(drain(&mut quick), body, "another is held up");
    }
    assert_eq!(gaps(&broker), 1, "one gap is told once");

    poll(&mut slow).unwrap().settle(Outcome::Ack);
    assert_eq!(publish(&broker, &topic, "7").await, Ok(()), "there is room, but not half");
    poll(&mut slow).unwrap().settle(Outcome::Ack);
    for body in ["8", "9"] {
        assert_eq!(publish(&broker, &topic, body).await, Ok(()));
    }
    assert_eq!(gaps(&broker), 1);
    assert_eq!(publish(&broker, &topic, "10").await, Ok(()));
    assert_eq!(gaps(&broker), 2, "the next gap is another");
    assert_eq!(drain(&mut slow), "3 4 8 9");
    assert_eq!(drain(&mut quick), "7 8 9 10");
}

#[tokio::test]
async fn unsettled_deliveries_count() {
    let broker = EmbeddedBroker::new(Config { max_queue_length: 1, ..Config::default() });
    let topic = to("/topic/a");
    let mut subscription = subscribe(&broker, &topic, 5).await;
    publish(&broker, &topic, "1").await.unwrap();
    let first = poll(&mut subscription).unwrap();
    publish(&broker, &topic, "2").await.unwrap();
    first.settle(Outcome::Requeue);
    publish(&broker, &topic, "3").await.unwrap();
    assert_eq!(drain(&mut subscription), "1");
    publish(&broker, &topic, "4").await.unwrap();
    assert_eq!(drain(&mut subscription), "4");
}

#[tokio::test]
async fn bytes_are_bounded_as_those_of_queues() {
    // 256 bytes for each message count besides what it says.
    let config =
        Config { max_queue_bytes: ByteSize(600), max_bytes: ByteSize(600), ..Config::default() };
    let broker = EmbeddedBroker::new(config);
    let (topic, queue) = (to("/topic/a"), to("/queue/a"));
    let mut subscription = subscribe(&broker, &topic, 1).await;
    for body in ["1", "2", "3"] {
        publish(&broker, &topic, body).await.unwrap();
    }
    assert_eq!(gaps(&broker), 1);
    assert!(matches!(publish(&broker, &queue, "").await, Err(ConfirmError::Full(_))));
    assert_eq!(drain(&mut subscription), "1 2");

    // All queues together: here the queue has the room, and the topic's publisher is let go on.
    publish(&broker, &queue, "").await.unwrap();
    publish(&broker, &queue, "").await.unwrap();
    publish(&broker, &topic, "4").await.unwrap();
    broker.delete(&queue).await.unwrap();
    publish(&broker, &topic, "5").await.unwrap();
    assert_eq!(drain(&mut subscription), "5");
}

#[tokio::test]
async fn its_room_is_free_with_its_end() {
    let config =
        Config { max_queue_bytes: ByteSize(600), max_bytes: ByteSize(600), ..Config::default() };
    let broker = EmbeddedBroker::new(config);
    let (topic, queue) = (to("/topic/a"), to("/queue/a"));
    let mut subscription = subscribe(&broker, &topic, 1).await;
    publish(&broker, &topic, "1").await.unwrap();
    publish(&broker, &topic, "2").await.unwrap();
    let unsettled = poll(&mut subscription).unwrap();
    drop(subscription);
    publish(&broker, &queue, "1").await.unwrap();
    publish(&broker, &queue, "2").await.unwrap();
    unsettled.settle(Outcome::Ack);
    assert!(publish(&broker, &queue, "3").await.is_err(), "it was taken off twice");
}

#[tokio::test]
async fn they_count_as_queues_and_give_way_to_none() {
    let broker = EmbeddedBroker::new(Config { max_queues: 2, ..Config::default() });
    let topic = to("/topic/a");
    let own = subscribe(&broker, &topic, 1).await;
    let (temporary, _) = temporary(&broker).await;
    let limit = SubscribeError::LimitReached { what: "queue", limit: 2 };
    assert_eq!(broker.subscribe(request(&topic, 1)).await.unwrap_err(), limit);
    let temp_queue = Destination::TempQueue("t".into());
    assert_eq!(broker.subscribe(request(&temp_queue, 1)).await.unwrap_err(), limit);
    let declared = broker.declare(SESSION, &"q".into(), &QueueOptions::default()).await;
    assert_eq!(declared.unwrap_err(), limit);
    // What shares its feed has no queue.
    let shared = SubscribeRequest::new(topic.clone(), 1);
    drop(broker.subscribe(shared).await.unwrap());

    drop(own);
    let own = subscribe(&broker, &topic, 1).await;
    drop(temporary);
    publish(&broker, &to("/queue/a"), "1").await.unwrap();
    assert_eq!(broker.subscribe(request(&topic, 1)).await.unwrap_err(), limit);
    drop(own);
}

#[tokio::test]
async fn a_publisher_that_waits_for_another_has_served_it() {
    let broker = EmbeddedBroker::new(Config::default());
    let topic = to("/topic/a");
    let full = broker.subscribe(SubscribeRequest::new(topic.clone(), 1)).await.unwrap();
    let mut own = subscribe(&broker, &topic, 1).await;
    publish(&broker, &topic, "1").await.unwrap();
    let mut second = Box::pin(publish(&broker, &topic, "2"));
    assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(drain(&mut own), "1 2");
    drop(second);
    drop(full);
    publish(&broker, &topic, "3").await.unwrap();
    assert_eq!(drain(&mut own), "3");
}

#[tokio::test]
async fn it_is_its_sessions_own() {
    let broker = EmbeddedBroker::new(Config::default());
    let (temporary, reply_to) = temporary(&broker).await;
    let name = temporary.queue().unwrap().clone();
    let why = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}': it is another \
         session's own; use another queue"
    );
    let locked = SubscribeError::Refused(why.clone());
    for destination in
        [&reply_to, &Destination::AmqQueue(name.clone()), &Destination::Queue(name.clone())]
    {
        let theirs = SubscribeRequest { subscriber: ANOTHER_SESSION, ..request(destination, 1) };
        assert_eq!(broker.subscribe(theirs).await.unwrap_err(), locked);
    }
    let declared = broker.declare(ANOTHER_SESSION, &name, &QueueOptions::default()).await;
    assert_eq!(declared, Err(locked));
    let message = Message::new(Destination::Queue(name.clone()), "");
    let sent = broker.publish(ANOTHER_SESSION, message).await.unwrap().await;
    assert_eq!(sent, Err(ConfirmError::Refused(why)));

    // The session itself may consume by the name, and the queue ends with the last consumer.
    let mut again = subscribe(&broker, &reply_to, 1).await;
    drop(temporary);
    publish(&broker, &reply_to, "1").await.unwrap();
    assert_eq!(drain(&mut again), "1");
    drop(again);
    let gone = publish(&broker, &Destination::AmqQueue(name), "2").await;
    assert_eq!(gone, Err(ConfirmError::Unroutable));
}

#[tokio::test]
async fn a_reply_queue_that_is_full_refuses() {
    let broker = EmbeddedBroker::new(Config { max_queue_length: 1, ..Config::default() });
    let (mut temporary, reply_to) = temporary(&broker).await;
    publish(&broker, &reply_to, "1").await.unwrap();
    assert!(matches!(publish(&broker, &reply_to, "2").await, Err(ConfirmError::Full(_))));
    assert_eq!(gaps(&broker), 0);
    assert_eq!(drain(&mut temporary), "1");
    publish(&broker, &reply_to, "3").await.unwrap();
}

#[tokio::test]
async fn deleting_it_by_its_name_ends_the_subscription() {
    let broker = EmbeddedBroker::new(Config::default());
    let topic = to("/topic/a");
    let mut subscription = subscribe(&broker, &topic, 1).await;
    publish(&broker, &topic, "1").await.unwrap();
    let taken = poll(&mut subscription).unwrap();
    let name = subscription.queue().unwrap().clone();
    broker.delete(&Destination::AmqQueue(name.clone())).await.unwrap();
    publish(&broker, &topic, "2").await.unwrap();
    assert!(subscription.next().await.is_none());
    drop(taken);
    // Another that takes the name is nothing to who had it.
    publish(&broker, &Destination::Queue(name.clone()), "other").await.unwrap();
    drop(subscription);
    assert_eq!(publish(&broker, &Destination::AmqQueue(name), "other").await, Ok(()));
}

#[tokio::test]
async fn the_end_of_the_broker_is_the_end_of_them() {
    let broker = EmbeddedBroker::new(Config::default());
    let topic = to("/topic/a");
    let mut own = subscribe(&broker, &topic, 1).await;
    let (mut temporary, reply_to) = temporary(&broker).await;
    publish(&broker, &topic, "1").await.unwrap();
    publish(&broker, &reply_to, "1").await.unwrap();
    drop(broker);
    for subscription in [&mut own, &mut temporary] {
        subscription.next().await.unwrap().settle(Outcome::Requeue);
        assert!(subscription.next().await.is_none());
    }
}

#[tokio::test]
async fn a_temporary_queue_is_named_by_reply_to_alone() {
    let broker = EmbeddedBroker::new(Config::default());
    let temporary = Destination::TempQueue("t".into());
    let refused = broker.publish(SESSION, Message::new(temporary.clone(), "")).await.unwrap_err();
    let instead = "use it in the reply-to header of a SEND";
    assert_eq!(refused, PublishError::Unsupported { kind: "temp-queue", instead });
    let unsupported = DeleteError::Unsupported { kind: "temp-queue" };
    assert_eq!(broker.delete(&temporary).await, Err(unsupported));
}

/// Sessions that come, go and delete at the same time lock each other in no order that stops them,
/// and leave no queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_leave_nothing_behind() {
    const QUEUES: usize = 20;
    let broker = Arc::new(EmbeddedBroker::new(Config { max_queues: QUEUES, ..Config::default() }));
    let session = async |broker: Arc<EmbeddedBroker>| {
        let (topic, passing) = (to("/topic/a"), to("/queue/passing"));
        let auto_delete = QueueOptions { auto_delete: Some(true), ..QueueOptions::default() };
        for round in 0..200 {
            let own = subscribe(&broker, &topic, 1).await;
            let passes = SubscribeRequest { queue: auto_delete.clone(), ..request(&passing, 1) };
            let passes = broker.subscribe(passes).await.unwrap();
            let (temporary, reply_to) = temporary(&broker).await;
            // Named as one that exists, lest it be made as another sort; it may be deleted just now.
            for to in [&topic, &Destination::AmqQueue("passing".into()), &reply_to] {
                let _ = publish(&broker, to, "").await;
            }
            match round % 3 {
                0 => {}
                1 => broker.delete(&passing).await.unwrap(),
                _ => {
                    let name = own.queue().unwrap().clone();
                    broker.delete(&Destination::Queue(name)).await.unwrap();
                }
            }
            tokio::task::yield_now().await;
            drop((own, passes, temporary));
        }
    };
    let sessions: Vec<_> = (0..4).map(|_| tokio::spawn(session(broker.clone()))).collect();
    for session in sessions {
        session.await.unwrap();
    }
    broker.delete(&to("/queue/passing")).await.unwrap();
    let mut all = Vec::new();
    while let Ok(own) = broker.subscribe(request(&to("/topic/b"), 1)).await {
        all.push(own);
    }
    assert_eq!(all.len(), QUEUES);
}
