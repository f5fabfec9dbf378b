//! What a broker does not give: a clear ERROR and the right close code to whoever asked, and nothing to
//! anybody else.

mod support;

use broker::{ConfirmError, DeleteError, PublishError, SubscribeError};
use stomp::Command;
use support::config;
use support::recorder::start;

/// What a client is told whatever the reason is.
const AWAY: &str = "the broker is not to be had now: try again later";

#[tokio::test]
async fn a_subscribe_that_the_broker_refuses_ends_its_session_alone() {
    let (node, recorder) = start(config()).await;
    let mut bystander = node.connect().await;
    bystander.subscribe("b", "/queue/other").await;
    for (error, close) in [
        (SubscribeError::Refused("NOT_FOUND - no exchange 'x' in vhost '/'".into()), 1002),
        (SubscribeError::Refused("PRECONDITION_FAILED - inequivalent arg 'durable'".into()), 1002),
        (SubscribeError::Refused("RESOURCE_LOCKED - cannot obtain exclusive access".into()), 1002),
        (SubscribeError::Refused("ACCESS_REFUSED - no access".into()), 1002),
        (
            SubscribeError::UnsupportedOption { what: "x-max-age".into(), instead: "leave it out" },
            1002,
        ),
        (SubscribeError::Unsupported { kind: "exchange", instead: "use a topic" }, 1002),
        (SubscribeError::Misnamed("names that begin with amq. are RabbitMQ's own"), 1002),
        (SubscribeError::LimitReached { what: "queue", limit: 10 }, 4429),
        (SubscribeError::Unavailable("it is down".into()), 1013),
    ] {
        for headers in [
            &[("destination", "/exchange/x/k")][..],
            &[("destination", "/topic/a"), ("ack", "client")],
            &[("destination", "/queue/q")],
        ] {
            recorder.on_subscribe(error.clone());
            let mut client = node.connect().await;
            let mut all = vec![("id", "1")];
            all.extend(headers);
            client.tell(Command::Subscribe, &all).await;
            let (message, receipt, got) = client.error().await;
            let told = match &error {
                SubscribeError::Unavailable(_) => AWAY.to_owned(),
                error => error.to_string(),
            };
            assert_eq!(message, told);
            assert_eq!((receipt.as_deref(), got), (Some("r"), Some(close)), "{message}");
        }
        bystander.ask(Command::Send, &[("destination", "/queue/other")]).await;
    }
}

#[tokio::test]
async fn a_send_that_the_broker_refuses_ends_its_session_alone() {
    let (node, recorder) = start(config()).await;
    let mut bystander = node.connect().await;
    bystander.subscribe("b", "/queue/other").await;
    let unfit = |what: &str| PublishError::Unfit(what.into());
    for (error, close) in [
        (unfit("header expiration must be a whole number of milliseconds"), 1002),
        (unfit("header priority must be 0 to 255"), 1002),
        (unfit("header CC is RabbitMQ's own"), 1002),
        (unfit("header user-id must be the name by which this node is known"), 1002),
        (PublishError::TooLarge { size: 10, limit: 5 }, 1009),
        (PublishError::Misnamed("names that begin with amq. are RabbitMQ's own"), 1002),
        (PublishError::LimitReached { what: "queue", limit: 10 }, 4429),
        (PublishError::Unavailable("it is down".into()), 1013),
    ] {
        recorder.on_publish(error.clone());
        let mut client = node.connect().await;
        client.tell(Command::Send, &[("destination", "/queue/q")]).await;
        let (message, receipt, got) = client.error().await;
        let told = match &error {
            PublishError::Unavailable(_) => AWAY.to_owned(),
            error => error.to_string(),
        };
        assert_eq!(message, told);
        assert_eq!((receipt.as_deref(), got), (Some("r"), Some(close)), "{message}");
        bystander.ask(Command::Send, &[("destination", "/queue/other")]).await;
    }
    for (error, close) in [
        (ConfirmError::Refused("NOT_FOUND - no exchange 'x' in vhost '/'".into()), 1002),
        (ConfirmError::Full("queue 'q' holds 10 messages, as many as it may".into()), 4429),
        (ConfirmError::Unroutable, 1013),
        (ConfirmError::Lost("it was restarted".into()), 1013),
    ] {
        recorder.on_confirm(error.clone());
        let mut client = node.connect().await;
        client.tell(Command::Send, &[("destination", "/queue/q")]).await;
        let (message, receipt, got) = client.error().await;
        let told = match &error {
            ConfirmError::Lost(_) => {
                "the broker did not confirm the message, which may or may not have been delivered"
                    .into()
            }
            error => error.to_string(),
        };
        assert_eq!(message, told);
        assert_eq!((receipt.as_deref(), got), (Some("r"), Some(close)), "{message}");
        bystander.ask(Command::Send, &[("destination", "/queue/other")]).await;
    }
}

#[tokio::test]
async fn a_delete_that_fails_is_told() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    client.subscribe_with("1", "/topic/a", &[("durable", "true")]).await;
    recorder.on_delete(DeleteError::Unavailable("it is down".into()));
    client.tell(Command::Unsubscribe, &[("id", "1"), ("durable", "true")]).await;
    let (message, receipt, close) = client.error().await;
    assert_eq!(message, AWAY);
    assert_eq!((receipt.as_deref(), close), (Some("r"), Some(1013)));
}

#[tokio::test]
async fn a_queue_that_is_deleted_ends_the_sessions_that_consume_it() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    client.subscribe_with("1", "/topic/a", &[("ack", "client")]).await;
    let mut bystander = node.connect().await;
    bystander.subscribe("b", "/queue/other").await;
    recorder.end(0);
    let (message, _, close) = client.error().await;
    assert_eq!(message, "the broker ended the subscription 1 to /topic/a: its queue was deleted");
    assert_eq!(close, Some(1013));
    bystander.ask(Command::Send, &[("destination", "/queue/other")]).await;
}

#[tokio::test]
async fn a_temp_queue_that_cannot_be_had_publishes_nothing() {
    let (node, recorder) = start(config()).await;
    recorder.on_subscribe(SubscribeError::Unsupported { kind: "temp-queue", instead: "a queue" });
    let mut client = node.connect().await;
    let send = [("destination", "/queue/q"), ("reply-to", "/temp-queue/t")];
    client.tell(Command::Send, &send).await;
    let (message, _, close) = client.error().await;
    assert!(message.starts_with("temp-queue destinations are not available"), "{message}");
    assert_eq!(close, Some(1002));
    assert_eq!(recorder.calls(), ["subscribe /temp-queue/t shared"]);
}
