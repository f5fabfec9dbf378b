//! A service that consumes a queue of RabbitMQ's: a plain AMQP application.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;

use application::Routes;
use broker::{Broker, Link};
use broker_rabbitmq::RabbitMqBroker;
use futures_util::StreamExt;
use gateway::application::{Answer, Application as _, CallError, To};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use support::{PATIENCE, call, routes_over, soon};
use tokio::task::JoinHandle;
use ulid::Ulid;

/// An AMQP application, and routes that lead to its queue.
struct Bench {
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
    queue: String,
    routes: Arc<Routes>,
    broker: Arc<dyn Broker>,
}

impl Bench {
    async fn new(more: &str) -> Self {
        let rabbitmq = testkit::rabbitmq().await;
        let config = broker_rabbitmq::Config {
            uris: vec![rabbitmq.uri().as_str().into()],
            publish_timeout: PATIENCE,
            subscribe_timeout: PATIENCE,
            ..broker_rabbitmq::Config::default()
        };
        let broker: Arc<dyn Broker> = Arc::new(RabbitMqBroker::new(config, Ulid::generate()));
        let mut state = broker.state();
        soon(async { state.wait_for(|state| state.link == Link::Up).await.map(drop) })
            .await
            .unwrap();
        let queue = format!("test-{}", Ulid::generate());
        let route = format!("[[routes]]\nprefix = '/app'\nqueue = '{queue}'\n{more}");
        let routes = routes_over(Arc::clone(&broker), &route);
        let uri = rabbitmq.uri();
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        // As it is declared where clients send to a queue.
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare((&*queue).into(), durable, FieldTable::default()).await.unwrap();
        let acked = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel
            .basic_consume((&*queue).into(), "".into(), acked, FieldTable::default())
            .await
            .unwrap();
        Self { _connection: connection, channel, consumer, queue, routes, broker }
    }

    fn ask(&self, path: &str, body: &'static str) -> JoinHandle<Result<Vec<Answer>, CallError>> {
        let (routes, call) = (Arc::clone(&self.routes), call(path, body));
        tokio::spawn(async move { routes.message(call).await })
    }

    async fn next(&mut self) -> Delivery {
        soon(self.consumer.next()).await.unwrap().unwrap()
    }

    /// Replies as any AMQP application does: to the default exchange, by the name in `reply-to`.
    async fn reply(&self, to: &Delivery, id: &str, headers: &[(&str, &str)], body: &str) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let properties =
            BasicProperties::default().with_correlation_id(id.into()).with_headers(table);
        let queue = to.properties.reply_to().clone().unwrap();
        let options = BasicPublishOptions::default();
        self.channel
            .basic_publish("".into(), queue, options, body.as_bytes(), properties)
            .await
            .unwrap();
    }
}

fn id(delivery: &Delivery) -> String {
    delivery.properties.correlation_id().clone().unwrap().to_string()
}

fn header(delivery: &Delivery, name: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn one(answers: Result<Vec<Answer>, CallError>) -> (To, String) {
    let Answer { to, content } = answers.unwrap().remove(0);
    (to, String::from_utf8(content.body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_says_who_makes_it_and_the_reply_is_its_own() {
    let mut bench = Bench::new("timeout = '1m'").await;
    let (first, second) = (bench.ask("chat/say", "1"), bench.ask("chat/say", "2"));
    let mut deliveries = [bench.next().await, bench.next().await];
    deliveries.sort_by_key(|delivery| delivery.data.clone());
    for (name, value) in [
        ("x-footbridge-user", "ann"),
        ("x-footbridge-authenticated", "false"),
        ("x-footbridge-session", "0123456789ABCDEFGHIJKLMNOPQRST"),
        ("x-footbridge-destination", "/app/chat/say"),
        ("x-footbridge-call", "message"),
        ("kind", "own"),
    ] {
        assert_eq!(header(&deliveries[0], name).as_deref(), Some(value), "{name}");
    }
    let content_type = deliveries[0].properties.content_type().clone().unwrap();
    assert_eq!(content_type.as_str(), "text/x");
    assert!(deliveries[0].properties.expiration().is_some());
    // In the other order, and with one that belongs to nobody.
    bench
        .reply(&deliveries[1], &id(&deliveries[1]), &[("destination", "/user/queue/b")], "two")
        .await;
    bench.reply(&deliveries[0], "nobody's", &[], "no").await;
    bench.reply(&deliveries[0], &id(&deliveries[0]), &[], "one").await;
    assert_eq!(one(soon(second).await.unwrap()), (To::Session("/queue/b".into()), "two".into()));
    assert_eq!(
        one(soon(first).await.unwrap()),
        (To::Session("/queue/replies".into()), "one".into())
    );
    // Twice is once.
    bench.reply(&deliveries[0], &id(&deliveries[0]), &[], "again").await;
    let third = bench.ask("x", "3");
    let delivery = bench.next().await;
    bench.reply(&delivery, &id(&delivery), &[("destination", "/topic/a")], "three").await;
    assert_eq!(
        one(soon(third).await.unwrap()),
        (To::Destination("/topic/a".into()), "three".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_a_bare_reply_and_an_answer_to_a_subscription() {
    let mut bench = Bench::new("timeout = '1m'").await;
    let refused = bench.ask("x", "1");
    let delivery = bench.next().await;
    bench.reply(&delivery, &id(&delivery), &[("error", "full")], "no room").await;
    let error = CallError::Refused { code: "full".into(), message: "no room".into() };
    assert_eq!(soon(refused).await.unwrap(), Err(error));
    let done = bench.ask("x", "2");
    let delivery = bench.next().await;
    bench.reply(&delivery, &id(&delivery), &[], "").await;
    assert_eq!(soon(done).await.unwrap(), Ok(Vec::new()));
    let routes = Arc::clone(&bench.routes);
    let asked = tokio::spawn(async move { routes.subscribe(call("history", "")).await });
    let delivery = bench.next().await;
    assert_eq!(header(&delivery, "x-footbridge-call").as_deref(), Some("subscribe"));
    bench.reply(&delivery, &id(&delivery), &[], "[1]").await;
    let contents = soon(asked).await.unwrap().unwrap();
    assert_eq!((contents.len(), &contents[0].body[..]), (1, &b"[1]"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_reply_is_given_up_and_what_it_says_later_is_dropped() {
    let mut bench = Bench::new("timeout = '500ms'").await;
    // The queue for replies is there after the first call, however long that takes.
    let late = loop {
        match soon(bench.ask("x", "late")).await.unwrap() {
            Err(CallError::TimedOut) => break bench.next().await,
            Err(CallError::Unavailable) => {}
            other => panic!("{other:?}"),
        }
    };
    bench.reply(&late, &id(&late), &[], "too late").await;
    let next = bench.ask("x", "next");
    loop {
        let delivery = bench.next().await;
        if &delivery.data[..] == b"next" {
            bench.reply(&delivery, &id(&delivery), &[], "in time").await;
            break;
        }
    }
    match soon(next).await.unwrap() {
        Err(CallError::TimedOut) => {}
        answered => assert_eq!(one(answered).1, "in time"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_replies_a_call_is_done_once_the_queue_has_it() {
    let mut bench = Bench::new("reply = false\ntimeout = '1m'").await;
    assert_eq!(soon(bench.ask("x", "1")).await.unwrap(), Ok(Vec::new()));
    let delivery = bench.next().await;
    assert_eq!(delivery.properties.reply_to().as_ref(), None);
    assert_eq!(*delivery.properties.delivery_mode(), Some(2), "it survives a restart");
}

/// What a client sends into the service's queue itself, where rules let it, is no call of the gateway's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_to_the_queue_directly_is_nobody() {
    use broker::{Destination, Message, PublisherId};
    let mut bench = Bench::new("").await;
    let mut message = Message::new(Destination::Queue((&*bench.queue).into()), "x");
    // A gateway has taken reserved names away by now; this is what is left.
    message.headers = vec![("kind".into(), "own".into())];
    soon(bench.broker.publish(PublisherId(1), message)).await.unwrap().await.unwrap();
    let delivery = bench.next().await;
    assert_eq!(header(&delivery, "x-footbridge-user"), None);
    assert_eq!(header(&delivery, "x-footbridge-call"), None);
}
