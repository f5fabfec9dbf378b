//! Exchanges of others that go, are missing, or cannot be asked for: who does not publish there does not
//! notice, and what was taken is not lost.

mod common;

use std::sync::Arc;

use broker::{
    Argument, Broker, Confirm, ConfirmError, Destination, Link, Outcome, PublisherId, QueueOptions,
    SubscribeRequest,
};
use common::application::{Application, Scraped, next, node, refusal, text, to, word};
use common::{body, broker_up, config, publish, queue, soon, subscribe, take, topic, until};
use lapin::ExchangeKind;
use lapin::types::FieldTable;
use testkit::{Proxy, RabbitMq};

/// While exchanges are deleted under those who publish to them, the others get what they were sent
/// once, and their connections stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_goes_disturbs_nobody() {
    let rabbitmq = testkit::rabbitmq().await;
    let application = Application::of(rabbitmq).await;
    let node = node().await;
    let metrics = Scraped::of(&node);
    let (topic, queue) = (topic(), queue());
    let mut topics = subscribe(&node, &topic).await;
    let mut queues = subscribe(&node, &queue).await;
    let mut others: Vec<Confirm> = Vec::new();
    let (mut refused, mut taken) = (0, 0);
    for round in 0..5 {
        let fanout = application.exchange(ExchangeKind::Fanout, false).await;
        // It is known to be there from now on.
        assert_eq!(word(&node, &to(&fanout, "")).await, Ok(()));
        let mut confirms = Vec::new();
        for n in 0..40 {
            if n == 20 {
                application.delete(&fanout).await;
            }
            // All by one publisher, so by lanes of one number.
            confirms.push(publish(&node, 1, &to(&fanout, ""), n.to_string()).await);
            for to in [&topic, &queue] {
                others.push(publish(&node, 1, to, (40 * round + n).to_string()).await);
            }
        }
        for confirm in confirms {
            match soon(confirm).await {
                Ok(()) => taken += 1,
                Err(ConfirmError::Refused(why)) => {
                    assert_eq!(why, format!("NOT_FOUND - no exchange '{fanout}' in vhost '/'"));
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    for confirm in others {
        assert_eq!(soon(confirm).await, Ok(()));
    }
    assert!(refused >= 5 * 20, "{refused} refused, {taken} taken");
    for subscription in [&mut topics, &mut queues] {
        for n in 0..200 {
            let delivery = take(subscription).await;
            assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), false));
            delivery.settle(Outcome::Ack);
        }
    }
    for connection in ["publish", "consume"] {
        let name = format!("amqp_reconnects_total{{connection=\"{connection}\"}}");
        assert_eq!(metrics.value(&name), 0);
    }
    soon(node.delete(&queue)).await.unwrap();
}

/// More refusals than a connection has channels, each of another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_without_end_use_nothing_up() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    let application = Application::of(&rabbitmq).await;
    let metrics = Scraped::of(&node);
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    let topic = topic();
    let mut topics = subscribe(&node, &topic).await;
    for hundred in 0..21 {
        let mut confirms = Vec::new();
        for n in 0..100 {
            let missing = to(&format!("nope-{hundred}-{n}"), "");
            confirms.push(publish(&node, n, &missing, "").await);
        }
        let good = [
            publish(&node, 1, &topic, "on").await,
            publish(&node, 1, &to(&fanout, ""), "on").await,
        ];
        for confirm in confirms {
            assert!(refusal(soon(confirm).await).starts_with("NOT_FOUND - no exchange 'nope-"));
        }
        for confirm in good {
            assert_eq!(soon(confirm).await, Ok(()));
        }
        assert_eq!(text(&next(&mut consumer).await), "on");
        let delivery = take(&mut topics).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("on", false));
    }
    assert!(metrics.value("amqp_exchange_proofs_total{answer=\"no\"}") >= 2_100);
    for connection in ["publish", "consume"] {
        let name = format!("amqp_reconnects_total{{connection=\"{connection}\"}}");
        assert_eq!(metrics.value(&name), 0);
    }
    assert_eq!(metrics.value("amqp_republished_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_connection_did_not_confirm_is_published_again_and_marked() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.unwrap();
    let node = Arc::new(broker_up(config(&rabbitmq.uri_at(proxy.port()))).await);
    let application = Application::of(rabbitmq).await;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    let queue = application.queue().await;
    let mut queued = application.consume(&queue).await;
    let destinations = [to(&fanout, ""), Destination::AmqQueue((&*queue).into())];
    let publishing = tokio::spawn({
        let node = node.clone();
        async move {
            for hundred in 0..20 {
                let mut confirms = Vec::new();
                for n in 0..100 {
                    for to in &destinations {
                        let body = (100 * hundred + n).to_string();
                        confirms.push(publish(&node, 1, to, body).await);
                    }
                }
                for confirm in confirms {
                    assert_eq!(soon(confirm).await, Ok(()));
                }
            }
        }
    });
    let mut breaks = 0;
    let (mut expected, mut expected_queued) = (0, 0);
    while expected < 2_000 || expected_queued < 2_000 {
        let (delivery, expected) = tokio::select! {
            delivery = next(&mut consumer), if expected < 2_000 => (delivery, &mut expected),
            delivery = next(&mut queued), if expected_queued < 2_000 => (delivery, &mut expected_queued),
        };
        let n: i32 = text(&delivery).parse().unwrap();
        let table = delivery.properties.headers().clone().unwrap();
        let marked = table.inner().contains_key("x-footbridge-republished");
        assert!(n == *expected || (n < *expected && marked), "{n}, {expected}, {marked}");
        *expected = (*expected).max(n + 1);
        if *expected > 500 * (breaks + 1) && breaks < 3 {
            breaks += 1;
            proxy.drop_connections().await;
        }
    }
    soon(publishing).await.unwrap();
    assert_eq!(breaks, 3);
}

/// An alarm blocks a connection that publishes, and whoever asks publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_during_an_alarm_stops_no_consumer() {
    let mut rabbitmq = RabbitMq::start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    let application = Application::of(&rabbitmq).await;
    let fanout = application.exchange(ExchangeKind::Fanout, false).await;
    let mut consumer = application.bound(&fanout, "", FieldTable::default()).await;
    let queue = queue();
    for n in 0..3 {
        soon(publish(&node, 1, &queue, n.to_string()).await).await.unwrap();
    }
    rabbitmq.alarm(true).await.unwrap();
    let held = publish(&node, 1, &to(&fanout, ""), "later").await;
    let blocked = publish(&node, 1, &topic(), "later").await;
    until(&node, |link| matches!(link, Link::Blocked(_))).await;
    // Acks go through: with a prefetch of one each makes room for the next.
    let request = broker::SubscribeRequest::new(queue.clone(), 1);
    let mut subscription = soon(node.subscribe(request)).await.unwrap();
    for n in 0..3 {
        let delivery = take(&mut subscription).await;
        assert_eq!(body(&delivery), n.to_string());
        delivery.settle(Outcome::Ack);
    }
    rabbitmq.alarm(false).await.unwrap();
    assert_eq!(soon(held).await, Ok(()));
    assert_eq!(soon(blocked).await, Ok(()));
    assert_eq!(text(&next(&mut consumer).await), "later");
}

/// More refusals than a connection may lose channels before it is replaced, of what clients subscribe to
/// and declare: who consumes keeps what is not settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_subscriptions_without_end_give_nothing_back() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let node = broker_up(config(&rabbitmq.uri())).await;
    let metrics = Scraped::of(&node);
    let queue = queue();
    let mut queues = subscribe(&node, &queue).await;
    soon(publish(&node, 1, &queue, "held").await).await.unwrap();
    let held = take(&mut queues).await;
    let Destination::Queue(name) = &queue else { panic!("{queue} is no queue") };
    let otherwise = QueueOptions {
        arguments: vec![("x-max-length".into(), Argument::Integer(5))],
        ..QueueOptions::default()
    };
    for n in 0..400 {
        let missing =
            [Destination::AmqQueue(format!("nope-{n}").into()), to(&format!("nope-{n}"), "key")];
        for missing in missing {
            let why = common::refusal(&node, SubscribeRequest::new(missing, 1)).await;
            assert!(why.starts_with("NOT_FOUND"), "{why}");
        }
        let declared = soon(node.declare(PublisherId(1), name, &otherwise)).await;
        let why = declared.unwrap_err().to_string();
        assert!(why.starts_with("PRECONDITION_FAILED - inequivalent arg"), "{why}");
    }
    let reconnects = |connection| {
        metrics.value(&format!("amqp_reconnects_total{{connection=\"{connection}\"}}"))
    };
    assert_eq!((reconnects("publish"), reconnects("consume")), (0, 0));
    assert!(reconnects("apart") > 0, "there were not enough refusals");
    held.settle(Outcome::Ack);
    soon(publish(&node, 1, &queue, "next").await).await.unwrap();
    let next = take(&mut queues).await;
    assert_eq!((body(&next).as_str(), next.redelivered), ("next", false));
    next.settle(Outcome::Ack);
    common::until_empty(&rabbitmq, name).await;
}
