//! Whatever publishers and consumers do with a queue, nothing is lost, doubled or out of place.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};

use broker::{
    Broker, Delivery, Destination, Message, Outcome, PublisherId, SubscribeRequest, Subscription,
};
use broker_embedded::{Config, EmbeddedBroker};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Publish,
    Subscribe { prefetch: u16 },
    Unsubscribe { which: usize },
    Take { which: usize },
    Settle { which: usize, how: How },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Settle(Outcome),
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        Just(How::Settle(Outcome::Ack)),
        Just(How::Settle(Outcome::Reject)),
        Just(How::Settle(Outcome::Requeue)),
        Just(How::Drop),
    ];
    prop_oneof![
        4 => Just(Step::Publish),
        1 => (1..4_u16).prop_map(|prefetch| Step::Subscribe { prefetch }),
        1 => any::<usize>().prop_map(|which| Step::Unsubscribe { which }),
        4 => any::<usize>().prop_map(|which| Step::Take { which }),
        3 => (any::<usize>(), how).prop_map(|(which, how)| Step::Settle { which, how }),
    ]
}

struct Consumer {
    subscription: Subscription,
    prefetch: u16,
    number: usize,
}

struct Taken {
    delivery: Delivery,
    consumer: usize,
}

fn number(delivery: &Delivery) -> u32 {
    std::str::from_utf8(&delivery.message.body).unwrap().parse().unwrap()
}

/// A choice among `len`, if there is any.
fn among(which: usize, len: usize) -> Option<usize> {
    which.checked_rem(len)
}

fn take(from: &mut Subscription) -> Option<Delivery> {
    match from.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(delivery) => Some(delivery.expect("nobody deleted the queue")),
        Poll::Pending => None,
    }
}

async fn subscribe(broker: &EmbeddedBroker, queue: &Destination, prefetch: u16) -> Subscription {
    let request = SubscribeRequest::new(queue.clone(), prefetch);
    broker.subscribe(request).await.unwrap()
}

async fn walk(steps: Vec<Step>) {
    let broker = EmbeddedBroker::new(Config::default());
    let queue = Destination::Queue("q".into());
    let mut held = BTreeSet::new();
    let mut given_back = BTreeSet::new();
    let mut published = 0_u32;
    let (mut consumers, mut taken): (Vec<Consumer>, Vec<Taken>) = (Vec::new(), Vec::new());
    let mut next_consumer = 0;
    for step in steps {
        match step {
            Step::Publish => {
                let message = Message::new(queue.clone(), published.to_string());
                broker.publish(PublisherId(1), message).await.unwrap().await.unwrap();
                held.insert(published);
                published += 1;
            }
            Step::Subscribe { prefetch } => {
                let subscription = subscribe(&broker, &queue, prefetch).await;
                consumers.push(Consumer { subscription, prefetch, number: next_consumer });
                next_consumer += 1;
            }
            Step::Unsubscribe { which } => {
                if let Some(which) = among(which, consumers.len()) {
                    consumers.swap_remove(which);
                }
            }
            Step::Take { which } => {
                let Some(which) = among(which, consumers.len()) else { continue };
                let consumer = &mut consumers[which];
                let Some(delivery) = take(&mut consumer.subscription) else { continue };
                let n = number(&delivery);
                assert!(held.contains(&n), "{n} came back");
                assert!(taken.iter().all(|t| number(&t.delivery) != n), "{n} is with two");
                assert!(delivery.redelivered || !given_back.contains(&n), "{n} is not marked");
                taken.push(Taken { delivery, consumer: consumer.number });
                let outstanding = taken.iter().filter(|t| t.consumer == consumer.number).count();
                assert!(outstanding <= consumer.prefetch.into(), "{outstanding} are outstanding");
            }
            Step::Settle { which, how } => {
                let Some(which) = among(which, taken.len()) else { continue };
                let Taken { delivery, .. } = taken.swap_remove(which);
                let n = number(&delivery);
                match how {
                    How::Settle(outcome @ (Outcome::Ack | Outcome::Reject)) => {
                        held.remove(&n);
                        delivery.settle(outcome);
                    }
                    How::Settle(Outcome::Requeue) => {
                        given_back.insert(n);
                        delivery.settle(Outcome::Requeue);
                    }
                    How::Drop => {
                        given_back.insert(n);
                        drop(delivery);
                    }
                }
            }
        }
    }
    drop(consumers);
    drop(taken);
    let mut last = subscribe(&broker, &queue, 1_000).await;
    let left: Vec<u32> = std::iter::from_fn(|| take(&mut last))
        .map(|delivery| {
            let n = number(&delivery);
            delivery.settle(Outcome::Ack);
            n
        })
        .collect();
    assert!(left.iter().eq(&held), "{left:?} are left of {held:?}");
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_out_of_place(
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(walk(steps));
    }
}
