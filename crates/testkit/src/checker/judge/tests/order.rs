//! The order of what comes, by sender.

use super::*;

#[test]
fn a_senders_messages_out_of_order_are_found_at_a_topic_and_at_a_single_consumer() {
    for destination in [TOPIC, QUEUE] {
        let [one, two, three] = [0, 1, 2].map(|number| to(destination, number));
        let history = history![
            subscribe(1, destination),
            send(one),
            send(two),
            send(three),
            receive(1, one),
            receive(1, three),
            receive(1, two),
        ];
        let expected = format!(
            "message 1 from session 0 to {destination} came after message 2, to subscription 0 of \
             session 1 at 12.0ms"
        );
        check(&history, &[&expected]);
        // A mark is no excuse where nobody else can have had it.
        let marked = history![
            subscribe(1, destination),
            send(one),
            send(two),
            again(1, two),
            again(1, one),
        ];
        assert!(matches!(
            judge(&marked, Rules::default()).violations[..],
            [Violation::OutOfOrder { message, .. }] if message == one
        ));
    }
}

#[test]
fn the_order_of_different_senders_is_free() {
    let other = MessageId { sender: session(1), ..to(TOPIC, 0) };
    let [one, two] = [0, 1].map(|number| to(TOPIC, number));
    let history = history![
        subscribe(1, TOPIC),
        send(one),
        send(two),
        send(other),
        receive(1, one),
        receive(1, other),
        receive(1, two),
    ];
    check(&history, &[]);
}

#[test]
fn each_of_several_consumers_gets_what_is_not_marked_in_order() {
    let [one, two, three] = [0, 1, 2].map(|number| to(QUEUE, number));
    let start =
        history![subscribe(0, QUEUE), subscribe(1, QUEUE), send(one), send(two), send(three),];
    let then = |parts: [[Event; 1]; 3]| {
        let before = start.iter().map(|(_, event)| event.clone());
        before.chain(parts.into_iter().flatten()).collect::<History>()
    };
    // Given back by the other one, it comes late and says so.
    check(&then([receive(1, two), receive(1, three), again(1, one)]), &[]);
    check(&then([receive(1, two), receive(0, one), receive(0, three)]), &[]);
    check(
        &then([receive(1, two), receive(1, three), receive(1, one)]),
        &[
            "message 0 from session 0 to queue 0 came after message 2, to subscription 0 of session 1 \
           at 14.0ms",
        ],
    );
}
