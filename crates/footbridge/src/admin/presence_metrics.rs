//! What the admin port tells of how this process stands with presence, whatever keeps that.

use std::fmt;
use std::sync::Arc;

use presence::{Link, RedisPresence, State};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

/// Reads the state when it is scraped.
#[derive(Debug)]
pub(super) struct PresenceMetrics(pub(super) watch::Receiver<State>);

impl Collector for PresenceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
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

/// What presence costs where it is in Redis.
pub(crate) struct RedisMetrics(pub(crate) Arc<RedisPresence>);

impl fmt::Debug for RedisMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisMetrics").field(&self.0.round_trips()).finish()
    }
}

impl Collector for RedisMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let round_trips = ConstCounter::new(self.0.round_trips());
        round_trips.encode(encoder.encode_descriptor(
            "presence_round_trips",
            "How often Redis was asked something and waited for, many things at a time",
            None,
            MetricType::Counter,
        )?)
    }
}
