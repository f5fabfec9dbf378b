use std::time::Duration;

use super::*;
use crate::metrics::Unconfirmed;
use broker::Confirm;

fn retained() -> Retained {
    Retained::new(Arc::new(Oldest::new()))
}

fn target(name: &str) -> Target {
    Target::Queue(name.into())
}

async fn push(retained: &mut Retained, deadline: Instant) -> Confirm {
    push_to(retained, "q", deadline).await
}

async fn push_to(retained: &mut Retained, queue: &str, deadline: Instant) -> Confirm {
    push_for(retained, target(queue), deadline).await
}

async fn push_for(retained: &mut Retained, target: Target, deadline: Instant) -> Confirm {
    let (confirmer, confirm) = Confirm::pending();
    let outgoing = Arc::new(Outgoing {
        id: MessageId::new(),
        target,
        exchange: "".into(),
        routing_key: "".into(),
        properties: BasicProperties::default(),
        body: Bytes::new(),
        frame: 0,
    });
    let share = Unconfirmed::new(1, 0).share(1).await.unwrap();
    retained.push(Pending { outgoing, confirmer, since: deadline, deadline, _share: share });
    confirm
}

async fn three() -> (Retained, Vec<Confirm>) {
    let mut retained = retained();
    let mut confirms = Vec::new();
    for _ in 0..3 {
        confirms.push(push(&mut retained, Instant::now()).await);
    }
    (retained, confirms)
}

fn numbers(retained: &Retained) -> Vec<u64> {
    retained.entries.keys().copied().collect()
}

/// One to `a`, then one to `b`, and so on, with `a` parked.
async fn a_parked() -> (Retained, Vec<Confirm>) {
    let mut retained = retained();
    let mut confirms = Vec::new();
    for n in 0..4 {
        let queue = ["a", "b"][n % 2];
        confirms.push(push_to(&mut retained, queue, Instant::now()).await);
    }
    let next = retained.next().unwrap();
    retained.park(&next);
    (retained, confirms)
}

fn write_all(retained: &mut Retained) -> Vec<(u64, bool)> {
    std::iter::from_fn(|| {
        let Next { number, again, .. } = retained.next()?;
        retained.wrote(number);
        Some((number, again))
    })
    .collect()
}

#[tokio::test]
async fn after_a_rewind_what_is_not_confirmed_is_written_again_in_order_and_marked() {
    let (mut retained, mut confirms) = three().await;
    assert_eq!(write_all(&mut retained), [(0, false), (1, false), (2, false)]);
    retained.settle(1, Ok(()));
    assert_eq!(confirms.remove(1).await, Ok(()));
    let _fourth = push(&mut retained, Instant::now()).await;
    retained.rewind();
    assert_eq!(write_all(&mut retained), [(0, true), (2, true), (3, false)]);
    assert_eq!(write_all(&mut retained), []);
}

#[tokio::test]
async fn a_returned_message_goes_before_the_later_ones_once() {
    let (mut retained, mut confirms) = three().await;
    retained.wrote(0);
    retained.wrote(1);
    retained.settle(0, Ok(()));
    assert_eq!(retained.returned(1), Some(target("q")));
    assert_eq!(write_all(&mut retained), [(1, false), (2, false)]);
    assert_eq!(retained.returned(1), None);
    assert_eq!(confirms.remove(1).await, Err(ConfirmError::Unroutable));
    assert_eq!(numbers(&retained), [2]);
}

#[tokio::test]
async fn what_waited_too_long_is_lost_and_a_late_word_on_it_says_nothing() {
    let mut retained = retained();
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let early = push(&mut retained, now + second).await;
    let _late = push(&mut retained, now + 2 * second).await;
    assert_eq!(retained.deadline(), Some(now + second));
    assert_eq!(retained.expire(now, "away"), Expired::default());
    let one = |written| Expired { messages: 1, written };
    assert_eq!(retained.expire(now + second, "away"), one(false));
    assert_eq!(early.await, Err(ConfirmError::Lost("away".to_owned())));
    retained.settle(0, Ok(()));
    assert_eq!(numbers(&retained), [1]);
    assert_eq!(write_all(&mut retained), [(1, false)]);
    assert_eq!(retained.expire(now + 2 * second, "away"), one(true));
}

#[tokio::test]
async fn what_waits_for_its_target_is_passed_by_the_others_and_keeps_its_order() {
    let (mut retained, _confirms) = a_parked().await;
    assert_eq!(write_all(&mut retained), [(1, false), (3, false)]);
    let _fifth = push_to(&mut retained, "a", Instant::now()).await;
    let _sixth = push_to(&mut retained, "b", Instant::now()).await;
    assert_eq!(write_all(&mut retained), [(5, false)]);
    retained.rewind();
    assert_eq!(write_all(&mut retained), [(1, true), (3, true), (5, true)]);
    retained.unpark(&target("a"));
    let _seventh = push_to(&mut retained, "a", Instant::now()).await;
    assert_eq!(write_all(&mut retained), [(0, false), (2, false), (4, false), (6, false)]);
    retained.rewind();
    assert_eq!(write_all(&mut retained).len(), 7);
}

#[tokio::test]
async fn one_that_came_back_is_parked_before_those_after_it() {
    let (mut retained, _confirms) = a_parked().await;
    retained.unpark(&target("a"));
    assert_eq!(write_all(&mut retained).len(), 4);
    let _fifth = push_to(&mut retained, "a", Instant::now()).await;
    assert_eq!(retained.returned(2), Some(target("a")));
    let next = retained.next().unwrap();
    assert_eq!(next.number, 2);
    retained.park(&next);
    assert_eq!(write_all(&mut retained), []);
    retained.unpark(&target("a"));
    assert_eq!(write_all(&mut retained), [(2, false), (4, false)]);
}

#[tokio::test]
async fn who_waits_for_a_target_that_is_refused_is_told_why_and_nobody_else() {
    let (mut retained, mut confirms) = a_parked().await;
    assert_eq!(write_all(&mut retained).len(), 2);
    retained.refuse(&target("a"), "no");
    assert_eq!(numbers(&retained), [1, 3]);
    for confirm in [confirms.remove(0), confirms.remove(1)] {
        assert_eq!(confirm.await, Err(ConfirmError::Refused("no".to_owned())));
    }
    let _fifth = push_to(&mut retained, "a", Instant::now()).await;
    assert_eq!(write_all(&mut retained), [(4, false)]);
}

#[tokio::test]
async fn what_is_parked_is_given_up_at_its_deadline() {
    let mut retained = retained();
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let early = push_to(&mut retained, "a", now + second).await;
    let _late = push_to(&mut retained, "a", now + 2 * second).await;
    let next = retained.next().unwrap();
    retained.park(&next);
    assert_eq!(write_all(&mut retained), []);
    assert_eq!(retained.parked(&target("a")), Some(now + second));
    let one = Expired { messages: 1, written: false };
    assert_eq!(retained.expire(now + second, "down"), one);
    assert_eq!(early.await, Err(ConfirmError::Lost("down".to_owned())));
    assert_eq!(retained.parked(&target("a")), Some(now + 2 * second));
    assert_eq!(retained.expire(now + 2 * second, "down"), one);
    assert_eq!(retained.parked(&target("a")), None);
    let _fresh = push_to(&mut retained, "a", now + 3 * second).await;
    assert_eq!(write_all(&mut retained), [(2, false)]);
}

#[tokio::test]
async fn what_comes_back_from_a_queue_of_others_is_not_written_once_more() {
    let mut retained = retained();
    let confirm = push_for(&mut retained, Target::ForeignQueue("q".into()), Instant::now()).await;
    assert_eq!(write_all(&mut retained), [(0, false)]);
    assert_eq!(retained.returned(0), None);
    assert_eq!(confirm.await, Err(ConfirmError::Unroutable));
    assert_eq!(write_all(&mut retained), []);
}

#[tokio::test]
async fn what_waits_for_an_exchange_can_wait_for_its_keys_instead() {
    let mut retained = retained();
    let exchange = Target::Foreign("x".into());
    let mut confirms = Vec::new();
    for _ in 0..3 {
        confirms.push(push_for(&mut retained, exchange.clone(), Instant::now()).await);
    }
    let next = retained.next().unwrap();
    retained.park(&next);
    assert_eq!(write_all(&mut retained), []);
    retained.split(&exchange);
    let next = retained.next().unwrap();
    assert_eq!(next.outgoing.target, Target::ForeignKey("x".into(), "".into()));
    retained.park(&next);
    assert_eq!(write_all(&mut retained), []);
    retained.refuse(&next.outgoing.target, "no");
    for confirm in confirms {
        assert_eq!(confirm.await, Err(ConfirmError::Refused("no".to_owned())));
    }
}
