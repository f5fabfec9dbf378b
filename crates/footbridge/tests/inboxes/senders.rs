//! Who may send what is durable, and from where: to everybody, by AMQP, and watched at another notifier.

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{
    DeliveryEvent, DeliveryRef, DeliveryState, Durable, SendToAllRequest, SendToUserRequest,
    WatchDeliveryRequest,
};
use tokio::time::timeout;
use tonic::Streaming;

use crate::cluster::Cluster;
use crate::support::cluster::{owned, text};
use crate::support::session::Session;
use crate::support::{PATIENCE, POLL};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_everybody_waits_for_who_is_away_and_a_repeated_call_stores_nothing() {
    let cluster = Cluster::start().await;
    let urls = cluster.urls();
    let mut service = NotificationsClient::new(cluster.channel());
    let mut ann = Session::subscribed(&urls[0], "ann").await;
    let mut bob = Session::subscribed(&urls[1], "bob").await;
    // Known by having been there, and by having been sent something.
    Session::connect(&urls[1], "cho").await.disconnect().await;
    service.send_to_user(durable(&["dan"], "first")).await.unwrap();
    let to_all = SendToAllRequest {
        destination: "/queue/x".to_owned(),
        message: Some(text("to all")),
        durable: Some(Durable { idempotency_key: "k".to_owned(), ..Durable::default() }),
        ..SendToAllRequest::default()
    };
    let stored = service.send_to_all(to_all.clone()).await.unwrap().into_inner().stored.unwrap();
    assert_eq!((stored.stored, stored.known, stored.full), (4, 0, 0), "{stored:?}");
    let stored = service.send_to_all(to_all).await.unwrap().into_inner().stored.unwrap();
    assert_eq!((stored.stored, stored.known, stored.full), (0, 4, 0), "{stored:?}");
    // Nothing comes twice, for what is sent behind it comes next.
    service.send_to_user(durable(&["ann", "bob", "cho", "dan"], "last")).await.unwrap();
    let mut cho = Session::subscribed(&urls[2], "cho").await;
    let mut dan = Session::subscribed(&urls[0], "dan").await;
    dan.hears("x", "first").await;
    for session in [&mut ann, &mut bob, &mut cho, &mut dan] {
        session.hears("x", "to all").await;
        session.hears("x", "last").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_by_amqp_is_stored_before_it_is_answered_and_waits_for_who_is_away() {
    let cluster = Cluster::start().await;
    let application = Application::of(&cluster.rabbitmq.uri()).await;
    let headers =
        [("destination", "/queue/x"), ("durable", "true"), ("idempotency-key", "order 7")];
    let answer = application.send("user.ann", "order 7", &headers).await;
    assert_eq!((&answer["stored"], &answer["known"]), (&1.into(), &0.into()), "{answer}");
    // It was delivered twice, as AMQP does when an acknowledgement is lost.
    let answer = application.send("user.ann", "order 7", &headers).await;
    assert_eq!((&answer["stored"], &answer["known"]), (&0.into(), &1.into()), "{answer}");
    // Nobody but who is known is meant by all.
    let answer = application.send("all", "to all", &headers[..2]).await;
    assert_eq!(answer["stored"], 1, "{answer}");
    let answer = application.send("user.ann", "?", &[("durable", "true"), ("ttl", "soon")]).await;
    assert!(answer["error"].as_str().is_some_and(|why| why.contains("ttl")), "{answer}");
    let mut ann = Session::subscribed(&cluster.urls()[1], "ann").await;
    ann.hears("x", "order 7").await;
    ann.hears("x", "to all").await;
    application.send("user.ann", "live", &headers[..2]).await;
    ann.hears("x", "live").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_notifier_tells_what_became_of_a_message_also_once_the_one_that_stored_it_is_gone() {
    let mut cluster = Cluster::start().await;
    let (second, channel) = cluster.another_notifier().await;
    let mut other = NotificationsClient::new(channel);
    let mut service = NotificationsClient::new(cluster.channel());
    let sent = service.send_to_user(durable(&["ann", "bob"], "1")).await.unwrap().into_inner();
    let request = WatchDeliveryRequest {
        deliveries: vec![DeliveryRef {
            users: owned(&["ann", "bob"]),
            destination: "/queue/x".to_owned(),
            message_id: sent.message_id,
        }],
        until_final: true,
    };
    let mut told = other.watch_delivery(request).await.unwrap().into_inner();
    for _ in 0..2 {
        assert_eq!(next(&mut told).await.1, DeliveryState::Pending);
    }
    let mut ann = Session::subscribed(&cluster.urls()[0], "ann").await;
    ann.hears("x", "1").await;
    until_acked(&mut told, "ann").await;
    cluster = cluster.kill_notifier().await;
    let mut bob = Session::subscribed(&cluster.urls()[2], "bob").await;
    bob.hears("x", "1").await;
    until_acked(&mut told, "bob").await;
    let end = timeout(PATIENCE, told.message()).await.expect("an end");
    assert!(end.unwrap().is_none(), "nothing more becomes of them");
    second.stop().await;
    cluster.stop().await;
}

fn durable(users: &[&str], body: &str) -> SendToUserRequest {
    SendToUserRequest {
        users: owned(users),
        destination: "/queue/x".to_owned(),
        message: Some(text(body)),
        durable: Some(Durable::default()),
        ..SendToUserRequest::default()
    }
}

/// Whose message stands how now.
async fn next(told: &mut Streaming<DeliveryEvent>) -> (String, DeliveryState) {
    let event = timeout(PATIENCE, told.message()).await.expect("an event");
    let event = event.unwrap().expect("no end");
    let state = event.delivery.as_ref().unwrap().state();
    (event.user, state)
}

/// Waits for the end of a user's message; that it was handed out may be told before, and nothing else.
async fn until_acked(told: &mut Streaming<DeliveryEvent>, user: &str) {
    loop {
        let (whose, state) = next(told).await;
        assert_eq!(whose, user);
        match state {
            DeliveryState::Acked => return,
            state => assert_eq!(state, DeliveryState::Delivered),
        }
    }
}

/// A service that has only AMQP.
struct Application {
    _connection: Connection,
    channel: Channel,
    /// Where answers come.
    answers: ShortString,
}

impl Application {
    async fn of(uri: &str) -> Self {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        Self { _connection: connection, channel, answers: queue.name().clone() }
    }

    /// Sends to whom the key names, and waits for the answer.
    async fn send(&self, key: &str, body: &str, headers: &[(&str, &str)]) -> serde_json::Value {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let properties =
            BasicProperties::default().with_headers(table).with_reply_to(self.answers.clone());
        // Nobody may have come for it yet: what a notifier takes from is there soon after the notifier is.
        let published = async {
            loop {
                let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                let publish = self.channel.basic_publish(
                    "footbridge.to".into(),
                    key.into(),
                    options,
                    body.as_bytes(),
                    properties.clone(),
                );
                let confirmed = publish.await.unwrap().await.unwrap();
                if confirmed.take_message().is_none() {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(PATIENCE, published).await.expect("somebody to take it");
        let answered = async {
            loop {
                let options = BasicGetOptions { no_ack: true };
                if let Some(answer) =
                    self.channel.basic_get(self.answers.clone(), options).await.unwrap()
                {
                    return serde_json::from_slice(&answer.data).unwrap();
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(PATIENCE, answered).await.expect("an answer")
    }
}
