//! Which queues are known by name, and what may be said of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use broker::destination::Verb;
use broker::{
    Argument, Broker, ConfirmError, Destination, Destinations, Feed, Message, Outcome,
    PublishError, PublisherId, QueueOptions, SubscribeError, SubscribeRequest, Subscription,
};
use broker_embedded::{Config, EmbeddedBroker};

const SESSION: PublisherId = PublisherId(1);
const INSTEAD: &str = "leave it out, or run with RabbitMQ: `footbridge gateway`";

fn to(text: &str) -> Destination {
    Destinations::default().parse(text, Verb::Subscribe).unwrap()
}

async fn publish(
    broker: &EmbeddedBroker,
    to: &str,
    body: &'static str,
) -> Result<(), ConfirmError> {
    let message = Message::new(self::to(to), body);
    broker.publish(SESSION, message).await.unwrap().await
}

async fn subscribe(broker: &EmbeddedBroker, to: &str) -> Result<Subscription, SubscribeError> {
    broker.subscribe(SubscribeRequest::new(self::to(to), 1)).await
}

async fn is_there(broker: &EmbeddedBroker, name: &str) -> bool {
    match subscribe(broker, &format!("/amq/queue/{name}")).await {
        Ok(_) => true,
        Err(error) => {
            let refused = SubscribeError::Refused(format!("NOT_FOUND - no queue '{name}'"));
            assert_eq!(error, refused);
            false
        }
    }
}

fn auto_delete() -> QueueOptions {
    QueueOptions { auto_delete: Some(true), ..QueueOptions::default() }
}

fn with_argument(name: &'static str) -> QueueOptions {
    let arguments = vec![(name.into(), Argument::Integer(1))];
    QueueOptions { arguments, ..QueueOptions::default() }
}

#[tokio::test]
async fn the_queue_that_was_idle_longest_gives_way() {
    let broker = EmbeddedBroker::new(Config { max_queues: 3, ..Config::default() });
    for name in ["a", "b", "c"] {
        broker.declare(SESSION, &name.into(), &QueueOptions::default()).await.unwrap();
    }
    // Used and idle again, so now it is the last in turn.
    let mut consumer = subscribe(&broker, "/queue/a").await.unwrap();
    publish(&broker, "/queue/a", "1").await.unwrap();
    consumer.next().await.unwrap().settle(Outcome::Ack);
    drop(consumer);
    // Not idle any more, so not in turn.
    publish(&broker, "/queue/b", "1").await.unwrap();

    publish(&broker, "/queue/d", "1").await.unwrap();
    assert_eq!(publish(&broker, "/amq/queue/c", "1").await, Err(ConfirmError::Unroutable));
    assert_eq!(publish(&broker, "/amq/queue/a", "1").await, Ok(()));
    let limit = PublishError::LimitReached { what: "queue", limit: 3 };
    let message = Message::new(to("/queue/c"), "1");
    assert_eq!(broker.publish(SESSION, message).await.unwrap_err(), limit);
    for name in ["a", "b", "d"] {
        assert!(is_there(&broker, name).await, "{name}");
    }
}

#[tokio::test]
async fn a_queue_that_waits_for_its_first_consumer_does_not_give_way() {
    let broker = EmbeddedBroker::new(Config { max_queues: 1, ..Config::default() });
    broker.declare(SESSION, &"waits".into(), &auto_delete()).await.unwrap();
    let limit = SubscribeError::LimitReached { what: "queue", limit: 1 };
    assert_eq!(subscribe(&broker, "/queue/other").await.unwrap_err(), limit);
    drop(subscribe(&broker, "/queue/waits").await.unwrap());
    drop(subscribe(&broker, "/queue/other").await.unwrap());
    assert!(!is_there(&broker, "waits").await);
}

#[tokio::test]
async fn what_is_not_there_takes_no_place() {
    let broker = EmbeddedBroker::new(Config { max_queues: 1, ..Config::default() });
    publish(&broker, "/reply-queue/gone", "1").await.unwrap();
    assert_eq!(publish(&broker, "/amq/queue/gone", "1").await, Err(ConfirmError::Unroutable));
    assert!(!is_there(&broker, "gone").await);
    publish(&broker, "/queue/first", "1").await.unwrap();
}

#[tokio::test]
async fn what_is_said_must_be_what_is() {
    let broker = EmbeddedBroker::new(Config::default());
    let declare = async |name: &'static str, auto_delete| {
        let options = QueueOptions { auto_delete, ..QueueOptions::default() };
        broker.declare(SESSION, &name.into(), &options).await
    };
    for (name, is) in [("common", false), ("passing", true)] {
        declare(name, Some(is)).await.unwrap();
        declare(name, Some(is)).await.unwrap();
        declare(name, None).await.unwrap();
        let refused = SubscribeError::Refused(format!(
            "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{name}': received \
             '{}' but current is '{is}'",
            !is
        ));
        assert_eq!(declare(name, Some(!is)).await, Err(refused));
    }
}

#[tokio::test]
async fn what_a_queue_is_anyway_may_be_said() {
    let broker = EmbeddedBroker::new(Config::default());
    let said = QueueOptions {
        durable: Some(true),
        auto_delete: Some(false),
        exclusive: Some(false),
        arguments: Vec::new(),
    };
    broker.declare(SESSION, &"q".into(), &said).await.unwrap();
    let request = SubscribeRequest { queue: said, ..SubscribeRequest::new(to("/queue/q"), 1) };
    drop(broker.subscribe(request).await.unwrap());

    let said = QueueOptions {
        durable: Some(false),
        auto_delete: Some(true),
        exclusive: Some(true),
        arguments: Vec::new(),
    };
    for feed in [Feed::Shared, Feed::Own] {
        let request = SubscribeRequest {
            feed,
            queue: said.clone(),
            ..SubscribeRequest::new(to("/topic/a"), 1)
        };
        drop(broker.subscribe(request).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_not_kept_is_refused_by_its_name() {
    let broker = EmbeddedBroker::new(Config::default());
    let durable = QueueOptions { durable: Some(true), ..QueueOptions::default() };
    let stays = QueueOptions { auto_delete: Some(false), ..QueueOptions::default() };
    let base = |destination| SubscribeRequest::new(to(destination), 1);
    let mut refused = vec![
        (
            "durable:true",
            SubscribeRequest {
                feed: Feed::Kept { owner: None, id: "s".into() },
                ..base("/topic/a")
            },
        ),
        ("x-queue-name", SubscribeRequest { feed: Feed::Named("q".into()), ..base("/topic/a") }),
    ];
    for feed in [Feed::Shared, Feed::Own] {
        for (what, queue) in
            [("durable:true", durable.clone()), ("auto-delete:false", stays.clone())]
        {
            refused
                .push((what, SubscribeRequest { feed: feed.clone(), queue, ..base("/topic/a") }));
        }
    }
    for argument in ["x-message-ttl", "x-queue-type", "x-max-length", "x-dead-letter-exchange"] {
        let queue = with_argument(argument);
        for destination in ["/queue/q", "/topic/a", "/exchange/amq.topic/a"] {
            refused.push((
                argument,
                SubscribeRequest { feed: Feed::Own, queue: queue.clone(), ..base(destination) },
            ));
        }
    }
    for argument in ["x-priority", "x-stream-offset"] {
        for destination in ["/queue/q", "/topic/a", "/amq/queue/q", "/reply-queue/q"] {
            let consumer = vec![(argument.into(), Argument::Text("1".into()))];
            refused.push((argument, SubscribeRequest { consumer, ..base(destination) }));
        }
    }
    for (what, request) in refused {
        let said = format!("{request:?}");
        let error = SubscribeError::UnsupportedOption { what: what.into(), instead: INSTEAD };
        assert_eq!(broker.subscribe(request).await.map(drop), Err(error), "{said}");
    }
    let error = SubscribeError::UnsupportedOption { what: "x-expires".into(), instead: INSTEAD };
    let expires = with_argument("x-expires");
    assert_eq!(broker.declare(SESSION, &"q".into(), &expires).await, Err(error));
    assert!(!is_there(&broker, "q").await, "what was refused made a queue");
}

#[tokio::test]
async fn a_queue_is_exclusive_from_its_first_subscription_to_its_last() {
    let broker = EmbeddedBroker::new(Config::default());
    let locked = |why| {
        SubscribeError::Refused(format!(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q': {why}"
        ))
    };
    for (option, said) in [
        ("exclusive:true", QueueOptions { exclusive: Some(true), ..QueueOptions::default() }),
        ("durable:false", QueueOptions { durable: Some(false), ..QueueOptions::default() }),
    ] {
        let declare = async |who| broker.declare(who, &"q".into(), &said).await;
        let subscribe = async |subscriber| {
            let base = SubscribeRequest::new(to("/queue/q"), 1);
            broker.subscribe(SubscribeRequest { queue: said.clone(), subscriber, ..base }).await
        };
        let too_early = declare(SESSION).await.unwrap_err();
        assert_eq!(
            too_early.to_string(),
            format!(
                "{option} on a queue that its session has not subscribed to is not available on \
                 this broker: subscribe to it first, or run with RabbitMQ: `footbridge gateway`"
            )
        );
        assert!(!is_there(&broker, "q").await);

        let mut consumer = subscribe(SESSION).await.unwrap();
        declare(SESSION).await.unwrap();
        let theirs = subscribe(PublisherId(2)).await.unwrap_err();
        assert_eq!(theirs, locked("it is another session's own; use another queue"));
        assert!(declare(PublisherId(2)).await.is_err());
        assert_eq!(
            broker.declare(SESSION, &"q".into(), &auto_delete()).await,
            Err(locked("it is there and exclusive"))
        );
        publish(&broker, "/queue/q", "1").await.unwrap();
        assert_eq!(&*consumer.next().await.unwrap().message.body, b"1");
        drop(consumer);
        assert!(!is_there(&broker, "q").await);
    }

    publish(&broker, "/queue/q", "1").await.unwrap();
    let exclusive = QueueOptions { exclusive: Some(true), ..QueueOptions::default() };
    let base = SubscribeRequest::new(to("/queue/q"), 1);
    let request = SubscribeRequest { queue: exclusive, ..base };
    let refused = broker.subscribe(request).await.unwrap_err();
    assert_eq!(refused, locked("it is there and not exclusive"));
}

#[tokio::test]
async fn what_is_said_of_a_queue_that_is_not_declared_is_nothing() {
    let broker = EmbeddedBroker::new(Config::default());
    publish(&broker, "/queue/q", "1").await.unwrap();
    for destination in ["/amq/queue/q", "/reply-queue/q"] {
        let queue = with_argument("x-message-ttl");
        let request = SubscribeRequest { queue, ..SubscribeRequest::new(to(destination), 1) };
        let mut consumer = broker.subscribe(request).await.unwrap();
        drop(consumer.next().await.unwrap());
    }
}

#[tokio::test]
async fn the_exchange_of_topics_is_the_topics_and_there_is_no_other() {
    let broker = EmbeddedBroker::new(Config::default());
    let mut by_topic = subscribe(&broker, "/topic/#").await.unwrap();
    let mut by_exchange = subscribe(&broker, "/exchange/amq.topic/a.*").await.unwrap();
    let mut by_no_key = subscribe(&broker, "/exchange/amq.topic").await.unwrap();
    publish(&broker, "/exchange/amq.topic/a.b", "1").await.unwrap();
    for subscription in [&mut by_topic, &mut by_exchange] {
        let delivery = subscription.next().await.unwrap();
        assert_eq!(delivery.message.destination, to("/topic/a.b"));
    }
    publish(&broker, "/exchange/amq.topic", "2").await.unwrap();
    let delivery = by_no_key.next().await.unwrap();
    assert_eq!(&*delivery.message.body, b"2");

    let refused = subscribe(&broker, "/exchange/amq.fanout").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "exchange destinations are not available on this broker: the embedded broker has the \
         exchange amq.topic only; use a topic, or run with RabbitMQ: `footbridge gateway`"
    );
}
