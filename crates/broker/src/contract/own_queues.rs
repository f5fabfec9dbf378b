//! The rules for subscriptions to topics with a queue of their own.

use super::{
    AMPLE, PUBLISHER, assert_unchanged, bodies, body, delicate, destination, gone, publish,
    publish_all, subscribe, subscribe_own, take, take_many, word,
};
use crate::{Broker, Delivery, Destination, Outcome, PublisherId};

/// A topic that no other test uses.
fn topic() -> Destination {
    destination(&format!("/topic/{}", word()))
}

/// They do not compete, neither with each other nor with those that share a feed.
pub async fn each_subscription_gets_each_message_once(broker: &dyn Broker) {
    let to = topic();
    let mut own =
        [subscribe_own(broker, &to, AMPLE).await, subscribe_own(broker, &to, AMPLE).await];
    let mut shared = subscribe(broker, &to, AMPLE).await;
    publish_all(broker, PUBLISHER, &to, ["1", "2", "3"]).await;
    assert_eq!(bodies(&take_many(&mut shared, 3).await), ["1", "2", "3"]);
    for own in &mut own {
        let deliveries = take_many(own, 3).await;
        assert_eq!(bodies(&deliveries), ["1", "2", "3"]);
        assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    }
}

/// `*` is one word and `#` any number, and a pattern that matches in several ways matches once.
pub async fn patterns_are_those_of_topics(broker: &dyn Broker) {
    let root = word();
    let to = |rest: &str| destination(&format!("/topic/{root}{rest}"));
    let mut star = subscribe_own(broker, &to(".*"), AMPLE).await;
    let mut hash = subscribe_own(broker, &to(".#.a.#"), AMPLE).await;
    for key in ["", ".a", ".b", ".a.a", ".a.b.c", ".end", ".end.a"] {
        publish_all(broker, PUBLISHER, &to(key), [key]).await;
    }
    assert_eq!(bodies(&take_many(&mut star, 3).await), [".a", ".b", ".end"]);
    assert_eq!(bodies(&take_many(&mut hash, 4).await), [".a", ".a.a", ".a.b.c", ".end.a"]);
}

/// Messages of one publisher come in publish order, though several publish at once.
pub async fn each_publisher_keeps_its_order(broker: &dyn Broker) {
    let to = topic();
    let mut subscription = subscribe_own(broker, &to, AMPLE).await;
    let sent = |publisher: u64| (0..100).map(move |n| format!("{publisher}:{n}"));
    let ((), (), deliveries) = tokio::join!(
        publish_all(broker, PublisherId(1), &to, sent(1)),
        publish_all(broker, PublisherId(2), &to, sent(2)),
        take_many(&mut subscription, 200),
    );
    for publisher in [1, 2] {
        let mark = format!("{publisher}:");
        let received = bodies(&deliveries).into_iter().filter(|body| body.starts_with(&mark));
        assert!(received.eq(sent(publisher)), "publisher {publisher} was put out of order");
    }
}

/// What is published after `subscribe` has returned arrives.
pub async fn a_subscription_is_live_on_return(broker: &dyn Broker) {
    for _ in 0..10 {
        let to = topic();
        let mut subscription = subscribe_own(broker, &to, 1).await;
        publish_all(broker, PUBLISHER, &to, ["at once"]).await;
        assert_eq!(body(&take(&mut subscription).await), "at once");
    }
}

/// Id, destination, headers, body and persistence arrive as they were sent.
pub async fn a_message_passes_through_unchanged(broker: &dyn Broker) {
    let to = destination(&format!("/topic/{}.user/john.doe%2Fx", word()));
    let mut subscription = subscribe_own(broker, &to, AMPLE).await;
    for message in delicate(&to) {
        publish(broker, message.clone()).await;
        let delivery = take(&mut subscription).await;
        assert_unchanged(&delivery.message, &message);
        delivery.settle(Outcome::Ack);
    }
}

/// What has no room waits, and each ack lets the next one come.
pub async fn an_ack_makes_room(broker: &dyn Broker) {
    let to = topic();
    let mut subscription = subscribe_own(broker, &to, 1).await;
    let sent: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    publish_all(broker, PUBLISHER, &to, &sent).await;
    for expected in sent {
        let delivery = take(&mut subscription).await;
        assert_eq!((body(&delivery), delivery.redelivered), (expected, false));
        delivery.settle(Outcome::Ack);
    }
}

/// Beyond its prefetch a subscription gets nothing: what is given back comes before what waits.
pub async fn prefetch_bounds_what_is_outstanding(broker: &dyn Broker) {
    let to = topic();
    let mut subscription = subscribe_own(broker, &to, 2).await;
    publish_all(broker, PUBLISHER, &to, ["1", "2", "3", "4"]).await;
    let mut held = take_many(&mut subscription, 2).await;
    assert_eq!(bodies(&held), ["1", "2"]);
    // Were 3 on its way already, it would come before this.
    held.remove(0).settle(Outcome::Requeue);
    let again = take(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("1", true));
    again.settle(Outcome::Ack);
    assert_eq!(body(&take(&mut subscription).await), "3");
}

/// A requeued message comes again, marked redelivered, before those that were behind it.
pub async fn a_requeued_message_comes_back_in_its_place(broker: &dyn Broker) {
    comes_back_in_its_place(broker, |delivery| delivery.settle(Outcome::Requeue)).await;
}

/// A delivery that nobody settles is given back as if it were requeued.
pub async fn a_dropped_delivery_comes_back_in_its_place(broker: &dyn Broker) {
    comes_back_in_its_place(broker, drop).await;
}

async fn comes_back_in_its_place(broker: &dyn Broker, give_back: impl FnOnce(Delivery)) {
    let to = topic();
    let mut subscription = subscribe_own(broker, &to, 1).await;
    publish_all(broker, PUBLISHER, &to, ["1", "2"]).await;
    let delivery = take(&mut subscription).await;
    assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("1", false));
    give_back(delivery);
    let again = take(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("1", true));
    again.settle(Outcome::Ack);
    let next = take(&mut subscription).await;
    assert_eq!((body(&next).as_str(), next.redelivered), ("2", false));
    next.settle(Outcome::Ack);
}

/// A rejected message is gone, and makes room as an acked one does.
pub async fn a_rejected_message_does_not_come_back(broker: &dyn Broker) {
    let to = topic();
    let mut subscription = subscribe_own(broker, &to, 1).await;
    publish_all(broker, PUBLISHER, &to, ["1", "2"]).await;
    take(&mut subscription).await.settle(Outcome::Reject);
    assert_eq!(body(&take(&mut subscription).await), "2");
}

/// What is not settled is the subscription's own affair: publishers and other subscribers go on.
pub async fn one_that_is_never_read_holds_up_nobody(broker: &dyn Broker) {
    let to = topic();
    let mut unread = subscribe_own(broker, &to, 1).await;
    let mut shared = subscribe(broker, &to, AMPLE).await;
    let mut own = subscribe_own(broker, &to, AMPLE).await;
    let sent: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    publish_all(broker, PUBLISHER, &to, &sent).await;
    assert_eq!(bodies(&take_many(&mut shared, 100).await), sent);
    assert_eq!(bodies(&take_many(&mut own, 100).await), sent);
    // It has missed nothing by it.
    for expected in sent {
        let delivery = take(&mut unread).await;
        assert_eq!(body(&delivery), expected);
        delivery.settle(Outcome::Ack);
    }
}

/// What was not taken or not settled goes with the subscription: a later one begins anew.
pub async fn the_end_gives_nothing_back(broker: &dyn Broker) {
    let to = topic();
    let mut first = subscribe_own(broker, &to, 2).await;
    publish_all(broker, PUBLISHER, &to, ["1", "2", "3"]).await;
    let unsettled = take(&mut first).await;
    let mut meanwhile = subscribe_own(broker, &to, AMPLE).await;
    drop(first);
    drop(unsettled);
    let mut later = subscribe_own(broker, &to, AMPLE).await;
    publish_all(broker, PUBLISHER, &to, ["4"]).await;
    for subscription in [&mut meanwhile, &mut later] {
        let delivery = take(subscription).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("4", false));
    }
}

/// Settling what was taken is to no effect after the end, and no failure.
pub async fn a_delivery_may_outlive_its_subscription(broker: &dyn Broker) {
    let to = topic();
    let mut first = subscribe_own(broker, &to, AMPLE).await;
    publish_all(broker, PUBLISHER, &to, ["1", "2", "3"]).await;
    let taken = take_many(&mut first, 3).await;
    drop(first);
    let mut next = subscribe_own(broker, &to, 1).await;
    for (delivery, outcome) in
        taken.into_iter().zip([Outcome::Ack, Outcome::Requeue, Outcome::Reject])
    {
        delivery.settle(outcome);
    }
    publish_all(broker, PUBLISHER, &to, ["4", "5"]).await;
    for expected in ["4", "5"] {
        let delivery = take(&mut next).await;
        assert_eq!(body(&delivery), expected);
        delivery.settle(Outcome::Ack);
    }
}

/// The queue is there by the name that the subscription tells, if it tells one, and is not there any
/// more once the subscription has ended.
pub async fn the_end_leaves_no_queue(broker: &dyn Broker) {
    let to = topic();
    let mut subscription = subscribe_own(broker, &to, 1).await;
    publish_all(broker, PUBLISHER, &to, ["1", "2"]).await;
    let unsettled = take(&mut subscription).await;
    let name = subscription.queue().cloned();
    drop(subscription);
    if let Some(name) = name {
        gone(broker, &name).await;
    }
    drop(unsettled);
    publish_all(broker, PUBLISHER, &to, ["nobody is there"]).await;
}

/// `/exchange/amq.topic` with a key is another name of the topic with that key, for both ends.
pub async fn the_exchange_of_topics_is_the_topics(broker: &dyn Broker) {
    let root = word();
    let exchange = |rest: &str| Destination::Exchange {
        exchange: "amq.topic".into(),
        key: Some(format!("{root}{rest}").into()),
    };
    let mut by_exchange = subscribe_own(broker, &exchange(".#"), 1).await;
    let mut by_topic = subscribe_own(broker, &destination(&format!("/topic/{root}.#")), 1).await;
    let topic = destination(&format!("/topic/{root}.a"));
    publish_all(broker, PUBLISHER, &topic, ["1"]).await;
    publish_all(broker, PUBLISHER, &exchange(".b"), ["2"]).await;
    for subscription in [&mut by_exchange, &mut by_topic] {
        for expected in ["1", "2"] {
            let delivery = take(subscription).await;
            assert_eq!(body(&delivery), expected);
            delivery.settle(Outcome::Ack);
        }
    }
}
