//! Users over three `footbridge gateway` and one `footbridge notifier`: a node dies, and RabbitMQ goes away.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use proto::v1::online_event::{Ending, Kind};
use proto::v1::{OnlineEvent, WatchOnlineRequest};
use support::PATIENCE;
use support::cluster::{
    Cluster, Place, certain, ids_of, reach, sessions_on, sorted_ids, to_users, told_of,
};
use support::session::Session;
use testkit::RabbitMq;
use tokio::time::Instant;
use tonic::Code;

#[tokio::test]
async fn a_node_that_is_killed_is_gone_from_presence_within_its_lease() {
    let mut place = Place::shared("lease").await;
    place.settings.extend([
        ("presence.lease", "3s"),
        ("presence.refresh", "1s"),
        ("presence.linger", "1s"),
    ]);
    let mut cluster = Cluster::start(&place).await;
    let mut ann = cluster.everywhere("ann").await;
    // Whose only session is at the node that dies.
    let bob = Session::subscribed(&cluster.urls[0], "bob").await;
    let watch = WatchOnlineRequest::default();
    let mut events = cluster.service.presence.watch(watch).await.unwrap().into_inner();
    assert_eq!(cluster.service.send_to_users(&["ann", "bob"], "/queue/x", "1").await.sessions, 4);

    let died = Instant::now();
    cluster.gateways.remove(0).kill().await;
    let gone = [ann.remove(0), bob];
    // Sends go on meanwhile, and those that are there get each.
    let mut sent = 1;
    let right = cluster.wait("presence is right", async |cluster| {
        sent += 1;
        let reach =
            cluster.service.send_to_users(&["ann", "bob"], "/queue/x", &sent.to_string()).await;
        let found = cluster.service.sessions_of(&["ann", "bob"]).await.unwrap();
        let count = cluster.service.count().await;
        let is_right = found == [sorted_ids(&ann), Vec::new()]
            && (count.sessions, sessions_on(&count)) == (2, vec![1, 1])
            && (reach.sessions, reach.nodes, &*reach.reached) == (2, 2, &[2, 0]);
        if is_right { Ok(died.elapsed()) } else { Err((found, count, reach)) }
    });
    let right = right.await;
    // And nobody waits for the node any more once it has been silent for long enough.
    let certainly = cluster.wait("nothing is uncertain", async |cluster| {
        sent += 1;
        let reach =
            cluster.service.send_to_users(&["ann", "bob"], "/queue/x", &sent.to_string()).await;
        if reach == certain(&[2, 0], 2) { Ok(died.elapsed()) } else { Err(reach) }
    });
    let certainly = certainly.await;
    println!("presence right after {right:.1?}, sends certain after {certainly:.1?}");
    // A lease of 3 s and a look each second, and some for a busy machine.
    assert!(right < Duration::from_secs(10), "{right:?}");
    for session in &mut ann {
        for n in 1..=sent {
            session.hears("x", &n.to_string()).await;
        }
    }
    // Both sessions are told as dead with their node, and bob as offline.
    let is_an_end =
        |event: &OnlineEvent| matches!(event.kind(), Kind::SessionClosed | Kind::UserOffline);
    let told = told_of(&mut events, 3, is_an_end).await;
    let (dead, offline): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|event| event.kind() == Kind::SessionClosed);
    assert!(dead.iter().all(|event| event.ending() == Ending::NodeDied), "{dead:?}");
    assert_eq!(ids_of(&dead), sorted_ids(&gone));
    let offline: Vec<_> = offline.iter().map(|event| (event.kind(), &*event.user)).collect();
    assert_eq!(offline, [(Kind::UserOffline, "bob")]);
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_sent_while_rabbitmq_is_away_fails_clearly_or_arrives_and_no_session_ends() {
    let mut rabbitmq = RabbitMq::start().await.unwrap();
    let mut place = Place::shared("broker-away").await;
    place.rabbitmq = rabbitmq.uri();
    place.settings.extend([
        ("rabbitmq.heart_beat", "1s"),
        ("rabbitmq.reconnect_pause", "1s"),
        ("notifier.publish_timeout", "2s"),
    ]);
    let mut cluster = Cluster::start(&place).await;
    let mut ann = cluster.everywhere("ann").await;
    let service = &mut cluster.service;
    assert_eq!(service.send_to_users(&["ann"], "/queue/x", "before").await, certain(&[3], 3));
    for session in &mut ann {
        session.hears("x", "before").await;
    }
    rabbitmq.kill();
    // The first may have gone out before anybody noticed.
    let mut maybe = Vec::new();
    for n in 0..3 {
        let body = format!("away {n}");
        let refused = service.notifications.send_to_user(to_users(&["ann"], "/queue/x", &body));
        let refused = refused.await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        if refused.message().contains("may or may not") {
            maybe.push(body);
        }
    }
    // Who waits longer than the outage is served.
    let mut patient = service.clone();
    let waiting = tokio::spawn(async move {
        let mut request = tonic::Request::new(to_users(&["ann"], "/queue/x", "patience"));
        request.set_timeout(PATIENCE);
        patient.notifications.send_to_user(request).await
    });
    rabbitmq.start_again().await.unwrap();
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(reach(answer), certain(&[3], 3));
    // By then all else that may arrive was sent; the session is the same.
    for session in &mut ann {
        let mut heard = Vec::new();
        loop {
            let (_, body) = session.next().await;
            if body == "patience" {
                break;
            }
            heard.push(body);
        }
        assert!(heard.iter().all(|body| maybe.contains(body)), "{heard:?} of {maybe:?}");
    }
    assert_eq!(cluster.service.sessions_of(&["ann"]).await.unwrap(), [sorted_ids(&ann)]);
    cluster.stop().await;
}
