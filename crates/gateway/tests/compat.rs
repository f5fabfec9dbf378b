//! `compat = "rabbitmq"`: what clients that were written against RabbitMQ's STOMP plugin find.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use broker::{ConfirmError, Outcome, SubscribeError};
use gateway::Config;
use stomp::{Command, Compat, Frame, header};
use support::recorder::{Recorder, start, to};
use support::{Client, config};

fn rabbitmq() -> Config {
    Config { compat: Compat::RabbitMq, ..config() }
}

/// The `message` and the body of the ERROR that comes next, after which the session is closed.
async fn error(client: &mut Client) -> (String, String) {
    let error = client.frame().await;
    assert_eq!(error.command, Command::Error, "{error:?}");
    assert_eq!(error.header(header::VERSION).unwrap(), "1.0,1.1,1.2");
    assert_eq!(error.header(header::CONTENT_TYPE).unwrap(), "text/plain");
    client.frame_or_close().await.expect_err("a close after ERROR");
    let body = String::from_utf8(error.body.to_vec()).unwrap();
    (error.header(header::MESSAGE).unwrap().to_string(), body)
}

#[tokio::test]
async fn a_message_shows_redelivered_and_where_it_was_published() {
    let (node, recorder) = start(rabbitmq()).await;
    let mut client = node.connect().await;
    for (index, (destination, ack, sent, shown)) in [
        ("/topic/a/b", "auto", "/topic/a.b", "/topic/a.b"),
        ("/topic/a.*", "client", "/topic/a.b%2Fc", "/topic/a.b%2Fc"),
        ("/exchange/amq.topic/a", "auto", "/exchange/amq.topic/a", "/topic/a"),
        ("/exchange/x", "auto", "/exchange/x/k", "/exchange/x/k"),
        ("/amq/queue/q", "client-individual", "/queue/q", "/queue/q"),
        ("q", "auto", "/queue/q", "/queue/q"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = index.to_string();
        let headers = [("id", &*id), ("destination", destination), ("ack", ack)];
        client.ask(Command::Subscribe, &headers).await;
        recorder.deliver(index, to(sent, "x"));
        let message = client.frame().await;
        assert_eq!(message.header(header::DESTINATION).unwrap(), shown, "{destination}");
        assert_eq!(message.header(header::REDELIVERED).unwrap(), "false");
    }
    client.ask(Command::Send, &[("destination", "/queue/q"), ("reply-to", "/temp-queue/t")]).await;
    recorder.deliver(6, to("/reply-queue/amq.gen-6", "x"));
    let answer = client.frame().await;
    assert_eq!(answer.header(header::SUBSCRIPTION).unwrap(), "/temp-queue/t");
    assert_eq!(answer.header(header::DESTINATION).unwrap(), "/queue/amq.gen-6");
}

#[tokio::test]
async fn errors_have_the_plugins_titles() {
    let (node, recorder) = start(rabbitmq()).await;
    type Case = (Command, &'static [(&'static str, &'static str)], &'static str, &'static str);
    let cases: &[Case] = &[
        (
            Command::Subscribe,
            &[("id", "1"), ("destination", "/nope/a")],
            "Unknown destination",
            "'/nope/a' is not a valid destination",
        ),
        (
            Command::Subscribe,
            &[("id", "1"), ("destination", "/temp-queue/x")],
            "Invalid destination",
            "'/temp-queue/x' is not a valid destination for SUBSCRIBE",
        ),
        (Command::Send, &[("destination", "/queue/a/b")], "Invalid destination", "'/queue/a/b'"),
        (Command::Ack, &[("id", "0.0.x")], "Subscription not found", "nothing to acknowledge"),
        (
            Command::Subscribe,
            &[("id", "1"), ("destination", "/topic/a"), ("durable", "maybe")],
            "Processing error",
            "SUBSCRIBE has durable:maybe",
        ),
        (Command::Commit, &[("transaction", "t")], "Bad transaction", "COMMIT names"),
    ];
    for (command, headers, title, detail) in cases {
        let mut client = node.connect().await;
        client.tell(*command, headers).await;
        let (message, body) = error(&mut client).await;
        assert_eq!(&message, title);
        assert!(body.starts_with(detail), "{body:?}");
    }
    let mut client = node.connect_as("1.0").await;
    client.tell(Command::Subscribe, &[("destination", "/topic/a"), ("durable", "true")]).await;
    assert_eq!(error(&mut client).await.0, "Missing Header");
    for (why, title) in [
        ("NOT_FOUND - no queue 'q' in vhost '/'", "not_found"),
        ("PRECONDITION_FAILED - inequivalent arg 'durable'", "precondition_failed"),
        ("ACCESS_REFUSED - no access", "access_refused"),
        ("RESOURCE_LOCKED - locked", "resource_locked"),
    ] {
        recorder.on_subscribe(SubscribeError::Refused(why.into()));
        let mut client = node.connect().await;
        client.tell(Command::Subscribe, &[("id", "1"), ("destination", "/amq/queue/q")]).await;
        assert_eq!(error(&mut client).await, (title.to_owned(), why.to_owned()));
        recorder.on_confirm(ConfirmError::Refused(why.into()));
        let mut client = node.connect().await;
        client.tell(Command::Send, &[("destination", "/exchange/x/k")]).await;
        assert_eq!(error(&mut client).await.0, title);
    }
    let mut client = node.connect().await;
    client.subscribe_with("1", "/amq/queue/q", &[]).await;
    let ended = recorder.live().next().unwrap();
    recorder.end(ended);
    assert_eq!(error(&mut client).await.0, "Server cancelled subscription");
}

#[tokio::test]
async fn an_ack_covers_the_session() {
    let (node, recorder) = start(rabbitmq()).await;
    let mut client = node.connect().await;
    for (id, destination) in [("0", "/queue/a"), ("1", "/topic/b")] {
        client
            .ask(Command::Subscribe, &[("id", id), ("destination", destination), ("ack", "client")])
            .await;
    }
    let mut last = Frame::new(Command::Message);
    for index in [0, 1, 0, 1] {
        recorder.deliver(index, to("/queue/a", "x"));
        last = client.frame().await;
    }
    client.ask(Command::Ack, &[("id", last.header(header::ACK).unwrap())]).await;
    let mut settled = recorder.settled();
    settled.sort_by_key(|(tag, _)| *tag);
    assert_eq!(settled, [0, 1, 2, 3].map(|tag| (tag, Outcome::Ack)));
}

#[tokio::test]
async fn a_durable_subscriptions_queue_goes_with_its_consumer() {
    let (node, recorder) = start(rabbitmq()).await;
    let mut client = node.connect().await;
    let auto_delete = |recorder: &Recorder| recorder.request().queue.auto_delete;
    client.subscribe_with("1", "/topic/a", &[("durable", "true")]).await;
    assert_eq!(auto_delete(&recorder), Some(true));
    client.subscribe_with("2", "/topic/a", &[("durable", "true"), ("auto-delete", "false")]).await;
    assert_eq!(auto_delete(&recorder), Some(false));
    client.subscribe_with("3", "/queue/q", &[("durable", "true")]).await;
    assert_eq!(auto_delete(&recorder), None);
}

#[tokio::test]
async fn heart_beats_are_the_clients() {
    let (node, _recorder) = start(rabbitmq()).await;
    let mut client = node.open(&[]).await.unwrap();
    client.send_text("CONNECT\naccept-version:1.2\nheart-beat:4500,900\n\n\0").await;
    let connected = client.frame().await;
    assert_eq!(connected.command, Command::Connected);
    assert_eq!(connected.header(header::HEART_BEAT).unwrap(), "1000,4000");
}
