//! Messages whose properties no client library would write, from a publisher that writes its frames by
//! hand. They are delivered, mended, and so is everything after them, on the same connection.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;

use broker::{Broker, BrokerState, Destination, Link, Outcome, Subscription};
use broker_rabbitmq::RabbitMqBroker;
use common::{
    body, broker_up, config, destination, publish, queue, soon, subscribe, take, topic, until,
};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// Where in the flags of a content header a property is announced.
const HEADERS: u16 = 1 << 13;
const CORRELATION_ID: u16 = 1 << 10;

/// A publisher that writes whatever it is told to.
struct Publisher(TcpStream);

/// What it publishes: the key, the flags and bytes of the properties, the body.
struct Odd {
    key: Vec<u8>,
    flags: u16,
    properties: Vec<u8>,
    body: &'static str,
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

impl Publisher {
    async fn connect() -> Self {
        let port = testkit::rabbitmq().await.port();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut publisher = Self(stream);
        publisher.0.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
        publisher.read().await;
        let login = [long(b""), short(b"PLAIN"), long(b"\0guest\0guest"), short(b"en_US")];
        publisher.method(0, [10, 11], &login.concat()).await;
        publisher.read().await;
        publisher.method(0, [10, 31], &[7, 255, 0, 2, 0, 0, 0, 0]).await;
        publisher.method(0, [10, 40], &[short(b"/"), short(b""), vec![0]].concat()).await;
        publisher.read().await;
        publisher.method(1, [20, 10], &short(b"")).await;
        publisher.read().await;
        publisher
    }

    async fn publish(&mut self, exchange: &str, odd: &Odd) {
        let publish = [&[0, 0], &short(exchange.as_bytes())[..], &short(&odd.key), &[0]];
        self.method(1, [60, 40], &publish.concat()).await;
        let length = (odd.body.len() as u64).to_be_bytes();
        let flags = odd.flags.to_be_bytes();
        let header = [&[0, 60, 0, 0], &length[..], &flags, &odd.properties].concat();
        self.frame(HEADER, 1, &header).await;
        self.frame(BODY, 1, odd.body.as_bytes()).await;
    }

    /// Waits until RabbitMQ has taken what was published. It closes the channel if it refused any.
    async fn taken(&mut self) {
        // confirm.select, and its answer.
        self.method(1, [85, 10], &[0]).await;
        assert_eq!(self.read().await[..4], [0, 85, 0, 11]);
    }

    async fn method(&mut self, channel: u8, [class, method]: [u8; 2], arguments: &[u8]) {
        self.frame(METHOD, channel, &[&[0, class, 0, method], arguments].concat()).await;
    }

    async fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        let frame = [&[kind, 0, channel], &long(payload)[..], &[0xce]].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// The payload of the next frame.
    async fn read(&mut self) -> Vec<u8> {
        let mut head = [0; 7];
        soon(self.0.read_exact(&mut head)).await.unwrap();
        let [.., a, b, c, d] = head;
        let mut payload = vec![0; u32::from_be_bytes([a, b, c, d]) as usize + 1];
        soon(self.0.read_exact(&mut payload)).await.unwrap();
        payload
    }
}

/// One of each kind, with a key that begins with `key`; only a topic's may go on.
fn all_kinds(key: &str, goes_on: bool) -> Vec<Odd> {
    let mut nested = b"V".to_vec();
    for _ in 0..10_000 {
        nested = [b"A".to_vec(), long(&nested)].concat();
    }
    let text = [b"S", &long(b"v")[..]].concat();
    let table = |name: &[u8], value: &[u8]| long(&[&short(name)[..], value].concat());
    let odd = |flags, properties, body| Odd { key: key.into(), flags, properties, body };
    let mut all = vec![
        odd(CORRELATION_ID, short(b"c\xff"), "correlation id"),
        odd(HEADERS, table(b"na\xefve", &text), "header name"),
        odd(HEADERS, table(b"deep", &nested), "nested"),
    ];
    if goes_on {
        let key = [key.as_bytes(), b".\xff\xfe"].concat();
        all.push(Odd { key, flags: 0, properties: Vec::new(), body: "key" });
    }
    all
}

fn key(topic: &Destination) -> String {
    match topic {
        Destination::Topic(topic) => topic.key().to_string(),
        other => panic!("{other} is no topic"),
    }
}

async fn node() -> RabbitMqBroker {
    broker_up(config(&testkit::rabbitmq().await.uri())).await
}

/// The state of a node that is up, to see whether it changes from now on.
fn up(node: &RabbitMqBroker) -> Receiver<BrokerState> {
    let mut state = node.state();
    assert_eq!(state.borrow_and_update().link, Link::Up);
    state
}

/// Takes `count` deliveries, acks them, and gives the destination and headers of each by its body.
async fn take_all(
    from: &mut Subscription,
    count: usize,
) -> BTreeMap<String, (String, BTreeMap<String, String>)> {
    let mut taken = BTreeMap::new();
    for _ in 0..count {
        let delivery = take(from).await;
        let headers = delivery.message.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let to = delivery.message.destination.to_string();
        taken.insert(body(&delivery), (to, headers));
        delivery.settle(Outcome::Ack);
    }
    taken
}

fn header(name: &str, value: &str) -> BTreeMap<String, String> {
    [(name.to_owned(), value.to_owned())].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_go_on_after_odd_messages_on_the_same_connection() {
    let node = node().await;
    let topic = topic();
    let mut subscription = subscribe(&node, &destination(&format!("{topic}.#"))).await;
    let state = up(&node);
    let mut publisher = Publisher::connect().await;
    for odd in all_kinds(&key(&topic), true) {
        publisher.publish("amq.topic", &odd).await;
    }
    publisher.taken().await;
    soon(publish(&node, 1, &topic, "after").await).await.unwrap();

    let taken = take_all(&mut subscription, 5).await;
    assert_eq!(taken["key"].0, format!("{topic}.??"));
    assert_eq!(taken["correlation id"].1, header("correlation-id", "c?"));
    assert_eq!(taken["header name"].1, header("na?ve", "v"));
    assert_eq!(taken["nested"].1, BTreeMap::new(), "what is nested is not shown, however deep");
    assert!(taken.contains_key("after"));
    assert!(!state.has_changed().unwrap(), "{:?}", *state.borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_consumed_past_odd_messages_on_the_same_connection() {
    let node = node().await;
    let queue = queue();
    let Destination::Queue(name) = &queue else { panic!("{queue} is no queue") };
    soon(publish(&node, 1, &queue, "before").await).await.unwrap();
    let mut publisher = Publisher::connect().await;
    for odd in all_kinds(name, false) {
        publisher.publish("", &odd).await;
    }
    publisher.taken().await;
    soon(publish(&node, 1, &queue, "after").await).await.unwrap();
    let state = up(&node);

    // Dropped unsettled, they come again.
    for round in 0..2 {
        let mut subscription = subscribe(&node, &queue).await;
        if round == 0 {
            take(&mut subscription).await;
            continue;
        }
        let taken = take_all(&mut subscription, 5).await;
        assert_eq!(taken["correlation id"].1, header("correlation-id", "c?"));
        assert_eq!(taken["header name"].1, header("na?ve", "v"));
        assert!(taken.contains_key("before") && taken.contains_key("after"));
    }
    assert!(!state.has_changed().unwrap(), "{:?}", *state.borrow());
    soon(node.delete(&queue)).await.unwrap();
}

/// RabbitMQ writes into the headers why a message was dead-lettered, whether it fits or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_headers_outgrew_a_frame_comes_without_them() {
    let node = node().await;
    let topic = topic();
    let mut subscription = subscribe(&node, &topic).await;
    let state = up(&node);
    let uri = testkit::rabbitmq().await.uri();
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(0));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("amq.topic".into()));
    let dead_key = AMQPValue::LongString(key(&topic).into());
    arguments.insert("x-dead-letter-routing-key".into(), dead_key);
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let dying = channel.queue_declare("".into(), exclusive, arguments).await.unwrap();

    let mut publisher = Publisher::connect().await;
    let filler = [short(b"n"), b"S".to_vec(), long(&[b'x'; 130_900])].concat();
    let name = dying.name().as_str();
    let odd = Odd { key: name.into(), flags: HEADERS, properties: long(&filler), body: "large" };
    publisher.publish("", &odd).await;
    publisher.taken().await;
    let large = take(&mut subscription).await;
    assert_eq!(body(&large), "large");
    assert_eq!(large.message.headers.len(), 0);
    soon(publish(&node, 1, &topic, "after").await).await.unwrap();
    assert_eq!(body(&take(&mut subscription).await), "after");
    assert!(!state.has_changed().unwrap(), "{:?}", *state.borrow());
}

/// What a publisher's header is called that [`Spoiler`] spoils, with the length before it, and the type
/// after it.
const MARKED: &[u8] = b"\x05spoilS";

/// Between a node and RabbitMQ: gives each header of that name a type that there is not.
struct Spoiler {
    port: u16,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Spoiler {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Spoiler {
    async fn start() -> Self {
        let rabbitmq = testkit::rabbitmq().await.port();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let running = tokio::spawn(async move {
            // Dropped, and so aborted, with this task.
            let mut connections = JoinSet::new();
            while let Ok((node, _)) = listener.accept().await {
                let rabbitmq = TcpStream::connect(("127.0.0.1", rabbitmq)).await.unwrap();
                connections.spawn(Self::relay(node, rabbitmq));
            }
        });
        Self { port, running }
    }

    async fn relay(node: TcpStream, rabbitmq: TcpStream) {
        let ((mut from_node, mut to_node), (mut from_rabbitmq, mut to_rabbitmq)) =
            (node.into_split(), rabbitmq.into_split());
        let spoiling = async {
            let mut bytes = Vec::new();
            while from_rabbitmq.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                while let Some(at) = bytes.windows(MARKED.len()).position(|part| part == MARKED) {
                    bytes[at + MARKED.len() - 1] = b'Z';
                }
                // What may be the beginning of it waits for more.
                let held = (1..MARKED.len()).rev().find(|held| bytes.ends_with(&MARKED[..*held]));
                let ready = bytes.len() - held.unwrap_or(0);
                if to_node.write_all(&bytes[..ready]).await.is_err() {
                    break;
                }
                bytes.drain(..ready);
            }
        };
        // Either end closes both.
        tokio::select! {
            () = spoiling => {}
            _ = tokio::io::copy(&mut from_node, &mut to_rabbitmq) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_queue_with_a_message_that_cannot_be_read_is_given_up() {
    let rabbitmq = testkit::rabbitmq().await;
    let spoiler = Spoiler::start().await;
    let node = broker_up(config(&rabbitmq.uri_at(spoiler.port))).await;
    let topic = topic();
    let mut subscription = subscribe(&node, &topic).await;
    let mut publisher = Publisher::connect().await;
    let headers = [MARKED, &long(b"v")].concat();
    let (key, properties) = (key(&topic).into_bytes(), long(&headers));
    publisher.publish("amq.topic", &Odd { key, flags: HEADERS, properties, body: "odd" }).await;
    publisher.taken().await;

    let mut state = node.state();
    let mut reasons = Vec::new();
    soon(async {
        while state.borrow_and_update().gaps == 0 {
            if let Link::Down(why) = &state.borrow().link {
                reasons.push(why.clone());
            }
            state.changed().await.unwrap();
        }
    })
    .await;
    assert!(reasons.iter().any(|why| why.contains("cannot be read")), "{reasons:?}");
    until(&node, |link| *link == Link::Up).await;
    soon(publish(&node, 1, &topic, "after").await).await.unwrap();
    assert_eq!(body(&take(&mut subscription).await), "after");
    assert_eq!(node.state().borrow().gaps, 1);
}
