//! The rules for topics, and for the broker as a whole.

use std::future::pending;

use super::{
    AMPLE, PUBLISHER, assert_unchanged, bodies, body, delicate, destination, publish, publish_all,
    soon, subscribe, take, take_many, word,
};
use crate::{Broker, BrokerState, DeleteError, Destination, Message, PublisherId};

/// The keys, without their first word, under which the next deliveries came, up to `end`.
async fn keys_until_end(from: &mut crate::Subscription, root: &str) -> Vec<String> {
    let mut keys = Vec::new();
    loop {
        let delivery = take(from).await;
        let Destination::Topic(topic) = &delivery.message.destination else {
            panic!("a topic subscription got {:?}", delivery.message)
        };
        let key = topic.key().strip_prefix(root).expect("the rule's own topic").to_owned();
        if key == ".end" {
            return keys;
        }
        keys.push(key);
    }
}

/// Each subscription gets its own copy, and one only, though its pattern match in several ways.
pub async fn every_subscription_gets_each_message_once(broker: &dyn Broker) {
    let root = word();
    let to = destination(&format!("/topic/{root}.a.a"));
    let mut subscriptions = Vec::new();
    for pattern in [".a.a", ".a.a", ".*.a", ".#.a.#"] {
        let pattern = destination(&format!("/topic/{root}{pattern}"));
        subscriptions.push(subscribe(broker, &pattern, AMPLE).await);
    }
    publish_all(broker, PUBLISHER, &to, ["1", "2"]).await;
    for subscription in &mut subscriptions {
        assert_eq!(bodies(&take_many(subscription, 2).await), ["1", "2"]);
    }
}

/// `*` stands for exactly one word, `#` for zero or more.
pub async fn a_star_is_one_word_and_a_hash_any_number(broker: &dyn Broker) {
    let root = word();
    let mut star = subscribe(broker, &destination(&format!("/topic/{root}.*")), AMPLE).await;
    let mut hash = subscribe(broker, &destination(&format!("/topic/{root}.#")), AMPLE).await;
    for key in ["", ".b", ".b.c", ".end"] {
        let to = destination(&format!("/topic/{root}{key}"));
        publish(broker, Message::new(to, "")).await;
    }
    assert_eq!(keys_until_end(&mut star, &root).await, [".b"]);
    assert_eq!(keys_until_end(&mut hash, &root).await, ["", ".b", ".b.c"]);
}

/// A topic spelled with dots and one spelled with slashes are the same.
pub async fn both_spellings_meet(broker: &dyn Broker) {
    let root = word();
    let dots = destination(&format!("/topic/{root}.a.b"));
    let slashes = destination(&format!("/topic/{root}/a/b"));
    let mut by_dots = subscribe(broker, &dots, AMPLE).await;
    let mut by_slashes = subscribe(broker, &slashes, AMPLE).await;
    publish_all(broker, PUBLISHER, &slashes, ["1"]).await;
    publish_all(broker, PUBLISHER, &dots, ["2"]).await;
    for subscription in [&mut by_dots, &mut by_slashes] {
        assert_eq!(bodies(&take_many(subscription, 2).await), ["1", "2"]);
    }
}

/// The same key under two prefixes names two topics.
pub async fn topics_under_different_prefixes_do_not_meet(broker: &dyn Broker) {
    let root = word();
    let topic = destination(&format!("/topic/{root}.a"));
    let news = destination(&format!("/news/{root}.a"));
    let mut all_topics = subscribe(broker, &destination(&format!("/topic/{root}.#")), AMPLE).await;
    let mut all_news = subscribe(broker, &destination(&format!("/news/{root}.#")), AMPLE).await;
    publish_all(broker, PUBLISHER, &topic, ["topic"]).await;
    publish_all(broker, PUBLISHER, &news, ["news"]).await;
    publish_all(broker, PUBLISHER, &topic, ["topic again"]).await;
    assert_eq!(bodies(&take_many(&mut all_topics, 2).await), ["topic", "topic again"]);
    let delivery = take(&mut all_news).await;
    assert_eq!((body(&delivery), &delivery.message.destination), ("news".into(), &news));
}

/// Messages of one publisher reach a subscriber in publish order, though several publish at once
/// and none waits for its confirms.
pub async fn each_publisher_keeps_its_order(broker: &dyn Broker) {
    let to = destination(&format!("/topic/{}", word()));
    let mut subscription = subscribe(broker, &to, AMPLE).await;
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
    for _ in 0..20 {
        let to = destination(&format!("/topic/{}", word()));
        let mut subscription = subscribe(broker, &to, AMPLE).await;
        publish_all(broker, PUBLISHER, &to, ["at once"]).await;
        assert_eq!(body(&take(&mut subscription).await), "at once");
    }
}

/// A subscription that is gone holds up neither publishers nor other subscribers.
pub async fn a_dropped_subscription_is_cancelled(broker: &dyn Broker) {
    let to = destination(&format!("/topic/{}", word()));
    let dropped = subscribe(broker, &to, 1).await;
    let mut kept = subscribe(broker, &to, AMPLE).await;
    publish_all(broker, PUBLISHER, &to, ["0"]).await;
    drop(dropped);
    publish_all(broker, PUBLISHER, &to, ["1", "2", "3"]).await;
    assert_eq!(bodies(&take_many(&mut kept, 4).await), ["0", "1", "2", "3"]);
}

/// A subscription that is full and never read may hold up who publishes to it, for good, and
/// everybody else for a while: in the end other topics go on.
pub async fn one_that_is_never_read_holds_up_no_other_topic(broker: &dyn Broker) {
    let unread = destination(&format!("/topic/{}", word()));
    let to = destination(&format!("/topic/{}", word()));
    let _unread = subscribe(broker, &unread, 1).await;
    let mut read = subscribe(broker, &to, AMPLE).await;
    let flood = async {
        let mut confirms = Vec::new();
        for n in 0..10 {
            let message = Message::new(unread.clone(), n.to_string());
            confirms.push(broker.publish(PUBLISHER, message).await.expect("it is taken"));
        }
        pending::<()>().await;
    };
    let other = async {
        publish_all(broker, PUBLISHER, &to, ["1", "2"]).await;
        assert_eq!(bodies(&take_many(&mut read, 2).await), ["1", "2"]);
    };
    tokio::select! {
        // Polled first, so that what it publishes is before the other's on its way.
        biased;
        () = flood => {}
        () = other => {}
    }
}

/// A topic keeps nothing for those who come later, and that is no failure.
pub async fn a_message_without_subscribers_is_confirmed_and_gone(broker: &dyn Broker) {
    let to = destination(&format!("/topic/{}", word()));
    publish_all(broker, PUBLISHER, &to, ["too early"]).await;
    let mut subscription = subscribe(broker, &to, AMPLE).await;
    publish_all(broker, PUBLISHER, &to, ["in time"]).await;
    let delivery = take(&mut subscription).await;
    assert_eq!(body(&delivery), "in time");
    assert!(!delivery.redelivered);
}

/// Id, destination, headers, body and persistence arrive as they were sent.
pub async fn a_message_passes_through_unchanged(broker: &dyn Broker) {
    let to = destination(&format!("/topic/{}.user/john.doe%2Fx", word()));
    let mut subscription = subscribe(broker, &to, AMPLE).await;
    for message in delicate(&to) {
        publish(broker, message.clone()).await;
        assert_unchanged(&take(&mut subscription).await.message, &message);
    }
}

/// There is nothing to delete about a topic.
pub async fn a_topic_cannot_be_deleted(broker: &dyn Broker) {
    let to = destination(&format!("/topic/{}", word()));
    let result = soon(broker.delete(&to)).await;
    assert_eq!(result, Err(DeleteError::Unsupported { kind: "topic" }));
}

/// The state of a broker to which nothing has happened.
pub async fn a_broker_that_works_is_up(broker: &dyn Broker) {
    publish_all(broker, PUBLISHER, &destination(&format!("/topic/{}", word())), ["1"]).await;
    assert_eq!(*broker.state().borrow(), BrokerState::up());
}
