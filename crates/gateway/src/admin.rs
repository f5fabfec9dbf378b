//! The port for operators: `/metrics`, `/livez`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker::Link;
use tokio::net::TcpListener;
use warp::Filter;
use warp::http::StatusCode;

use crate::node::Node;

/// What a scrape of OpenMetrics text is called.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, node: Arc<Node>) {
    let state = node.broker.state();
    let seen = Arc::new(AtomicBool::new(false));
    let (scraped, scraped_state) = (Arc::clone(&node), state.clone());
    let metrics = warp::path!("metrics").map(move || {
        let text = scraped.metrics.text(&scraped_state.borrow());
        warp::reply::with_header(text, "content-type", METRICS_TYPE)
    });
    let live = warp::path!("livez").map(|| "live\n".to_owned());
    let ready = warp::path!("readyz").map(move || {
        let (status, text) = readiness(&node, &state.borrow().link, &seen);
        warp::reply::with_status(text, status)
    });
    let help = warp::any().map(|| {
        let text = "try /metrics, /livez, /readyz\n".to_owned();
        warp::reply::with_status(text, StatusCode::NOT_FOUND)
    });
    warp::serve(warp::get().and(metrics.or(live).or(ready)).or(help))
        .incoming(listener)
        .run()
        .await;
}

/// Ready once the broker was there; a later outage leaves the node ready but says so, lest a blink
/// of the broker empties the load balancer.
fn readiness(node: &Node, link: &Link, seen: &AtomicBool) -> (StatusCode, String) {
    if node.sessions.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".into());
    }
    match link {
        Link::Up => {
            seen.store(true, Ordering::Relaxed);
            (StatusCode::OK, "ready\n".into())
        }
        Link::Blocked(why) | Link::Down(why) if seen.load(Ordering::Relaxed) => {
            (StatusCode::OK, format!("degraded: broker: {why}\n"))
        }
        Link::Blocked(why) | Link::Down(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: broker: {why}\n"))
        }
    }
}
