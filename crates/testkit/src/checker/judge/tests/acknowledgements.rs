//! Acknowledgements: what comes again and should not, and what should and does not.

use super::*;

/// Session `number` consumes the queue.
fn consume(number: u32, ack: AckMode) -> [Event; 2] {
    let subscription = of(number);
    let destination = QUEUE;
    [Event::Subscribing { subscription, destination, ack }, Event::Subscribed(subscription)]
}

/// The `place`th delivery to session `number`.
fn delivery(number: u32, place: u32) -> DeliveryId {
    DeliveryId { subscription: of(number), number: place }
}

fn get(delivery: DeliveryId, message: MessageId) -> [Event; 1] {
    [Event::Received { delivery, message, redelivered: false }]
}

fn get_again(delivery: DeliveryId, message: MessageId) -> [Event; 1] {
    [Event::Received { delivery, message, redelivered: true }]
}

fn acking(delivery: DeliveryId) -> [Event; 1] {
    [Event::Acking { delivery, transaction: None }]
}

fn ack(delivery: DeliveryId) -> [Event; 2] {
    [Event::Acking { delivery, transaction: None }, Event::Acked(delivery)]
}

fn nack(delivery: DeliveryId) -> [Event; 2] {
    [Event::Nacking(delivery), Event::Nacked(delivery)]
}

fn on_node(number: u32, node: usize) -> [Event; 1] {
    [Event::Connected { session: session(number), node }]
}

const INDIVIDUAL: AckMode = AckMode::ClientIndividual;

#[test]
fn what_is_acknowledged_once_is_well() {
    let [one, two] = [0, 1].map(|number| to(QUEUE, number));
    let (first, second) = (delivery(1, 0), delivery(1, 1));
    let history = history![
        consume(1, INDIVIDUAL),
        send(one),
        send(two),
        get(first, one),
        get(second, two),
        ack(second),
        nack(first),
        get_again(delivery(1, 2), one),
        ack(delivery(1, 2)),
        [Event::Settled],
    ];
    check(&history, &[]);
    let counts = judge(&history, Rules::default()).counts;
    assert_eq!((counts.acked, counts.nacked, counts.queue_repeats), (2, 1, 1));
}

#[test]
fn what_comes_again_after_its_ack_was_receipted_is_found() {
    let one = to(QUEUE, 0);
    let start = history![consume(1, INDIVIDUAL), send(one), get(delivery(1, 0), one)];
    let then = |parts: &[&[Event]]| -> History {
        let before = start.iter().map(|(_, event)| event.clone());
        before.chain(parts.iter().flat_map(|part| part.iter().cloned())).collect()
    };
    let repeat = get_again(delivery(1, 1), one);
    let again = then(&[&ack(delivery(1, 0)), &repeat, &ack(delivery(1, 1))]);
    check(
        &again,
        &["message 0 from session 0 to queue 0, acknowledged by subscription 0 of session 1 at \
           8.0ms, to subscription 0 of session 1 at 9.0ms"],
    );
    assert_eq!(judge(&again, Rules::default()).outstanding(), 0, "time does not heal it");
    // Until the receipt nothing is promised.
    let acked = [Event::Acked(delivery(1, 0))];
    let crossed = then(&[&acking(delivery(1, 0)), &repeat, &acked, &ack(delivery(1, 1))]);
    check(&crossed, &[]);
}

#[test]
fn what_another_consumer_of_the_node_gets_counts_once_it_surely_left_after_the_ack() {
    let (one, two) = (to(QUEUE, 0), to(QUEUE, 1));
    let start = |node| {
        history![
            on_node(2, 0),
            on_node(3, node),
            consume(2, INDIVIDUAL),
            consume(3, INDIVIDUAL),
            send(one),
            send(two),
            get(delivery(2, 0), one),
            get(delivery(3, 0), two),
        ]
    };
    let then = |node, parts: &[&[Event]]| -> Verdict {
        let before = start(node);
        let before = before.iter().map(|(_, event)| event.clone());
        let parts = parts.iter().flat_map(|part| part.iter().cloned());
        judge(&before.chain(parts).collect(), Rules::default())
    };
    let repeat = get_again(delivery(3, 1), one);
    let (theirs, end) = (ack(delivery(3, 0)), ack(delivery(3, 1)));
    // The two may have crossed on the node.
    assert!(then(0, &[&ack(delivery(2, 0)), &repeat, &theirs, &end]).holds());
    // Session 3 has asked for something since, and was answered.
    let late = then(0, &[&ack(delivery(2, 0)), &theirs, &repeat, &end]);
    assert!(
        matches!(late.violations[..], [Violation::Acknowledged { message, .. }] if message == one),
        "{late}"
    );
    // What one node remembers another does not know.
    assert!(then(1, &[&ack(delivery(2, 0)), &theirs, &repeat, &end]).holds());
}

#[test]
fn what_is_left_in_the_queue_in_the_end_though_it_was_acknowledged_is_found_from_any_node() {
    let one = to(QUEUE, 0);
    let last = MessageId { sender: session(2), ..one };
    let history = history![
        consume(1, INDIVIDUAL),
        send(one),
        get(delivery(1, 0), one),
        ack(delivery(1, 0)),
        [Event::Settled, Event::Ended(session(1))],
        on_node(2, 1),
        subscribe(2, QUEUE),
        send(last),
        again(2, one),
        receive(2, last),
    ];
    check(
        &history,
        &["message 0 from session 0 to queue 0, acknowledged by subscription 0 of session 1 at \
           8.0ms, to subscription 0 of session 2 at 16.0ms"],
    );
}

#[test]
fn who_looks_what_is_left_is_no_second_consumer_to_the_order() {
    let [one, two] = [0, 1].map(|number| to(QUEUE, number));
    let last = MessageId { sender: session(2), ..one };
    let history = history![
        subscribe(1, QUEUE),
        send(one),
        send(two),
        again(1, two),
        again(1, one),
        [Event::Settled],
        on_node(2, 0),
        subscribe(2, QUEUE),
        send(last),
        receive(2, last),
    ];
    assert!(matches!(
        judge(&history, Rules::default()).violations[..],
        [Violation::OutOfOrder { message, .. }] if message == one
    ));
}

#[test]
fn what_is_not_acknowledged_in_the_end_is_found() {
    let one = to(QUEUE, 0);
    let unanswered = history![consume(1, INDIVIDUAL), send(one), get(delivery(1, 0), one)];
    let expected = "message 0 from session 0 to queue 0, to subscription 0 of session 1 at 6.0ms";
    check(&unanswered, &[expected]);
    assert_eq!(judge(&unanswered, Rules::default()).outstanding(), 1);
    for answer in [acking(delivery(1, 0)), [Event::Nacking(delivery(1, 0))]] {
        let history = history![consume(1, INDIVIDUAL), send(one), get(delivery(1, 0), one), answer];
        check(&history, &[&format!("{expected}, has no receipt of its ACK or NACK")]);
    }
}

#[test]
fn a_cumulative_ack_covers_what_came_before_and_no_more() {
    let [one, two, three] = [0, 1, 2].map(|number| to(QUEUE, number));
    let of_mode = |ack_mode| {
        let history = history![
            consume(1, ack_mode),
            send(one),
            send(two),
            send(three),
            get(delivery(1, 0), one),
            get(delivery(1, 1), two),
            get(delivery(1, 2), three),
            ack(delivery(1, 1)),
        ];
        let unsettled = |violation: &Violation| match violation {
            Violation::Unsettled { message, .. } => message.number,
            other => panic!("{other}"),
        };
        judge(&history, Rules::default()).violations.iter().map(unsettled).collect::<Vec<_>>()
    };
    assert_eq!(of_mode(AckMode::Client), [2]);
    assert_eq!(of_mode(INDIVIDUAL), [0, 2]);
    assert!(of_mode(AckMode::Auto).is_empty());
}

#[test]
fn what_all_of_a_cumulative_ack_covered_does_not_come_again() {
    let [one, two] = [0, 1].map(|number| to(QUEUE, number));
    let history = history![
        consume(1, AckMode::Client),
        send(one),
        send(two),
        get(delivery(1, 0), one),
        get(delivery(1, 1), two),
        ack(delivery(1, 1)),
        get_again(delivery(1, 2), one),
        ack(delivery(1, 2)),
    ];
    assert!(matches!(
        judge(&history, Rules::default()).violations[..],
        [Violation::Acknowledged { message, .. }] if message == one
    ));
}

#[test]
fn what_was_refused_and_does_not_come_again_is_found() {
    let one = to(QUEUE, 0);
    let history =
        history![consume(1, INDIVIDUAL), send(one), get(delivery(1, 0), one), nack(delivery(1, 0))];
    check(
        &history,
        &["message 0 from session 0 to queue 0, to subscription 0 of session 1 at 6.0ms, refused \
           there"],
    );
    assert_eq!(judge(&history, Rules::default()).outstanding(), 1);
}

#[test]
fn what_was_refused_comes_again_marked() {
    let one = to(QUEUE, 0);
    let history = history![
        consume(1, INDIVIDUAL),
        send(one),
        get(delivery(1, 0), one),
        nack(delivery(1, 0)),
        get(delivery(1, 1), one),
        ack(delivery(1, 1)),
    ];
    check(
        &history,
        &["message 0 from session 0 to queue 0, to subscription 0 of session 1 at 9.0ms"],
    );
    assert_eq!(
        judge(&history, Rules::default()).violations[0].sort(),
        "repeated without redelivered:true"
    );
}

#[test]
fn what_a_refused_message_was_acknowledged_by_besides_needs_no_third_delivery() {
    // After an outage both deliveries are there; the one that is refused is the stale one.
    let one = to(QUEUE, 0);
    let history = history![
        consume(1, INDIVIDUAL),
        send(one),
        get(delivery(1, 0), one),
        get_again(delivery(1, 1), one),
        ack(delivery(1, 1)),
        nack(delivery(1, 0)),
    ];
    check(&history, &[]);
}

#[test]
fn what_a_closed_session_had_not_acknowledged_comes_again() {
    let [one, two, three] = [0, 1, 2].map(|number| to(QUEUE, number));
    let rules = Rules { closes_allowed: true };
    let start = history![
        consume(1, INDIVIDUAL),
        send(one),
        send(two),
        send(three),
        get(delivery(1, 0), one),
        get(delivery(1, 1), two),
        get(delivery(1, 2), three),
        ack(delivery(1, 0)),
        acking(delivery(1, 1)),
        closed(1),
        on_node(2, 1),
        consume(2, INDIVIDUAL),
    ];
    let then = |parts: &[&[Event]]| -> History {
        let before = start.iter().map(|(_, event)| event.clone());
        before.chain(parts.iter().flat_map(|part| part.iter().cloned())).collect()
    };
    let expected = "message 2 from session 0 to queue 0, to subscription 0 of session 1 at 12.0ms, left \
         unacknowledged there";
    check_by(&then(&[]), rules, &[expected]);
    // The ACK without a receipt may be lost, and that of a node that is gone may be too.
    let all = [(0, one), (1, two), (2, three)].map(|(place, message)| {
        let it = delivery(2, place);
        [get_again(it, message).to_vec(), ack(it).to_vec()].concat()
    });
    check_by(&then(&[&all[2]]), rules, &[]);
    check_by(&then(&[&all[0], &all[1], &all[2]]), rules, &[]);
}
