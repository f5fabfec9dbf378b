//! What the standard health service says, of the whole node and of each of our services.
//!
//! SERVING from the first contact with the broker until the node stops: a later outage of the
//! broker is for callers' deadlines to bridge, and not for a load balancer to empty the cluster over.

use broker::{BrokerState, Link};
use proto::v1::{groups_server, inbox_server, notifications_server, presence_server};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The names one may ask for; the empty one is the whole node.
const NAMES: [&str; 5] = [
    "",
    notifications_server::SERVICE_NAME,
    presence_server::SERVICE_NAME,
    groups_server::SERVICE_NAME,
    inbox_server::SERVICE_NAME,
];

/// Says that nothing is served yet.
pub(crate) async fn start(health: &HealthReporter) {
    set(health, ServingStatus::NotServing).await;
}

/// Says what is true, until `stopping` is cancelled.
pub(crate) async fn follow(
    mut health: HealthReporter,
    mut state: watch::Receiver<BrokerState>,
    stopping: CancellationToken,
) {
    tokio::select! {
        Ok(_) = async { state.wait_for(|state| state.link == Link::Up).await.map(drop) } => {
            set(&health, ServingStatus::Serving).await;
            stopping.cancelled().await;
        }
        () = stopping.cancelled() => {}
    }
    set(&health, ServingStatus::NotServing).await;
    // Those who watch have heard it; this ends their calls, which would hold up the stop.
    for name in NAMES {
        health.clear_service_status(name).await;
    }
}

async fn set(health: &HealthReporter, status: ServingStatus) {
    for name in NAMES {
        health.set_service_status(name, status).await;
    }
}
