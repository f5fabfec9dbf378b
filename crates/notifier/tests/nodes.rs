//! Two nodes that share a Redis, and a notifier beside them: each send reaches those nodes that it must, and
//! its answer counts right.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;

use access::Access;
use broker::{Broker, Destinations, PublisherId};
use broker_embedded::EmbeddedBroker;
use cluster::{Addressed, Inlet, Letter, Nodes, Target};
use futures_util::stream;
use notifier::{Notifier, Parts};
use presence::{
    Boot, GroupName, Groups, Link, Member, Presence, RedisConfig, RedisPresence, Session,
    SessionId, Url, UserName,
};
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::send_request::To;
use proto::v1::send_stream_response::Outcome;
use proto::v1::*;
use support::{config, patiently};
use testkit::{Persistence, Redis};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

/// How many requests there are on the stream.
const STREAM: usize = 5_000;

/// A node that holds sessions.
struct Gateway {
    presence: Arc<RedisPresence>,
    inlet: Inlet,
}

struct Cluster {
    gateways: [Gateway; 2],
    /// What the notifier sees.
    store: Arc<RedisPresence>,
    client: NotificationsClient<Channel>,
    _stopping: DropGuard,
}

async fn registered(redis: RedisConfig) -> Arc<RedisPresence> {
    let presence = RedisPresence::start(presence::Config::default(), redis, Boot::generate());
    let mut state = presence.state();
    let is_up = |state: &presence::State| state.link == Link::Up && state.registered.is_some();
    patiently(state.wait_for(is_up)).await.unwrap();
    Arc::new(presence)
}

impl Cluster {
    async fn start(redis: &Redis) -> Self {
        let redis = RedisConfig {
            urls: vec![Url::from(&*redis.uri())],
            namespace: format!("test-{}", Boot::generate()),
            ..RedisConfig::default()
        };
        let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(Default::default()));
        let stopping = CancellationToken::new();
        let run = |nodes: Arc<Nodes>| {
            let until = stopping.clone();
            tokio::spawn(async move { nodes.run(until).await });
        };
        let gateway = async |n: u64| {
            let presence = registered(redis.clone()).await;
            let publisher = PublisherId(u64::MAX - n);
            run(Arc::new(Nodes::of_gateway(broker.clone(), presence.clone(), publisher)));
            let inlet = Inlet::open(&broker, presence.boot()).await.unwrap();
            Gateway { presence, inlet }
        };
        let gateways = [gateway(0).await, gateway(1).await];
        let store = registered(redis.clone()).await;
        let nodes = Arc::new(Nodes::of_sender(broker.clone(), store.clone(), PublisherId(2)));
        run(nodes.clone());
        patiently(nodes.heard()).await;
        let destinations = Destinations::default();
        let parts = Parts {
            config: config(),
            broker,
            presence: store.clone(),
            groups: store.clone(),
            nodes,
            access: Arc::new(Access::start(&access::Config::default(), &destinations).unwrap()),
            destinations,
            dispatcher: None,
            dispatches: false,
            inbox: Default::default(),
        };
        let notifier = Notifier::bind(parts).await.unwrap();
        let url = format!("http://{}", notifier.address().unwrap());
        tokio::spawn(notifier.run(stopping.clone().cancelled_owned()));
        let client = NotificationsClient::new(Channel::from_shared(url).unwrap().connect_lazy());
        Self { gateways, store, client, _stopping: stopping.drop_guard() }
    }
}

impl Gateway {
    async fn session(&self, user: &str) -> SessionId {
        let boot = self.presence.boot();
        let id = SessionId::generate(boot);
        let session = Session::new(id.clone(), UserName::new(user).unwrap(), boot);
        self.presence.register(session).await.unwrap();
        id
    }

    /// The next message for sessions of this node.
    async fn message(&mut self) -> Addressed {
        match patiently(self.inlet.next()).await.unwrap().letter {
            Letter::Message(addressed) => addressed,
            other => panic!("{other:?}"),
        }
    }
}

fn text(text: &str) -> Option<Message> {
    let body = Some(message::Body::Text(text.to_owned()));
    Some(Message { body, ..Message::default() })
}

fn to_users(users: &[&str], body: &str) -> SendToUserRequest {
    SendToUserRequest {
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        destination: "/queue/news".to_owned(),
        message: text(body),
        ..Default::default()
    }
}

fn body(addressed: &Addressed) -> &str {
    std::str::from_utf8(&addressed.content.body).unwrap()
}

fn user(name: &str) -> Target {
    Target::User(UserName::new(name).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_reaches_the_nodes_of_its_targets_and_counts_them() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let Cluster { gateways: [mut one, mut other], store, mut client, _stopping } =
        Cluster::start(&redis).await;
    one.session("ann").await;
    one.session("ann").await;
    let ann = other.session("ann").await;
    other.session("bob").await;

    let sent = client.send_to_user(to_users(&["ann"], "1")).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain_nodes, sent.uncounted), (3, 2, 0, false));
    let sent = client.send_to_user(to_users(&["bob"], "2")).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain_nodes), (1, 1, 0));
    let request = SendToSessionRequest {
        sessions: vec![ann.to_string()],
        destination: "/queue/news".to_owned(),
        message: text("3"),
        audience: None,
    };
    let sent = client.send_to_session(request).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain_nodes), (1, 1, 0));
    let group = GroupName::new("dev").unwrap();
    let members = ["ann", "bob"].map(|name| Member::User(UserName::new(name).unwrap()));
    store.add(&group, &members, None).await.unwrap();
    let request = SendToGroupRequest {
        groups: vec!["dev".to_owned()],
        destination: "/queue/news".to_owned(),
        message: text("4"),
        ..Default::default()
    };
    let sent = client.send_to_group(request).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.nodes, sent.reached[0].sessions), (4, 2, 4));
    let request = SendToAllRequest {
        destination: "/queue/news".to_owned(),
        message: text("5"),
        ..Default::default()
    };
    let sent = client.send_to_all(request).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain_nodes), (4, 2, 0));

    // Each letter once, and none of what is for the other node alone.
    let (mut to_one, mut to_other) = (Vec::new(), Vec::new());
    for (gateway, count, got) in [(&mut one, 3, &mut to_one), (&mut other, 5, &mut to_other)] {
        for _ in 0..count {
            let addressed = gateway.message().await;
            got.push((body(&addressed).to_owned(), addressed.to));
        }
        got.sort_by(|one, other| one.0.cmp(&other.0));
    }
    let expected = |n: &str, to: Vec<Target>| (n.to_owned(), to);
    let (ann_user, bob) = (user("ann"), user("bob"));
    let all = Target::All;
    assert_eq!(
        to_one,
        [
            expected("1", vec![ann_user.clone()]),
            expected("4", vec![ann_user.clone()]),
            expected("5", vec![all.clone()]),
        ]
    );
    assert_eq!(
        to_other,
        [
            expected("1", vec![ann_user.clone()]),
            expected("2", vec![bob.clone()]),
            expected("3", vec![Target::Session(ann)]),
            expected("4", vec![ann_user, bob]),
            expected("5", vec![all]),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_its_order_on_each_node_and_asks_the_store_for_many_at_once() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let Cluster { gateways: [mut one, mut other], store, mut client, _stopping } =
        Cluster::start(&redis).await;
    let name = |n: usize| format!("user {}", n % 100);
    for n in 0..100 {
        let gateway = if n % 2 == 0 { &one } else { &other };
        gateway.session(&name(n)).await;
    }
    let asked_before = store.round_trips();
    let requests = (0..STREAM).map(move |n| {
        let request = to_users(&[&name(n)], &n.to_string());
        SendRequest { to: Some(To::Users(request)) }
    });
    let mut answers = client.send_stream(stream::iter(requests)).await.unwrap().into_inner();
    let listen = async |gateway: &mut Gateway, first: usize| {
        for n in (first..STREAM).step_by(2) {
            assert_eq!(body(&gateway.message().await), n.to_string());
        }
    };
    let read = async {
        for n in 0..STREAM {
            let answer = patiently(answers.message()).await.unwrap().unwrap();
            let Some(Outcome::Sent(sent)) = answer.outcome else { panic!("{n}: {answer:?}") };
            assert_eq!((sent.sessions, sent.nodes, sent.uncertain_nodes), (1, 1, 0), "{n}");
        }
        assert!(patiently(answers.message()).await.unwrap().is_none());
    };
    tokio::join!(listen(&mut one, 0), listen(&mut other, 1), read);
    let asked = store.round_trips() - asked_before;
    assert!(asked < STREAM as u64 / 4, "{asked} round trips for {STREAM} sends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_users_get_it_by_every_node() {
    let mut redis = Redis::start(Persistence::Memory).await.unwrap();
    let Cluster { gateways: [mut one, mut other], store, mut client, _stopping } =
        Cluster::start(&redis).await;
    one.session("ann").await;
    redis.kill();
    let mut state = store.state();
    patiently(state.wait_for(|state| state.link != Link::Up)).await.unwrap();
    let sent = client.send_to_user(to_users(&["ann"], "1")).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.uncounted, sent.uncertain_nodes), (0, true, 2));
    for gateway in [&mut one, &mut other] {
        assert_eq!(gateway.message().await.to, [user("ann")]);
    }
}
