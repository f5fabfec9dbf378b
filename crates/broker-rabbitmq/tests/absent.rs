//! A queue that RabbitMQ has and cannot give just now, as one whose node is down.

mod common;

use broker::{Broker, Destination, Outcome, Subscription};
use broker_rabbitmq::Config;
use common::{body, broker_up, config, publish, queue, soon, subscribe, take};
use testkit::RabbitMq;

fn name(queue: &Destination) -> &str {
    let Destination::Queue(name) = queue else { panic!("{queue} is no queue") };
    name
}

/// Hides `queue` as the loss of its node does: it is known, and has no process.
async fn hide(rabbitmq: &RabbitMq, queue: &Destination) {
    let name = name(queue);
    let hide = format!(
        "mnesia:dirty_delete(rabbit_queue, rabbit_misc:r(<<\"/\">>, queue, <<\"{name}\">>))."
    );
    rabbitmq.ctl(&["eval", &hide]).await.expect("it is hidden");
}

async fn show(rabbitmq: &RabbitMq, queue: &Destination) {
    let name = name(queue);
    let show = format!(
        "[Q] = mnesia:dirty_read(rabbit_durable_queue, rabbit_misc:r(<<\"/\">>, queue, <<\"{name}\">>)), \
         mnesia:dirty_write(rabbit_queue, Q)."
    );
    rabbitmq.ctl(&["eval", &show]).await.expect("it is there again");
}

async fn taken(from: &mut Subscription) -> String {
    let delivery = take(from).await;
    let body = body(&delivery);
    delivery.settle(Outcome::Ack);
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_cannot_be_had_just_now_holds_up_no_other() {
    let rabbitmq = testkit::rabbitmq().await;
    // One for queues: all publishers share it.
    let broker = broker_up(Config { publish_channels: 1, ..config(&rabbitmq.uri()) }).await;
    let (absent, other) = (queue(), queue());
    let mut others = subscribe(&broker, &other).await;
    soon(publish(&broker, 1, &absent, "0").await).await.expect("it is confirmed");
    hide(rabbitmq, &absent).await;
    let mut waiting = Vec::new();
    for n in 1..=10 {
        waiting.push(publish(&broker, 1, &absent, n.to_string()).await);
        soon(publish(&broker, 2, &other, n.to_string()).await).await.expect("it goes on");
        assert_eq!(taken(&mut others).await, n.to_string());
    }
    assert!(broker.unconfirmed_bytes() > 0);
    show(rabbitmq, &absent).await;
    for confirm in waiting {
        soon(confirm).await.expect("it is confirmed in the end");
    }
    let mut there = subscribe(&broker, &absent).await;
    for n in 0..=10 {
        assert_eq!(taken(&mut there).await, n.to_string());
    }
    for queue in [absent, other] {
        soon(broker.delete(&queue)).await.expect("it is deleted");
    }
}
