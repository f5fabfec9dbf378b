//! What the admin port tells of the broker's state, whichever broker it is.

use broker::{BrokerState, Link};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

/// Reads the state when it is scraped.
#[derive(Debug)]
pub(super) struct BrokerMetrics(pub(super) watch::Receiver<BrokerState>);

impl Collector for BrokerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let BrokerState { link, gaps, .. } = self.0.borrow().clone();
        let connected = ConstGauge::new(i64::from(link == Link::Up));
        connected.encode(encoder.encode_descriptor(
            "broker_connected",
            "Whether the broker can be reached, and takes publishes",
            None,
            MetricType::Gauge,
        )?)?;
        let gaps = ConstGauge::new(i64::try_from(gaps).unwrap_or(i64::MAX));
        gaps.encode(encoder.encode_descriptor(
            "broker_gaps",
            "Times that topic messages may have been missed, since start",
            None,
            MetricType::Gauge,
        )?)
    }
}
