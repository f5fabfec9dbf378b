//! What clients publish to exchanges that others declared: it arrives as it would through RabbitMQ's STOMP
//! plugin, and what RabbitMQ does not take is refused by its reason.

mod common;

use broker::{Broker, ConfirmError, Destination, Link, Message, PublishError, PublisherId};
use broker_rabbitmq::RabbitMqBroker;
use common::application::{
    Application, Scraped, entry, misnamed, next, node, refusal, text, to, word,
};
use common::{body, broker_up, config, destination, publish, soon, subscribe, take, topic, until};
use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use testkit::RabbitMq;
use ulid::Ulid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_where_its_exchange_sends_it() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let none = FieldTable::default;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let direct = application.exchange(ExchangeKind::Direct, false).await;
    let topics = application.exchange(ExchangeKind::Topic, false).await;
    let headers = application.exchange(ExchangeKind::Headers, false).await;
    let mut colour = entry("colour", "red");
    colour.insert("x-match".into(), AMQPValue::LongString("all".into()));
    for (exchange, bound, key, arguments) in [
        (&fanout, "", "", none()),
        (&fanout, "", "a.b", none()),
        (&direct, "k/\u{fc}", "k/\u{fc}", none()),
        (&direct, "", "", none()),
        (&topics, "a.*", "a.b", none()),
        (&headers, "", "whatever", colour),
    ] {
        let mut consumer = application.bound(exchange, bound, arguments).await;
        let mut message = Message::new(to(exchange, key), format!("{exchange} {key}"));
        message.headers =
            vec![("colour".into(), "red".into()), ("content-type".into(), "text/plain".into())];
        message.persistent = true;
        let confirm = soon(node.publish(PublisherId(1), message)).await.unwrap();
        assert_eq!(soon(confirm).await, Ok(()));
        let delivery = next(&mut consumer).await;
        assert_eq!(text(&delivery), format!("{exchange} {key}"));
        assert_eq!(delivery.exchange.as_str(), exchange);
        assert_eq!(delivery.routing_key.as_str(), key);
        let properties = &delivery.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        let table = properties.headers().clone().unwrap();
        assert_eq!(table.inner().get("colour"), entry("colour", "red").inner().get("colour"));
    }
    // Nobody takes these, and that is no error.
    assert_eq!(word(&node, &to(&direct, "elsewhere")).await, Ok(()));
    assert_eq!(word(&node, &to(&headers, "")).await, Ok(()));
    // Nor is it that RabbitMQ has had all of them from the start.
    for exchange in ["amq.direct", "amq.fanout", "amq.headers", "amq.match"] {
        assert_eq!(word(&node, &to(exchange, "a")).await, Ok(()), "{exchange}");
    }
    assert_eq!(Scraped::of(&node).value("amqp_exchange_proofs_total{answer=\"yes\"}"), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_an_exchange_delivers_nothing() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    for n in 0..3 {
        // Each asks anew: what a connection knew is not known to the next node.
        let node = broker_up(config(&rabbitmq.uri())).await;
        soon(publish(&node, 1, &to(&fanout, ""), n.to_string()).await).await.unwrap();
        assert_eq!(text(&next(&mut consumer).await), n.to_string());
    }
    soon(publish(&node, 1, &to(&fanout, ""), "end").await).await.unwrap();
    assert_eq!(text(&next(&mut consumer).await), "end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_does_not_take_is_refused_by_its_reason() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    assert_eq!(
        refusal(word(&node, &to("nope", "a")).await),
        "NOT_FOUND - no exchange 'nope' in vhost '/'"
    );
    let internal = application.exchange(ExchangeKind::Fanout, true).await;
    for internal in [&*internal, "amq.rabbitmq.trace"] {
        let why = refusal(word(&node, &to(internal, "")).await);
        let expected = format!("ACCESS_REFUSED - cannot publish to internal exchange '{internal}'");
        assert!(why.starts_with(&expected), "{why}");
    }
    // RabbitMQ is asked once in a while.
    for _ in 0..10 {
        refusal(word(&node, &to("nope", "b")).await);
    }
    let metrics = Scraped::of(&node);
    assert!(metrics.value("amqp_exchange_proofs_total{answer=\"no\"}") <= 5);
    // What comes into being is had soon.
    let late = format!("test-{}", Ulid::generate());
    refusal(word(&node, &to(&late, "")).await);
    let none = FieldTable::default();
    let options = ExchangeDeclareOptions::default();
    let declare =
        application.channel.exchange_declare((&*late).into(), ExchangeKind::Fanout, options, none);
    declare.await.unwrap();
    soon(async {
        while let Err(refused) = word(&node, &to(&late, "")).await {
            assert!(matches!(refused, ConfirmError::Refused(_)), "{refused:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_the_node_may_not_write_to_disturbs_nobody() {
    let rabbitmq = testkit::rabbitmq().await;
    let application = Application::of(rabbitmq).await;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let user = format!("user-{}", Ulid::generate());
    rabbitmq.ctl(&["add_user", &user, "secret"]).await.unwrap();
    let write = "^(amq\\.topic|amq\\.default|test-allowed.*|footbridge.*)$";
    rabbitmq.ctl(&["set_permissions", &user, ".*", write, ".*"]).await.unwrap();
    let uri = rabbitmq.uri().replace("guest:guest", &format!("{user}:secret"));
    let node = broker_up(config(&uri)).await;
    let expected = format!(
        "ACCESS_REFUSED - access to exchange '{fanout}' in vhost '/' refused for user '{user}'"
    );
    assert_eq!(refusal(word(&node, &to(&fanout, "")).await), expected);
    assert_eq!(word(&node, &topic()).await, Ok(()));
}

/// RabbitMQ can be told which keys a user may publish with, for each exchange of type topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_node_may_not_write_is_refused_alone() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let application = Application::of(&rabbitmq).await;
    let topics = application.exchange(ExchangeKind::Topic, false).await;
    let mut consumer = application.bound(&topics, "#", FieldTable::default()).await;
    rabbitmq.ctl(&["add_user", "limited", "secret"]).await.unwrap();
    rabbitmq.ctl(&["set_permissions", "limited", ".*", ".*", ".*"]).await.unwrap();
    for exchange in [&*topics, "amq.topic"] {
        let permit = ["set_topic_permissions", "limited", exchange, "^good", ".*"];
        rabbitmq.ctl(&permit).await.unwrap();
    }
    let uri = rabbitmq.uri().replace("guest:guest", "limited:secret");
    let node = broker_up(config(&uri)).await;
    let (good, bad) = (to(&topics, "good.a"), to(&topics, "bad.a"));
    let channels = ["list_channels", "-q", "--no-table-headers", "pid", "connection"];
    let (mut channels_of_lanes, mut end) = (String::new(), 0);
    // What is refused is remembered, and asked for again: each way shows the same.
    for round in 0..3 {
        let mut confirms = Vec::new();
        for n in 0..20 {
            for to in [&good, &bad] {
                let body = (20 * round + n).to_string();
                confirms.push((to, publish(&node, 1, to, body).await));
            }
        }
        for (to, confirm) in confirms {
            let word = soon(confirm).await;
            if *to == good {
                assert_eq!(word, Ok(()));
            } else {
                let why = refusal(word);
                assert!(why.starts_with("ACCESS_REFUSED - access to topic 'bad.a' in"), "{why}");
            }
        }
        for _ in 0..20 {
            let delivery = next(&mut consumer).await;
            assert_eq!(text(&delivery), end.to_string());
            let table = delivery.properties.headers().clone().unwrap();
            assert!(!table.inner().contains_key("x-footbridge-republished"));
            end += 1;
        }
        let now = rabbitmq.ctl(&channels).await.unwrap();
        if round == 0 {
            channels_of_lanes = now;
        } else {
            assert_eq!(now, channels_of_lanes, "a channel was closed");
        }
    }
    // Topics are not asked for before one was refused.
    let (good, bad) = (destination("/topic/good.a"), destination("/topic/bad.a"));
    let mut subscription = subscribe(&node, &good).await;
    refusal(word(&node, &bad).await);
    let before = rabbitmq.ctl(&channels).await.unwrap();
    for _ in 0..3 {
        refusal(word(&node, &bad).await);
        assert_eq!(word(&node, &good).await, Ok(()));
        assert_eq!(body(&take(&mut subscription).await), "hi");
    }
    assert_eq!(rabbitmq.ctl(&channels).await.unwrap(), before, "a channel was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exchange_of_the_topics_is_the_topics() {
    let node = node().await;
    let topic = topic();
    let Destination::Topic(named) = &topic else { panic!("a topic") };
    let by_exchange = to("amq.topic", named.key());
    let mut subscription = subscribe(&node, &topic).await;
    let mut confirms = Vec::new();
    for n in 0..100 {
        let to = [&topic, &by_exchange][n % 2];
        confirms.push(publish(&node, 1, to, n.to_string()).await);
    }
    for n in 0..100 {
        let delivery = take(&mut subscription).await;
        assert_eq!(body(&delivery), n.to_string(), "one order for both");
        assert_eq!(delivery.message.destination, topic);
    }
    for confirm in confirms {
        assert_eq!(soon(confirm).await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_not_for_clients_are_refused_with_the_reason() {
    let rabbitmq = testkit::rabbitmq().await;
    let boot = Ulid::generate();
    let node = RabbitMqBroker::new(config(&rabbitmq.uri()), boot);
    until(&node, |link| *link == Link::Up).await;
    let amq_queue = |name: &str| Destination::AmqQueue(name.into());
    let reply_queue = |name: &str| Destination::ReplyQueue(name.into());
    assert!(misnamed(&node, to("", "q")).await.contains("use a queue"));
    for destination in [
        to("footbridge.direct", "all"),
        to("footbridge.to", "user.ann"),
        amq_queue(&format!("footbridge.topic.{boot}.1")),
        reply_queue(&format!("footbridge.topic.{boot}.1")),
    ] {
        assert!(misnamed(&node, destination).await.contains("use another name"));
    }
    let long = "x".repeat(256);
    for destination in
        [to(&long, ""), to("amq.fanout", &long), amq_queue(&long), reply_queue(&long)]
    {
        let refused = node.publish(PublisherId(1), Message::new(destination, "")).await;
        assert!(
            matches!(&refused, Err(PublishError::Unfit(why)) if why.contains("255 bytes")),
            "{refused:?}"
        );
    }
    assert_eq!(word(&node, &to("amq.fanout", &long[1..])).await, Ok(()));
    let temporary = Destination::TempQueue("t".into());
    let refused = node.publish(PublisherId(1), Message::new(temporary, "")).await;
    assert!(matches!(refused, Err(PublishError::Unsupported { kind: "temp-queue", .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_publisher_keeps_its_order_to_each_exchange() {
    let rabbitmq = testkit::rabbitmq().await;
    let (application, node) = (Application::of(rabbitmq).await, node().await);
    let mut destinations = Vec::new();
    let mut consumers = Vec::new();
    for _ in 0..3 {
        let direct = application.exchange(ExchangeKind::Direct, false).await;
        let queue = application.queue().await;
        for key in ["a", "b"] {
            application.bind(&queue, &direct, key, FieldTable::default()).await;
        }
        consumers.push(application.consume(&queue).await);
        destinations.push(direct);
    }
    let queue = application.queue().await;
    consumers.push(application.consume(&queue).await);
    let (queue, missing) = (Destination::ReplyQueue((&*queue).into()), to("nope", ""));
    let mut confirms = Vec::new();
    for n in 0..200 {
        for publisher in 0..5 {
            let body = || format!("{publisher}:{n}");
            let key = ["a", "b"][n % 2];
            for exchange in &destinations {
                let to = to(exchange, key);
                confirms.push((true, publish(&node, publisher, &to, body()).await));
            }
            confirms.push((true, publish(&node, publisher, &queue, body()).await));
            confirms.push((false, publish(&node, publisher, &missing, body()).await));
        }
    }
    for (is_there, confirm) in confirms {
        assert_eq!(soon(confirm).await.is_ok(), is_there);
    }
    for consumer in &mut consumers {
        let mut expected = [0; 5];
        for _ in 0..5 * 200 {
            let text = text(&next(consumer).await);
            let (publisher, n) = text.split_once(':').unwrap();
            let expected = &mut expected[publisher.parse::<usize>().unwrap()];
            assert_eq!(n.parse(), Ok(*expected));
            *expected += 1;
        }
    }
}
