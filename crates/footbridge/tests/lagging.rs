//! A notifier that has not heard how the gateways are, for it was frozen or lags behind, sends to sessions
//! that presence does not know: each gets its message.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use support::cluster::{Cluster, Place, to_users};
use support::session::Session;
use testkit::Proxy;

/// Two gateways, of which the second reaches Redis by the proxy. Presence vouches for it long after it was
/// heard of last.
async fn place(namespace: &str) -> (Place, Proxy) {
    let mut place = Place::shared(namespace).await;
    let redis = testkit::redis().await;
    let leg = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    place.gateways = vec![redis.uri(), redis.uri_at(leg.port())];
    place.settings.extend([("presence.lease", "60s"), ("presence.refresh", "1s")]);
    (place, leg)
}

#[tokio::test]
async fn a_notifier_that_lags_behind_reaches_who_is_not_in_presence() {
    let (mut place, mut redis_leg) = place("lags").await;
    let rabbitmq = testkit::rabbitmq().await;
    let mut leg = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.unwrap();
    place.notifier_rabbitmq = Some(rabbitmq.uri_at(leg.port()));
    // A confirm takes the delay twice.
    place.settings.push(("notifier.publish_timeout", "30s"));
    let mut cluster = Cluster::start(&place).await;
    // What the second gateway says of itself comes to the notifier after the session has been let in.
    leg.delay(Duration::from_secs(4));
    redis_leg.cut().await;
    let mut ann = Session::subscribed(&cluster.urls[1], "ann").await;
    let sent = cluster.service.send_to_users(&["ann"], "/queue/x", "1").await;
    assert_eq!(sent.sessions, 0, "presence does not know her: {sent:?}");
    ann.hears("x", "1").await;
    leg.heal().await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_notifier_that_was_frozen_reaches_who_is_not_in_presence() {
    let (place, mut redis_leg) = place("thawed").await;
    let cluster = Cluster::start(&place).await;
    cluster.notifier.freeze();
    redis_leg.cut().await;
    let mut ann = Session::subscribed(&cluster.urls[1], "ann").await;
    let mut notifications = cluster.service.notifications.clone();
    let sent = tokio::spawn(async move {
        notifications.send_to_user(to_users(&["ann"], "/queue/x", "1")).await
    });
    tokio::task::yield_now().await;
    cluster.notifier.thaw();
    let sent = sent.await.unwrap().unwrap().into_inner();
    assert_eq!(sent.sessions, 0, "presence does not know her: {sent:?}");
    ann.hears("x", "1").await;
    cluster.stop().await;
}
