//! What clients publish to exchanges and queues that others declared, and replies: it arrives as it
//! would through RabbitMQ's STOMP plugin, and nobody else notices when it cannot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;

use broker::{
    Broker, Confirm, ConfirmError, Destination, Link, Message, Outcome, PublishError, PublisherId,
};
use broker_rabbitmq::RabbitMqBroker;
use common::{
    body, broker_up, config, destination, publish, queue, soon, subscribe, take, topic, until,
};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use prometheus_client::registry::Registry;
use testkit::{Proxy, RabbitMq};
use ulid::Ulid;

/// A plain AMQP application.
struct Application {
    connection: Connection,
    channel: Channel,
}

impl Application {
    async fn of(rabbitmq: &RabbitMq) -> Self {
        let uri = rabbitmq.uri();
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { connection, channel }
    }

    /// An exchange that no other test uses.
    async fn exchange(&self, kind: ExchangeKind, internal: bool) -> String {
        let name = format!("test-{}", Ulid::generate());
        let options = ExchangeDeclareOptions { internal, ..Default::default() };
        let none = FieldTable::default();
        self.channel.exchange_declare((&*name).into(), kind, options, none).await.unwrap();
        name
    }

    async fn delete(&self, exchange: &str) {
        let options = ExchangeDeleteOptions::default();
        self.channel.exchange_delete(exchange.into(), options).await.unwrap();
    }

    /// A queue of its own, named by RabbitMQ.
    async fn queue(&self) -> String {
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let declare = self.channel.queue_declare("".into(), exclusive, FieldTable::default());
        declare.await.unwrap().name().to_string()
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str, arguments: FieldTable) {
        let options = QueueBindOptions::default();
        let (queue, exchange) = (queue.into(), exchange.into());
        self.channel.queue_bind(queue, exchange, key.into(), options, arguments).await.unwrap();
    }

    /// A queue of its own that is bound to `exchange`, and its consumer.
    async fn bound(&self, exchange: &str, key: &str, arguments: FieldTable) -> Consumer {
        let queue = self.queue().await;
        self.bind(&queue, exchange, key, arguments).await;
        self.consume(&queue).await
    }

    async fn consume(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let none = FieldTable::default();
        self.channel.basic_consume(queue.into(), "".into(), options, none).await.unwrap()
    }

    /// How many messages `queue` holds, if it is there.
    async fn length(rabbitmq: &RabbitMq, queue: &str) -> Option<u32> {
        let application = Self::of(rabbitmq).await;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let find =
            application.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        find.ok().map(|queue| queue.message_count())
    }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.clone()).unwrap()
}

fn entry(name: &'static str, value: &str) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(name.into(), AMQPValue::LongString(value.into()));
    table
}

fn to(exchange: &str, key: &str) -> Destination {
    Destination::Exchange { exchange: exchange.into(), key: (!key.is_empty()).then(|| key.into()) }
}

/// What RabbitMQ says to a message.
async fn word(node: &RabbitMqBroker, to: &Destination) -> Result<(), ConfirmError> {
    soon(publish(node, 1, to, "hi").await).await
}

/// Why a message is not taken.
async fn misnamed(node: &RabbitMqBroker, to: Destination) -> &'static str {
    match node.publish(PublisherId(1), Message::new(to.clone(), "")).await {
        Err(PublishError::Misnamed(why)) => why,
        other => panic!("{to}: {other:?}"),
    }
}

fn refusal(word: Result<(), ConfirmError>) -> String {
    match word {
        Err(ConfirmError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

struct Scraped(Registry);

impl Scraped {
    fn of(node: &RabbitMqBroker) -> Self {
        let mut registry = Registry::default();
        node.register(&mut registry);
        Self(registry)
    }

    #[track_caller]
    fn value(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

async fn node() -> RabbitMqBroker {
    broker_up(config(&testkit::rabbitmq().await.uri())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_where_its_exchange_sends_it() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let none = FieldTable::default;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let direct = application.exchange(ExchangeKind::Direct, false).await;
    let topics = application.exchange(ExchangeKind::Topic, false).await;
    let headers = application.exchange(ExchangeKind::Headers, false).await;
    let mut colour = entry("colour", "red");
    colour.insert("x-match".into(), AMQPValue::LongString("all".into()));
    for (exchange, bound, key, arguments) in [
        (&fanout, "", "", none()),
        (&fanout, "", "a.b", none()),
        (&direct, "k/\u{fc}", "k/\u{fc}", none()),
        (&direct, "", "", none()),
        (&topics, "a.*", "a.b", none()),
        (&headers, "", "whatever", colour),
    ] {
        let mut consumer = application.bound(exchange, bound, arguments).await;
        let mut message = Message::new(to(exchange, key), format!("{exchange} {key}"));
        message.headers =
            vec![("colour".into(), "red".into()), ("content-type".into(), "text/plain".into())];
        message.persistent = true;
        let confirm = soon(node.publish(PublisherId(1), message)).await.unwrap();
        assert_eq!(soon(confirm).await, Ok(()));
        let delivery = next(&mut consumer).await;
        assert_eq!(text(&delivery), format!("{exchange} {key}"));
        assert_eq!(delivery.exchange.as_str(), exchange);
        assert_eq!(delivery.routing_key.as_str(), key);
        let properties = &delivery.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        let table = properties.headers().clone().unwrap();
        assert_eq!(table.inner().get("colour"), entry("colour", "red").inner().get("colour"));
    }
    // Nobody takes these, and that is no error.
    assert_eq!(word(&node, &to(&direct, "elsewhere")).await, Ok(()));
    assert_eq!(word(&node, &to(&headers, "")).await, Ok(()));
    // Nor is it that RabbitMQ has had all of them from the start.
    for exchange in ["amq.direct", "amq.fanout", "amq.headers", "amq.match"] {
        assert_eq!(word(&node, &to(exchange, "a")).await, Ok(()), "{exchange}");
    }
    assert_eq!(Scraped::of(&node).value("amqp_exchange_proofs_total{answer=\"yes\"}"), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_an_exchange_delivers_nothing() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    for n in 0..3 {
        // Each asks anew: what a connection knew is not known to the next node.
        let node = broker_up(config(&rabbitmq.uri())).await;
        soon(publish(&node, 1, &to(&fanout, ""), n.to_string()).await).await.unwrap();
        assert_eq!(text(&next(&mut consumer).await), n.to_string());
    }
    soon(publish(&node, 1, &to(&fanout, ""), "end").await).await.unwrap();
    assert_eq!(text(&next(&mut consumer).await), "end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_does_not_take_is_refused_by_its_reason() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    assert_eq!(
        refusal(word(&node, &to("nope", "a")).await),
        "NOT_FOUND - no exchange 'nope' in vhost '/'"
    );
    let internal = application.exchange(ExchangeKind::Fanout, true).await;
    for internal in [&*internal, "amq.rabbitmq.trace"] {
        let why = refusal(word(&node, &to(internal, "")).await);
        let expected = format!("ACCESS_REFUSED - cannot publish to internal exchange '{internal}'");
        assert!(why.starts_with(&expected), "{why}");
    }
    // RabbitMQ is asked once in a while.
    for _ in 0..10 {
        refusal(word(&node, &to("nope", "b")).await);
    }
    let metrics = Scraped::of(&node);
    assert!(metrics.value("amqp_exchange_proofs_total{answer=\"no\"}") <= 5);
    // What comes into being is had soon.
    let late = format!("test-{}", Ulid::generate());
    refusal(word(&node, &to(&late, "")).await);
    let none = FieldTable::default();
    let options = ExchangeDeclareOptions::default();
    let declare =
        application.channel.exchange_declare((&*late).into(), ExchangeKind::Fanout, options, none);
    declare.await.unwrap();
    soon(async {
        while let Err(refused) = word(&node, &to(&late, "")).await {
            assert!(matches!(refused, ConfirmError::Refused(_)), "{refused:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_the_node_may_not_write_to_disturbs_nobody() {
    let rabbitmq = testkit::rabbitmq().await;
    let application = Application::of(rabbitmq).await;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let user = format!("user-{}", Ulid::generate());
    rabbitmq.ctl(&["add_user", &user, "secret"]).await.unwrap();
    let write = "^(amq\\.topic|amq\\.default|test-allowed.*|footbridge.*)$";
    rabbitmq.ctl(&["set_permissions", &user, ".*", write, ".*"]).await.unwrap();
    let uri = rabbitmq.uri().replace("guest:guest", &format!("{user}:secret"));
    let node = broker_up(config(&uri)).await;
    let expected = format!(
        "ACCESS_REFUSED - access to exchange '{fanout}' in vhost '/' refused for user '{user}'"
    );
    assert_eq!(refusal(word(&node, &to(&fanout, "")).await), expected);
    assert_eq!(word(&node, &topic()).await, Ok(()));
}

/// RabbitMQ can be told which keys a user may publish with, for each exchange of type topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_node_may_not_write_is_refused_alone() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let application = Application::of(&rabbitmq).await;
    let topics = application.exchange(ExchangeKind::Topic, false).await;
    let mut consumer = application.bound(&topics, "#", FieldTable::default()).await;
    rabbitmq.ctl(&["add_user", "limited", "secret"]).await.unwrap();
    rabbitmq.ctl(&["set_permissions", "limited", ".*", ".*", ".*"]).await.unwrap();
    for exchange in [&*topics, "amq.topic"] {
        let permit = ["set_topic_permissions", "limited", exchange, "^good", ".*"];
        rabbitmq.ctl(&permit).await.unwrap();
    }
    let uri = rabbitmq.uri().replace("guest:guest", "limited:secret");
    let node = broker_up(config(&uri)).await;
    let (good, bad) = (to(&topics, "good.a"), to(&topics, "bad.a"));
    let channels = ["list_channels", "-q", "--no-table-headers", "pid", "connection"];
    let (mut channels_of_lanes, mut end) = (String::new(), 0);
    // What is refused is remembered, and asked for again: each way shows the same.
    for round in 0..3 {
        let mut confirms = Vec::new();
        for n in 0..20 {
            for to in [&good, &bad] {
                let body = (20 * round + n).to_string();
                confirms.push((to, publish(&node, 1, to, body).await));
            }
        }
        for (to, confirm) in confirms {
            let word = soon(confirm).await;
            if *to == good {
                assert_eq!(word, Ok(()));
            } else {
                let why = refusal(word);
                assert!(why.starts_with("ACCESS_REFUSED - access to topic 'bad.a' in"), "{why}");
            }
        }
        for _ in 0..20 {
            let delivery = next(&mut consumer).await;
            assert_eq!(text(&delivery), end.to_string());
            let table = delivery.properties.headers().clone().unwrap();
            assert!(!table.inner().contains_key("x-footbridge-republished"));
            end += 1;
        }
        let now = rabbitmq.ctl(&channels).await.unwrap();
        if round == 0 {
            channels_of_lanes = now;
        } else {
            assert_eq!(now, channels_of_lanes, "a channel was closed");
        }
    }
    // Topics are not asked for before one was refused.
    let (good, bad) = (destination("/topic/good.a"), destination("/topic/bad.a"));
    let mut subscription = subscribe(&node, &good).await;
    refusal(word(&node, &bad).await);
    let before = rabbitmq.ctl(&channels).await.unwrap();
    for _ in 0..3 {
        refusal(word(&node, &bad).await);
        assert_eq!(word(&node, &good).await, Ok(()));
        assert_eq!(body(&take(&mut subscription).await), "hi");
    }
    assert_eq!(rabbitmq.ctl(&channels).await.unwrap(), before, "a channel was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exchange_of_the_topics_is_the_topics() {
    let node = node().await;
    let topic = topic();
    let Destination::Topic(named) = &topic else { panic!("a topic") };
    let by_exchange = to("amq.topic", named.key());
    let mut subscription = subscribe(&node, &topic).await;
    let mut confirms = Vec::new();
    for n in 0..100 {
        let to = [&topic, &by_exchange][n % 2];
        confirms.push(publish(&node, 1, to, n.to_string()).await);
    }
    for n in 0..100 {
        let delivery = take(&mut subscription).await;
        assert_eq!(body(&delivery), n.to_string(), "one order for both");
        assert_eq!(delivery.message.destination, topic);
    }
    for confirm in confirms {
        assert_eq!(soon(confirm).await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_not_for_clients_are_refused_with_the_reason() {
    let rabbitmq = testkit::rabbitmq().await;
    let boot = Ulid::generate();
    let node = RabbitMqBroker::new(config(&rabbitmq.uri()), boot);
    until(&node, |link| *link == Link::Up).await;
    let amq_queue = |name: &str| Destination::AmqQueue(name.into());
    let reply_queue = |name: &str| Destination::ReplyQueue(name.into());
    assert!(misnamed(&node, to("", "q")).await.contains("use a queue"));
    for destination in [
        to("footbridge.direct", "all"),
        to("footbridge.to", "user.ann"),
        amq_queue(&format!("footbridge.topic.{boot}.1")),
        reply_queue(&format!("footbridge.topic.{boot}.1")),
    ] {
        assert!(misnamed(&node, destination).await.contains("use another name"));
    }
    let long = "x".repeat(256);
    for destination in
        [to(&long, ""), to("amq.fanout", &long), amq_queue(&long), reply_queue(&long)]
    {
        let refused = node.publish(PublisherId(1), Message::new(destination, "")).await;
        assert!(
            matches!(&refused, Err(PublishError::Unfit(why)) if why.contains("255 bytes")),
            "{refused:?}"
        );
    }
    assert_eq!(word(&node, &to("amq.fanout", &long[1..])).await, Ok(()));
    let temporary = Destination::TempQueue("t".into());
    let refused = node.publish(PublisherId(1), Message::new(temporary, "")).await;
    assert!(matches!(refused, Err(PublishError::Unsupported { kind: "temp-queue", .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_others_takes_messages_and_is_never_declared() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let queue = application.queue().await;
    assert!(queue.starts_with("amq.gen-"), "{queue}");
    let mut consumer = application.consume(&queue).await;
    let missing = format!("test-{}", Ulid::generate());
    let destinations = [&missing, &queue].map(|name| Destination::AmqQueue((&**name).into()));
    let mut confirms = Vec::new();
    for n in 0..200 {
        confirms.push(publish(&node, 1, &destinations[n % 2], n.to_string()).await);
    }
    for (n, confirm) in confirms.into_iter().enumerate() {
        let expected = if n % 2 == 0 { Err(ConfirmError::Unroutable) } else { Ok(()) };
        assert_eq!(soon(confirm).await, expected, "{n}");
    }
    for n in (1..200).step_by(2) {
        assert_eq!(text(&next(&mut consumer).await), n.to_string());
    }
    assert_eq!(Application::length(rabbitmq, &missing).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_reaches_who_asked_and_is_dropped_if_they_have_gone() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let queue = application.queue().await;
    let mut replies = application.consume(&queue).await;
    let gone = format!("test-{}", Ulid::generate());
    for name in [&gone, &queue, &gone] {
        let to = Destination::ReplyQueue((&**name).into());
        assert_eq!(word(&node, &to).await, Ok(()), "{name}");
    }
    assert_eq!(text(&next(&mut replies).await), "hi");
    assert_eq!(Application::length(rabbitmq, &gone).await, None);
}

/// Each of these names ends the connection of whoever publishes to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_reply_goes_only_to_who_asked_here() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let (application, node) =
        (Application::of(&rabbitmq).await, broker_up(config(&rabbitmq.uri())).await);
    let metrics = Scraped::of(&node);
    let direct = "amq.rabbitmq.reply-to";
    let mut replies = application.consume(direct).await;
    let (topic, queue) = (topic(), queue());
    let mut topics = subscribe(&node, &topic).await;
    let mut queues = subscribe(&node, &queue).await;
    let Destination::Topic(named) = &topic else { panic!("a topic") };
    let Destination::Queue(queue) = &queue else { panic!("a queue") };
    let mut asked = String::new();
    for (exchange, key, requests) in
        [("amq.topic", &**named.key(), &mut topics), ("", &**queue, &mut queues)]
    {
        let properties = BasicProperties::default().with_reply_to(direct.into());
        let (options, exchange) = (BasicPublishOptions::default(), exchange.into());
        let ask =
            application.channel.basic_publish(exchange, key.into(), options, b"?", properties);
        ask.await.unwrap();
        let request = take(requests).await;
        let headers = &request.message.headers;
        let reply_to = headers.iter().find(|(name, _)| **name == *"reply-to").unwrap();
        asked = reply_to.1.to_string();
        request.settle(Outcome::Ack);
        assert_eq!(word(&node, &destination(&asked)).await, Ok(()));
        assert_eq!(text(&next(&mut replies).await), "hi");
    }
    let reply = asked.strip_prefix("/reply-queue/").unwrap();
    let (_, key) = reply.rsplit_once('.').unwrap();
    for forged in [
        format!("{direct}.x.y"),
        format!("{direct}.abcd.{key}"),
        format!("{direct}."),
        format!("{reply}x"),
        reply.replace(key, "AAAA"),
    ] {
        let why = misnamed(&node, Destination::ReplyQueue((&*forged).into())).await;
        assert!(why.contains("only to what has come here"), "{why}");
        let why = misnamed(&node, Destination::AmqQueue((&*forged).into())).await;
        assert!(why.contains("name it as a reply queue"), "{why}");
    }
    // An application writes what it likes into a property.
    for forged in [format!("{direct}.x.y"), format!("{direct}.abcd.{key}")] {
        let properties = BasicProperties::default().with_reply_to((&*forged).into());
        let (options, key) = (BasicPublishOptions::default(), (&**queue).into());
        application.channel.basic_publish("".into(), key, options, b"?", properties).await.unwrap();
        take(&mut queues).await.settle(Outcome::Ack);
        misnamed(&node, Destination::ReplyQueue((&*forged).into())).await;
    }
    // Who asked has gone.
    let closed = application.connection.close(200, "".into());
    closed.await.unwrap();
    assert_eq!(word(&node, &destination(&asked)).await, Ok(()));
    assert_eq!(metrics.value("amqp_reconnects_total{connection=\"publish\"}"), 0);
}

/// While exchanges are deleted under those who publish to them, the others get what they were sent
/// once, and their connections stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_goes_disturbs_nobody() {
    let rabbitmq = testkit::rabbitmq().await;
    let application = Application::of(rabbitmq).await;
    let node = node().await;
    let metrics = Scraped::of(&node);
    let (topic, queue) = (topic(), queue());
    let mut topics = subscribe(&node, &topic).await;
    let mut queues = subscribe(&node, &queue).await;
    let mut others: Vec<Confirm> = Vec::new();
    let (mut refused, mut taken) = (0, 0);
    for round in 0..5 {
        let fanout = application.exchange(ExchangeKind::Fanout, false).await;
        // It is known to be there from now on.
        assert_eq!(word(&node, &to(&fanout, "")).await, Ok(()));
        let mut confirms = Vec::new();
        for n in 0..40 {
            if n == 20 {
                application.delete(&fanout).await;
            }
            // All by one publisher, so by lanes of one number.
            confirms.push(publish(&node, 1, &to(&fanout, ""), n.to_string()).await);
            for to in [&topic, &queue] {
                others.push(publish(&node, 1, to, (40 * round + n).to_string()).await);
            }
        }
        for confirm in confirms {
            match soon(confirm).await {
                Ok(()) => taken += 1,
                Err(ConfirmError::Refused(why)) => {
                    assert_eq!(why, format!("NOT_FOUND - no exchange '{fanout}' in vhost '/'"));
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    for confirm in others {
        assert_eq!(soon(confirm).await, Ok(()));
    }
    assert!(refused >= 5 * 20, "{refused} refused, {taken} taken");
    for subscription in [&mut topics, &mut queues] {
        for n in 0..200 {
            let delivery = take(subscription).await;
            assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
            delivery.settle(Outcome::Ack);
        }
    }
    for connection in ["publish", "consume"] {
        let name = format!("amqp_reconnects_total{{connection=\"{connection}\"}}");
        assert_eq!(metrics.value(&name), 0);
    }
    soon(node.delete(&queue)).await.unwrap();
}

/// More refusals than a connection has channels, each of another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_without_end_use_nothing_up() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    let application = Application::of(&rabbitmq).await;
    let metrics = Scraped::of(&node);
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    let topic = topic();
    let mut topics = subscribe(&node, &topic).await;
    for hundred in 0..21 {
        let mut confirms = Vec::new();
        for n in 0..100 {
            let missing = to(&format!("nope-{hundred}-{n}"), "");
            confirms.push(publish(&node, n, &missing, "").await);
        }
        let good = [
            publish(&node, 1, &topic, "on").await,
            publish(&node, 1, &to(&fanout, ""), "on").await,
        ];
        for confirm in confirms {
            assert!(refusal(soon(confirm).await).starts_with("NOT_FOUND - no exchange 'nope-"));
        }
        for confirm in good {
            assert_eq!(soon(confirm).await, Ok(()));
        }
        assert_eq!(text(&next(&mut consumer).await), "on");
        let delivery = take(&mut topics).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("on", false));
    }
    assert!(metrics.value("amqp_exchange_proofs_total{answer=\"no\"}") >= 2_100);
    for connection in ["publish", "consume"] {
        let name = format!("amqp_reconnects_total{{connection=\"{connection}\"}}");
        assert_eq!(metrics.value(&name), 0);
    }
    assert_eq!(metrics.value("amqp_republished_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_publisher_keeps_its_order_to_each_exchange() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let mut destinations = Vec::new();
    let mut consumers = Vec::new();
    for _ in 0..3 {
        let direct = application.exchange(ExchangeKind::Direct, false).await;
        let queue = application.queue().await;
        for key in ["a", "b"] {
            application.bind(&queue, &direct, key, FieldTable::default()).await;
        }
        consumers.push(application.consume(&queue).await);
        destinations.push(direct);
    }
    let queue = application.queue().await;
    consumers.push(application.consume(&queue).await);
    let (queue, missing) = (Destination::ReplyQueue((&*queue).into()), to("nope", ""));
    let mut confirms = Vec::new();
    for n in 0..200 {
        for publisher in 0..5 {
            let body = || format!("{publisher}:{n}");
            let key = ["a", "b"][n % 2];
            for exchange in &destinations {
                let to = to(exchange, key);
                confirms.push((true, publish(&node, publisher, &to, body()).await));
            }
            confirms.push((true, publish(&node, publisher, &queue, body()).await));
            confirms.push((false, publish(&node, publisher, &missing, body()).await));
        }
    }
    for (is_there, confirm) in confirms {
        assert_eq!(soon(confirm).await.is_ok(), is_there);
    }
    for consumer in &mut consumers {
        let mut expected = [0; 5];
        for _ in 0..5 * 200 {
            let text = text(&next(consumer).await);
            let (publisher, n) = text.split_once(':').unwrap();
            let expected = &mut expected[publisher.parse::<usize>().unwrap()];
            assert_eq!(n.parse(), Ok(*expected));
            *expected += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_connection_did_not_confirm_is_published_again_and_marked() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.unwrap();
    let node = Arc::new(broker_up(config(&rabbitmq.uri_at(proxy.port()))).await);
    let application = Application::of(rabbitmq).await;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    let queue = application.queue().await;
    let mut queued = application.consume(&queue).await;
    let destinations = [to(&fanout, ""), Destination::AmqQueue((&*queue).into())];
    let publishing = tokio::spawn({
        let node = node.clone();
        async move {
            for hundred in 0..20 {
                let mut confirms = Vec::new();
                for n in 0..100 {
                    for to in &destinations {
                        let body = (100 * hundred + n).to_string();
                        confirms.push(publish(&node, 1, to, body).await);
                    }
                }
                for confirm in confirms {
                    assert_eq!(soon(confirm).await, Ok(()));
                }
            }
        }
    });
    let mut breaks = 0;
    let (mut expected, mut expected_queued) = (0, 0);
    while expected < 2_000 || expected_queued < 2_000 {
        let (delivery, expected) = tokio::select! {
            delivery = next(&mut consumer), if expected < 2_000 => (delivery, &mut expected),
            delivery = next(&mut queued), if expected_queued < 2_000 => (delivery, &mut expected_queued),
        };
        let n: i32 = text(&delivery).parse().unwrap();
        let table = delivery.properties.headers().clone().unwrap();
        let marked = table.inner().contains_key("x-footbridge-republished");
        assert!(n == *expected || (n < *expected && marked), "{n}, {expected}, {marked}");
        *expected = (*expected).max(n + 1);
        if *expected > 500 * (breaks + 1) && breaks < 3 {
            breaks += 1;
            proxy.drop_connections().await;
        }
    }
    soon(publishing).await.unwrap();
    assert_eq!(breaks, 3);
}

/// An alarm blocks a connection that publishes, and whoever asks publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_during_an_alarm_stops_no_consumer() {
    let mut rabbitmq = RabbitMq::start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    let application = Application::of(&rabbitmq).await;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    let queue = queue();
    for n in 0..3 {
        soon(publish(&node, 1, &queue, n.to_string()).await).await.unwrap();
    }
    rabbitmq.alarm(true).await.unwrap();
    let held = publish(&node, 1, &to(&fanout, ""), "later").await;
    let blocked = publish(&node, 1, &topic(), "later").await;
    until(&node, |link| matches!(link, Link::Blocked(_))).await;
    // Acks go through: with a prefetch of one each makes room for the next.
    let request = broker::SubscribeRequest::new(queue.clone(), 1);
    let mut subscription = soon(node.subscribe(request)).await.unwrap();
    for n in 0..3 {
        let delivery = take(&mut subscription).await;
        assert_eq!(body(&delivery), n.to_string());
        delivery.settle(Outcome::Ack);
    }
    rabbitmq.alarm(false).await.unwrap();
    assert_eq!(soon(held).await, Ok(()));
    assert_eq!(soon(blocked).await, Ok(()));
    assert_eq!(text(&next(&mut consumer).await), "later");
}
