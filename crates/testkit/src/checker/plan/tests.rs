//! Plans: the same from the same seed, and of the shape that is asked for.

use super::*;

fn shape() -> Shape {
    Shape {
        nodes: 2,
        faults: vec![Fault::RabbitMqKilled, Fault::LegCut(0), Fault::LegHalfOpen(1)],
        ..Shape::default()
    }
}

fn sent(plan: &Plan) -> Vec<Vec<Planned>> {
    (0..plan.sessions.len()).map(|n| plan.messages(n).take(50).collect()).collect()
}

#[test]
fn a_seed_is_a_plan_and_another_seed_another_one() {
    let (one, same, other) =
        (Plan::new(7, &shape()), Plan::new(7, &shape()), Plan::new(8, &shape()));
    assert_eq!((&one, sent(&one)), (&same, sent(&same)));
    assert_ne!(one.sessions, other.sessions);
    assert_ne!(sent(&one), sent(&other));
    assert_ne!(sent(&one)[0], sent(&one)[1], "no two sessions send alike");
}

#[test]
fn every_destination_has_a_subscriber_and_some_queues_have_several() {
    for seed in 0..20 {
        let plan = Plan::new(seed, &shape());
        let subscribers = |kind, number| {
            let to = Destination { kind, number };
            let all = plan.sessions.iter().flat_map(|session| &session.subscriptions);
            all.filter(|(destination, _)| *destination == to).count()
        };
        assert!((0..20).all(|number| subscribers(Kind::Topic, number) == 5), "seed {seed}");
        let consumers: Vec<_> = (0..20).map(|n| subscribers(Kind::Queue, n)).collect();
        assert!(consumers.iter().all(|count| (1..=3).contains(count)), "{consumers:?}");
        assert!(consumers.contains(&1) && consumers.iter().any(|count| *count > 1));
        let all = plan.sessions.iter().flat_map(|session| &session.subscriptions);
        assert!(
            all.clone().any(|(_, ack)| matches!(ack, Ack::Individual { lazy: true, .. })),
            "seed {seed}"
        );
        let on = |node| plan.sessions.iter().filter(|session| session.node == node).count();
        assert_eq!((on(0), on(1)), (50, 50));
    }
}

#[test]
fn faults_are_those_asked_for_in_some_order() {
    let plan = Plan::new(3, &shape());
    assert_eq!(plan.stages.len(), 3);
    for fault in shape().faults {
        assert!(plan.stages.iter().any(|stage| stage.fault == fault), "{fault}");
    }
    assert_eq!(plan.messages_per_session(), 3 * 4 + 10);
}

#[test]
fn where_sessions_may_be_closed_every_consumer_acknowledges() {
    let plan = Plan::new(1, &Shape { closes_allowed: true, ..shape() });
    for (destination, ack) in plan.sessions.iter().flat_map(|session| &session.subscriptions) {
        assert_eq!(*ack != Ack::Auto, destination.kind == Kind::Queue);
    }
}

#[test]
fn all_consumers_of_a_queue_are_on_one_node_and_acknowledge_alike() {
    for seed in 0..20 {
        let plan = Plan::new(seed, &shape());
        for number in 0..20 {
            let queue = Destination { kind: Kind::Queue, number };
            let consumers = plan.sessions.iter().flat_map(|session| {
                let consumes = session.subscriptions.iter().filter(|(to, _)| *to == queue);
                consumes.map(|(_, ack)| (session.node, *ack))
            });
            let consumers: Vec<_> = consumers.collect();
            assert!(consumers.iter().all(|consumer| *consumer == consumers[0]), "seed {seed}");
        }
    }
}

#[test]
fn consumers_acknowledge_in_every_way_and_none_waits_for_more_than_may_come() {
    let plan = Plan::new(5, &Shape { queues: 60, ..shape() });
    let acks = plan.sessions.iter().flat_map(|session| &session.subscriptions).map(|(_, ack)| *ack);
    let acks: Vec<_> = acks.collect();
    assert!(acks.iter().any(|ack| matches!(ack, Ack::Individual { lazy: false, .. })));
    assert!(acks.iter().any(|ack| matches!(ack, Ack::Individual { lazy: true, .. })));
    assert!(acks.iter().any(|ack| matches!(ack, Ack::Cumulative { .. })));
    for ack in acks {
        assert!(ack.prefetch() != Some(0));
        if let Ack::Cumulative { prefetch, every } = ack {
            assert!((2..=prefetch).contains(&every), "{ack:?}");
        }
    }
}

#[test]
fn a_share_of_what_is_sent_is_in_transactions_of_2_to_10_of_which_some_are_aborted() {
    let plan = Plan::new(7, &shape());
    let (mut lengths, mut aborted, mut alone) = (Vec::new(), 0, 0);
    for session in 0..plan.sessions.len() {
        let (mut length, mut fate) = (0, None);
        for planned in plan.messages(session).take(200) {
            let Some(part) = planned.part else {
                alone += 1;
                continue;
            };
            assert_eq!(*fate.get_or_insert(part.fate), part.fate);
            length += 1;
            if part.ends {
                lengths.push(length);
                aborted += usize::from(part.fate == Fate::Abort);
                (length, fate) = (0, None);
            }
        }
    }
    assert!(lengths.iter().all(|length| (2..=10).contains(length)), "{lengths:?}");
    assert!(lengths.contains(&2) && lengths.contains(&10));
    assert!(aborted * 8 > lengths.len() && aborted * 2 < lengths.len(), "{aborted}");
    let within: u32 = lengths.iter().sum();
    assert!(within > alone / 4 && alone > within / 4, "{within} in transactions, {alone} alone");
}

#[test]
fn some_messages_are_refused_and_some_acknowledged_in_transactions_always_the_same() {
    let plan = Plan::new(3, &shape());
    let destination = Destination { kind: Kind::Queue, number: 4 };
    let message = |n| MessageId { sender: super::super::SessionId(n % 50), destination, number: n };
    let refused: Vec<_> = (0..800).map(|n| plan.refuses(message(n))).collect();
    let count = refused.iter().filter(|refused| **refused).count();
    assert!((50..150).contains(&count), "{count}");
    assert!((0..800).all(|n| plan.refuses(message(n)) == refused[n as usize]));
    let within = (0..800).filter(|n| plan.acknowledges_within(message(*n))).count();
    assert!((300..500).contains(&within), "{within}");
}

#[test]
fn every_queue_is_looked_at_in_the_end_from_another_node_than_its_consumers() {
    let plan = Plan::new(9, &Shape { queues: 130, ..shape() });
    let looks = plan.looks(2);
    assert!(looks.iter().all(|look| look.subscriptions.len() <= LOOKED_AT));
    let mut looked_at = BTreeSet::new();
    for (look, queue) in
        looks.iter().flat_map(|look| look.subscriptions.iter().map(move |(queue, _)| (look, queue)))
    {
        assert!(looked_at.insert(*queue), "{queue} twice");
        let consumers = plan.consumers().filter(|(_, consumed)| consumed == queue);
        assert!({ consumers }.all(|(node, _)| node != look.node));
    }
    assert_eq!(looked_at.len(), 130);
}
