//! Redis Cluster keeps inboxes, which a server in its mode only can where every script keeps to one slot.

mod common;

use std::time::{Duration, SystemTime};

use common::{append, bodies, draft, inbox_of, redis_config, take, until};
use inbox::{Config, Draft, Inbox, RedisInbox, Settlement};
use redis_link::RedisConfig;
use testkit::Redis;
use tokio::sync::OnceCell;

async fn cluster(config: Config) -> RedisInbox {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    let start = async || {
        let redis = Redis::start_cluster().await.expect("a Cluster");
        redis.cli(&["config", "set", "appendonly", "yes"]).await.expect("it is set");
        redis
    };
    let redis = SHARED.get_or_init(start).await;
    let at = RedisConfig { cluster: true, ..redis_config(&redis.uri()) };
    common::store(config, at).await
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
    store.purge(ann, &inbox::Purge::All).await.unwrap();
    append(&store, ann, &draft("x")).await.unwrap();
    store.forget(ann.user().unwrap()).await.unwrap();
    assert_eq!(store.count(ann).await.unwrap().messages(), 0);
}
