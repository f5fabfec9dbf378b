//! Messages that are longer than clients may be sent.

mod common;

use broker::{Broker, Destination, Outcome};
use broker_rabbitmq::Config;
use bytesize::ByteSize;
use common::{body, broker_up, config, publish, queue, soon, subscribe, take, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_long_for_clients_does_not_reach_them() {
    let rabbitmq = testkit::rabbitmq().await;
    let limited = Config { max_outbound_message: ByteSize(10), ..config(&rabbitmq.uri()) };
    let limited = broker_up(limited).await;
    let mut registry = prometheus_client::registry::Registry::default();
    limited.register(&mut registry);
    let (topic, queue, dead) = (topic(), queue(), queue());
    let (Destination::Queue(name), Destination::Queue(dead_name)) = (&queue, &dead) else {
        panic!("queues");
    };
    let policy =
        format!("{{\"dead-letter-exchange\":\"\",\"dead-letter-routing-key\":\"{dead_name}\"}}");
    let set = ["set_policy", "--apply-to", "queues", name, &format!("^{name}$"), &policy];
    rabbitmq.ctl(&set).await.expect("a policy");
    let other = broker_up(config(&rabbitmq.uri())).await;
    let mut dead_letters = subscribe(&other, &dead).await;
    for to in [&topic, &queue] {
        let mut subscription = subscribe(&limited, to).await;
        for body in ["12345678901", "1234567890"] {
            soon(publish(&limited, 1, to, body).await).await.expect("it is confirmed");
        }
        let delivery = take(&mut subscription).await;
        assert_eq!(body(&delivery), "1234567890");
        delivery.settle(Outcome::Ack);
    }
    let delivery = take(&mut dead_letters).await;
    assert_eq!(body(&delivery), "12345678901");
    delivery.settle(Outcome::Ack);
    let mut scraped = String::new();
    prometheus_client::encoding::text::encode(&mut scraped, &registry).expect("a text");
    for fate in ["dropped", "rejected"] {
        let counted = format!("amqp_outsize_total{{fate=\"{fate}\"}} 1\n");
        assert!(scraped.contains(&counted), "{scraped}");
    }
    for queue in [&queue, &dead] {
        soon(other.delete(queue)).await.expect("it is deleted");
    }
}
