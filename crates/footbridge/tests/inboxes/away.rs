//! RabbitMQ is away, or Redis: what is durable is taken or refused, and never half done.

use std::time::Duration;

use proto::v1::inbox_client::InboxClient;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{CountInboxRequest, Durable, SendToUserRequest};
use tonic::{Code, Request};

use crate::cluster::Cluster;
use crate::support::cluster::{owned, text};
use crate::support::session::Session;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(30);

fn durable(users: &[&str], body: &str) -> Request<SendToUserRequest> {
    let mut request = Request::new(SendToUserRequest {
        users: owned(users),
        destination: "/queue/x".to_owned(),
        message: Some(text(body)),
        durable: Some(Durable::default()),
        ..SendToUserRequest::default()
    });
    request.set_timeout(CALL);
    request
}

fn waiting(user: &str) -> CountInboxRequest {
    CountInboxRequest { user: user.to_owned(), destination: "/queue/x".to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_rabbitmq_is_away_is_taken_and_arrives_when_it_is_back() {
    let mut cluster = Cluster::start().await;
    let mut service = NotificationsClient::new(cluster.channel());
    let urls = cluster.urls();
    let mut ann = Session::subscribed(&urls[0], "ann").await;
    service.send_to_user(durable(&["ann"], "before")).await.unwrap();
    ann.hears("x", "before").await;
    cluster.rabbitmq.kill();
    for n in 0..20 {
        let answer = service.send_to_user(durable(&["ann", "bob"], &n.to_string())).await;
        let stored = answer.unwrap().into_inner().stored.unwrap();
        assert_eq!(stored.stored, 2, "{stored:?}");
    }
    cluster.rabbitmq.start_again().await.unwrap();
    for n in 0..20 {
        ann.hears("x", &n.to_string()).await;
    }
    // Who comes later finds them, at any node.
    let mut bob = Session::subscribed(&urls[2], "bob").await;
    for n in 0..20 {
        bob.hears("x", &n.to_string()).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_redis_is_away_is_refused_and_nothing_taken_before_is_lost() {
    let mut cluster = Cluster::start().await;
    let mut service = NotificationsClient::new(cluster.channel());
    let users = ["ann", "bob", "cho"];
    for n in 0..5 {
        service.send_to_user(durable(&users, &n.to_string())).await.unwrap();
    }
    cluster.redis.kill();
    for n in 0..3 {
        let refused =
            service.send_to_user(durable(&users, &format!("away {n}"))).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    cluster.redis.start_again().await.unwrap();
    // Once it is taken again.
    let taken = async {
        while service.send_to_user(durable(&users, "5")).await.is_err() {
            tokio::time::sleep(crate::support::POLL).await;
        }
    };
    tokio::time::timeout(CALL, taken).await.unwrap();
    let mut inbox = InboxClient::new(cluster.channel());
    for (n, user) in users.iter().enumerate() {
        let count = inbox.count(waiting(user)).await.unwrap().into_inner();
        let mut session = Session::subscribed(&cluster.urls()[n], user).await;
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| *last != "5") {
            heard.push(session.next().await.1);
        }
        assert_eq!(count.pending, heard.len() as u64);
        // The first refused one may have been on its way when Redis died: then it was stored for all or for
        // none, as the connection is one.
        let sure: Vec<_> = heard.iter().filter(|body| !body.starts_with("away 0")).collect();
        assert_eq!(sure, ["0", "1", "2", "3", "4", "5"], "{heard:?}");
    }
    cluster.stop().await;
}
