//! Nodes on a Redis as the tests want them.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;
use std::time::Duration;

use presence::contract::LINGER;
use presence::{
    Boot, Config, Event, Events, Link, Presence, RedisConfig, RedisPresence, Session, SessionId,
    State, Url, UserName,
};

/// How long anything may take before a test counts as failed: long, for a starved machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Short times, though long enough for a starved machine to keep its lease.
pub(crate) fn config() -> Config {
    Config {
        lease: Duration::from_secs(6),
        refresh: Duration::from_millis(300),
        reassert: Duration::from_secs(60),
        linger: LINGER,
        ..Config::default()
    }
}

pub(crate) fn redis_config(uri: &str) -> RedisConfig {
    RedisConfig {
        urls: vec![Url::from(uri)],
        // A name of its own, so that no test sees the nodes of another.
        namespace: format!("test-{}", Boot::generate()),
        command_timeout: Duration::from_secs(5),
        reconnect_pause: Duration::from_millis(200),
        ..RedisConfig::default()
    }
}

/// A node that is registered.
pub(crate) async fn node(config: Config, redis: RedisConfig) -> RedisPresence {
    config.check().expect("a configuration that can run");
    redis.check().expect("a configuration that can run");
    let node = RedisPresence::start(config, redis, Boot::generate());
    registered(&node).await;
    node
}

pub(crate) async fn registered(node: &RedisPresence) {
    until_state(node, |state| state.link == Link::Up && state.registered.is_some()).await;
}

/// Waits until the state is as `wanted`.
pub(crate) async fn until_state(node: &RedisPresence, wanted: impl Fn(&State) -> bool) -> State {
    let mut state = node.state();
    let reached = async { state.wait_for(wanted).await.expect("the node is there").clone() };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.unwrap_or_else(|_| panic!("it stays {:?}", *node.state().borrow()))
}

/// What `future` gives, in time.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Asks again and again until it is so.
pub(crate) async fn until(mut question: impl AsyncFnMut() -> bool) {
    soon(async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

pub(crate) fn user(name: &str) -> UserName {
    UserName::new(name.to_owned()).expect("a name")
}

pub(crate) fn session(node: &RedisPresence, name: &str) -> Session {
    Session::new(SessionId::generate(node.boot()), user(name), node.boot())
}

pub(crate) async fn register(node: &RedisPresence, name: &str) -> Session {
    let session = session(node, name);
    node.register(session.clone()).await.expect("it is registered");
    session
}

/// The ids of the sessions that `node` finds of a user, in order.
pub(crate) async fn found(node: &RedisPresence, name: &str) -> Vec<SessionId> {
    let user = user(name);
    let answer = node.lookup(std::slice::from_ref(&user)).await.expect("an answer");
    let mut ids: Vec<_> = answer.sessions_of(&user).iter().map(|s| s.id.clone()).collect();
    ids.sort();
    ids
}

/// All events up to the one that is `last`.
pub(crate) async fn events_until(events: &mut Events, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    soon(async {
        let mut all = Vec::new();
        loop {
            let event: Arc<Event> = events.next().await.expect("more").expect("all");
            all.push(Event::clone(&event));
            if last(&event) {
                return all;
            }
        }
    })
    .await
}
