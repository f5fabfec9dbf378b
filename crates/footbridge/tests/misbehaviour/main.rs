//! Clients that misbehave in every way they can, again and again, at two gateways and a RabbitMQ that
//! 200 others use meanwhile: each is told what is wrong or meets its limit, and ends alone. The others
//! lose nothing, get nothing out of order or twice, and are not disconnected; neither are the gateways.
//!
//! The test prints its seed; `FOOTBRIDGE_SEED` replays it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

mod doings;
mod misdeeds;
mod peer;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use testkit::RabbitMq;
use testkit::checker::{self, Checker, Counts, Plan, Shape};
use tokio::task::JoinSet;

use crate::misdeeds::Misdeed;
use crate::stage::Stage;
use crate::support::{Node, PATIENCE, Settings};

/// How many behave, and how many do not.
const SESSIONS: u32 = 200;
/// How many messages each of those that behave sends.
const MESSAGES: u32 = 100;

/// How often a node lets RabbitMQ refuse the same on the connection that consumes: of its 2,047 channels each
/// refusal uses one up, and a gateway replaces a connection half of whose channels are gone.
const REFUSALS: usize = 20;

/// What those share that misbehave.
struct Offenders {
    stage: Stage,
    misdeeds: Vec<Misdeed>,
    /// How often each was done at each node, as often as it was answered as it should be.
    done: Vec<[AtomicUsize; 2]>,
    /// Held by the one who floods the node.
    flooding: [tokio::sync::Mutex<()>; 2],
    /// Held for a lookup.
    wrong: Mutex<BTreeSet<String>>,
    over: AtomicBool,
}

impl Offenders {
    /// Misbehaves until it is over.
    async fn offend(&self, number: usize) {
        // Each begins elsewhere, so that all is done soon.
        for turn in number.. {
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let (at, node) = (turn % self.misdeeds.len(), (turn / self.misdeeds.len()) % 2);
            let misdeed = &self.misdeeds[at];
            let times = self.done[at][node].load(Ordering::Relaxed);
            if misdeed.costs_a_channel() && times >= REFUSALS {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let flooding = misdeed.is_flood().then(|| self.flooding[node].try_lock());
            if let Some(Err(_)) = flooding {
                continue;
            }
            match doings::attempt(misdeed, &self.stage, node, number).await {
                Ok(()) => {
                    self.done[at][node].fetch_add(1, Ordering::Relaxed);
                }
                Err(why) => {
                    self.wrong().insert(format!("{}: {why}", misdeed.name));
                }
            }
        }
    }

    /// What was answered otherwise than it should be, each once.
    fn wrong(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was not done at some node.
    fn undone(&self) -> Vec<&'static str> {
        let undone = self
            .done
            .iter()
            .zip(&self.misdeeds)
            .filter(|(done, _)| done.iter().any(|times| times.load(Ordering::Relaxed) == 0));
        undone.map(|(_, misdeed)| misdeed.name).collect()
    }
}

async fn gateway(rabbitmq: &RabbitMq) -> Node {
    let node = Settings::gateway()
        .set("rabbitmq.uris", &rabbitmq.uri())
        .set("gateway.stomp_listen", "127.0.0.1:0")
        .set("gateway.max_own_queues", "4")
        .set("gateway.send_timeout", "2s")
        .set("access.rules", "open")
        .start()
        .await;
    node.wait_ready().await;
    node
}

/// The connections to RabbitMQ.
async fn connections(rabbitmq: &RabbitMq) -> BTreeSet<String> {
    let list = ["list_connections", "-q", "--no-table-headers", "pid", "name"];
    let connections = rabbitmq.ctl(&list).await.expect("the connections");
    connections.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_misbehaves_ends_alone() {
    let seed = checker::seed();
    println!("seed {seed}: FOOTBRIDGE_SEED={seed} replays it");
    let rabbitmq = RabbitMq::start().await.expect("a broker");
    let (mut nodes, mut urls) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut node = gateway(&rabbitmq).await;
        urls.push(node.websocket().await);
        let stomp: SocketAddr = node.stomp().await.parse().expect("an address");
        nodes.push((Arc::new(node), stomp.port()));
    }
    let shape = Shape {
        sessions: SESSIONS,
        nodes: 2,
        topics: 50,
        queues: 50,
        pace: Duration::from_millis(20)..=Duration::from_millis(100),
        sizes: Shape::MIN_BODY..=2_000,
        after: MESSAGES,
        ..Shape::default()
    };
    let plan = Plan::new(seed, &shape);
    let messages = plan.messages_in_all();
    let mut checker = Checker::open(plan, urls, "check").await.expect("the sessions are open");
    let stage = Stage::set(&rabbitmq, nodes.clone()).await;
    let before = connections(&rabbitmq).await;

    let misdeeds = misdeeds::all();
    let done = misdeeds.iter().map(|_| <[AtomicUsize; 2]>::default()).collect();
    let (wrong, over) = (Mutex::default(), AtomicBool::new(false));
    let offenders =
        Arc::new(Offenders { stage, misdeeds, done, flooding: <_>::default(), wrong, over });
    let mut offending = JoinSet::new();
    for number in 0..SESSIONS as usize {
        let offenders = offenders.clone();
        offending.spawn(async move { offenders.offend(number).await });
    }
    checker.allow(MESSAGES);
    let all = u64::from(SESSIONS * MESSAGES);
    let sent = checker.wait(|now| now.sent >= all).await;
    println!("all is sent: {sent}, after {:.1?}", checker.elapsed());
    let every = tokio::time::timeout(PATIENCE, async {
        while offenders.wrong().is_empty() && !offenders.undone().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(every.await.is_ok(), "not done: {:?}", offenders.undone());
    println!("all is done, after {:.1?}", checker.elapsed());
    // What they are at goes on while the last messages arrive.
    offenders.over.store(true, Ordering::Relaxed);
    let verdict = checker.finish().await;
    println!("{verdict}");
    offending.join_all().await;
    let times = offenders.done.iter().flatten().map(|times| times.load(Ordering::Relaxed));
    println!("{} misdeeds", times.sum::<usize>());
    let wrong: Vec<_> = offenders.wrong().iter().cloned().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let logs = || nodes.iter().map(|(node, _)| node.log()).collect::<Vec<_>>().join("\n");
    assert!(verdict.holds(), "seed {seed}\n{verdict}\n{}", logs());
    let Counts { sent, receipted, aborted, committed, acked, nacked, strays, .. } = verdict.counts;
    assert_eq!((sent, receipted + aborted, strays), (messages, messages, 0));
    assert!([aborted, committed, acked, nacked].iter().all(|count| *count > 0), "{verdict}");
    // Nothing comes again but what its consumer has refused.
    assert_eq!(verdict.counts.topic_repeats, 0, "{verdict}");
    assert!(verdict.counts.queue_repeats <= nacked, "{verdict}");

    let after = connections(&rabbitmq).await;
    assert!(after.is_superset(&before), "{before:?}, {after:?}\n{}", logs());
    for (node, _) in &nodes {
        for metric in [
            "amqp_reconnects_total{connection=\"publish\"}",
            "amqp_reconnects_total{connection=\"consume\"}",
            "amqp_republished_total",
            "broker_gaps",
        ] {
            assert_eq!(node.metric(metric).await, 0.0, "{metric}\n{}", logs());
        }
    }
    drop(offenders);
    for (node, _) in nodes {
        Arc::into_inner(node).expect("the last one").stop().await;
    }
}
