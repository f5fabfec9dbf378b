//! Nodes reach each other through RabbitMQ: their roster, letters, and the events of all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Link, MessageId, PublisherId};
use broker_rabbitmq::{Config, RabbitMqBroker, Uri};
use cluster::{Addressed, Content, Inlet, Letter, Nodes, Outbound, Router, Target, events};
use presence::{Boot, Event, MemoryPresence, Presence, Session, SessionId, UserName};
use testkit::{Proxy, RabbitMq};
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;

/// How long anything may take before a test counts as failed.
const PATIENCE: Duration = Duration::from_secs(180);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A process of a cluster, with a store of its own: who is on the other nodes it does not know.
struct Process {
    broker: Arc<dyn Broker>,
    presence: Arc<MemoryPresence>,
    nodes: Arc<Nodes>,
    _stopping: DropGuard,
}

impl Process {
    fn start(uri: &str, namespace: &str) -> Self {
        let config = Config {
            uris: vec![Uri::from(uri)],
            namespace: namespace.to_owned(),
            heart_beat: Duration::from_secs(3),
            reconnect_pause: Duration::from_millis(500),
            ..Config::default()
        };
        let broker: Arc<dyn Broker> = Arc::new(RabbitMqBroker::new(config, Ulid::generate()));
        let presence = MemoryPresence::new(&presence::Config::default(), Boot::generate());
        let presence = Arc::new(presence);
        let nodes = Arc::new(Nodes::of_gateway(broker.clone(), presence.clone(), PublisherId(1)));
        let stopping = CancellationToken::new();
        let (running, until) = (nodes.clone(), stopping.clone());
        tokio::spawn(async move { running.run(until).await });
        let telling =
            events::publish(broker.clone(), presence.clone(), PublisherId(1), stopping.clone());
        tokio::spawn(telling);
        Self { broker, presence, nodes, _stopping: stopping.drop_guard() }
    }

    fn router(&self) -> Router {
        let (presence, nodes) = (self.presence.clone(), self.nodes.clone());
        Router::new(self.broker.clone(), presence.clone(), presence, nodes)
    }

    async fn open(&self, user: &str) -> SessionId {
        let boot = self.presence.boot();
        let session = Session::new(SessionId::generate(boot), UserName::new(user).unwrap(), boot);
        let id = session.id.clone();
        self.presence.register(session).await.unwrap();
        id
    }

    /// Waits until it has heard of so many nodes.
    async fn until_known(&self, count: usize) {
        soon(async {
            while self.nodes.announcements().len() != count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

fn namespace() -> String {
    format!("test-{}", Ulid::generate())
}

fn outbound(body: String) -> Outbound {
    let content = Content { id: MessageId::new(), headers: Vec::new(), body: body.into() };
    Outbound { path: "/queue/x".into(), audience: Vec::new(), content, persistent: true }
}

async fn received(inlet: &mut Inlet) -> Addressed {
    match soon(inlet.next()).await.unwrap().letter {
        Letter::Message(addressed) => addressed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_hear_of_each_other_and_reach_each_others_sessions() {
    let rabbitmq: &RabbitMq = testkit::rabbitmq().await;
    let namespace = namespace();
    let start = || Process::start(&rabbitmq.uri(), &namespace);
    let (one, other) = (start(), start());
    let mut inlet = soon(Inlet::open(&other.broker, other.presence.boot())).await.unwrap();
    let mut of_all = soon(Inlet::open(&one.broker, one.presence.boot())).await.unwrap();
    one.until_known(2).await;
    let id = other.open("ann").await;
    // Its id names its node, of which the store of this one knows nothing.
    let (router, publisher) = (one.router(), PublisherId(2));
    let (ids, first) = ([id.clone()], outbound("1".into()));
    let sent = soon(router.to_sessions(publisher, &ids, &first)).await.unwrap();
    assert_eq!((sent.reached, sent.uncertain), (vec![0], 1));
    assert_eq!(soon(sent.confirm).await, Ok(()));
    assert_eq!(received(&mut inlet).await.to, [Target::Session(id)]);
    let sent = soon(router.to_all(publisher, &outbound("2".into()))).await.unwrap();
    assert_eq!(soon(sent).await, Ok(()));
    assert_eq!(received(&mut inlet).await.to, [Target::All]);
    assert_eq!(received(&mut of_all).await.to, [Target::All]);
    other.nodes.good_bye().await.unwrap();
    one.until_known(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_all_nodes_come_in_order_over_a_cut_connection_and_none_twice() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let namespace = namespace();
    let cut = Process::start(&rabbitmq.uri_at(proxy.port()), &namespace);
    let steady = Process::start(&rabbitmq.uri(), &namespace);
    let mut watch = soon(events::Watch::open(&cut.broker)).await.unwrap();
    let mut state = cut.broker.state();
    let mut opened = Vec::new();
    for round in 0..3 {
        for n in 0..50 {
            let user = format!("u{round}.{n}");
            opened.push((cut.open(&user).await, steady.open(&user).await));
        }
        if round < 2 {
            proxy.drop_connections().await;
            soon(state.wait_for(|state| matches!(state.link, Link::Down(_)))).await.unwrap();
        }
    }
    // Of each node in its own order, each once; none is missed.
    let (of_cut, of_steady): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    let (mut from_cut, mut from_steady) = (Vec::new(), Vec::new());
    while from_cut.len() + from_steady.len() < 300 {
        match soon(watch.next()).await.unwrap().expect("nothing is missed") {
            Event::SessionOpened { id, boot, .. } if boot == cut.presence.boot() => {
                from_cut.push(id);
            }
            Event::SessionOpened { id, .. } => from_steady.push(id),
            _ => {}
        }
    }
    assert_eq!(from_cut, of_cut);
    assert_eq!(from_steady, of_steady);
}
