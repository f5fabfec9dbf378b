//! A Redis Cluster of three primaries keeps inboxes as all stores do, which it only can where every script keeps to one
//! slot.

mod common;

use std::time::{Duration, SystemTime};

use common::{append, bodies, draft, inbox_of, redis_config, take, until};
use inbox::{Config, Draft, Error, Inbox, Purge, RedisInbox, Settlement};
use redis_link::RedisConfig;
use testkit::{Persistence, Redis};
use tokio::sync::OnceCell;

/// Starts a Cluster whose nodes write to disk.
async fn start() -> Vec<Redis> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let arguments = |port: u16| {
            let port = port.to_string();
            ["--cluster-enabled", "yes", "--cluster-port", &port].map(str::to_owned).into()
        };
        let node = Redis::start_with(Persistence::AppendOnly, arguments).await.expect("Redis");
        nodes.push(node);
    }
    for (node, slots) in nodes.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]) {
        let add = ["cluster", "addslotsrange", slots[0], slots[1]];
        node.cli(&add).await.expect("it takes its slots");
        let (port, second) = (node.port().to_string(), node.second_port().to_string());
        let meet = ["cluster", "meet", "127.0.0.1", &port, &second];
        nodes[0].cli(&meet).await.expect("they meet");
    }
    for node in &nodes {
        until(async || {
            let info = node.cli(&["cluster", "info"]).await.unwrap_or_default();
            info.contains("state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    nodes
}

/// A store on a Cluster that all tests share.
async fn cluster(config: Config) -> RedisInbox {
    static SHARED: OnceCell<Vec<Redis>> = OnceCell::const_new();
    let nodes = SHARED.get_or_init(start).await;
    common::store(config, at(&nodes[0])).await
}

fn at(node: &Redis) -> RedisConfig {
    // A starved machine is no outage.
    let command_timeout = Duration::from_secs(60);
    RedisConfig { cluster: true, command_timeout, ..redis_config(&node.uri()) }
}

mod contract {
    inbox::contract_tests!(crate::cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_keeps_to_its_slots() {
    let config = Config { keeps_failed: true, ..Config::default() };
    let store = cluster(config).await;
    let many: Vec<_> = (0..300).map(|n| inbox_of(&format!("user-{n}"))).collect();
    let one = Draft { key: Some("k".into()), collapse: Some("c".into()), ..draft("one") };
    assert_eq!(store.append(&many, &one).await.unwrap().len(), 300);
    let soon = SystemTime::now() + Duration::from_secs(3);
    let late = Draft { deliver_at: Some(soon), ..draft("late") };
    store.append(&many, &late).await.unwrap();
    let mut due = 0;
    until(async || {
        due += store.advance().await.unwrap().due.len();
        due == 300
    })
    .await;
    let ann = &many[0];
    let taken = take(&store, ann, None).await.unwrap();
    assert_eq!(bodies(&taken.entries), ["one", "late"]);
    let settlements = [(1, Settlement::Reject), (2, Settlement::Nack)];
    let settled = store.settle(ann, taken.epoch, &settlements).await.unwrap();
    assert_eq!(settled.failed.len(), 1);
    store.bury(ann, &[one.id]).await.unwrap();
    assert_eq!(store.count(ann).await.unwrap().messages(), 1);
    store.purge(ann, &Purge::All).await.unwrap();
    append(&store, ann, &draft("x")).await.unwrap();
    store.forget(ann.user().unwrap()).await.unwrap();
    assert_eq!(store.count(ann).await.unwrap().messages(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_not_to_be_trusted_or_gone_and_back() {
    let mut nodes = start().await;
    let many: Vec<_> = (0..100).map(|n| inbox_of(&format!("user-{n}"))).collect();
    for node in &nodes {
        node.cli(&["config", "set", "appendonly", "no"]).await.unwrap();
        let store = common::store(Config::default(), at(&nodes[0])).await;
        let refused = append(&store, &many[0], &draft("x")).await;
        assert!(matches!(refused, Err(Error::NotDurable(_))), "{refused:?}");
        node.cli(&["config", "set", "appendonly", "yes"]).await.unwrap();
        // It is in force once everything has been written anew.
        until(async || {
            let info = node.cli(&["info", "persistence"]).await.unwrap_or_default();
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        })
        .await;
    }
    let store = common::store(Config::default(), at(&nodes[0])).await;
    store.append(&many, &draft("before")).await.unwrap();
    nodes[1].kill();
    let refused = store.append(&many, &draft("lost")).await;
    assert!(matches!(refused, Err(Error::Unknown(_) | Error::Unavailable(_))), "{refused:?}");
    nodes[1].start_again().await.unwrap();
    let after = draft("after");
    until(async || store.append(&many, &after).await.is_ok()).await;
    for of in &many {
        let all = bodies(&take(&store, of, None).await.unwrap().entries);
        assert_eq!((all.first(), all.last()), (Some(&"before".into()), Some(&"after".into())));
        assert!(all.len() <= 3, "{all:?}");
    }
}
