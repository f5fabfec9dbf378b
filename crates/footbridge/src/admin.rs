//! The port for operators: `/metrics`, `/livez`, `/readyz`. Section `[admin]`.
//!
//! It serves as long as its [`Serving`] is held: through a drain, so that a load balancer sees it.
//!
//! Not here: what is counted (each part registers its own), what ready means ([`Readiness`]).

mod broker_metrics;
mod presence_metrics;
mod process_metrics;
mod readiness;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use warp::Filter;
use warp::http::StatusCode;

use self::broker_metrics::BrokerMetrics;
use self::presence_metrics::PresenceMetrics;
pub(crate) use self::presence_metrics::RedisMetrics;
use self::process_metrics::ProcessMetrics;
pub(crate) use self::readiness::Readiness;

/// What a scrape of OpenMetrics text is called.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is said at every other path.
const HELP: &str = "try /metrics, /livez, /readyz\n";

/// The port for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port for `/metrics`, `/livez` and `/readyz`. Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)) }
    }
}

/// A port that is bound, and what will be told there.
pub(crate) struct Admin {
    listener: TcpListener,
    readiness: Arc<Readiness>,
    registry: Registry,
}

/// A port that serves until this is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct Serving {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Admin {
    /// Binds the port.
    pub(crate) async fn bind(config: &Config, readiness: Arc<Readiness>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener
            .with_context(|| format!("cannot listen on {}", config.listen))
            .context("choose another address for operators with --admin")?;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics));
        registry.register_collector(Box::new(BrokerMetrics(readiness.broker())));
        registry.register_collector(Box::new(PresenceMetrics(readiness.presence())));
        Ok(Self { listener, readiness, registry })
    }

    /// Where every part of the process registers what it counts.
    pub(crate) fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Begins to serve.
    pub(crate) fn serve(self) -> io::Result<Serving> {
        let Self { listener, readiness, registry } = self;
        let address = listener.local_addr()?;
        let task = tokio::spawn(answer(listener, readiness, registry));
        Ok(Serving { address, _task: AbortOnDropHandle::new(task) })
    }
}

/// Where to look.
impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}/readyz  (and /livez, /metrics)", shown(self.address))
    }
}

/// An address as one can connect to it: nobody can point a browser to 0.0.0.0.
pub(crate) fn shown(address: SocketAddr) -> String {
    match address {
        any if any.ip().is_unspecified() => format!("localhost:{}", any.port()),
        other => other.to_string(),
    }
}

/// Serves for ever.
async fn answer(listener: TcpListener, readiness: Arc<Readiness>, registry: Registry) {
    let registry = Arc::new(registry);
    let metrics = warp::path!("metrics").map(move || {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &registry);
        warp::reply::with_header(text, "content-type", METRICS_TYPE)
    });
    let live = warp::path!("livez").map(|| "live\n".to_owned());
    let ready = warp::path!("readyz").map(move || {
        let now = readiness.now();
        let status = if now.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        warp::reply::with_status(format!("{now}\n"), status)
    });
    let help = warp::any().map(|| warp::reply::with_status(HELP.to_owned(), StatusCode::NOT_FOUND));
    warp::serve(warp::get().and(metrics.or(live).or(ready)).or(help))
        .incoming(listener)
        .run()
        .await;
}
