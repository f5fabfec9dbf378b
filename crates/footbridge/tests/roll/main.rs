//! A cluster is rolled, gateway by gateway, under clients that send and consume: none of what was confirmed
//! is lost, nothing comes twice without saying so, and every client is back soon.
//!
//! At full size, with what stomp.js does by default, 5 s before it connects again:
//!
//! ```text
//! FOOTBRIDGE_ROLL_CLIENTS=1000 FOOTBRIDGE_ROLL_RATE=500 FOOTBRIDGE_ROLL_DELAY=5000 \
//!     cargo test --release -p footbridge --test roll rolled_by_the_script -- --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod crowd;
#[path = "../support/mod.rs"]
mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{Persistence, Redis};
use tokio::process::Command;
use tokio::time::Instant;

use crate::crowd::{Crowd, Shape, Story};
use crate::support::{Node, Settings};

/// How a client's connection ends when its node does.
const SENT_AWAY: &str = "closed by the server: 1001 this node is stopping";

/// Nothing is lost or doubled, and nobody was closed but by a drain.
fn check(story: &Story, clients: usize) {
    println!("{story}");
    assert_eq!(story.receipted, story.sent, "{story}");
    assert!(story.lost.is_empty(), "{:?}\n{story}", story.lost);
    assert!(story.doubled.is_empty(), "{:?}\n{story}", story.doubled);
    assert!(story.ends.keys().all(|end| end == SENT_AWAY), "{story}");
    // Each was sent away at least once, for every node was.
    assert!(story.away.len() >= clients, "{story}");
}

async fn gateway(uri: &str, redis: &Redis, address: &str) -> Node {
    let node = Settings::of(&["gateway", "--listen", address, "--admin", "127.0.0.1:0"])
        .set("rabbitmq.uris", uri)
        .set("redis.urls", &redis.uri())
        .set("rabbitmq.namespace", "roll")
        .set("rabbitmq.topic_exchange", "roll.topic")
        .set("gateway.drain", "15s")
        .set("gateway.drain_notice", "500ms")
        .set("access.rules", "open")
        .start()
        .await;
    node.wait_ready().await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_drained_one_after_the_other_lose_nothing_and_no_client() {
    let uri = testkit::rabbitmq().await.uri();
    let redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let (mut nodes, mut urls) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut node = gateway(&uri, &redis, "127.0.0.1:0").await;
        urls.push(node.websocket().await);
        nodes.push(node);
    }
    let reconnect_delay = Duration::from_millis(300);
    let clients = 200;
    let crowd = Crowd::gather(Shape {
        urls: urls.clone(),
        prefix: "roll".to_owned(),
        clients,
        senders: 50,
        messages_per_second: 100,
        reconnect_delay,
    })
    .await;
    for url in &urls {
        let begun = Instant::now();
        let node = nodes.remove(0);
        assert!(node.metric("gateway_sessions").await > 0.0);
        node.stop().await;
        println!("{url} was drained in {:.1?}", begun.elapsed());
        let address = url.trim_start_matches("ws://").trim_end_matches("/ws");
        nodes.push(gateway(&uri, &redis, address).await);
        crowd.wait_all_connected().await;
        crowd.wait_flow(100).await;
    }
    let story = crowd.disperse().await;
    check(&story, clients);
    // A client that comes back finds a node at once, unless the whole machine stands still.
    let slowest = story.away.last().unwrap();
    assert!(*slowest < reconnect_delay + Duration::from_secs(10), "{slowest:?}");
    for node in nodes {
        assert!(!node.log().contains("sessions are left"), "{}", node.log());
        node.stop().await;
    }
}

/// `scripts/cluster` with a directory and ports of its own.
struct Script {
    directory: tempfile::TempDir,
    base: u16,
}

impl Script {
    fn command(&self, arguments: &[&str]) -> Command {
        let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../scripts/cluster")
            .canonicalize()
            .unwrap();
        let mut command = Command::new(script);
        command
            .args(arguments)
            .env("FOOTBRIDGE_BIN", env!("CARGO_BIN_EXE_footbridge"))
            .env("FOOTBRIDGE_CLUSTER", self.directory.path())
            .env("FOOTBRIDGE_CLUSTER_PORT", self.base.to_string());
        command
    }

    async fn run(&self, arguments: &[&str]) {
        let status = self.command(arguments).status().await.unwrap();
        assert!(status.success(), "scripts/cluster {arguments:?}: {status}");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let mut down = self.command(&["down", "--purge"]);
        let _ = down.as_std_mut().status();
    }
}

/// The first port of a cluster's, none of which is taken.
fn free_ports() -> u16 {
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let base = 20_000 + 100 * rand::random_range(0..100);
        if (base..base + 20).chain([base + 90]).all(is_free) {
            return base;
        }
    }
}

/// What the environment says, or else `default`.
fn wanted(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_behind_haproxy_that_is_rolled_by_the_script_loses_nothing_and_no_client() {
    let clients = wanted("FOOTBRIDGE_ROLL_CLIENTS", 100) as usize;
    let rate = wanted("FOOTBRIDGE_ROLL_RATE", 100);
    let delay = wanted("FOOTBRIDGE_ROLL_DELAY", 300);
    let script = Script { directory: tempfile::tempdir().unwrap(), base: free_ports() };
    script.run(&["up", "--gateways", "2"]).await;
    let crowd = Crowd::gather(Shape {
        urls: vec![format!("ws://127.0.0.1:{}/ws", script.base)],
        prefix: "roll".to_owned(),
        clients,
        senders: clients / 2,
        messages_per_second: rate,
        reconnect_delay: Duration::from_millis(delay.into()),
    })
    .await;
    let begun = Instant::now();
    script.run(&["roll"]).await;
    println!("rolled in {:.1?}", begun.elapsed());
    crowd.wait_all_connected().await;
    crowd.wait_flow(rate as usize).await;
    check(&crowd.disperse().await, clients);
}
