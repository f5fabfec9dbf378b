//! RabbitMQ is killed, cut off, or goes silent: nothing that was confirmed is lost, each publisher's
//! order holds, and subscriptions live on.

mod common;

use std::sync::Arc;
use std::time::Duration;

use broker::{
    Broker, ConfirmError, Destination, Link, Message, Outcome, PublishError, PublisherId,
};
use broker_rabbitmq::{Config, RabbitMqBroker};
use bytesize::ByteSize;
use common::{body, broker_up, config, publish, queue, soon, subscribe, take, topic, until};
use testkit::{Proxy, RabbitMq};
use tokio::task::JoinHandle;
use ulid::Ulid;

/// How many messages each publisher sends.
const MESSAGES: usize = 1_500;
const PUBLISHERS: u64 = 2;

/// Publishes numbers, a hundred at a time unconfirmed; ends when all are confirmed.
fn publish_numbers(
    broker: &Arc<RabbitMqBroker>,
    publisher: u64,
    to: &Destination,
) -> JoinHandle<()> {
    let (broker, to) = (broker.clone(), to.clone());
    tokio::spawn(async move {
        let numbers: Vec<_> = (0..MESSAGES).collect();
        for window in numbers.chunks(100) {
            let mut confirms = Vec::new();
            for number in window {
                let body = format!("{publisher}:{number}");
                confirms.push(publish(&broker, publisher, &to, body).await);
            }
            for confirm in confirms {
                soon(confirm).await.expect("it is confirmed in the end");
            }
        }
    })
}

/// What a subscriber got, checked: from each publisher every number, in order. Only a queue may repeat
/// something, and must mark it.
struct Received {
    from: String,
    may_repeat: bool,
    next: Vec<usize>,
    total: usize,
}

impl Received {
    fn new(from: &Destination) -> Self {
        let may_repeat = matches!(from, Destination::Queue(_));
        Self { from: from.to_string(), may_repeat, next: vec![0; PUBLISHERS as usize], total: 0 }
    }

    fn is_complete(&self) -> bool {
        self.next.iter().all(|next| *next == MESSAGES)
    }

    fn check(&mut self, body: &str, redelivered: bool) {
        let (publisher, number) = body.split_once(':').expect("a publisher and a number");
        let publisher: usize = publisher.parse().expect("a publisher");
        let number: usize = number.parse().expect("a number");
        let (next, from) = (&mut self.next[publisher], &self.from);
        if number == *next {
            *next += 1;
        } else {
            assert!(number < *next, "{from}: {number} of {publisher} came, {next} did not");
            assert!(
                self.may_repeat && redelivered,
                "{from}: {number} of {publisher} came again, redelivered: {redelivered}"
            );
        }
        self.total += 1;
    }
}

/// Receives until everything is there; `tell` hears how many came.
async fn receive(
    broker: &RabbitMqBroker,
    from: &Destination,
    tell: tokio::sync::watch::Sender<usize>,
) -> JoinHandle<()> {
    let mut subscription = subscribe(broker, from).await;
    let mut received = Received::new(from);
    tokio::spawn(async move {
        while !received.is_complete() {
            let delivery = take(&mut subscription).await;
            received.check(&body(&delivery), delivery.redelivered);
            delivery.settle(Outcome::Ack);
            tell.send_replace(received.total);
        }
    })
}

/// Publishes to a topic and a queue by one node and receives at another, while `fault` happens once
/// some has come.
async fn nothing_is_lost(
    publishing: RabbitMqBroker,
    receiving: RabbitMqBroker,
    fault: impl AsyncFnOnce(),
) {
    let publishing = Arc::new(publishing);
    let (topic, queue) = (topic(), queue());
    let (topic_count, queue_count) = (<_>::default(), tokio::sync::watch::Sender::new(0));
    let mut came = queue_count.subscribe();
    let mut tasks = vec![
        receive(&receiving, &topic, topic_count).await,
        receive(&receiving, &queue, queue_count).await,
    ];
    for publisher in 0..PUBLISHERS {
        tasks.push(publish_numbers(&publishing, publisher, &topic));
        tasks.push(publish_numbers(&publishing, publisher, &queue));
    }
    soon(came.wait_for(|count| *count >= 200)).await.expect("some came");
    fault().await;
    for task in tasks {
        soon(task).await.expect("everything came, once and in order");
    }
    soon(receiving.delete(&queue)).await.expect("the queue is deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_of_rabbitmq_loses_nothing_and_keeps_order() {
    let mut rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    let publishing = broker_up(config(&rabbitmq.uri())).await;
    let receiving = broker_up(config(&rabbitmq.uri())).await;
    nothing_is_lost(publishing, receiving, async || {
        rabbitmq.kill();
        rabbitmq.start_again().await.expect("it starts again");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_rabbitmq_loses_nothing_and_keeps_order() {
    let mut rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    let publishing = broker_up(config(&rabbitmq.uri())).await;
    let receiving = broker_up(config(&rabbitmq.uri())).await;
    nothing_is_lost(publishing, receiving, async || {
        rabbitmq.stop().await;
        rabbitmq.start_again().await.expect("it starts again");
    })
    .await;
}

async fn through_proxies() -> (Proxy, Proxy, RabbitMqBroker, RabbitMqBroker) {
    let rabbitmq = testkit::rabbitmq().await;
    let target = ([127, 0, 0, 1], rabbitmq.port());
    let one = Proxy::start(target).await.expect("a proxy");
    let other = Proxy::start(target).await.expect("a proxy");
    let impatient = |proxy: &Proxy| Config {
        connect_timeout: Duration::from_secs(2),
        ..config(&rabbitmq.uri_at(proxy.port()))
    };
    let publishing = broker_up(impatient(&one)).await;
    let receiving = broker_up(impatient(&other)).await;
    (one, other, publishing, receiving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing_and_keep_order() {
    let (mut one, mut other, publishing, receiving) = through_proxies().await;
    let gaps = receiving.state();
    nothing_is_lost(publishing, receiving, async || {
        one.drop_connections().await;
        other.drop_connections().await;
    })
    .await;
    assert_eq!(gaps.borrow().gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_lose_nothing_and_keep_order() {
    let (mut one, mut other, publishing, receiving) = through_proxies().await;
    let (mut one_state, mut other_state) = (publishing.state(), receiving.state());
    nothing_is_lost(publishing, receiving, async || {
        one.half_open();
        other.half_open();
        for state in [&mut one_state, &mut other_state] {
            soon(state.wait_for(|state| matches!(state.link, Link::Down(_)))).await.expect("it");
        }
        one.heal().await.expect("it heals");
        other.heal().await.expect("it heals");
    })
    .await;
    assert_eq!(other_state.borrow().gaps, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_may_start_before_rabbitmq() {
    let mut rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    rabbitmq.kill();
    let broker = Arc::new(RabbitMqBroker::new(config(&rabbitmq.uri()), Ulid::generate()));
    until(&broker, |link| matches!(link, Link::Down(why) if why.contains("cannot connect"))).await;
    let queue = queue();
    let confirm = publish(&broker, 1, &queue, "early").await;
    let subscribing = tokio::spawn({
        let (broker, queue) = (broker.clone(), queue.clone());
        async move { subscribe(&broker, &queue).await }
    });
    rabbitmq.start_again().await.expect("it starts again");
    assert_eq!(soon(confirm).await, Ok(()));
    let mut subscription = soon(subscribing).await.expect("a subscription");
    assert_eq!(body(&take(&mut subscription).await), "early");
}

/// A port on which nobody listens.
async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    format!("amqp://guest:guest@127.0.0.1:{port}/%2f")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_too_long_for_rabbitmq_is_lost_and_says_so() {
    let timeout = Duration::from_millis(300);
    let config = Config {
        publish_timeout: timeout,
        subscribe_timeout: timeout,
        max_message: ByteSize::kib(4),
        retained: ByteSize::kib(8),
        ..config(&nowhere().await)
    };
    let broker = RabbitMqBroker::new(config, Ulid::generate());
    let confirm = publish(&broker, 1, &topic(), "1").await;
    let lost =
        |word| matches!(word, Err(ConfirmError::Lost(why)) if why.contains("cannot connect"));
    assert!(lost(soon(confirm).await));

    // Beyond what may be retained the publisher itself waits, and is told why in the end.
    let large = || Message::new(queue(), vec![0; 4096]);
    let kept = soon(broker.publish(PublisherId(1), large())).await.expect("there is room");
    let refused = soon(broker.publish(PublisherId(1), large())).await;
    match refused {
        // The first may give up its room just before the second gives up waiting for it.
        Ok(confirm) => assert!(lost(soon(confirm).await)),
        Err(PublishError::Unavailable(why)) => assert!(why.contains("cannot connect"), "{why}"),
        Err(other) => panic!("{other}"),
    }
    assert!(lost(soon(kept).await));

    let request = broker::SubscribeRequest::new(topic(), 1);
    let refused = soon(broker.subscribe(request)).await.expect_err("there is no RabbitMQ");
    assert!(refused.to_string().contains("cannot connect to RabbitMQ at 127.0.0.1"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_holds_publishes_back_and_is_named() {
    let mut rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    let broker = broker_up(config(&rabbitmq.uri())).await;
    let topic = topic();
    let mut subscription = subscribe(&broker, &topic).await;
    rabbitmq.alarm(true).await.expect("an alarm");
    // A connection hears of it once it publishes.
    let confirm = publish(&broker, 1, &topic, "held").await;
    until(&broker, |link| matches!(link, Link::Blocked(_))).await;
    rabbitmq.alarm(false).await.expect("no alarm");
    assert_eq!(soon(confirm).await, Ok(()));
    assert_eq!(body(&take(&mut subscription).await), "held");
    until(&broker, |link| *link == Link::Up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_or_vhost_that_is_wrong_is_named_and_tried_again() {
    let rabbitmq = testkit::rabbitmq().await;
    let port = rabbitmq.port();
    let broker = RabbitMqBroker::new(
        config(&format!("amqp://guest:wrong@127.0.0.1:{port}/%2f")),
        Ulid::generate(),
    );
    let refused = |why: &str| why.contains("ACCESS_REFUSED") && !why.contains("wrong");
    until(&broker, |link| matches!(link, Link::Down(why) if refused(why))).await;

    let vhost = format!("late-{}", Ulid::generate());
    let broker = RabbitMqBroker::new(
        config(&format!("amqp://guest:guest@127.0.0.1:{port}/{vhost}")),
        Ulid::generate(),
    );
    let missing = |why: &str| why.contains(&vhost) && why.contains("not found");
    until(&broker, |link| matches!(link, Link::Down(why) if missing(why))).await;
    rabbitmq.ctl(&["add_vhost", &vhost]).await.expect("a vhost");
    let all = ["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"];
    rabbitmq.ctl(&all).await.expect("permissions");
    until(&broker, |link| *link == Link::Up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_nobody_answers_is_given_up_and_closed() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let config = Config {
        connect_timeout: Duration::from_millis(200),
        ..config(&format!("amqp://127.0.0.1:{port}/%2f"))
    };
    let broker = RabbitMqBroker::new(config, Ulid::generate());
    until(&broker, |link| matches!(link, Link::Down(why) if why.contains("does not answer"))).await;
    for _ in 0..4 {
        let (mut connection, _) = soon(silent.accept()).await.expect("another attempt");
        let mut said = Vec::new();
        soon(tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut said))
            .await
            .expect("an end");
        assert!(said.starts_with(b"AMQP"));
    }
}

/// A queue that lives on loses nothing when connections break, and says nothing; RabbitMQ itself takes
/// what is not persistent with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_rabbitmq_is_a_gap_and_a_broken_connection_is_none() {
    let mut rabbitmq = RabbitMq::start().await.expect("a broker of its own");
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let boot = Ulid::generate();
    let broker = RabbitMqBroker::new(config(&rabbitmq.uri_at(proxy.port())), boot);
    until(&broker, |link| *link == Link::Up).await;
    let held = async || {
        let queue = format!("footbridge.topic.{boot}.1\t1");
        let unacked = ["list_queues", "name", "messages_unacknowledged"];
        soon(async { while !rabbitmq.ctl(&unacked).await.expect("a list").contains(&queue) {} })
            .await;
    };
    for _ in 0..3 {
        held().await;
        proxy.drop_connections().await;
        until(&broker, |link| matches!(link, Link::Down(_))).await;
        until(&broker, |link| *link == Link::Up).await;
    }
    held().await;
    assert_eq!(broker.state().borrow().gaps, 0);
    rabbitmq.kill();
    rabbitmq.start_again().await.expect("it starts again");
    let mut state = broker.state();
    soon(state.wait_for(|state| state.gaps > 0)).await.expect("a gap");
    assert_eq!(state.borrow().gaps, 1);
}

/// The delivery that a full subscription holds up is known by its id: RabbitMQ's repeat of it counts
/// for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_up_while_connections_break_is_not_lost() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
    let receiver = broker_up(config(&rabbitmq.uri_at(proxy.port()))).await;
    let sender = broker_up(config(&rabbitmq.uri())).await;
    let topic = topic();
    let request = broker::SubscribeRequest::new(topic.clone(), 1);
    let mut subscription = soon(receiver.subscribe(request)).await.expect("a subscription");
    for n in 0..20 {
        assert_eq!(soon(publish(&sender, 1, &topic, n.to_string()).await).await, Ok(()));
    }
    for n in 0..20 {
        if n % 7 == 0 {
            proxy.drop_connections().await;
            until(&receiver, |link| matches!(link, Link::Down(_))).await;
        }
        let delivery = take(&mut subscription).await;
        assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_closes_in_an_outage_does_not_wait_for_confirms() {
    let rabbit = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbit.port())).await.expect("a proxy");
    // As long as the test would wait for anything: it ends earlier.
    let broker = broker_up(config(&rabbit.uri_at(proxy.port()))).await;
    proxy.cut().await;
    until(&broker, |link| matches!(link, Link::Down(_))).await;
    let confirm = publish(&broker, 1, &topic(), "lost").await;
    let since = std::time::Instant::now();
    soon(broker.close()).await;
    assert!(since.elapsed() < common::PATIENCE / 2, "{:?}", since.elapsed());
    drop(broker);
    assert!(matches!(soon(confirm).await, Err(ConfirmError::Lost(_))));
}
