//! What the gateway asks of a broker for what clients ask of it: feeds, queue options, and
//! the end of what is kept.

mod support;

use access::rules::Config as Rules;
use broker::{Argument, SubscribeError};
use gateway::Config;
use stomp::{Command, Frame, header};
use support::recorder::{described, start, start_by, to};
use support::{Node, config, frame};

#[tokio::test]
async fn all_that_a_subscribe_says_reaches_the_broker() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    client
        .ask(
            Command::Subscribe,
            &[
                ("id", "s1"),
                ("destination", "/topic/a.*"),
                ("ack", "client-individual"),
                ("prefetch-count", "7"),
                ("durable", "true"),
                ("auto-delete", "False"),
                ("x-message-ttl", "60000"),
                ("x-dead-letter-exchange", "dlx"),
                ("x-priority", "5"),
                ("x-stream-offset", "timestamp=1700000000"),
            ],
        )
        .await;
    assert_eq!(recorder.calls(), ["subscribe /topic/a.* kept anonymous/s1"]);
    let request = recorder.request();
    assert_eq!(
        described(&request.queue),
        "durable:true auto-delete:false x-message-ttl:60000 x-dead-letter-exchange:dlx"
    );
    assert_eq!(request.prefetch, 7);
    assert_eq!(
        request.consumer,
        [
            ("x-priority".into(), Argument::Integer(5)),
            ("x-stream-offset".into(), Argument::Time(1_700_000_000)),
        ]
    );
    // Each session is a subscriber of its own, so that an exclusive queue is its alone.
    let mut other = node.connect().await;
    other
        .ask(Command::Subscribe, &[("id", "1"), ("destination", "/queue/q"), ("exclusive", "true")])
        .await;
    assert_eq!(recorder.calls(), ["subscribe /queue/q shared"]);
    assert_eq!(recorder.request().queue.exclusive, Some(true));
    assert_ne!(recorder.request().subscriber, request.subscriber);
}

#[tokio::test]
async fn an_exchange_is_fanned_out_as_a_topic_is_and_each_message_shows_where_it_was_sent() {
    let (node, recorder) = start(config()).await;
    let (mut ann, mut bob) = (node.connect().await, node.connect().await);
    for client in [&mut ann, &mut bob] {
        client.subscribe("1", "/exchange/logs/a.#").await;
    }
    assert_eq!(recorder.calls(), ["subscribe /exchange/logs/a.# shared"]);
    recorder.deliver(0, to("/exchange/logs/a.b", "x"));
    for client in [&mut ann, &mut bob] {
        let message = client.frame().await;
        assert_eq!(message.header(header::DESTINATION).unwrap(), "/exchange/logs/a.b");
        assert_eq!(message.body, "x");
    }
}

#[tokio::test]
async fn what_comes_from_a_queue_of_ones_own_is_shown_as_from_a_shared_topic() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    for (n, (destination, sent, shown)) in [
        ("/topic/a/b", "/topic/a.b", "/topic/a/b"),
        ("/topic/a/*", "/topic/a.b", "/topic/a/b"),
        ("/topic/a.*", "/topic/a.b", "/topic/a.b"),
        ("/exchange/x/a", "/exchange/x/a", "/exchange/x/a"),
    ]
    .into_iter()
    .enumerate()
    {
        client.subscribe_with("1", destination, &[("ack", "client-individual")]).await;
        recorder.deliver(n, to(sent, "x"));
        let message = client.frame().await;
        assert_eq!(message.header(header::DESTINATION).unwrap(), shown);
        assert!(message.header(header::ACK).is_some());
        client.ask(Command::Unsubscribe, &[("id", "1")]).await;
    }
    // A queue with a name may be bound to more than this subscription asked for.
    client.subscribe_with("1", "/topic/a.b", &[("x-queue-name", "q")]).await;
    recorder.deliver(4, to("/topic/c.d", "x"));
    assert_eq!(client.frame().await.header(header::DESTINATION).unwrap(), "/topic/c.d");
}

#[tokio::test]
async fn unsubscribing_with_durable_deletes_what_a_topic_keeps() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    for (destination, unsubscribe, deleted) in [
        ("/topic/a", vec![("id", "1"), ("durable", "true")], true),
        ("/topic/a", vec![("id", "1"), ("persistent", "true")], true),
        ("/topic/a", vec![("id", "1"), ("durable", "false")], false),
        ("/topic/a", vec![("id", "1")], false),
        ("/exchange/x/a", vec![("id", "1"), ("durable", "true")], false),
    ] {
        client.subscribe_with("1", destination, &[("durable", "true")]).await;
        recorder.calls();
        client.ask(Command::Unsubscribe, &unsubscribe).await;
        let calls = recorder.calls();
        assert!(calls[0].starts_with("cancel "), "{calls:?}");
        let expected: &[&str] = if deleted { &["delete /queue/kept-1"] } else { &[] };
        assert_eq!(&calls[1..], expected, "{unsubscribe:?}");
    }
    // A subscription that keeps nothing, and one that is not there, have nothing to delete.
    client.subscribe_with("1", "/topic/a", &[("ack", "client")]).await;
    client.ask(Command::Unsubscribe, &[("id", "1"), ("durable", "true")]).await;
    client.ask(Command::Unsubscribe, &[("id", "1"), ("durable", "true")]).await;
    assert_eq!(recorder.calls(), ["subscribe /topic/a own", "cancel 5"]);
    client.tell(Command::Unsubscribe, &[("id", "1"), ("durable", "maybe")]).await;
    let (message, ..) = client.error().await;
    assert_eq!(message, "UNSUBSCRIBE has durable:maybe, which should be true or false");
}

#[tokio::test]
async fn in_1_0_the_destination_names_what_is_unsubscribed_and_deleted() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect_as("1.0").await;
    client.ask(Command::Subscribe, &[("destination", "/topic/a"), ("x-queue-name", "mine")]).await;
    client.ask(Command::Unsubscribe, &[("destination", "/topic/a"), ("durable", "true")]).await;
    assert_eq!(
        recorder.calls(),
        ["subscribe /topic/a named mine", "cancel 0", "delete /queue/mine"]
    );
}

#[tokio::test]
async fn a_send_with_queue_headers_declares_before_it_publishes() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    client
        .ask(
            Command::Send,
            &[
                ("destination", "/queue/q"),
                ("durable", "true"),
                ("x-max-length", "10"),
                ("x-priority", "1"),
                ("persistent", "false"),
            ],
        )
        .await;
    assert_eq!(recorder.calls(), ["declare q durable:true x-max-length:10", "publish /queue/q"]);
    let message = recorder.message();
    assert!(!message.persistent);
    let names: Vec<_> = message.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["durable", "x-max-length", "x-priority"], "echoed, as the plugin does");
    // Without, or to anything else, nothing is declared.
    client.ask(Command::Send, &[("destination", "/queue/q"), ("persistent", "true")]).await;
    for destination in ["/topic/t", "/amq/queue/q", "/exchange/x/k", "/reply-queue/a/b"] {
        client.ask(Command::Send, &[("destination", destination), ("durable", "true")]).await;
    }
    assert_eq!(
        recorder.calls(),
        [
            "publish /queue/q",
            "publish /topic/t",
            "publish /amq/queue/q",
            "publish /exchange/x/k",
            "publish /reply-queue/a/b"
        ]
    );
    recorder.on_declare(SubscribeError::Refused("PRECONDITION_FAILED - inequivalent arg".into()));
    client.tell(Command::Send, &[("destination", "/queue/q"), ("durable", "false")]).await;
    let (message, _, close) = client.error().await;
    assert_eq!((&*message, close), ("PRECONDITION_FAILED - inequivalent arg", Some(1002)));
    assert_eq!(recorder.calls(), ["declare q durable:false"], "and does not publish");
}

#[tokio::test]
async fn queues_of_ones_own_are_limited() {
    let (node, recorder) = start(Config { max_own_queues: 2, ..config() }).await;
    let mut client = node.connect().await;
    client.subscribe_with("1", "/topic/a", &[("ack", "client")]).await;
    client.ask(Command::Send, &[("destination", "/queue/q"), ("reply-to", "/temp-queue/t")]).await;
    // What is nobody's own does not count, and what is given up makes room.
    client.subscribe_with("2", "/queue/q", &[("ack", "client")]).await;
    client.subscribe("3", "/topic/a").await;
    client.ask(Command::Unsubscribe, &[("id", "1")]).await;
    client.subscribe_with("1", "/topic/b", &[("durable", "true")]).await;
    client
        .tell(Command::Subscribe, &[("id", "4"), ("destination", "/topic/c"), ("ack", "client")])
        .await;
    let (message, receipt, close) = client.error().await;
    assert!(message.contains("more than 2 queues of its own"), "{message}");
    assert_eq!((receipt.as_deref(), close), (Some("r"), Some(4429)));
    assert!(!recorder.calls().contains(&"subscribe /topic/c own".to_owned()));
}

#[tokio::test]
async fn who_may_have_no_queue_acknowledges_what_all_share() {
    let (node, recorder) = start_by(Rules::Default, config()).await;
    let mut client = node.connect().await;
    client.subscribe_with("1", "/topic/a", &[("ack", "client"), ("prefetch-count", "1")]).await;
    assert_eq!(recorder.calls(), ["subscribe /topic/a shared"]);
    recorder.deliver(0, to("/topic/a", "x"));
    let token = client.frame().await.header(header::ACK).unwrap().clone();
    let ack = Frame::new(Command::Ack).with_header(header::ID, token);
    client.send(ack.with_header(header::RECEIPT, "r")).await;
    assert_eq!(client.frame().await.command, Command::Receipt);
    for headers in [&[("durable", "true")][..], &[("ack", "client"), ("x-max-length", "5")]] {
        let mut asking = node.connect().await;
        let mut all = vec![("id", "1"), ("destination", "/topic/a")];
        all.extend(headers);
        asking.tell(Command::Subscribe, &all).await;
        let (message, _, close) = asking.error().await;
        assert!(message.contains("a queue of one's own at /topic/a is not allowed"), "{message}");
        assert_eq!(close, Some(4403));
    }
    assert_eq!(recorder.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_topic_that_is_acknowledged_delivers_again_what_is_refused() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe_with("1", "/topic/a/*", &[("ack", "client-individual")]).await;
    let mut other = node.connect().await;
    other.subscribe("1", "/topic/a/b").await;
    client.publish_confirmed("/topic/a/b", "x").await;
    let first = client.frame().await;
    assert_eq!(first.header(header::REDELIVERED), None);
    client.send(frame(Command::Nack, &[("id", first.header(header::ACK).unwrap())])).await;
    let again = client.frame().await;
    assert_eq!(again.header(header::REDELIVERED).unwrap(), "true");
    assert_eq!(again.header(header::DESTINATION).unwrap(), "/topic/a/b");
    client.ask(Command::Ack, &[("id", again.header(header::ACK).unwrap())]).await;
    // What one refuses is nothing to another.
    assert_eq!(other.body().await, "x");
    client.publish_confirmed("/topic/a/b", "y").await;
    assert_eq!(other.body().await, "y");
    assert_eq!(client.body().await, "y");
}

#[tokio::test]
async fn prefetch_bounds_what_a_topic_has_outstanding() {
    let node = Node::start(config()).await;
    let mut client = node.connect().await;
    let headers = [("ack", "client"), ("prefetch-count", "1")];
    client.subscribe_with("1", "/topic/a", &headers).await;
    let mut publisher = node.connect().await;
    for body in ["1", "2", "3"] {
        publisher.publish_confirmed("/topic/a", body).await;
    }
    // The answer to a frame of the client's own comes before what it has no room for.
    for body in ["1", "2", "3"] {
        let message = client.frame().await;
        assert_eq!(message.body, body);
        client.ask(Command::Send, &[("destination", "/topic/other")]).await;
        client.send(frame(Command::Ack, &[("id", message.header(header::ACK).unwrap())])).await;
    }
}

#[tokio::test]
async fn what_the_embedded_broker_does_not_have_is_said_with_what_to_do_instead() {
    let node = Node::start(config()).await;
    for (headers, expected) in [
        (&[("destination", "/topic/a"), ("durable", "true")][..], "durable:true"),
        (&[("destination", "/topic/a"), ("x-queue-name", "q")], "x-queue-name"),
        (&[("destination", "/queue/q"), ("x-max-length", "1")], "x-max-length"),
        (&[("destination", "/queue/q"), ("x-priority", "1")], "x-priority"),
        (&[("destination", "/exchange/x/k")], "exchange"),
    ] {
        let mut client = node.connect().await;
        let mut all = vec![("id", "1")];
        all.extend(headers);
        client.tell(Command::Subscribe, &all).await;
        let (message, receipt, close) = client.error().await;
        assert!(message.contains(expected), "{headers:?}: {message}");
        assert_eq!((receipt.as_deref(), close), (Some("r"), Some(1002)), "{message}");
    }
}
