//! The behaviour that every [`Broker`] shows, as tests.
//!
//! [`contract_tests!`](crate::contract_tests) makes one test of each rule; a backend runs it in its
//! own tests. Every rule is an `async fn` that takes a broker and panics where the broker breaks it.
//!
//! Invariants
//! - Rules use destinations of their own, so that they may share a broker that outlives them, and
//!   delete their queues when they end well.
//! - Rules wait for what must happen; that something does not happen they show by something that
//!   would have come later and came first. Nothing sleeps.
//!
//! - What a broker does on its own time, such as deleting a queue that nobody consumes from any more,
//!   they ask for again and again until it is done.
//!
//! Not here: outages, limits, and the kinds and options that only some brokers have.

pub mod declared;
pub mod own_queues;
pub mod queues;
pub mod replies;
pub mod topics;

use std::time::Duration;

use crate::destination::{Config, Destinations, Kind, Verb};
use crate::{
    Broker, ConfirmError, Delivery, Destination, Feed, Message, MessageId, PublisherId,
    SubscribeError, SubscribeRequest, Subscription,
};

/// One `#[tokio::test]` for each rule of the contract, in a module for each part: `topics`, `queues`,
/// `own_queues`, `replies`, `declared`.
///
/// Takes the absolute path (`crate::...`) of an `async fn() -> Arc<dyn Broker>`. It needs `tokio`
/// with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! contract_tests {
    ($make:path) => {
        $crate::contract_tests! { topics, $make =>
            every_subscription_gets_each_message_once
            a_star_is_one_word_and_a_hash_any_number
            both_spellings_meet
            topics_under_different_prefixes_do_not_meet
            each_publisher_keeps_its_order
            a_subscription_is_live_on_return
            a_dropped_subscription_is_cancelled
            one_that_is_never_read_holds_up_no_other_topic
            a_message_without_subscribers_is_confirmed_and_gone
            a_message_passes_through_unchanged
            a_topic_cannot_be_deleted
            a_broker_that_works_is_up
        }
        $crate::contract_tests! { queues, $make =>
            each_message_goes_to_one_consumer
            messages_are_kept_while_nobody_consumes
            each_publisher_keeps_its_order
            prefetch_bounds_what_is_outstanding
            an_ack_makes_room
            an_acked_message_does_not_come_back
            a_requeued_message_comes_back_in_its_place
            a_dropped_delivery_comes_back_in_its_place
            a_rejected_message_does_not_come_back
            a_dropped_subscription_gets_nothing_more
            a_dropped_subscription_gives_back_what_was_not_taken
            a_delivery_may_outlive_its_subscription
            a_slow_consumer_holds_up_nobody_else
            consumers_get_fair_shares
            deleting_a_queue_empties_it_and_ends_its_subscriptions
            a_message_passes_through_unchanged
        }
        $crate::contract_tests! { own_queues, $make =>
            each_subscription_gets_each_message_once
            patterns_are_those_of_topics
            each_publisher_keeps_its_order
            a_subscription_is_live_on_return
            a_message_passes_through_unchanged
            an_ack_makes_room
            prefetch_bounds_what_is_outstanding
            a_requeued_message_comes_back_in_its_place
            a_dropped_delivery_comes_back_in_its_place
            a_rejected_message_does_not_come_back
            one_that_is_never_read_holds_up_nobody
            the_end_gives_nothing_back
            a_delivery_may_outlive_its_subscription
            the_end_leaves_no_queue
            the_exchange_of_topics_is_the_topics
        }
        $crate::contract_tests! { replies, $make =>
            a_reply_comes_back
            each_subscription_has_a_queue_of_its_own
            a_message_passes_through_unchanged
            replies_are_kept_until_they_are_settled
            a_reply_to_one_that_is_gone_is_confirmed_and_dropped
            what_is_gone_cannot_be_subscribed_to
            a_reply_may_go_to_any_queue
        }
        $crate::contract_tests! { declared, $make =>
            a_declared_queue_is_there
            declaring_again_changes_nothing
            what_nobody_declared_is_not_there
            an_existing_queue_is_the_same_by_either_name
            a_queue_stays_when_nothing_is_in_it
            a_deleted_queue_is_not_there
            an_auto_delete_queue_goes_with_its_last_consumer
            what_was_declared_holds_for_those_who_say_nothing
            a_queue_is_not_declared_otherwise
            an_exclusive_queue_is_its_sessions_own
        }
    };
    ($part:ident, $make:path => $($rule:ident)*) => {
        mod $part {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let broker = $make().await;
                    $crate::contract::$part::$rule(&*broker).await;
                }
            )*
        }
    };
}

/// How long anything may take before the rule counts as broken: long, for it is only ever waited
/// out by a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Enough for every rule that does not ask for less.
const AMPLE: u16 = 500;

const PUBLISHER: PublisherId = PublisherId(1);

/// What `future` gives, in time.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A word that no other test uses.
fn word() -> String {
    format!("contract-{}", MessageId::new())
}

/// The destination of that name, with `/news` for topics too.
fn destination(text: &str) -> Destination {
    let mut config = Config::default();
    config.prefixes.insert("/news".into(), Kind::Topic);
    Destinations::new(&config).parse(text, Verb::Subscribe).expect("the rule's own destination")
}

async fn subscribe(broker: &dyn Broker, to: &Destination, prefetch: u16) -> Subscription {
    let request = SubscribeRequest::new(to.clone(), prefetch);
    soon(broker.subscribe(request)).await.expect("a subscription")
}

/// Subscribes to a topic with a queue of the subscription's own.
async fn subscribe_own(broker: &dyn Broker, to: &Destination, prefetch: u16) -> Subscription {
    let request =
        SubscribeRequest { feed: Feed::Own, ..SubscribeRequest::new(to.clone(), prefetch) };
    soon(broker.subscribe(request)).await.expect("a subscription")
}

/// Why there is no subscription.
async fn refusal(broker: &dyn Broker, to: &Destination) -> SubscribeError {
    let request = SubscribeRequest::new(to.clone(), AMPLE);
    soon(broker.subscribe(request)).await.expect_err("it is refused")
}

#[track_caller]
fn assert_refused(error: &SubscribeError, begin: &str) {
    let SubscribeError::Refused(why) = error else { panic!("refused otherwise: {error:?}") };
    assert!(why.starts_with(begin), "refused otherwise: {why}");
}

#[track_caller]
fn assert_not_found(error: &SubscribeError, queue: &str) {
    assert_refused(error, &format!("NOT_FOUND - no queue '{queue}'"));
}

/// What the broker says of one message.
async fn confirmed(broker: &dyn Broker, message: Message) -> Result<(), ConfirmError> {
    let confirm = soon(broker.publish(PUBLISHER, message)).await.expect("the message is taken");
    soon(confirm).await
}

/// Publishes one message, and waits for its confirm.
async fn publish(broker: &dyn Broker, message: Message) {
    confirmed(broker, message).await.expect("the message is confirmed");
}

/// Returns once the queue of that name is not there.
async fn gone(broker: &dyn Broker, name: &str) {
    let to = Destination::AmqQueue(name.into());
    let asking = async {
        while confirmed(broker, Message::new(to.clone(), "are you there")).await.is_ok() {}
    };
    soon(asking).await;
    assert_eq!(confirmed(broker, Message::new(to, "")).await, Err(ConfirmError::Unroutable));
}

async fn delete(broker: &dyn Broker, queue: &Destination) {
    soon(broker.delete(queue)).await.expect("the queue is deleted");
}

/// Publishes a message for each body in this order, and waits for all confirms.
async fn publish_all(
    broker: &dyn Broker,
    publisher: PublisherId,
    to: &Destination,
    bodies: impl IntoIterator<Item = impl Into<String>>,
) {
    let mut confirms = Vec::new();
    for body in bodies {
        let message = Message::new(to.clone(), body.into());
        confirms.push(soon(broker.publish(publisher, message)).await.expect("it is taken"));
    }
    for confirm in confirms {
        soon(confirm).await.expect("the message is confirmed");
    }
}

async fn take(from: &mut Subscription) -> Delivery {
    soon(from.next()).await.expect("the subscription goes on")
}

/// The next `count` deliveries.
async fn take_many(from: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(take(from).await);
    }
    taken
}

/// Which of the two has a delivery first, and that delivery.
async fn take_either(one: &mut Subscription, other: &mut Subscription) -> (usize, Delivery) {
    tokio::select! {
        delivery = take(one) => (0, delivery),
        delivery = take(other) => (1, delivery),
    }
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(body).collect()
}

/// Messages that are easily damaged on their way to `to`.
fn delicate(to: &Destination) -> Vec<Message> {
    let all_bytes: Vec<u8> = (0..=255).collect();
    let headers = [
        ("content-type", "text/plain;charset=utf-8"),
        ("empty", ""),
        ("odd: name", "colon: line\nbackslash\\ umlaut ü"),
        ("Case", "upper"),
        ("number", "42"),
    ];
    let mut with_headers = Message::new(to.clone(), "body");
    with_headers.headers = headers.map(|(name, value)| (name.into(), value.into())).into();
    let mut persistent = Message::new(to.clone(), "kept");
    persistent.persistent = true;
    vec![
        Message::new(to.clone(), all_bytes),
        Message::new(to.clone(), ""),
        with_headers,
        persistent,
    ]
}

/// The same message; a broker may keep headers in an order of its own.
#[track_caller]
fn assert_unchanged(received: &Message, sent: &Message) {
    let sorted = |message: &Message| {
        let mut message = message.clone();
        message.headers.sort();
        message
    };
    assert_eq!(sorted(received), sorted(sent));
}
