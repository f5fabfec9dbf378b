//! Services that have only AMQP reach users, sessions and groups: a plain AMQP publisher, RabbitMQ, and
//! a node that gets what is for its sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

use std::sync::Arc;
use std::time::Duration;

use broker::internal::Internal;
use broker::{Broker, Destination, Destinations, PublisherId, SubscribeRequest};
use broker_rabbitmq::{Config, RabbitMqBroker, Uri};
use cluster::{Addressed, Inlet, Letter, Nodes, Router, Target};
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use notifier::Entrance;
use presence::{
    Boot, GroupName, Groups, Member, MemoryPresence, Presence, Session, SessionId, UserName,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use testkit::{Proxy, RabbitMq};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;

/// How long anything may take before a test counts as failed.
const PATIENCE: Duration = Duration::from_secs(180);

type Headers<'a> = &'a [(&'static str, &'a str)];

/// A node with sessions, the entrance beside it, and a service.
struct Cluster {
    namespace: String,
    presence: Arc<MemoryPresence>,
    inlet: Inlet,
    channel: Channel,
    /// Where answers come.
    answers: Consumer,
    reply_to: String,
    registry: Registry,
    entrance: JoinHandle<()>,
    stopping: CancellationToken,
    router: Router,
    sending: Arc<dyn Broker>,
    _stopping: DropGuard,
    _connection: Connection,
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

fn broker(uri: &str, namespace: &str) -> Arc<dyn Broker> {
    let config = Config {
        uris: vec![Uri::from(uri)],
        namespace: namespace.to_owned(),
        heart_beat: Duration::from_secs(3),
        reconnect_pause: Duration::from_millis(500),
        ..Config::default()
    };
    Arc::new(RabbitMqBroker::new(config, Ulid::generate()))
}

impl Cluster {
    /// One whose entrance reaches RabbitMQ at `entrance_uri`.
    async fn start(rabbitmq: &RabbitMq, entrance_uri: &str) -> Self {
        let namespace = format!("test-{}", Ulid::generate());
        let boot = Boot::generate();
        let presence = Arc::new(MemoryPresence::new(&presence::Config::default(), boot));
        let stopping = CancellationToken::new();

        let receiving = broker(&rabbitmq.uri(), &namespace);
        let inlet = soon(Inlet::open(&receiving, boot)).await.unwrap();
        let node = Nodes::of_gateway(receiving, presence.clone(), PublisherId(1));
        let announcing = stopping.clone();
        tokio::spawn(async move { node.run(announcing).await });

        let sending = broker(entrance_uri, &namespace);
        let nodes = Arc::new(Nodes::of_sender(sending.clone(), presence.clone(), PublisherId(1)));
        let (hearing, stop_hearing) = (nodes.clone(), stopping.clone());
        tokio::spawn(async move { hearing.run(stop_hearing).await });
        let router = Router::new(sending.clone(), presence.clone(), presence.clone(), nodes);
        let entrance =
            Entrance::new(sending.clone(), router.clone(), Destinations::default(), PublisherId(2));
        let mut registry = Registry::default();
        entrance.metrics().register(registry.sub_registry_with_prefix("notifier"));
        let entrance = tokio::spawn(entrance.run(stopping.clone()));

        let (uri, properties) = (rabbitmq.uri(), ConnectionProperties::default());
        let connection = Connection::connect(&uri, properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let replies = channel.queue_declare("".into(), options, FieldTable::default()).await;
        let reply_to = replies.unwrap().name().to_string();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let answers =
            channel.basic_consume((&*reply_to).into(), "".into(), options, FieldTable::default());
        let answers = answers.await.unwrap();
        let cluster = Self {
            namespace,
            presence,
            inlet,
            channel,
            answers,
            reply_to,
            registry,
            entrance,
            stopping: stopping.clone(),
            router,
            sending,
            _stopping: stopping.drop_guard(),
            _connection: connection,
        };
        cluster.until_there(rabbitmq).await;
        cluster
    }

    /// Waits until the queue is there, so that nothing is lost that is published.
    async fn until_there(&self, rabbitmq: &RabbitMq) {
        let bound = format!("{}.to\t#", self.namespace);
        soon(async {
            let columns = ["list_bindings", "-q", "source_name", "routing_key"];
            while !rabbitmq.ctl(&columns).await.unwrap().lines().any(|line| line == bound) {}
        })
        .await;
    }

    async fn open(&self, user: &str) -> SessionId {
        let boot = self.presence.boot();
        let session = Session::new(SessionId::generate(boot), UserName::new(user).unwrap(), boot);
        let id = session.id.clone();
        self.presence.register(session).await.unwrap();
        id
    }

    /// Publishes, asking for an answer.
    async fn ask(&self, key: &str, headers: Headers<'_>, body: &str, id: &str) {
        let properties = BasicProperties::default()
            .with_reply_to((&*self.reply_to).into())
            .with_correlation_id(id.into());
        self.put(key, headers, body, properties).await;
    }

    async fn put(&self, key: &str, headers: Headers<'_>, body: &str, properties: BasicProperties) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let exchange = format!("{}.to", self.namespace);
        let properties = properties.with_headers(table).with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let (exchange, key) = (exchange.as_str().into(), key.into());
        let put = self.channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
        put.await.unwrap();
    }

    async fn answer(&mut self, id: &str) -> Value {
        let answer = soon(self.answers.next()).await.unwrap().unwrap();
        let correlation_id = answer.properties.correlation_id().as_ref().map(|id| id.as_str());
        assert_eq!(correlation_id, Some(id));
        let content_type = answer.properties.content_type().as_ref().map(|kind| kind.as_str());
        assert_eq!(content_type, Some("application/json"));
        serde_json::from_slice(&answer.data).unwrap()
    }

    async fn received(&mut self) -> Addressed {
        match soon(self.inlet.next()).await.unwrap().letter {
            Letter::Message(addressed) => addressed,
            other => panic!("{other:?}"),
        }
    }

    fn counted(&self, fate: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let name = format!("notifier_entrance_messages_total{{fate=\"{fate}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&*name)).unwrap().parse().unwrap()
    }

    /// Waits until RabbitMQ has nothing in the queue, not even unsettled.
    async fn until_empty(&self, rabbitmq: &RabbitMq) {
        let empty = format!("{}.to\t0", self.namespace);
        soon(async {
            let columns = ["list_queues", "-q", "name", "messages"];
            while !rabbitmq.ctl(&columns).await.unwrap().lines().any(|line| line == empty) {}
        })
        .await;
    }

    async fn stop(self, rabbitmq: &RabbitMq) {
        self.stopping.cancel();
        soon(self.entrance).await.unwrap();
        rabbitmq.ctl(&["delete_queue", &format!("{}.to", self.namespace)]).await.unwrap();
    }
}

fn user(name: &str) -> Target {
    Target::User(UserName::new(name).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_reaches_users_sessions_groups_and_all_and_hears_how_many() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut cluster = Cluster::start(rabbitmq, &rabbitmq.uri()).await;
    let first = cluster.open("ann.b").await;
    cluster.open("ann.b").await;

    let headers = [("destination", "/topic/news"), ("kind", "tick")];
    cluster.ask("user.ann.b", &headers, "to a user", "1").await;
    let got = cluster.received().await;
    assert_eq!((got.to, &*got.path), (vec![user("ann.b")], "/topic/news"));
    assert_eq!(got.content.headers, [("kind".into(), "tick".into())]);
    assert_eq!(got.content.body, "to a user");
    let id = got.content.id.to_string();
    let expected = json!({"message_id": id, "sessions": 2, "nodes": 1, "uncertain_nodes": 0});
    assert_eq!(cluster.answer("1").await, expected);

    let long = "é".repeat(200);
    cluster.open(&long).await;
    cluster.ask("user", &[("to", &long)], "to a long name", "2").await;
    let got = cluster.received().await;
    assert_eq!((got.to, &*got.path), (vec![user(&long)], "/queue/messages"));
    assert_eq!(cluster.answer("2").await["sessions"], 1);

    cluster.ask(&format!("session.{first}"), &[], "to a session", "3").await;
    assert_eq!(cluster.received().await.to, [Target::Session(first)]);
    assert_eq!(cluster.answer("3").await["sessions"], 1);

    cluster.ask("all", &[], "to all", "4").await;
    assert_eq!(cluster.received().await.to, [Target::All]);
    assert_eq!(cluster.answer("4").await["sessions"], 3);

    let name = GroupName::new("dev.ops").unwrap();
    let members = [Member::User(UserName::new("ann.b").unwrap())];
    Groups::add(&*cluster.presence, &name, &members, None).await.unwrap();
    let topic = Destination::Topic(cluster::group(&name).unwrap());
    let mut group =
        soon(cluster.sending.subscribe(SubscribeRequest::new(topic, 10))).await.unwrap();
    cluster.ask("group.dev.ops", &[], "to a group", "5").await;
    let letter = cluster::read(&soon(group.next()).await.unwrap()).unwrap().letter;
    assert!(matches!(letter, Letter::Message(got) if got.content.body == "to a group"));
    assert_eq!(cluster.answer("5").await["sessions"], 2);

    cluster.ask("user.nobody", &[], "to nobody", "6").await;
    assert_eq!(cluster.answer("6").await["sessions"], 0);
    cluster.until_empty(rabbitmq).await;
    assert_eq!(cluster.counted("sent"), 6);
    cluster.stop(rabbitmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_sent_is_answered_and_gone() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut cluster = Cluster::start(rabbitmq, &rabbitmq.uri()).await;
    cluster.open("ann").await;
    let cases: [(&str, Headers<'_>, &str); 5] = [
        ("ann", &[], "names nobody"),
        ("user.", &[], "no user of that name"),
        ("user.ann", &[("destination", "/queue/*")], "is no destination within a user"),
        ("session.x", &[], "no session of that name"),
        ("group.g", &[("destination", "/queue/x")], "leave it out"),
    ];
    for (key, headers, why) in cases {
        cluster.ask(key, headers, "", key).await;
        let answer = cluster.answer(key).await;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(why)), "{answer}");
    }
    // Straight into the queue, without a key.
    let properties = BasicProperties::default().with_reply_to((&*cluster.reply_to).into());
    let queue = format!("{}.to", cluster.namespace);
    let options = BasicPublishOptions::default();
    let put =
        cluster.channel.basic_publish("".into(), queue.as_str().into(), options, b"", properties);
    put.await.unwrap();
    let answer = soon(cluster.answers.next()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&answer.data).contains("publish it to the exchange"));
    // Whoever asks for no answer, or for one where none can go, is rejected alike.
    let nowhere = BasicProperties::default().with_reply_to("/temp-queue/x".into());
    for properties in [BasicProperties::default(), nowhere] {
        cluster.put("nobody", &[], "", properties).await;
    }
    cluster.ask("user.ann", &[], "the last", "last").await;
    assert_eq!(cluster.received().await.content.body, "the last");
    cluster.answer("last").await;
    cluster.until_empty(rabbitmq).await;
    assert_eq!((cluster.counted("misaddressed"), cluster.counted("sent")), (8, 1));
    cluster.stop(rabbitmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_a_user_keep_their_order_and_outlive_an_outage() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let mut cluster = Cluster::start(rabbitmq, &rabbitmq.uri_at(proxy.port())).await;
    cluster.open("ann").await;
    let put = |n: usize| n.to_string();
    for n in 0..300 {
        cluster.put("user.ann", &[], &put(n), BasicProperties::default()).await;
    }
    for n in 0..300 {
        assert_eq!(cluster.received().await.content.body, put(n));
    }
    cluster.until_empty(rabbitmq).await;
    proxy.cut().await;
    for n in 300..400 {
        cluster.put("user.ann", &[], &put(n), BasicProperties::default()).await;
    }
    proxy.heal().await.expect("it is there again");
    for n in 300..400 {
        assert_eq!(cluster.received().await.content.body, put(n));
    }
    // The connection goes while they are on their way: each arrives, some maybe twice.
    for n in 400..900 {
        cluster.put("user.ann", &[], &put(n), BasicProperties::default()).await;
        if n == 600 {
            proxy.drop_connections().await;
        }
    }
    let mut missing: std::collections::BTreeSet<String> = (400..900).map(put).collect();
    while !missing.is_empty() {
        let got = cluster.received().await.content.body;
        missing.remove(std::str::from_utf8(&got).unwrap());
    }
    cluster.until_empty(rabbitmq).await;
    cluster.stop(rabbitmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_publish_there() {
    let rabbitmq = testkit::rabbitmq().await;
    let cluster = Cluster::start(rabbitmq, &rabbitmq.uri()).await;
    let to = |text: &str| {
        let text = text.replace('_', &cluster.namespace);
        Destinations::default().parse(&text, broker::destination::Verb::Send).unwrap()
    };
    for text in
        ["/exchange/_.to/user.ann", "/queue/_.to", "/amq/queue/_.to", "/exchange/_.direct/all"]
    {
        let message = broker::Message::new(to(text), "forged");
        let published = cluster.sending.publish(PublisherId(9), message).await;
        assert!(matches!(published, Err(broker::PublishError::Misnamed(_))), "{published:?}");
    }
    assert!(
        Destinations::default()
            .parse(Internal::Entrance.prefix(), broker::destination::Verb::Send)
            .is_err()
    );
    // The way that is open to services.
    assert!(cluster.router.lookup(&[UserName::new("ann").unwrap()]).await.is_some());
    cluster.stop(rabbitmq).await;
}
