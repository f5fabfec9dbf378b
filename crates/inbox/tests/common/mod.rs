//! Stores of inboxes in Redis as the tests want them.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::time::Duration;

use inbox::{
    Address, Appended, Config, Draft, Durability, Entry, Error, Inbox, Position, RedisInbox, Take,
    Taken,
};
use presence::{Boot, UserName};
use redis_link::RedisConfig;
use testkit::{Persistence, Redis};
use tokio::sync::OnceCell;

/// How long anything may take before a test counts as failed: long, for a starved machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The Redis that all tests of a process share, which writes to disk.
pub(crate) async fn redis() -> &'static Redis {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    let start = async || Redis::start(Persistence::AppendOnly).await.expect("Redis");
    SHARED.get_or_init(start).await
}

pub(crate) fn redis_config(uri: &str) -> RedisConfig {
    RedisConfig {
        urls: vec![uri.into()],
        // A name of its own, so that no test sees the inboxes of another.
        namespace: format!("test-{}", Boot::generate()),
        command_timeout: Duration::from_secs(5),
        reconnect_pause: Duration::from_millis(200),
        ..RedisConfig::default()
    }
}

/// A store that is connected.
pub(crate) async fn store(config: Config, redis: RedisConfig) -> RedisInbox {
    store_that(config, redis, Durability::default()).await
}

pub(crate) async fn store_that(
    config: Config,
    redis: RedisConfig,
    durability: Durability,
) -> RedisInbox {
    config.check().expect("a configuration that can run");
    redis.check().expect("a configuration that can run");
    let store = RedisInbox::start(config, redis, durability);
    store.connected(PATIENCE).await.expect("Redis");
    store
}

/// A store of its own namespace on the shared Redis.
pub(crate) async fn shared(config: Config) -> RedisInbox {
    store(config, redis_config(&redis().await.uri())).await
}

pub(crate) fn user(name: &str) -> UserName {
    UserName::new(name.to_owned()).expect("a name")
}

pub(crate) fn inbox_of(name: &str) -> Address {
    Address::of_user(user(name), "/queue/news".into())
}

pub(crate) fn draft(body: &str) -> Draft {
    Draft::new(Boot::generate(), body.to_owned())
}

/// Appends to one inbox.
pub(crate) async fn append(
    store: &RedisInbox,
    of: &Address,
    draft: &Draft,
) -> Result<Appended, Error> {
    Ok(store.append(std::slice::from_ref(of), draft).await?.remove(0))
}

/// Takes up to 1,000 entries.
pub(crate) async fn take(
    store: &RedisInbox,
    of: &Address,
    after: Option<Position>,
) -> Result<Taken, Error> {
    store.take(&Take { of, after, limit: 1_000, max_bytes: 1 << 30 }).await
}

pub(crate) fn bodies(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.body).into_owned()).collect()
}

/// Asks again and again until it is so.
pub(crate) async fn until(mut question: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it happens in time");
}
