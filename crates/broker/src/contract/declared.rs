//! The rules for declaring queues, and for naming those that are there.

use super::{
    AMPLE, PUBLISHER, assert_not_found, assert_refused, bodies, body, confirmed, delete, gone,
    publish_all, refusal, soon, subscribe, take, take_either, take_many, word,
};
use crate::{
    Broker, ConfirmError, Destination, Message, Outcome, PublisherId, QueueOptions, SubscribeError,
    SubscribeRequest, Subscription,
};

/// The two destinations of one queue that no other test uses.
struct Queue {
    name: String,
    /// Made by its first use.
    queue: Destination,
    /// There or not.
    existing: Destination,
}

fn queue() -> Queue {
    let name = word();
    let queue = Destination::Queue(name.as_str().into());
    let existing = Destination::AmqQueue(name.as_str().into());
    Queue { name, queue, existing }
}

async fn declare(
    broker: &dyn Broker,
    queue: &Queue,
    options: &QueueOptions,
) -> Result<(), SubscribeError> {
    soon(broker.declare(PUBLISHER, &queue.name.as_str().into(), options)).await
}

fn auto_delete() -> QueueOptions {
    QueueOptions { auto_delete: Some(true), ..QueueOptions::default() }
}

async fn subscribe_auto_delete(broker: &dyn Broker, queue: &Queue) -> Subscription {
    let request = SubscribeRequest {
        queue: auto_delete(),
        ..SubscribeRequest::new(queue.queue.clone(), AMPLE)
    };
    soon(broker.subscribe(request)).await.expect("a subscription")
}

async fn said_of(broker: &dyn Broker, to: &Destination) -> Result<(), ConfirmError> {
    confirmed(broker, Message::new(to.clone(), "")).await
}

/// It takes messages from those who name an existing queue, and keeps them.
pub async fn a_declared_queue_is_there(broker: &dyn Broker) {
    let queue = queue();
    declare(broker, &queue, &QueueOptions::default()).await.expect("it is declared");
    publish_all(broker, PUBLISHER, &queue.existing, ["1", "2"]).await;
    let mut consumer = subscribe(broker, &queue.queue, AMPLE).await;
    let deliveries = take_many(&mut consumer, 2).await;
    assert_eq!(bodies(&deliveries), ["1", "2"]);
    deliveries.into_iter().for_each(|delivery| delivery.settle(Outcome::Ack));
    delete(broker, &queue.queue).await;
}

/// What is in the queue stays, and so do its consumers.
pub async fn declaring_again_changes_nothing(broker: &dyn Broker) {
    let queue = queue();
    let mut consumer = subscribe(broker, &queue.queue, 1).await;
    publish_all(broker, PUBLISHER, &queue.queue, ["1", "2"]).await;
    for _ in 0..2 {
        declare(broker, &queue, &QueueOptions::default()).await.expect("it is declared");
    }
    for expected in ["1", "2"] {
        let delivery = take(&mut consumer).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), (expected, false));
        delivery.settle(Outcome::Ack);
    }
    delete(broker, &queue.queue).await;
}

/// Naming an existing queue makes none, neither by SEND nor by SUBSCRIBE.
pub async fn what_nobody_declared_is_not_there(broker: &dyn Broker) {
    let queue = queue();
    for _ in 0..2 {
        assert_eq!(said_of(broker, &queue.existing).await, Err(ConfirmError::Unroutable));
        assert_not_found(&refusal(broker, &queue.existing).await, &queue.name);
    }
}

/// One queue, whichever way it is named: its consumers compete, and its messages are settled alike.
pub async fn an_existing_queue_is_the_same_by_either_name(broker: &dyn Broker) {
    let queue = queue();
    let mut one = subscribe(broker, &queue.queue, 1).await;
    let mut other = subscribe(broker, &queue.existing, 1).await;
    publish_all(broker, PUBLISHER, &queue.queue, ["1"]).await;
    publish_all(broker, PUBLISHER, &queue.existing, ["2"]).await;
    let (which, first) = take_either(&mut one, &mut other).await;
    let (_, second) = take_either(&mut one, &mut other).await;
    let mut received = [body(&first), body(&second)];
    received.sort();
    assert_eq!(received, ["1", "2"]);
    // Only the one whose delivery is settled has room for it again.
    first.settle(Outcome::Requeue);
    let again = take([&mut one, &mut other][which]).await;
    assert!(again.redelivered);
    again.settle(Outcome::Ack);
    second.settle(Outcome::Ack);
    delete(broker, &queue.queue).await;
}

/// A queue that was used and is empty is still there.
pub async fn a_queue_stays_when_nothing_is_in_it(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue.queue, ["1"]).await;
    let mut consumer = subscribe(broker, &queue.existing, 1).await;
    take(&mut consumer).await.settle(Outcome::Ack);
    drop(consumer);
    publish_all(broker, PUBLISHER, &queue.existing, ["2"]).await;
    let mut consumer = subscribe(broker, &queue.existing, 1).await;
    assert_eq!(body(&take(&mut consumer).await), "2");
    delete(broker, &queue.queue).await;
}

/// Deletion takes the name away until the queue is made again.
pub async fn a_deleted_queue_is_not_there(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue.queue, ["1"]).await;
    let mut consumer = subscribe(broker, &queue.existing, 1).await;
    let taken = take(&mut consumer).await;
    delete(broker, &queue.queue).await;
    assert!(soon(consumer.next()).await.is_none(), "a subscription to a deleted queue goes on");
    drop(taken);
    assert_eq!(said_of(broker, &queue.existing).await, Err(ConfirmError::Unroutable));
    assert_not_found(&refusal(broker, &queue.existing).await, &queue.name);
    declare(broker, &queue, &QueueOptions::default()).await.expect("it is declared");
    assert_eq!(said_of(broker, &queue.existing).await, Ok(()));
    delete(broker, &queue.queue).await;
}

/// It waits for its first consumer, stays while there is one, and goes with the last and with what
/// it holds.
pub async fn an_auto_delete_queue_goes_with_its_last_consumer(broker: &dyn Broker) {
    let queue = queue();
    declare(broker, &queue, &auto_delete()).await.expect("it is declared");
    publish_all(broker, PUBLISHER, &queue.existing, ["1"]).await;
    let mut one = subscribe_auto_delete(broker, &queue).await;
    take(&mut one).await.settle(Outcome::Ack);
    let mut other = subscribe_auto_delete(broker, &queue).await;
    drop(one);
    publish_all(broker, PUBLISHER, &queue.existing, ["2"]).await;
    let unsettled = take(&mut other).await;
    assert_eq!(body(&unsettled), "2");
    drop(other);
    drop(unsettled);
    gone(broker, &queue.name).await;
    delete(broker, &queue.queue).await;
}

/// Who publishes to a queue and says nothing of it takes it as it is.
pub async fn what_was_declared_holds_for_those_who_say_nothing(broker: &dyn Broker) {
    let queue = queue();
    declare(broker, &queue, &auto_delete()).await.expect("it is declared");
    publish_all(broker, PUBLISHER, &queue.queue, ["1"]).await;
    let mut consumer = subscribe_auto_delete(broker, &queue).await;
    publish_all(broker, PUBLISHER, &queue.queue, ["2"]).await;
    assert_eq!(bodies(&take_many(&mut consumer, 2).await), ["1", "2"]);
    drop(consumer);
    gone(broker, &queue.name).await;
    delete(broker, &queue.queue).await;
}

/// Options that a queue does not have are refused, by `declare` and by SUBSCRIBE, and change nothing.
pub async fn a_queue_is_not_declared_otherwise(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue.queue, ["1"]).await;
    let error = declare(broker, &queue, &auto_delete()).await.expect_err("it is refused");
    assert_refused(&error, "PRECONDITION_FAILED - ");
    let request =
        SubscribeRequest { queue: auto_delete(), ..SubscribeRequest::new(queue.queue.clone(), 1) };
    let error = soon(broker.subscribe(request)).await.expect_err("it is refused");
    assert_refused(&error, "PRECONDITION_FAILED - ");
    let mut consumer = subscribe(broker, &queue.queue, 1).await;
    let delivery = take(&mut consumer).await;
    assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("1", false));
    drop(delivery);
    delete(broker, &queue.queue).await;
}

/// While its session subscribes to it an exclusive queue is nobody else's, and it ends with that.
pub async fn an_exclusive_queue_is_its_sessions_own(broker: &dyn Broker) {
    const ANOTHER: PublisherId = PublisherId(2);
    let queue = queue();
    let exclusive = QueueOptions { exclusive: Some(true), ..QueueOptions::default() };
    let request = |subscriber| SubscribeRequest {
        queue: exclusive.clone(),
        subscriber,
        ..SubscribeRequest::new(queue.queue.clone(), 1)
    };
    let mut consumer = soon(broker.subscribe(request(PUBLISHER))).await.expect("a subscription");
    declare(broker, &queue, &exclusive).await.expect("it is the session's already");
    let error = soon(broker.subscribe(request(ANOTHER))).await.expect_err("it is locked");
    assert_refused(&error, "RESOURCE_LOCKED - ");
    let theirs = Message::new(queue.queue.clone(), "theirs");
    let confirm = soon(broker.publish(ANOTHER, theirs)).await.expect("it is taken");
    let error = soon(confirm).await.expect_err("it is locked");
    assert!(error.to_string().contains("RESOURCE_LOCKED - "), "refused otherwise: {error}");
    publish_all(broker, PUBLISHER, &queue.queue, ["own"]).await;
    let delivery = take(&mut consumer).await;
    assert_eq!(body(&delivery), "own");
    delivery.settle(Outcome::Ack);
    drop(consumer);
    gone(broker, &queue.name).await;
    let consumer = soon(broker.subscribe(request(ANOTHER))).await.expect("it is theirs now");
    drop(consumer);
    gone(broker, &queue.name).await;
}
