//! The hub against a broker that counts its subscriptions, on a paused clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use async_trait::async_trait;
use broker::destination::Verb;
use broker::{
    BrokerState, Confirm, DeleteError, Destinations, Message, PublishError, PublisherId,
    QueueOptions, Subscription,
};
use broker_embedded::EmbeddedBroker;
use bytestring::ByteString;
use presence::{Boot, MemoryPresence};
use stomp::{Compat, Version};

use super::*;
use crate::message_frame::Shown;
use crate::transport::Framing;

const LINGER: Duration = Duration::from_secs(10);

struct Counting {
    broker: EmbeddedBroker,
    subscribed: AtomicUsize,
}

#[async_trait]
impl Broker for Counting {
    async fn publish(&self, from: PublisherId, message: Message) -> Result<Confirm, PublishError> {
        self.broker.publish(from, message).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, SubscribeError> {
        self.subscribed.fetch_add(1, Ordering::Relaxed);
        let destination = request.destination.to_string();
        if destination.contains("forbidden") {
            return Err(SubscribeError::Unavailable("no".into()));
        }
        if destination.contains("republished") {
            let (deliveries, receiver) = tokio::sync::mpsc::channel(2);
            for redelivered in [true, false] {
                let mut delivery =
                    Delivery::settled(Arc::new(Message::new(request.destination.clone(), "x")));
                delivery.redelivered = redelivered;
                deliveries.send(delivery).await.unwrap();
            }
            // For ever, as a subscription is.
            return Ok(Subscription::new(receiver, move || drop(deliveries)));
        }
        if destination.contains("over") {
            return Ok(Subscription::new(tokio::sync::mpsc::channel(1).1, || {}));
        }
        self.broker.subscribe(request).await
    }

    async fn declare(
        &self,
        from: PublisherId,
        queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        self.broker.declare(from, queue, options).await
    }

    async fn delete(&self, destination: &Destination) -> Result<(), DeleteError> {
        self.broker.delete(destination).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.broker.state()
    }
}

struct Bench {
    broker: Arc<Counting>,
    hub: Arc<Hub>,
}

impl Bench {
    fn new() -> Self {
        let broker = Arc::new(Counting {
            broker: EmbeddedBroker::new(broker_embedded::Config::default()),
            subscribed: AtomicUsize::new(0),
        });
        let counting: Arc<dyn Broker> = Arc::<Counting>::clone(&broker);
        let groups = Arc::new(MemoryPresence::new(&Default::default(), Boot::generate()));
        let hub = Arc::new(Hub::new(counting, groups, LINGER, Arc::new(Metrics::new())));
        Self { broker, hub }
    }

    async fn subscribe(
        &self,
        destination: &str,
        id: &'static str,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Seat, SubscribeError> {
        let shape = Shape {
            framing: Framing::WebSocket,
            version: Version::V1_2,
            compat: Compat::Footbridge,
            subscription: Some(id.into()),
            shown: Shown::AsSubscribed(destination.to_owned().into()),
            acknowledged: false,
        };
        Arc::clone(&self.hub).subscribe(parse(destination), shape, Arc::clone(mailbox)).await
    }

    async fn publish(&self, destination: &str, body: impl Into<Bytes>) {
        let message = Message::new(parse(destination), body);
        self.broker.publish(PublisherId(1), message).await.unwrap().await.unwrap();
    }

    fn subscribed(&self) -> usize {
        self.broker.subscribed.load(Ordering::Relaxed)
    }
}

fn parse(destination: &str) -> Destination {
    Destinations::default().parse(destination, Verb::Subscribe).unwrap()
}

fn mailbox(limit: usize) -> Arc<Mailbox> {
    Arc::new(Mailbox::new(limit))
}

fn take(mailbox: &Mailbox) -> VecDeque<Bytes> {
    let mut frames = VecDeque::new();
    mailbox.take(&Context::from_waker(Waker::noop()), &mut frames);
    mailbox.written(frames.iter().map(Bytes::len).sum(), frames.len(), false);
    frames
}

/// Waits until `n` frames came.
async fn receive(mailbox: &Mailbox, n: usize) -> VecDeque<Bytes> {
    let mut frames = VecDeque::new();
    while frames.len() < n {
        tokio::task::yield_now().await;
        frames.append(&mut take(mailbox));
    }
    frames
}

#[tokio::test]
async fn one_broker_subscription_serves_all_and_equal_shapes_share_their_bytes() {
    let bench = Bench::new();
    let (one, other, third) = (mailbox(1 << 20), mailbox(1 << 20), mailbox(1 << 20));
    let _seats = (
        bench.subscribe("/topic/a", "sub-0", &one).await.unwrap(),
        bench.subscribe("/topic/a", "sub-0", &other).await.unwrap(),
        bench.subscribe("/topic/a", "sub-1", &third).await.unwrap(),
    );
    bench.publish("/topic/a", "x").await;
    let (one, other) = (receive(&one, 1).await, receive(&other, 1).await);
    let third = receive(&third, 1).await;
    assert_eq!(one[0].as_ptr(), other[0].as_ptr());
    assert_ne!(one[0], third[0]);
    assert_eq!(bench.subscribed(), 1);
}

#[tokio::test]
async fn what_was_published_again_is_shown_as_redelivered() {
    let bench = Bench::new();
    let mailbox = mailbox(1 << 20);
    let _seat = bench.subscribe("/topic/republished", "s", &mailbox).await.unwrap();
    let shown = |frame: &Bytes| String::from_utf8_lossy(frame).contains("\nredelivered:true\n");
    assert_eq!(receive(&mailbox, 2).await.iter().map(shown).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_lingers_after_its_last_subscriber_and_is_then_given_up() {
    let bench = Bench::new();
    let mailbox = mailbox(1 << 20);
    for _ in 0..3 {
        drop(bench.subscribe("/topic/a", "s", &mailbox).await.unwrap());
        tokio::time::sleep(LINGER / 2).await;
    }
    assert_eq!(bench.subscribed(), 1);
    tokio::time::sleep(2 * LINGER).await;
    assert!(bench.hub.fans.lock().is_empty());
    let _seat = bench.subscribe("/topic/a", "s", &mailbox).await.unwrap();
    assert_eq!(bench.subscribed(), 2);
    bench.publish("/topic/a", "x").await;
    receive(&mailbox, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_returns_in_time_misses_nothing() {
    let bench = Bench::new();
    let mailbox = mailbox(1 << 20);
    drop(bench.subscribe("/topic/a", "s", &mailbox).await.unwrap());
    tokio::time::sleep(LINGER - Duration::from_secs(1)).await;
    let _seat = bench.subscribe("/topic/a", "s", &mailbox).await.unwrap();
    tokio::time::sleep(10 * LINGER).await;
    bench.publish("/topic/a", "x").await;
    receive(&mailbox, 1).await;
    assert_eq!(bench.subscribed(), 1);
}

#[tokio::test]
async fn a_refused_subscription_is_told_to_all_and_tried_again_by_the_next() {
    let bench = Bench::new();
    let mailbox = mailbox(1 << 20);
    for tries in 1..=2 {
        let error = bench.subscribe("/topic/forbidden", "s", &mailbox).await.map(drop);
        assert_eq!(error, Err(SubscribeError::Unavailable("no".into())));
        assert_eq!(bench.subscribed(), tries);
    }
    assert!(bench.hub.fans.lock().is_empty());
}

#[tokio::test]
async fn sessions_whose_subscription_the_broker_ends_are_closed() {
    let bench = Bench::new();
    let mailbox = mailbox(1 << 20);
    let _seat = bench.subscribe("/topic/over", "s", &mailbox).await.unwrap();
    let close = loop {
        tokio::task::yield_now().await;
        let context = Context::from_waker(Waker::noop());
        if let Some(close) = mailbox.take(&context, &mut VecDeque::new()).close {
            break close;
        }
    };
    assert_eq!(close, CloseReason::BrokerUnavailable.into());
    let _seat = bench.subscribe("/topic/over", "s", &mailbox).await.unwrap();
    assert_eq!(bench.subscribed(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_topics_linger() {
    let bench = Bench::new();
    let mailbox = mailbox(1 << 20);
    for n in 0..LINGERING + 100 {
        drop(bench.subscribe(&format!("/topic/{n}"), "s", &mailbox).await.unwrap());
    }
    while bench.hub.fans.lock().len() > LINGERING {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(2 * LINGER).await;
    assert!(bench.hub.fans.lock().is_empty());
    assert_eq!(bench.hub.lingering.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_session_without_a_turn_is_waited_for_and_loses_nothing() {
    const MESSAGES: usize = 100;
    let bench = Bench::new();
    // Room for few of the messages: the hub gets ahead of this session again and again.
    let (behind, quick) = (mailbox(1024), mailbox(1 << 20));
    let _seats = (
        bench.subscribe("/topic/a", "s", &behind).await.unwrap(),
        bench.subscribe("/topic/a", "s", &quick).await.unwrap(),
    );
    let publish = async {
        for n in 0..MESSAGES {
            bench.publish("/topic/a", format!("{n:03}")).await;
        }
    };
    let (frames, _) = tokio::join!(receive(&behind, MESSAGES), publish);
    for (n, frame) in frames.iter().enumerate() {
        assert!(frame.ends_with(format!("\n\n{n:03}\0").as_bytes()), "{n}: {frame:?}");
    }
    assert_eq!(receive(&quick, MESSAGES).await, frames);
}
