//! RabbitMQ keeps the contract of all brokers.

mod common;

use std::sync::Arc;

use broker::Broker;

async fn rabbitmq() -> Arc<dyn Broker> {
    let rabbitmq = testkit::rabbitmq().await;
    Arc::new(common::broker_up(common::config(&rabbitmq.uri())).await)
}

broker::contract_tests!(crate::rabbitmq);
