//! The hub against a broker that counts its subscriptions, on a paused clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use async_trait::async_trait;
use broker::destination::Verb;
use broker::{
    BrokerState, Confirm, DeleteError, Destinations, Message, MessageId, PublishError, PublisherId,
    QueueOptions, Subscription,
};
use broker_embedded::EmbeddedBroker;
use bytes::Bytes;
use bytestring::ByteString;
use cluster::{Addressed, Content};
use presence::{Boot, Member, MemoryPresence, Presence, SessionId, UserName};
use stomp::{Compat, Version};
use tokio::sync::watch;

use super::*;
use crate::close::CloseReason;
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
    groups: Arc<MemoryPresence>,
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
        let asked: Arc<dyn Groups> = Arc::<MemoryPresence>::clone(&groups);
        let hub = Arc::new(Hub::new(counting, asked, LINGER, Arc::new(Metrics::new())));
        Self { broker, groups, hub }
    }

    async fn subscribe(
        &self,
        destination: &str,
        id: &'static str,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Seat, SubscribeError> {
        let (hub, shape) = (Arc::clone(&self.hub), shape(id, destination));
        hub.subscribe(parse(destination), shape, Arc::clone(mailbox)).await
    }

    /// Subscribes a session of nobody in particular to a group, and lets it in.
    async fn subscribe_member(&self, group: &GroupName, member: &Arc<Registered>) -> Seat {
        let (hub, topic) = (Arc::clone(&self.hub), cluster::group(group).unwrap());
        let shape = shape("s", "/group/g");
        let seat = hub.subscribe_member(Destination::Topic(topic), shape, member, group.clone());
        let seat = seat.await.unwrap();
        seat.admit();
        seat
    }

    async fn send_to_group(&self, group: &GroupName, body: &'static str) {
        let content = Content {
            id: MessageId::new(),
            headers: Vec::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        let addressed =
            Addressed { to: Vec::new(), path: ByteString::new(), audience: Vec::new(), content };
        let topic = Destination::Topic(cluster::group(group).unwrap());
        let message = Message::new(topic, Letter::Message(addressed).write());
        self.broker.publish(PublisherId(1), message).await.unwrap().await.unwrap();
    }

    async fn publish(&self, destination: &str, body: impl Into<Bytes>) {
        let message = Message::new(parse(destination), body);
        self.broker.publish(PublisherId(1), message).await.unwrap().await.unwrap();
    }

    fn subscribed(&self) -> usize {
        self.broker.subscribed.load(Ordering::Relaxed)
    }
}

fn shape(id: &'static str, destination: &str) -> Shape {
    Shape {
        framing: Framing::WebSocket,
        version: Version::V1_2,
        compat: Compat::Footbridge,
        subscription: Some(id.into()),
        shown: Shown::AsSubscribed(destination.to_owned().into()),
        acknowledged: false,
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

#[tokio::test(start_paused = true)]
async fn a_membership_that_ends_with_its_time_ends_what_it_was_good_for() {
    let bench = Bench::new();
    let group = GroupName::new("g").unwrap();
    let named = |user: &str| UserName::new(user).unwrap();
    let registered = |user: &str| {
        let id = SessionId::generate(bench.groups.boot());
        Registered::alone(id, named(user), mailbox(1 << 20))
    };
    let (by_session, by_user, stays) = (registered("eve"), registered("ann"), registered("bob"));
    let ending = [Member::Session(by_session.id().clone()), Member::User(named("ann"))];
    let lifetime = Duration::from_secs(10);
    bench.groups.add(&group, &ending, Some(lifetime)).await.unwrap();
    let staying = [Member::User(named("bob"))];
    bench.groups.add(&group, &staying, None).await.unwrap();
    let all = [&by_session, &by_user, &stays];
    let mut seats = Vec::new();
    for member in all {
        seats.push(bench.subscribe_member(&group, member).await);
    }
    bench.send_to_group(&group, "in time").await;
    for member in all {
        receive(member.mailbox(), 1).await;
    }
    tokio::time::sleep(lifetime + RECHECK).await;
    bench.send_to_group(&group, "too late").await;
    receive(stays.mailbox(), 1).await;
    for (member, seat) in all.iter().zip(&seats) {
        let mut frames = VecDeque::new();
        let context = Context::from_waker(Waker::noop());
        let taken = member.mailbox().take(&context, &mut frames);
        let ended = if Arc::ptr_eq(member, &stays) {
            Vec::new()
        } else {
            vec![Destination::Group("g".into())]
        };
        assert_eq!((frames.len(), taken.ended), (0, ended.clone()));
        assert_eq!(seat.is_revoked(), !ended.is_empty());
    }
}

#[tokio::test]
async fn however_many_shapes_there_are_few_frames_wait_outside_mailboxes() {
    const SHAPES: usize = 10 * SHAPES_AT_ONCE;
    let bench = Bench::new();
    // No room beside the first frame, which is admitted to an empty mailbox.
    let behind = mailbox(1);
    let mut seats = Vec::new();
    for n in 0..SHAPES {
        let hub = Arc::clone(&bench.hub);
        let shape = Shape { subscription: Some(n.to_string().into()), ..shape("", "/topic/a") };
        seats.push(hub.subscribe(parse("/topic/a"), shape, Arc::clone(&behind)).await.unwrap());
    }
    bench.publish("/topic/a", "x").await;
    // As often as it would take to encode all of them.
    for _ in 0..2 * SHAPES {
        tokio::task::yield_now().await;
    }
    // Each that waits holds the mailbox, as each subscriber does, and this test.
    let waiting = Arc::strong_count(&behind) - SHAPES - 1;
    assert!((1..=SHAPES_AT_ONCE).contains(&waiting), "{waiting}");
    assert_eq!(receive(&behind, SHAPES).await.len(), SHAPES);
}
