//! Transactions: all or nothing, at the time of the COMMIT.

use super::*;

const TRANSACTION: TransactionId = TransactionId { session: SessionId(0), number: 0 };

fn within(message: MessageId) -> [Event; 1] {
    [Event::Sent { message, transaction: Some(TRANSACTION) }]
}

fn commit() -> [Event; 2] {
    [Event::Committing(TRANSACTION), Event::Committed(TRANSACTION)]
}

fn abort() -> [Event; 2] {
    [Event::Aborting(TRANSACTION), Event::Aborted(TRANSACTION)]
}

#[test]
fn a_transaction_that_comes_whole_after_its_commit_is_well() {
    for destination in [TOPIC, QUEUE] {
        let [one, two, three] = [0, 1, 2].map(|number| to(destination, number));
        let history = history![
            subscribe(1, destination),
            within(one),
            // Sent later, but outside: it comes first.
            send(two),
            receive(1, two),
            within(three),
            commit(),
            receive(1, one),
            receive(1, three),
        ];
        check(&history, &[]);
        let counts = judge(&history, Rules::default()).counts;
        assert_eq!((counts.sent, counts.receipted, counts.committed), (3, 3, 1));
    }
}

#[test]
fn a_transaction_of_which_a_part_is_missing_is_found() {
    for (destination, missing) in
        [(TOPIC, "did not come to subscription 0 of session 1"), (QUEUE, "came to no consumer")]
    {
        let [one, two] = [0, 1].map(|number| to(destination, number));
        let history = history![
            subscribe(1, destination),
            within(one),
            within(two),
            commit(),
            receive(1, one)
        ];
        let expected = format!(
            "message 1 from session 0 to {destination}, sent at 5.0ms in transaction 0 of session 0, \
             committed at 7.0ms, {missing}"
        );
        check(&history, &[&expected]);
    }
}

#[test]
fn a_message_of_an_aborted_transaction_is_found_and_is_not_missed() {
    let one = to(QUEUE, 0);
    let missing = history![subscribe(1, QUEUE), within(one), abort()];
    check(&missing, &[]);
    assert_eq!(judge(&missing, Rules::default()).counts.aborted, 1);
    let came = history![subscribe(1, QUEUE), within(one), abort(), receive(1, one)];
    check(
        &came,
        &[
            "message 0 from session 0 to queue 0, in transaction 0 of session 0, which was aborted, to \
           subscription 0 of session 1 at 7.0ms",
        ],
    );
}

#[test]
fn a_message_that_comes_before_its_commit_is_found() {
    let one = to(TOPIC, 0);
    let early = history![subscribe(1, TOPIC), within(one), receive(1, one), commit()];
    check(
        &early,
        &[
            "message 0 from session 0 to topic 0, in transaction 0 of session 0, which was open, to \
           subscription 0 of session 1 at 5.0ms",
        ],
    );
    // It may overtake the receipt.
    let committing = [Event::Committing(TRANSACTION)];
    let committed = [Event::Committed(TRANSACTION)];
    let crossing =
        history![subscribe(1, TOPIC), within(one), committing, receive(1, one), committed];
    check(&crossing, &[]);
}

#[test]
fn the_order_of_a_transaction_is_that_of_its_sends_behind_what_was_sent_before_its_commit() {
    let [one, two, three] = [0, 1, 2].map(|number| to(TOPIC, number));
    let start = history![subscribe(1, TOPIC), within(one), within(two), send(three), commit()];
    let then = |order: [MessageId; 3]| -> Vec<String> {
        let before = start.iter().map(|(_, event)| event.clone());
        let history = before.chain(order.into_iter().flat_map(|it| receive(1, it))).collect();
        let violations = judge(&history, Rules::default()).violations;
        violations.iter().map(ToString::to_string).collect()
    };
    assert!(then([three, one, two]).is_empty());
    assert_eq!(
        then([three, two, one]),
        [
            "message 0 from session 0 to topic 0 came after message 1, to subscription 0 of session 1 at \
         12.0ms"
        ]
    );
    assert_eq!(
        then([one, two, three]),
        [
            "message 2 from session 0 to topic 0 came after message 1, to subscription 0 of session 1 at \
         12.0ms"
        ]
    );
}

#[test]
fn who_subscribes_before_the_commit_gets_what_was_sent_before_that() {
    let one = to(TOPIC, 0);
    let history = history![within(one), subscribe(1, TOPIC), commit()];
    let verdict = judge(&history, Rules::default());
    assert!(matches!(verdict.violations[..], [Violation::Lost { .. }]), "{verdict}");
}

#[test]
fn a_commit_and_an_abort_should_have_a_receipt() {
    let one = to(TOPIC, 0);
    for (event, name) in
        [(Event::Committing(TRANSACTION), "COMMIT"), (Event::Aborting(TRANSACTION), "ABORT")]
    {
        let history = history![subscribe(1, TOPIC), within(one), [event]];
        check(&history, &[&format!("the {name} of transaction 0 of session 0, sent at 5.0ms")]);
        assert_eq!(judge(&history, Rules::default()).outstanding(), 1);
    }
    // Where closes are allowed that is excused, and a part may have come.
    let two = to(TOPIC, 1);
    let committing = [Event::Committing(TRANSACTION)];
    let closed = history![
        subscribe(1, TOPIC),
        within(one),
        within(two),
        committing,
        closed(0),
        receive(1, one),
    ];
    check_by(&closed, Rules { closes_allowed: true }, &[]);
}

#[test]
fn what_a_closed_session_had_not_committed_comes_to_nobody() {
    let one = to(TOPIC, 0);
    let history = history![subscribe(1, TOPIC), within(one), closed(0), receive(1, one)];
    let verdict = judge(&history, Rules { closes_allowed: true });
    assert!(
        matches!(verdict.violations[..], [Violation::Uncommitted { aborted: false, .. }]),
        "{verdict}"
    );
}

/// Session 0 consumes the queue, and acknowledges its first delivery within the transaction.
fn acknowledged_within(message: MessageId) -> (DeliveryId, Vec<Event>) {
    let subscription = of(0);
    let delivery = DeliveryId { subscription, number: 0 };
    let ack = AckMode::ClientIndividual;
    let subscribing = Event::Subscribing { subscription, destination: QUEUE, ack };
    let transaction = Some(TRANSACTION);
    let events = [
        &[subscribing, Event::Subscribed(subscription)][..],
        &send(message),
        &[Event::Received { delivery, message, redelivered: false }],
        &[Event::Acking { delivery, transaction }],
    ];
    (delivery, events.concat())
}

#[test]
fn an_ack_in_a_transaction_counts_from_the_receipt_of_the_commit() {
    let one = to(QUEUE, 0);
    let (delivery, start) = acknowledged_within(one);
    let repeat = Event::Received {
        delivery: DeliveryId { number: 1, ..delivery },
        message: one,
        redelivered: true,
    };
    let acked = DeliveryId { number: 1, ..delivery };
    let settled = [Event::Acking { delivery: acked, transaction: None }, Event::Acked(acked)];
    check(&history![start, commit()], &[]);
    let after = history![start, commit(), [repeat.clone()], settled];
    check(
        &after,
        &["message 0 from session 0 to queue 0, acknowledged by subscription 0 of session 0 at \
           9.0ms, to subscription 0 of session 0 at 10.0ms"],
    );
    let before = history![start, [repeat], settled, commit()];
    check(&before, &[]);
}

#[test]
fn an_ack_in_a_transaction_that_was_aborted_or_is_open_is_none() {
    let one = to(QUEUE, 0);
    let (delivery, start) = acknowledged_within(one);
    let expected = "message 0 from session 0 to queue 0, to subscription 0 of session 0 at 6.0ms";
    check(&history![start], &[expected]);
    check(&history![start, abort()], &[expected]);
    let later = [Event::Acking { delivery, transaction: None }, Event::Acked(delivery)];
    check(&history![start, abort(), later], &[]);
}
