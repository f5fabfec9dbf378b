//! Whatever a subscription does with its own queue, it has every message of its topic that the queue
//! had room for, in order, and misses the others in as many gaps as are told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};

use broker::destination::Topic;
use broker::{
    Broker, Delivery, Destination, Feed, Message, Outcome, PublisherId, SubscribeRequest,
    Subscription,
};
use broker_embedded::{Config, EmbeddedBroker};
use proptest::prelude::*;

const ROOM: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    Publish,
    Take,
    Settle { which: usize, how: How },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Settle(Outcome),
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        3 => Just(How::Settle(Outcome::Ack)),
        1 => Just(How::Settle(Outcome::Reject)),
        1 => Just(How::Settle(Outcome::Requeue)),
        1 => Just(How::Drop),
    ];
    prop_oneof![
        4 => Just(Step::Publish),
        3 => Just(Step::Take),
        3 => (any::<usize>(), how).prop_map(|(which, how)| Step::Settle { which, how }),
    ]
}

/// What the queue should hold.
#[derive(Default)]
struct Model {
    held: BTreeSet<u32>,
    given_back: BTreeSet<u32>,
    lags: bool,
    gaps: u64,
    /// The last one that came for the first time.
    last: Option<u32>,
}

impl Model {
    fn publish(&mut self, n: u32) {
        if self.lags && self.held.len() > ROOM / 2 {
            return;
        }
        let full = self.held.len() == ROOM;
        if full {
            self.gaps += 1;
        } else {
            self.held.insert(n);
        }
        self.lags = full;
    }

    fn came(&mut self, delivery: &Delivery) {
        let n = number(delivery);
        if !delivery.redelivered {
            assert!(self.last < Some(n), "{n} came after {:?}", self.last);
            self.last = Some(n);
        }
    }
}

fn number(delivery: &Delivery) -> u32 {
    std::str::from_utf8(&delivery.message.body).unwrap().parse().unwrap()
}

fn take(from: &mut Subscription) -> Option<Delivery> {
    match from.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(delivery) => Some(delivery.expect("nobody deleted the queue")),
        Poll::Pending => None,
    }
}

async fn walk(prefetch: u16, steps: Vec<Step>) {
    let broker = EmbeddedBroker::new(Config { max_queue_length: ROOM, ..Config::default() });
    let topic = Destination::Topic(Topic::exact("/topic".into(), "a".into()));
    let request =
        SubscribeRequest { feed: Feed::Own, ..SubscribeRequest::new(topic.clone(), prefetch) };
    let mut subscription = broker.subscribe(request).await.unwrap();
    let mut model = Model::default();
    let mut published = 0_u32;
    let mut taken: Vec<Delivery> = Vec::new();
    for step in steps {
        match step {
            Step::Publish => {
                let message = Message::new(topic.clone(), published.to_string());
                broker.publish(PublisherId(1), message).await.unwrap().await.unwrap();
                model.publish(published);
                published += 1;
            }
            Step::Take => {
                let waits = model.held.len() > taken.len() && taken.len() < prefetch.into();
                let Some(delivery) = take(&mut subscription) else {
                    assert!(!waits, "nothing came of what waits");
                    continue;
                };
                assert!(waits, "it came beyond the prefetch, or out of nowhere");
                let n = number(&delivery);
                assert!(model.held.contains(&n), "{n} is not there");
                assert!(taken.iter().all(|t| number(t) != n), "{n} came twice at once");
                assert_eq!(delivery.redelivered, model.given_back.contains(&n), "{n}'s mark");
                model.came(&delivery);
                taken.push(delivery);
            }
            Step::Settle { which, how } => {
                let Some(which) = which.checked_rem(taken.len()) else { continue };
                let delivery = taken.swap_remove(which);
                let n = number(&delivery);
                match how {
                    How::Settle(outcome @ (Outcome::Ack | Outcome::Reject)) => {
                        model.held.remove(&n);
                        delivery.settle(outcome);
                    }
                    How::Settle(Outcome::Requeue) => {
                        model.given_back.insert(n);
                        delivery.settle(Outcome::Requeue);
                    }
                    How::Drop => {
                        model.given_back.insert(n);
                        drop(delivery);
                    }
                }
            }
        }
        assert_eq!(broker.state().borrow().gaps, model.gaps);
    }
    drop(taken);
    let mut left = BTreeSet::new();
    while let Some(delivery) = take(&mut subscription) {
        model.came(&delivery);
        left.insert(number(&delivery));
        delivery.settle(Outcome::Ack);
    }
    assert_eq!(left, model.held);
}

proptest! {
    #[test]
    fn what_it_has_room_for_it_has(
        prefetch in 1..4_u16,
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(walk(prefetch, steps));
    }
}
