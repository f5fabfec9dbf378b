use std::time::Duration;

use broker::destination::Topic;
use broker::{Destination, Feed};
use broker_embedded::EmbeddedBroker;
use presence::{Config, MemoryPresence, Session};
use serde_json::{Value, json};

use super::*;

struct Node {
    presence: Arc<MemoryPresence>,
    stopping: CancellationToken,
    publishing: tokio::task::JoinHandle<()>,
}

fn broker() -> Arc<dyn Broker> {
    Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()))
}

fn node(broker: &Arc<dyn Broker>) -> Node {
    let config = Config { linger: Duration::ZERO, ..Config::default() };
    let presence = Arc::new(MemoryPresence::new(&config, Boot::generate()));
    let stopping = CancellationToken::new();
    let publishing = publish(broker.clone(), presence.clone(), PublisherId(1), stopping.clone());
    Node { presence, stopping, publishing: tokio::spawn(publishing) }
}

impl Node {
    async fn open(&self, user: &str) -> SessionId {
        let boot = self.presence.boot();
        let session = Session::new(SessionId::generate(boot), name(user), boot);
        let id = session.id.clone();
        self.presence.register(session).await.unwrap();
        id
    }
}

fn name(user: &str) -> UserName {
    UserName::new(user).unwrap()
}

async fn next(watch: &mut Watch) -> Result<Event, Missed> {
    let next = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
    next.expect("an event comes").expect("the watch goes on")
}

/// An event as a node writes it.
fn body(from: Boot, number: u64) -> Vec<u8> {
    let user = format!("u{number}");
    let body = json!({
        "event": "user.online", "user": user, "at": 1, "from": from.to_string(), "number": number,
    });
    serde_json::to_vec(&body).unwrap()
}

async fn tell(broker: &Arc<dyn Broker>, body: impl Into<bytes::Bytes>) {
    let message = Message::new(address::event("user.online"), body);
    broker.publish(PublisherId(2), message).await.unwrap().await.unwrap();
}

fn online(number: u64) -> Result<Event, Missed> {
    Ok(Event::UserOnline(name(&format!("u{number}"))))
}

#[tokio::test]
async fn whoever_watches_sees_what_happens_on_every_node() {
    let broker = broker();
    let mut watch = Watch::open(&broker).await.unwrap();
    let (one, other) = (node(&broker), node(&broker));
    let (ann, boot) = (name("ann/é"), one.presence.boot());
    let id = one.open("ann/é").await;
    let opened = Event::SessionOpened { id: id.clone(), user: ann.clone(), boot };
    assert_eq!(next(&mut watch).await, Ok(opened));
    assert_eq!(next(&mut watch).await, Ok(Event::UserOnline(ann.clone())));
    let its = other.open("bob").await;
    let opened = Event::SessionOpened { id: its, user: name("bob"), boot: other.presence.boot() };
    assert_eq!(next(&mut watch).await, Ok(opened));
    assert_eq!(next(&mut watch).await, Ok(Event::UserOnline(name("bob"))));
    one.presence.unregister(&id).await.unwrap();
    let closed = Event::SessionClosed { id, user: ann.clone(), boot, ending: Ending::Left };
    assert_eq!(next(&mut watch).await, Ok(closed));
    assert_eq!(next(&mut watch).await, Ok(Event::UserOffline(ann)));
}

#[tokio::test]
async fn a_node_that_stops_publishes_what_it_was_told() {
    let broker = broker();
    let mut watch = Watch::open(&broker).await.unwrap();
    let node = node(&broker);
    let id = node.open("ann").await;
    node.presence.leave().await.unwrap();
    node.stopping.cancel();
    node.publishing.await.unwrap();
    let (user, boot) = (name("ann"), node.presence.boot());
    let (opened, closed) = (
        Event::SessionOpened { id: id.clone(), user: user.clone(), boot },
        Event::SessionClosed { id, user: user.clone(), boot, ending: Ending::Left },
    );
    assert_eq!(next(&mut watch).await, Ok(opened));
    assert_eq!(next(&mut watch).await, Ok(Event::UserOnline(user)));
    assert_eq!(next(&mut watch).await, Ok(closed));
}

#[tokio::test]
async fn others_read_an_event_as_json_under_its_key() {
    let broker = broker();
    let topic = Topic::exact(address::EVENTS.into(), "session.*".into());
    let request = SubscribeRequest {
        feed: Feed::Own,
        ..SubscribeRequest::new(Destination::Topic(topic), 10)
    };
    let mut sessions = broker.subscribe(request).await.unwrap();
    let node = node(&broker);
    let id = node.open("ann").await;
    node.presence.unregister(&id).await.unwrap();
    for (number, key, ending) in [(1, "session.opened", None), (3, "session.closed", Some("left"))]
    {
        let delivery = sessions.next().await.unwrap();
        assert_eq!(delivery.message.destination, address::event(key));
        let mut body: Value = serde_json::from_slice(&delivery.message.body).unwrap();
        let at = body.as_object_mut().unwrap().remove("at").unwrap();
        assert!(at.as_u64().is_some_and(|at| at <= now()));
        let boot = node.presence.boot().to_string();
        let mut expected = json!({
            "event": key, "user": "ann", "session": id.as_str(), "node": boot, "from": boot,
            "number": number,
        });
        if let Some(ending) = ending {
            expected["ending"] = ending.into();
        }
        assert_eq!(body, expected);
        delivery.settle(broker::Outcome::Ack);
    }
}

#[tokio::test]
async fn what_was_lost_on_the_way_is_told_and_a_repeat_is_not_shown() {
    let broker = broker();
    let mut watch = Watch::open(&broker).await.unwrap();
    let (one, other) = (Boot::generate(), Boot::generate());
    for (from, number) in [(one, 7), (one, 8), (other, 1), (one, 8), (one, 11), (one, 9), (one, 12)]
    {
        tell(&broker, body(from, number)).await;
    }
    let expected = [online(7), online(8), online(1), Err(Missed(2)), online(11), online(12)];
    for expected in expected {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test]
async fn who_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
    let broker = broker();
    let mut watch = Watch::open(&broker).await.unwrap();
    let mut other = Watch::open(&broker).await.unwrap();
    let (from, count) = (Boot::generate(), BACKLOG as u64 + 5);
    for number in 1..=count {
        tell(&broker, body(from, number)).await;
        assert_eq!(next(&mut other).await, online(number));
    }
    // What is on its way to the backlog is there once the watch ends.
    drop(broker);
    while !watch.shared.backlog.lock().ended {
        tokio::task::yield_now().await;
    }
    assert_eq!(next(&mut watch).await, Err(Missed(5)));
    for number in 6..=count {
        assert_eq!(next(&mut watch).await, online(number));
    }
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn nonsense_and_events_of_a_newer_version_are_skipped() {
    let broker = broker();
    let mut watch = Watch::open(&broker).await.unwrap();
    let from = Boot::generate();
    tell(&broker, body(from, 1)).await;
    for nonsense in ["", "null", "{}", "[1]", r#"{"at":1,"from":"x","number":2}"#] {
        tell(&broker, nonsense).await;
    }
    let newer = json!({"event": "user.moved", "at": 1, "from": from.to_string(), "number": 2});
    tell(&broker, newer.to_string()).await;
    let nameless = json!({
        "event": "user.online", "user": "", "at": 1, "from": from.to_string(), "number": 3,
    });
    tell(&broker, nameless.to_string()).await;
    tell(&broker, body(from, 4)).await;
    assert_eq!(next(&mut watch).await, online(1));
    assert_eq!(next(&mut watch).await, online(4), "and nothing is missed");
}

#[test]
fn a_number_too_high_to_count_harms_nobody() {
    let mut heard = Heard::default();
    let from = Boot::generate();
    assert_eq!(heard.note(from, 0), Came::Next);
    assert_eq!(heard.note(from, u64::MAX), Came::After(Missed(u64::MAX - 1)));
    assert_eq!(heard.note(from, 1), Came::Again);
    let mut backlog = Backlog::default();
    for _ in 0..BACKLOG + 2 {
        backlog.put(Err(Missed(u64::MAX)));
    }
    assert_eq!(backlog.take(), Some(Err(Missed(u64::MAX))));
}

#[test]
fn nodes_that_are_gone_for_long_are_forgotten() {
    let mut heard = Heard::default();
    let first = Boot::generate();
    heard.note(first, 1);
    let second = Boot::generate();
    heard.note(second, 1);
    heard.note(first, 2);
    for _ in 0..NODES_KNOWN - 1 {
        heard.note(Boot::generate(), 1);
    }
    assert_eq!(heard.by_node.len(), NODES_KNOWN);
    assert_eq!(heard.note(first, 2), Came::Again);
    assert_eq!(heard.note(second, 5), Came::Next, "it is heard for the first time");
}
