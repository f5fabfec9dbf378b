//! Redis Cluster keeps the contract of all stores, which a server in its mode only can where every script
//! keeps to one slot.

mod common;

use presence::{RedisConfig, RedisPresence};
use testkit::Redis;
use tokio::sync::OnceCell;

async fn cluster() -> RedisPresence {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    let redis = SHARED.get_or_init(async || Redis::start_cluster().await.expect("a Cluster")).await;
    let config = RedisConfig { cluster: true, ..common::redis_config(&redis.uri()) };
    common::node(common::config(), config).await
}

presence::contract_tests!(crate::cluster);
