//! RabbitMQ is killed, cut off or blocked while hundreds of sessions on two gateways exchange
//! receipted messages, alone and in transactions, and acknowledge them: no session closes, no receipted
//! message is lost, order per sender holds, what comes twice says so, nothing that was acknowledged
//! comes again, and a transaction comes whole or not at all. Messages are sent during each outage too.
//!
//! Each test prints its seed; `FOOTBRIDGE_SEED` replays it.

mod support;

use std::time::Duration;

use testkit::checker::{self, Counts, Fault, Plan, Rig, Shape};
use testkit::{Proxy, RabbitMq};

use crate::support::{Node, Settings};

/// A gateway that sees dead connections soon, and waits for RabbitMQ longer than a starved machine
/// needs to start it.
async fn gateway(uri: &str) -> Node {
    let node = Settings::gateway()
        .set("rabbitmq.uris", uri)
        .set("rabbitmq.heart_beat", "1s")
        .set("rabbitmq.connect_timeout", "3s")
        .set("rabbitmq.reconnect_pause", "1s")
        .set("rabbitmq.publish_timeout", "120s")
        .set("rabbitmq.subscribe_timeout", "120s")
        .set("access.rules", "open")
        .start()
        .await;
    node.wait_ready().await;
    node
}

/// Runs two gateways through the faults of `shape`; node 0 is behind the first leg of the rig, if it
/// has one.
#[expect(clippy::print_stdout, reason = "the seed and the verdict, for who reads the test")]
async fn check(mut rig: Rig, shape: Shape) {
    let seed = checker::seed();
    println!("seed {seed}: FOOTBRIDGE_SEED={seed} replays it");
    let mut nodes = Vec::new();
    for node in 0..2 {
        let port = rig.legs.get(node).map_or(rig.rabbitmq.port(), Proxy::port);
        nodes.push(gateway(&rig.rabbitmq.uri_at(port)).await);
    }
    let mut urls = Vec::new();
    for node in &mut nodes {
        urls.push(node.websocket().await);
    }
    let plan = Plan::new(seed, &shape);
    let messages = plan.messages_in_all();
    let verdict = checker::check(plan, urls, &mut rig).await.expect("the run is made");
    println!("{verdict}");
    let logs = || nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n");
    assert!(verdict.holds(), "seed {seed}\n{verdict}\n{}", logs());
    // Nothing was judged by default: everything was sent, also while the faults were in force, and there
    // was something of each sort.
    let Counts { sent, receipted, aborted, committed, acked, nacked, .. } = verdict.counts;
    assert_eq!((sent, receipted + aborted), (messages, messages));
    assert!([aborted, committed, acked, nacked].iter().all(|count| *count > 0), "{verdict}");
    assert_eq!(verdict.counts.faults.len(), shape.faults.len());
    for span in &verdict.counts.faults {
        assert!(span.sent >= shape.sessions as usize, "{span:?}");
    }
    // Nodes drop the repeats of a topic's messages; the consumers of a queue may see them.
    assert_eq!(verdict.counts.topic_repeats, 0, "{verdict}");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_kills_of_rabbitmq_lose_nothing_and_close_no_session() {
    let rig = Rig::new(RabbitMq::start().await.expect("a broker"), Vec::new());
    let shape = Shape {
        sessions: 500,
        nodes: 2,
        topics: 125,
        queues: 60,
        pace: Duration::from_millis(300)..=Duration::from_millis(900),
        faults: vec![Fault::RabbitMqKilled; 5],
        after: 3,
        ..Shape::default()
    };
    check(rig, shape).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_fails_in_every_way_loses_nothing_and_closes_no_session() {
    let rabbitmq = RabbitMq::start().await.expect("a broker");
    let mut legs = Vec::new();
    for _ in 0..2 {
        let leg = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.expect("a proxy");
        legs.push(leg);
    }
    let half_open = [0, 1, 0, 1, 0].map(Fault::LegHalfOpen);
    let others = [Fault::LegCut(0), Fault::LegCut(1), Fault::LegStalled(0), Fault::LegDropped(1)];
    let shape = Shape {
        sessions: 500,
        nodes: 2,
        topics: 125,
        queues: 60,
        pace: Duration::from_millis(300)..=Duration::from_millis(900),
        faults: [half_open.as_slice(), &others].concat(),
        after: 3,
        ..Shape::default()
    };
    check(Rig::new(rabbitmq, legs), shape).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_on_and_off_loses_nothing_and_closes_no_session() {
    let rig = Rig::new(RabbitMq::start().await.expect("a broker"), Vec::new());
    let shape = Shape {
        sessions: 200,
        nodes: 2,
        topics: 50,
        queues: 40,
        faults: vec![Fault::RabbitMqBlocked; 3],
        before: 4,
        during: 3,
        after: 4,
        ..Shape::default()
    };
    check(rig, shape).await;
}
