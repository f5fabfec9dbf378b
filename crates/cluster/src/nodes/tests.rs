//! Processes over one broker, of which one may stop to hear.

use async_trait::async_trait;
use broker::{BrokerState, Confirm, DeleteError, Destination, PublishError, QueueOptions};
use broker_embedded::EmbeddedBroker;
use bytestring::ByteString;
use presence::{Epoch, MemoryPresence, RedisConfig, RedisPresence, Url, UserName};
use tokio::sync::mpsc;

use super::*;
use crate::hearing::{CALL_EVERY, TAKES_EFFECT, TRUST};
use crate::router::Router;

/// A broker whose deliveries wait while it is held, as those of a process that is frozen.
struct Held {
    broker: Arc<EmbeddedBroker>,
    held: watch::Sender<bool>,
}

#[async_trait]
impl Broker for Held {
    async fn publish(&self, by: PublisherId, message: Message) -> Result<Confirm, PublishError> {
        self.broker.publish(by, message).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, SubscribeError> {
        let mut subscription = self.broker.subscribe(request).await?;
        let (passed, deliveries) = mpsc::channel(BACKLOG.into());
        let mut held = self.held.subscribe();
        tokio::spawn(async move {
            while let Some(delivery) = subscription.next().await {
                held.wait_for(|held| !held).await.unwrap();
                let _ = passed.send(delivery).await;
            }
        });
        Ok(Subscription::new(deliveries, || {}))
    }

    async fn declare(
        &self,
        publisher: PublisherId,
        queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        self.broker.declare(publisher, queue, options).await
    }

    async fn delete(&self, destination: &Destination) -> Result<(), DeleteError> {
        self.broker.delete(destination).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.broker.state()
    }
}

fn broker() -> Arc<EmbeddedBroker> {
    Arc::new(EmbeddedBroker::new(Default::default()))
}

fn memory() -> Arc<MemoryPresence> {
    Arc::new(MemoryPresence::new(&Default::default(), Boot::generate()))
}

/// Runs them until the test ends.
fn run(nodes: Nodes) -> Arc<Nodes> {
    let nodes = Arc::new(nodes);
    let running = nodes.clone();
    tokio::spawn(async move { running.run(CancellationToken::new()).await });
    nodes
}

/// Whether it takes those that it knows to be registered; there must be so many.
#[track_caller]
fn registered(nodes: &Nodes, count: usize) -> bool {
    let announced = nodes.announcements();
    assert_eq!(announced.len(), count, "{announced:?}");
    announced.iter().all(|node| node.registered.is_some())
}

#[tokio::test(start_paused = true)]
async fn who_hears_nothing_believes_nobody_until_it_hears_again() {
    let embedded = broker();
    run(Nodes::of_gateway(embedded.clone(), memory(), PublisherId(1)));
    let held = Arc::new(Held { broker: embedded, held: watch::Sender::new(false) });
    let sender = run(Nodes::of_sender(held.clone(), memory(), PublisherId(1)));
    let began = Instant::now();
    sender.heard().await;
    assert!(registered(&sender, 1));
    assert!(began.elapsed() <= Duration::from_secs(4), "{:?}", began.elapsed());

    held.held.send_replace(true);
    tokio::time::sleep(TRUST + CALL_EVERY).await;
    assert!(!registered(&sender, 1));
    // The first one waits, and then nobody does.
    for pause in [WAIT, Duration::ZERO] {
        let asked = Instant::now();
        sender.heard().await;
        assert_eq!(asked.elapsed(), pause);
    }
    // However long it takes, its own deafness makes it forget nobody.
    tokio::time::sleep(10 * SILENCE).await;
    assert!(!registered(&sender, 1));
    held.held.send_replace(false);
    tokio::time::sleep(CALL_EVERY).await;
    assert!(registered(&sender, 1));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_hears_what_was_said_before_it_believes_anybody() {
    let embedded = broker();
    let held = Arc::new(Held { broker: embedded.clone(), held: watch::Sender::new(false) });
    let sender = run(Nodes::of_sender(held.clone(), memory(), PublisherId(1)));
    let boot = Boot::generate();
    let announce = async |registered| {
        let announcement = Announcement { boot, registered, draining: false, forward: None };
        let letter = Letter::Announcement(announcement).write();
        let said = embedded.publish(PublisherId(1), Message::new(address::roster(), letter)).await;
        said.unwrap().await.unwrap();
    };
    announce(Some(Epoch::new("e"))).await;
    sender.heard().await;
    for round in 0..20 {
        held.held.send_replace(true);
        tokio::time::sleep(TRUST + CALL_EVERY).await;
        announce(None).await;
        // Whatever order the two subscriptions are looked at in.
        held.held.send_replace(false);
        sender.heard().await;
        assert!(!registered(&sender, 1), "{round}");
        announce(Some(Epoch::new("e"))).await;
        tokio::time::sleep(CALL_EVERY).await;
        assert!(registered(&sender, 1), "{round}");
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_wait_until_it_takes_effect_that_they_are_not_in_the_store() {
    // Where no Redis is.
    let redis = RedisConfig { urls: vec![Url::from("redis://127.0.0.1:1")], ..Default::default() };
    let presence = RedisPresence::start(Default::default(), redis, Boot::generate());
    let nodes = run(Nodes::of_gateway(broker(), Arc::new(presence), PublisherId(1)));
    let began = Instant::now();
    let (one, other) = tokio::join!(nodes.announce_unsynced(), nodes.announce_unsynced());
    assert_eq!((one, other), (Ok(()), Ok(())));
    let waited = began.elapsed();
    assert!((TAKES_EFFECT..TAKES_EFFECT + CALL_EVERY).contains(&waited), "{waited:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let began = Instant::now();
    assert_eq!(nodes.announce_unsynced().await, Ok(()));
    assert_eq!(began.elapsed(), Duration::ZERO, "the others know");
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_waits_for_nobody() {
    let presence = memory();
    let nodes = Nodes::alone(broker(), presence.clone(), PublisherId(1));
    let began = Instant::now();
    nodes.heard().await;
    assert!(registered(&nodes, 1));
    assert_eq!(nodes.announce_unsynced().await, Ok(()));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_store_vouches_only_for_who_was_registered_before_it_was_asked() {
    let (embedded, store) = (broker(), memory());
    let sender = run(Nodes::of_sender(embedded.clone(), store.clone(), PublisherId(1)));
    let router = Router::new(embedded.clone(), store.clone(), store.clone(), sender.clone());
    let epoch = store.state().borrow().registered.clone();
    let ann = [UserName::new("ann").unwrap()];
    for registered in [None, epoch] {
        let announced = Announcement {
            boot: store.boot(),
            registered: registered.clone(),
            draining: false,
            forward: None,
        };
        let letter = Letter::Announcement(announced).write();
        let said = embedded.publish(PublisherId(1), Message::new(address::roster(), letter)).await;
        said.unwrap().await.unwrap();
        sender.heard().await;
        tokio::time::sleep(CALL_EVERY).await;
        let answer = router.lookup(&ann).await.unwrap();
        assert_eq!(answer.leased.contains(&store.boot()), registered.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_says_where_it_takes_requests_of_others() {
    let (embedded, forwarding, other) = (broker(), memory(), memory());
    let nodes = Nodes::of_gateway(embedded.clone(), forwarding.clone(), PublisherId(1));
    nodes.forward_at("10.0.0.1:8083".into());
    run(nodes);
    let hearer = run(Nodes::of_gateway(embedded, other.clone(), PublisherId(2)));
    hearer.heard().await;
    assert_eq!(hearer.forward_address(forwarding.boot()).as_deref(), Some("10.0.0.1:8083"));
    assert_eq!(hearer.forward_address(other.boot()), None);
    assert_eq!(hearer.forward_address(Boot::generate()), None);
}
