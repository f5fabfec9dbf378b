//! What the admin port tells of how this process stands with presence, whatever keeps that.

use presence::{Link, State};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

/// Reads the state when it is scraped.
#[derive(Debug)]
pub(super) struct PresenceMetrics(pub(super) watch::Receiver<State>);

impl Collector for PresenceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let State { link, registered } = self.0.borrow().clone();
        let connected = ConstGauge::new(i64::from(link == Link::Up));
        connected.encode(encoder.encode_descriptor(
            "presence_connected",
            "Whether presence can be asked",
            None,
            MetricType::Gauge,
        )?)?;
        let registered = ConstGauge::new(i64::from(registered.is_some()));
        registered.encode(encoder.encode_descriptor(
            "presence_registered",
            "Whether presence knows every session of this node; while not, messages to users go to this node \
             in any case",
            None,
            MetricType::Gauge,
        )?)
    }
}
