//! What the admin port tells of the process, by the names that Prometheus's own clients use.
//!
//! What the system does not say is left out of the scrape.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Asks the system when it is scraped.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(bytes) = resident_memory() {
            ConstGauge::new(bytes).encode(encoder.encode_descriptor(
                "process_resident_memory",
                "Memory in use, files that are mapped included",
                Some(&Unit::Bytes),
                MetricType::Gauge,
            )?)?;
        }
        if let Some(time) = cpu_time() {
            ConstCounter::new(time.as_secs_f64()).encode(encoder.encode_descriptor(
                "process_cpu",
                "CPU time used, user and system",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?)?;
        }
        if let Some(files) = open_files() {
            ConstGauge::new(files).encode(encoder.encode_descriptor(
                "process_open_fds",
                "Open files, sockets included",
                None,
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

fn resident_memory() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu_time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok().map(Duration::from)
}

fn open_files() -> Option<i64> {
    // The one that reads the directory is among them.
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count).ok()
}
