//! Redis keeps the contract of all stores.

mod common;

use presence::RedisPresence;

async fn redis() -> RedisPresence {
    let redis = testkit::redis().await;
    common::node(common::config(), common::redis_config(&redis.uri())).await
}

presence::contract_tests!(crate::redis);
