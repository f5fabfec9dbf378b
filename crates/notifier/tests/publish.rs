//! `Publish`: what subscribers get, and what callers are told.

mod support;

use std::time::Duration;

use bytesize::ByteSize;
use notifier::Config;
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{Message, PublishRequest};
use support::{Node, config, header, patiently, request, text};
use tonic::{Code, Request};
use tonic_types::StatusExt;

#[tokio::test]
async fn a_message_reaches_a_topics_subscribers_with_all_that_it_carries() {
    let mut node = Node::start().await;
    let mut prices = node.subscribe("/topic/prices.*").await;
    let message = Message {
        headers: vec![header("colour", "red"), header("size", "ü: 1"), header("colour", "blue")],
        content_type: "text/csv".to_owned(),
        body: Some(Body::Text("a;b".to_owned())),
        persistent: Some(false),
    };
    let request = PublishRequest {
        destination: "/topic/prices/eur".to_owned(),
        message: Some(message),
        ..Default::default()
    };
    let answer = node.client.publish(request).await.unwrap().into_inner();

    let delivery = patiently(prices.next()).await.unwrap();
    let message = &delivery.message;
    assert_eq!(answer.message_id, message.id.to_string());
    assert_eq!(message.destination.to_string(), "/topic/prices.eur");
    assert_eq!(&message.body[..], b"a;b");
    assert!(!message.persistent);
    let headers: Vec<_> = message.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let expected =
        [("content-type", "text/csv"), ("colour", "red"), ("size", "ü: 1"), ("colour", "blue")];
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn a_body_has_the_type_of_its_kind_and_persists_unless_told_otherwise() {
    let mut node = Node::start().await;
    let json = r#"{"type":"greeting", "id": 9007199254740993}"#;
    for (body, content_type, bytes) in [
        (Body::Text("hällo".to_owned()), Some("text/plain"), "hällo".as_bytes()),
        (Body::Json(json.to_owned()), Some("application/json"), json.as_bytes()),
        (Body::Bytes(b"\0\xff".as_slice().into()), None, b"\0\xff"),
        (Body::Text(String::new()), Some("text/plain"), b""),
    ] {
        let mut queue = node.subscribe("/queue/q").await;
        node.client.publish(request("/queue/q", body)).await.unwrap();
        let delivery = patiently(queue.next()).await.unwrap();
        assert_eq!(&delivery.message.body[..], bytes);
        let headers: Vec<_> =
            delivery.message.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expected: Vec<_> = content_type.map(|of| ("content-type", of)).into_iter().collect();
        assert_eq!(headers, expected);
        assert!(delivery.message.persistent);
        delivery.settle(broker::Outcome::Ack);
    }
}

#[tokio::test]
async fn a_full_queue_is_resource_exhausted() {
    let embedded = broker_embedded::Config { max_queue_length: 1, ..Default::default() };
    let mut node = Node::start_with(config(), embedded).await;
    node.client.publish(text("/queue/q", "fits")).await.unwrap();
    let status = node.client.publish(text("/queue/q", "does not")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
}

/// Each wrong request, the field it is told, and the end of the text.
fn wrong() -> Vec<(PublishRequest, &'static str, &'static str)> {
    let with = |message: Message| PublishRequest {
        destination: "/topic/a".to_owned(),
        message: Some(Message { body: Some(Body::Text("x".to_owned())), ..message }),
        ..Default::default()
    };
    let with_header = |name: &str, value: &str| {
        with(Message { headers: vec![header(name, value)], ..Message::default() })
    };
    let mut wrong = vec![
        (text("", "x"), "destination", "is missing"),
        (
            text("/nowhere/a", "x"),
            "destination",
            "'/nowhere/a' is not a valid destination: it must begin with one of /amq/queue, /app, \
             /exchange, /group, /queue, /reply-queue, /temp-queue, /topic, /user",
        ),
        (
            text("/topic/a.*", "x"),
            "destination",
            "'/topic/a.*' is a pattern: only SUBSCRIBE to a topic may use wildcards",
        ),
        (
            text("/topic/", "x"),
            "destination",
            "'/topic/' names no topic: a name must follow /topic/",
        ),
        (
            text("/topic/a\nb", "x"),
            "destination",
            "'/topic/a\\nb' holds a control character (code 10): names are printable text",
        ),
        (
            text("/temp-queue/a", "x"),
            "destination",
            "'/temp-queue/a' is not a valid destination for SEND: a temp-queue can only be named in \
             the reply-to header of a SEND",
        ),
        (
            text("/user/jo\t/queue/a", "x"),
            "destination",
            "'/user/jo\\t/queue/a' holds a control character (code 9)",
        ),
        (
            text("/user/jo/a", "x"),
            "destination",
            "'/user/jo/a' does not say whom to send to and where: write /user/<user> and then one of /queue, \
             /topic",
        ),
        (
            text("/app/a", "x"),
            "destination",
            "is of kind app, which is for what clients send to an application: use a topic, a queue, a user \
             or a group",
        ),
        (
            text("/exchange/e/k", "x"),
            "destination",
            "is not to be had: exchange destinations are not available on this broker: the \
             embedded broker has the exchange amq.topic only; use a topic, or run with RabbitMQ: \
             `footbridge gateway`",
        ),
        (
            PublishRequest {
                destination: "/topic/a".to_owned(),
                message: None,
                ..Default::default()
            },
            "message",
            "is missing",
        ),
        (
            PublishRequest {
                destination: "/topic/a".to_owned(),
                message: Some(Message::default()),
                ..Default::default()
            },
            "message.body",
            "is missing: set text, bytes or json",
        ),
        (
            request("/topic/a", Body::Json("{\"a\": }".to_owned())),
            "message.json",
            "is not JSON: expected value at line 1 column 7",
        ),
        (
            request("/topic/a", Body::Json(String::new())),
            "message.json",
            "is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            request("/topic/a", Body::Json("1 2".to_owned())),
            "message.json",
            "is not JSON: trailing characters at line 1 column 3",
        ),
        (
            text("/topic/a", &"x".repeat(1025)),
            "message.text",
            "is too long: it has 1025 bytes and may have 1024",
        ),
        (
            request("/topic/a", Body::Bytes(vec![0; 2048].into())),
            "message.bytes",
            "is too long: it has 2048 bytes and may have 1024",
        ),
        (
            request("/topic/a", Body::Json(format!("\"{}\"", "x".repeat(1023)))),
            "message.json",
            "is too long: it has 1025 bytes and may have 1024",
        ),
        (
            with(Message { content_type: "text/plain\r\nack:1".to_owned(), ..Message::default() }),
            "message.content_type",
            "holds a control character (code 13)",
        ),
        (
            with(Message { content_type: "x".repeat(256), ..Message::default() }),
            "message.content_type",
            "is too long: it has 256 bytes and may have 255",
        ),
        (
            with(Message { headers: vec![header("a", "b"); 4], ..Message::default() }),
            "message.headers",
            "has 4 headers and may have 3",
        ),
        (with_header("", "b"), "message.headers[0].name", "is empty"),
        (
            with_header("a\nb", "c"),
            "message.headers[0].name",
            "holds a control character (code 10)",
        ),
        (with_header("a", "b\0"), "message.headers[0].value", "holds a control character (code 0)"),
        (
            with_header(&"n".repeat(256), "b"),
            "message.headers[0].name",
            "is too long: it has 256 bytes and may have 255",
        ),
        (
            with_header("n", &"v".repeat(512)),
            "message.headers[0]",
            "is too long: name and value have 513 bytes and may have 512",
        ),
        (
            with_header("content-type", "text/csv"),
            "message.headers[0].name",
            "is reserved: set message.content_type in place of a header 'content-type'",
        ),
        (
            with_header("persistent", "false"),
            "message.headers[0].name",
            "is reserved: set message.persistent in place of a header 'persistent'",
        ),
        (
            with(Message {
                headers: vec![header("a", "b"), header(" x-footbridge-id ", "c")],
                ..Message::default()
            }),
            "message.headers[1].name",
            "is reserved: the server sets 'x-footbridge-id'",
        ),
    ];
    for name in [
        "ack",
        "content-length",
        "destination",
        "message-id",
        "receipt",
        "redelivered",
        "subscription",
        "transaction",
    ] {
        wrong.push((with_header(name, "1"), "message.headers[0].name", "is reserved"));
    }
    wrong
}

#[tokio::test]
async fn a_wrong_request_is_told_its_field() {
    let config = Config {
        max_message: ByteSize::kib(1),
        max_headers: 3,
        max_header: ByteSize::b(512),
        ..config()
    };
    let mut node = Node::start_with(config, broker_embedded::Config::default()).await;
    for (request, field, text) in wrong() {
        let status = node.client.publish(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].field, field);
        assert!(violations[0].description.starts_with(text), "{}", violations[0].description);
        assert_eq!(status.message(), format!("{field} {}", violations[0].description));
    }
    // What is at its limit is not beyond it.
    node.client.publish(text("/topic/a", &"x".repeat(1024))).await.unwrap();
}

#[tokio::test]
async fn a_request_far_beyond_the_limit_is_not_read() {
    let mut node = Node::start().await;
    let body = "x".repeat(8 * 1024 * 1024);
    let status = node.client.publish(text("/topic/a", &body)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

#[tokio::test]
async fn json_may_be_nested_as_deep_as_it_fits() {
    let mut node = Node::start().await;
    let depth = 500_000;
    let json = "[".repeat(depth) + &"]".repeat(depth);
    node.client.publish(request("/topic/a", Body::Json(json))).await.unwrap();
}

#[tokio::test]
async fn one_connection_more_than_there_may_be_waits_for_another_to_close() {
    let config = Config { max_connections: 1, ..config() };
    let mut node = Node::start_with(config, broker_embedded::Config::default()).await;
    node.client.publish(text("/topic/a", "x")).await.unwrap();

    let mut second = NotificationsClient::new(node.another_channel());
    let mut impatient = Request::new(text("/topic/a", "x"));
    impatient.set_timeout(Duration::from_millis(200));
    second.publish(impatient).await.unwrap_err();

    node.hang_up();
    patiently(second.publish(text("/topic/a", "x"))).await.unwrap();
}
