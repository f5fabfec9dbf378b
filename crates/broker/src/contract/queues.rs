//! The rules for queues.

use super::{
    AMPLE, PUBLISHER, assert_unchanged, bodies, body, delete, delicate, destination, publish,
    publish_all, soon, subscribe, take, take_either, take_many, word,
};
use crate::{Broker, Destination, Outcome, PublisherId};

/// A queue that no other test uses.
fn queue() -> Destination {
    destination(&format!("/queue/{}", word()))
}

/// Consumers compete: no message goes to two of them, and none is lost.
pub async fn each_message_goes_to_one_consumer(broker: &dyn Broker) {
    let queue = queue();
    let mut one = subscribe(broker, &queue, 3).await;
    let mut other = subscribe(broker, &queue, 3).await;
    let sent: Vec<String> = (100..150).map(|n| n.to_string()).collect();
    publish_all(broker, PUBLISHER, &queue, &sent).await;
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let (_, delivery) = take_either(&mut one, &mut other).await;
        received.push(body(&delivery));
        delivery.settle(Outcome::Ack);
    }
    received.sort();
    assert_eq!(received, sent);
    publish_all(broker, PUBLISHER, &queue, ["end"]).await;
    let (_, delivery) = take_either(&mut one, &mut other).await;
    assert_eq!(body(&delivery), "end");
    delivery.settle(Outcome::Ack);
    delete(broker, &queue).await;
}

/// A queue comes into being with its first message, and keeps its messages in order.
pub async fn messages_are_kept_while_nobody_consumes(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2", "3"]).await;
    let mut consumer = subscribe(broker, &queue, AMPLE).await;
    let deliveries = take_many(&mut consumer, 3).await;
    assert_eq!(bodies(&deliveries), ["1", "2", "3"]);
    assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    deliveries.into_iter().for_each(|delivery| delivery.settle(Outcome::Ack));
    delete(broker, &queue).await;
}

/// Messages of one publisher reach a consumer in publish order, though several publish at once.
pub async fn each_publisher_keeps_its_order(broker: &dyn Broker) {
    let queue = queue();
    let mut consumer = subscribe(broker, &queue, AMPLE).await;
    let sent = |publisher: u64| (0..100).map(move |n| format!("{publisher}:{n}"));
    let ((), (), deliveries) = tokio::join!(
        publish_all(broker, PublisherId(1), &queue, sent(1)),
        publish_all(broker, PublisherId(2), &queue, sent(2)),
        take_many(&mut consumer, 200),
    );
    for publisher in [1, 2] {
        let mark = format!("{publisher}:");
        let received = bodies(&deliveries).into_iter().filter(|body| body.starts_with(&mark));
        assert!(received.eq(sent(publisher)), "publisher {publisher} was put out of order");
    }
    deliveries.into_iter().for_each(|delivery| delivery.settle(Outcome::Ack));
    delete(broker, &queue).await;
}

/// Beyond its prefetch a consumer gets nothing: what is left goes to whoever has room.
pub async fn prefetch_bounds_what_is_outstanding(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2", "3", "4"]).await;
    let mut first = subscribe(broker, &queue, 2).await;
    let held = take_many(&mut first, 2).await;
    let mut second = subscribe(broker, &queue, AMPLE).await;
    assert_eq!(bodies(&take_many(&mut second, 2).await), ["3", "4"]);
    assert_eq!(bodies(&held), ["1", "2"]);
    delete(broker, &queue).await;
}

/// Each ack lets the next one come.
pub async fn an_ack_makes_room(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2", "3"]).await;
    let mut consumer = subscribe(broker, &queue, 1).await;
    for expected in ["1", "2", "3"] {
        let delivery = take(&mut consumer).await;
        assert_eq!(body(&delivery), expected);
        delivery.settle(Outcome::Ack);
    }
    delete(broker, &queue).await;
}

/// Done is done, for other consumers too.
pub async fn an_acked_message_does_not_come_back(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2"]).await;
    let mut consumer = subscribe(broker, &queue, AMPLE).await;
    take(&mut consumer).await.settle(Outcome::Ack);
    drop(consumer);
    let mut next = subscribe(broker, &queue, AMPLE).await;
    assert_eq!(body(&take(&mut next).await), "2");
    delete(broker, &queue).await;
}

/// A requeued message comes again, marked redelivered, before those that were behind it.
pub async fn a_requeued_message_comes_back_in_its_place(broker: &dyn Broker) {
    comes_back_in_its_place(broker, |delivery| delivery.settle(Outcome::Requeue)).await;
}

/// A delivery that nobody settles is given back as if it were requeued.
pub async fn a_dropped_delivery_comes_back_in_its_place(broker: &dyn Broker) {
    comes_back_in_its_place(broker, drop).await;
}

async fn comes_back_in_its_place(broker: &dyn Broker, give_back: impl FnOnce(crate::Delivery)) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2"]).await;
    let mut consumer = subscribe(broker, &queue, 1).await;
    let delivery = take(&mut consumer).await;
    assert!(!delivery.redelivered);
    give_back(delivery);
    let again = take(&mut consumer).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("1", true));
    again.settle(Outcome::Ack);
    let next = take(&mut consumer).await;
    assert_eq!((body(&next).as_str(), next.redelivered), ("2", false));
    next.settle(Outcome::Ack);
    delete(broker, &queue).await;
}

/// A rejected message is gone, and makes room as an acked one does.
pub async fn a_rejected_message_does_not_come_back(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2"]).await;
    let mut consumer = subscribe(broker, &queue, 1).await;
    take(&mut consumer).await.settle(Outcome::Reject);
    let next = take(&mut consumer).await;
    assert_eq!(body(&next), "2");
    next.settle(Outcome::Ack);
    delete(broker, &queue).await;
}

/// A cancelled consumer has no share in what comes later.
pub async fn a_dropped_subscription_gets_nothing_more(broker: &dyn Broker) {
    let queue = queue();
    let dropped = subscribe(broker, &queue, AMPLE).await;
    let mut kept = subscribe(broker, &queue, AMPLE).await;
    drop(dropped);
    publish_all(broker, PUBLISHER, &queue, ["1", "2", "3", "4"]).await;
    let mut received = bodies(&take_many(&mut kept, 4).await);
    // A broker may learn of the cancellation with a message already on its way.
    received.sort();
    assert_eq!(received, ["1", "2", "3", "4"]);
    delete(broker, &queue).await;
}

/// What a consumer had been sent and not looked at goes back in order.
pub async fn a_dropped_subscription_gives_back_what_was_not_taken(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2", "3", "4", "5"]).await;
    let mut consumer = subscribe(broker, &queue, AMPLE).await;
    take(&mut consumer).await.settle(Outcome::Ack);
    drop(consumer);
    let mut next = subscribe(broker, &queue, AMPLE).await;
    assert_eq!(bodies(&take_many(&mut next, 4).await), ["2", "3", "4", "5"]);
    delete(broker, &queue).await;
}

/// What was taken is still the taker's to settle after the subscription is gone.
pub async fn a_delivery_may_outlive_its_subscription(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2", "3"]).await;
    let mut consumer = subscribe(broker, &queue, 2).await;
    let mut taken = take_many(&mut consumer, 2).await;
    drop(consumer);
    let requeued = taken.pop().expect("two were taken");
    taken.pop().expect("two were taken").settle(Outcome::Ack);
    let mut next = subscribe(broker, &queue, 1).await;
    let third = take(&mut next).await;
    assert_eq!(body(&third), "3");
    requeued.settle(Outcome::Requeue);
    third.settle(Outcome::Ack);
    let again = take(&mut next).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("2", true));
    again.settle(Outcome::Ack);
    delete(broker, &queue).await;
}

/// A consumer that keeps what it has leaves the rest to the others.
pub async fn a_slow_consumer_holds_up_nobody_else(broker: &dyn Broker) {
    let queue = queue();
    let mut slow = subscribe(broker, &queue, 1).await;
    publish_all(broker, PUBLISHER, &queue, ["0"]).await;
    let kept = take(&mut slow).await;
    let mut quick = subscribe(broker, &queue, 1).await;
    let sent: Vec<String> = (1..20).map(|n| n.to_string()).collect();
    publish_all(broker, PUBLISHER, &queue, &sent).await;
    for expected in sent {
        let delivery = take(&mut quick).await;
        assert_eq!(body(&delivery), expected);
        delivery.settle(Outcome::Ack);
    }
    assert_eq!(body(&kept), "0");
    delete(broker, &queue).await;
}

/// Consumers with room take turns, more or less.
pub async fn consumers_get_fair_shares(broker: &dyn Broker) {
    let queue = queue();
    let mut one = subscribe(broker, &queue, AMPLE).await;
    let mut other = subscribe(broker, &queue, AMPLE).await;
    publish_all(broker, PUBLISHER, &queue, (0..20).map(|n| n.to_string())).await;
    let mut shares = [0, 0];
    for _ in 0..20 {
        let (which, delivery) = take_either(&mut one, &mut other).await;
        shares[which] += 1;
        delivery.settle(Outcome::Ack);
    }
    assert!(shares.iter().all(|share| *share >= 7), "shares of {shares:?}");
    delete(broker, &queue).await;
}

/// A deleted queue takes its messages and subscriptions along; its name may be used anew, and
/// deleting it again is no failure.
pub async fn deleting_a_queue_empties_it_and_ends_its_subscriptions(broker: &dyn Broker) {
    let queue = queue();
    publish_all(broker, PUBLISHER, &queue, ["1", "2"]).await;
    let mut consumer = subscribe(broker, &queue, 1).await;
    let taken = take(&mut consumer).await;
    delete(broker, &queue).await;
    delete(broker, &queue).await;
    assert!(soon(consumer.next()).await.is_none(), "a subscription to a deleted queue goes on");
    publish_all(broker, PUBLISHER, &queue, ["new"]).await;
    // Comes from before the deletion, and is nothing to the new queue.
    taken.settle(Outcome::Requeue);
    let mut consumer = subscribe(broker, &queue, 1).await;
    let new = take(&mut consumer).await;
    assert_eq!(body(&new), "new");
    new.settle(Outcome::Ack);
    publish_all(broker, PUBLISHER, &queue, ["newer"]).await;
    assert_eq!(body(&take(&mut consumer).await), "newer");
    delete(broker, &queue).await;
}

/// Id, destination, headers, body and persistence arrive as they were sent.
pub async fn a_message_passes_through_unchanged(broker: &dyn Broker) {
    let queue = destination(&format!("/queue/{}%2F ü", word()));
    let mut consumer = subscribe(broker, &queue, AMPLE).await;
    for message in delicate(&queue) {
        publish(broker, message.clone()).await;
        let delivery = take(&mut consumer).await;
        assert_unchanged(&delivery.message, &message);
        delivery.settle(Outcome::Ack);
    }
    delete(broker, &queue).await;
}
