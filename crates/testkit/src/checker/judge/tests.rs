//! Histories by hand: one that is right, and each way of being wrong.

use stomp::action::AckMode;

use super::super::Destination;
use super::*;

const TOPIC: Destination = Destination { kind: Kind::Topic, number: 0 };
const QUEUE: Destination = Destination { kind: Kind::Queue, number: 0 };

fn session(number: u32) -> SessionId {
    SessionId(number)
}

/// The only subscription of a session, unless the test says otherwise.
fn of(number: u32) -> SubscriptionId {
    SubscriptionId { session: session(number), number: 0 }
}

fn to(destination: Destination, number: u32) -> MessageId {
    MessageId { sender: session(0), destination, number }
}

fn connected(number: u32) -> Event {
    Event::Connected { session: session(number), node: 0 }
}

fn subscribe(number: u32, destination: Destination) -> [Event; 2] {
    let subscription = of(number);
    [subscribing(subscription, destination), Event::Subscribed(subscription)]
}

fn subscribing(subscription: SubscriptionId, destination: Destination) -> Event {
    Event::Subscribing { subscription, destination, ack: AckMode::Auto }
}

fn sent(message: MessageId) -> Event {
    Event::Sent { message, transaction: None }
}

fn send(message: MessageId) -> [Event; 2] {
    [sent(message), Event::Receipted(message)]
}

/// A delivery where its number says nothing, for nothing is acknowledged.
fn received(subscription: SubscriptionId, message: MessageId, redelivered: bool) -> Event {
    Event::Received { delivery: DeliveryId { subscription, number: 0 }, message, redelivered }
}

fn receive(number: u32, message: MessageId) -> [Event; 1] {
    [received(of(number), message, false)]
}

fn again(number: u32, message: MessageId) -> [Event; 1] {
    [received(of(number), message, true)]
}

fn closed(number: u32) -> [Event; 1] {
    [Event::Closed { session: session(number), why: "1001 going away".to_owned() }]
}

/// Two senders and receivers, 0 and 1, then what is given.
fn history(parts: impl IntoIterator<Item = Vec<Event>>) -> History {
    [connected(0), connected(1)].into_iter().chain(parts.into_iter().flatten()).collect()
}

macro_rules! history {
    ($($part:expr),* $(,)?) => { history([$($part.to_vec()),*]) };
}

// Behind the macro, which they use.
mod acknowledgements;
mod order;
mod transactions;

#[track_caller]
fn check(history: &History, expected: &[&str]) {
    check_by(history, Rules::default(), expected);
}

#[track_caller]
fn check_by(history: &History, rules: Rules, expected: &[&str]) {
    let verdict = judge(history, rules);
    let found: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{verdict}");
    assert_eq!(verdict.holds(), expected.is_empty());
}

#[test]
fn a_history_in_which_all_is_well_holds() {
    let (one, two) = (to(TOPIC, 0), to(TOPIC, 1));
    let (three, four) = (to(QUEUE, 0), to(QUEUE, 1));
    let queue = SubscriptionId { session: session(1), number: 1 };
    let delivered = |message| [received(queue, message, false)];
    let history = history![
        subscribe(0, TOPIC),
        subscribe(1, TOPIC),
        [subscribing(queue, QUEUE), Event::Subscribed(queue)],
        // A delivery may overtake the receipt.
        [sent(one)],
        receive(0, one),
        send(two),
        [Event::Receipted(one)],
        receive(0, two),
        send(three),
        send(four),
        delivered(three),
        receive(1, one),
        delivered(four),
        receive(1, two),
        [Event::Settled, Event::Ended(session(0)), Event::Ended(session(1))],
    ];
    check(&history, &[]);
    let counts = judge(&history, Rules::default()).counts;
    assert_eq!((counts.sessions, counts.sent, counts.receipted, counts.received), (2, 4, 4, 6));
    assert_eq!((counts.topic_repeats, counts.queue_repeats, counts.closed), (0, 0, 0));
}

#[test]
fn a_topic_message_that_one_subscriber_misses_is_lost() {
    let one = to(TOPIC, 0);
    let history = history![
        subscribe(0, TOPIC),
        subscribe(1, TOPIC),
        send(one),
        receive(0, one),
        [Event::Settled]
    ];
    check(
        &history,
        &[
            "message 0 from session 0 to topic 0, sent at 6.0ms, receipted at 7.0ms, did not come to \
           subscription 0 of session 1",
        ],
    );
    assert_eq!(judge(&history, Rules::default()).outstanding(), 1);
}

#[test]
fn who_subscribes_after_the_send_or_leaves_misses_nothing() {
    let one = to(TOPIC, 0);
    let late = history![send(one), subscribe(1, TOPIC)];
    check(&late, &[]);
    // The receipt of the SUBSCRIBE decides, for until then it may not be in force.
    let subscription = of(1);
    let unconfirmed =
        history![[subscribing(subscription, TOPIC)], send(one), [Event::Subscribed(subscription)],];
    check(&unconfirmed, &[]);
    let left = history![subscribe(1, TOPIC), send(one), [Event::Unsubscribing(subscription)]];
    check(&left, &[]);
    let ended = history![subscribe(1, TOPIC), send(one), [Event::Ended(session(1))]];
    check(&ended, &[]);
}

#[test]
fn an_end_after_all_was_settled_excuses_nothing() {
    let one = to(TOPIC, 0);
    let history =
        history![subscribe(1, TOPIC), send(one), [Event::Settled, Event::Ended(session(1))]];
    check(
        &history,
        &[
            "message 0 from session 0 to topic 0, sent at 4.0ms, receipted at 5.0ms, did not come to \
           subscription 0 of session 1",
        ],
    );
}

#[test]
fn a_queue_message_that_no_consumer_gets_is_lost() {
    let (one, two) = (to(QUEUE, 0), to(QUEUE, 1));
    let history =
        history![subscribe(0, QUEUE), subscribe(1, QUEUE), send(one), send(two), receive(1, two),];
    check(
        &history,
        &["message 0 from session 0 to queue 0, sent at 6.0ms, receipted at 7.0ms, came to no \
           consumer"],
    );
    let nobody = history![send(one), send(two)];
    check(&nobody, &[]);
}

#[test]
fn a_message_without_a_receipt_may_be_lost_but_should_have_one() {
    let one = to(TOPIC, 0);
    let history = history![subscribe(1, TOPIC), [sent(one)]];
    check(&history, &["message 0 from session 0 to topic 0, sent at 4.0ms"]);
    assert_eq!(judge(&history, Rules::default()).outstanding(), 1);
    let arrived = history![subscribe(1, TOPIC), [sent(one)], receive(1, one)];
    check(&arrived, &["message 0 from session 0 to topic 0, sent at 4.0ms"]);
}

#[test]
fn a_marked_repeat_may_come_at_any_later_place() {
    for destination in [TOPIC, QUEUE] {
        let [one, two] = [0, 1].map(|number| to(destination, number));
        let history = history![
            subscribe(1, destination),
            send(one),
            send(two),
            receive(1, one),
            receive(1, two),
            again(1, one),
            again(1, two),
        ];
        check(&history, &[]);
        let counts = judge(&history, Rules::default()).counts;
        assert_eq!(counts.topic_repeats + counts.queue_repeats, 2);
    }
}

#[test]
fn an_unmarked_repeat_is_found() {
    for destination in [TOPIC, QUEUE] {
        let one = to(destination, 0);
        let history =
            history![subscribe(1, destination), send(one), receive(1, one), receive(1, one)];
        let expected = format!(
            "message 0 from session 0 to {destination}, to subscription 0 of session 1 at 7.0ms"
        );
        check(&history, &[&expected]);
        // Also when the mark came first: the second time it may have been delivered before.
        let history =
            history![subscribe(1, destination), send(one), again(1, one), receive(1, one)];
        check(&history, &[&expected]);
    }
}

#[test]
fn two_subscribers_of_a_topic_are_no_repeat_but_two_consumers_of_a_queue_are() {
    for (destination, violations) in [(TOPIC, 0), (QUEUE, 1)] {
        let one = to(destination, 0);
        let history = history![
            subscribe(0, destination),
            subscribe(1, destination),
            send(one),
            receive(0, one),
            receive(1, one),
        ];
        assert_eq!(judge(&history, Rules::default()).violations.len(), violations);
    }
}

#[test]
fn of_consumers_of_a_queue_one_may_read_the_marked_repeat_before_another_reads_the_first() {
    let one = to(QUEUE, 0);
    let history = history![
        subscribe(0, QUEUE),
        subscribe(1, QUEUE),
        send(one),
        again(1, one),
        receive(0, one),
    ];
    check(&history, &[]);
}

#[test]
fn a_message_that_nobody_sent_is_found() {
    let history = history![subscribe(1, TOPIC), receive(1, to(TOPIC, 7))];
    check(
        &history,
        &["message 7 from session 0 to topic 0, to subscription 0 of session 1 at 4.0ms"],
    );
}

#[test]
fn a_message_to_the_wrong_subscription_is_found_and_counts_as_none() {
    let one = to(TOPIC, 0);
    let other = Destination { number: 1, ..TOPIC };
    let history = history![subscribe(0, TOPIC), subscribe(1, other), send(one), receive(1, one)];
    check(
        &history,
        &[
            "message 0 from session 0 to topic 0 came to a subscription of topic 1 at 8.0ms",
            "message 0 from session 0 to topic 0, sent at 6.0ms, receipted at 7.0ms, did not come \
             to subscription 0 of session 0",
        ],
    );
}

#[test]
fn a_message_before_subscribe_or_after_unsubscribe_is_found() {
    let one = to(TOPIC, 0);
    let expected = |at| {
        format!("message 0 from session 0 to topic 0, to subscription 0 of session 1 at {at}.0ms")
    };
    let before = history![send(one), receive(1, one), subscribe(1, TOPIC)];
    check(&before, &[&expected(4)]);
    let leaving = [Event::Unsubscribing(of(1))];
    let left = [Event::Unsubscribed(of(1))];
    let after = history![subscribe(1, TOPIC), leaving, left, send(one), receive(1, one)];
    check(&after, &[&expected(8)]);
    let meanwhile = history![subscribe(1, TOPIC), leaving, send(one), receive(1, one), left];
    check(&meanwhile, &[]);
}

#[test]
fn a_frame_that_nothing_accounts_for_is_found() {
    let what = "a RECEIPT of \"9\", which nothing asked for".to_owned();
    let history = history![[Event::Unexpected { session: session(1), what }]];
    check(&history, &["session 1 at 2.0ms: a RECEIPT of \"9\", which nothing asked for"]);
}

#[test]
fn a_closed_session_is_found_and_excused_where_closes_are_allowed() {
    let (one, two) = (to(TOPIC, 0), to(TOPIC, 1));
    let history = history![subscribe(1, TOPIC), send(one), [sent(two)], closed(0), closed(1),];
    check(
        &history,
        &[
            "session 0 at 7.0ms: 1001 going away",
            "session 1 at 8.0ms: 1001 going away",
            "message 1 from session 0 to topic 0, sent at 6.0ms",
        ],
    );
    check_by(&history, Rules { closes_allowed: true }, &[]);
    let outstanding = judge(&history, Rules::default()).outstanding();
    assert_eq!(outstanding, 1, "time does not heal a close");
}

#[test]
fn where_closes_are_allowed_a_receipted_message_must_still_reach_those_who_stay() {
    let (one, two) = (to(TOPIC, 0), to(QUEUE, 0));
    let queue = SubscriptionId { session: session(1), number: 1 };
    let history = history![
        subscribe(1, TOPIC),
        [subscribing(queue, QUEUE), Event::Subscribed(queue)],
        send(one),
        send(two),
        closed(0),
    ];
    let verdict = judge(&history, Rules { closes_allowed: true });
    assert_eq!(verdict.violations.len(), 2, "{verdict}");
    assert_eq!(verdict.outstanding(), 2);
}

#[test]
fn what_an_earlier_run_left_in_a_queue_is_counted_and_no_mistake() {
    let history = history![subscribe(1, QUEUE), [Event::Stray(of(1))]];
    check(&history, &[]);
    assert_eq!(judge(&history, Rules::default()).counts.strays, 1);
}

#[test]
fn a_verdict_reads_well() {
    let (one, two) = (to(TOPIC, 0), to(TOPIC, 1));
    let fault = super::super::Fault::RabbitMqKilled;
    let history = history![
        subscribe(1, TOPIC),
        [Event::FaultBegins(fault)],
        send(one),
        [Event::FaultEnded(fault)],
        send(two),
        receive(1, two),
        closed(0),
    ];
    assert_eq!(
        judge(&history, Rules::default()).to_string(),
        "2 sessions, 1 closed; 2 messages sent, 2 receipted, 0 aborted; 0 transactions committed; 1 \
         deliveries, 0 acknowledged and 0 refused, of which repeats: 0 of topics, 0 of queues\n  \
         4.0ms to 7.0ms: RabbitMQ killed; 1 sent and 1 receipted meanwhile\nVIOLATIONS: 2\n  sessions closed: \
         1\n    session 0 at 11.0ms: 1001 going away\n  receipted and lost: 1\n    message 0 from \
         session 0 to topic 0, sent at 5.0ms, receipted at 6.0ms, did not come to subscription 0 of \
         session 1"
    );
}
