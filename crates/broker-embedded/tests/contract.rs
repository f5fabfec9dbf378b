//! The embedded broker keeps the contract of all brokers.

use std::sync::Arc;

use broker::Broker;
use broker_embedded::{Config, EmbeddedBroker};

async fn embedded() -> Arc<dyn Broker> {
    Arc::new(EmbeddedBroker::new(Config::default()))
}

broker::contract_tests!(crate::embedded);
