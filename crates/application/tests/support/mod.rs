//! Calls as a gateway makes them.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::Arc;
use std::time::Duration;

use access::Principal;
use application::{Config, Routes};
use broker::{Broker, Destinations};
use broker_embedded::EmbeddedBroker;
use gateway::application::{Call, Caller};
use serde_json::json;

/// Longer than anything here takes on a busy machine; reached only when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// The routes of a section `[application]`.
pub(crate) fn routes_over(broker: Arc<dyn Broker>, config: &str) -> Arc<Routes> {
    let config: Config = toml::from_str(config).unwrap();
    let destinations = Destinations::default();
    config.check(&destinations).unwrap();
    Arc::new(Routes::start(&config, &destinations, &broker).unwrap())
}

pub(crate) fn routes(config: &str) -> Arc<Routes> {
    routes_over(Arc::new(EmbeddedBroker::new(broker_embedded::Config::default())), config)
}

pub(crate) fn caller() -> Caller {
    let mut principal = Principal::anonymous();
    principal.name = "ann".into();
    Caller {
        principal: Arc::new(principal),
        session: "0123456789ABCDEFGHIJKLMNOPQRST".into(),
        address: [192, 0, 2, 1].into(),
        attributes: Arc::new([("plan".to_owned(), json!(["gold"]))].into_iter().collect()),
    }
}

/// A call to `/app/<path>`.
pub(crate) fn call(path: &str, body: &'static str) -> Call {
    Call {
        caller: caller(),
        destination: format!("/app/{path}").into(),
        prefix: "/app".into(),
        path: path.into(),
        headers: vec![("kind".into(), "own".into()), ("content-type".into(), "text/x".into())],
        body: body.into(),
    }
}
