//! Every metric of the notifier, its help text and its labels.
//!
//! Labels come from closed lists, never from a destination or a caller.

use std::time::Duration;

use inbox::Appended;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What a notifier counts.
pub struct Metrics {
    pub(crate) streams: Gauge,
    pub(crate) watches: Gauge,
    pub(crate) delivery_watches: Gauge,
    appends: Family<Kept, Counter>,
    publishes: Family<Published, Counter>,
    sends: Family<Published, Counter>,
    confirm_seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kept {
    outcome: Append,
}

/// What became of a message in an inbox it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
enum Append {
    /// It is in its place.
    stored,
    /// It waits for its time.
    scheduled,
    /// Its idempotency key came before.
    known,
    /// The inbox was full.
    full,
    /// The store did not do it, or did not say so.
    failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Published {
    outcome: Outcome,
}

/// What was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Publish, or a request of PublishStream.
    Publish,
    /// One of the Sends, or a request of SendStream.
    Send,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub(crate) enum Outcome {
    /// The broker took responsibility, or the store of inboxes.
    confirmed,
    /// The request is wrong.
    invalid,
    /// No queue took it.
    unroutable,
    /// The broker refused it.
    refused,
    /// The broker was there, and did not confirm in time.
    late,
    /// The broker was away.
    unavailable,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            streams: Gauge::default(),
            watches: Gauge::default(),
            delivery_watches: Gauge::default(),
            appends: Family::default(),
            publishes: Family::default(),
            sends: Family::default(),
            confirm_seconds: Histogram::new(exponential_buckets(0.000_1, 2.5, 14)),
        };
        for outcome in
            [Append::stored, Append::scheduled, Append::known, Append::full, Append::failed]
        {
            drop(metrics.appends.get_or_create(&Kept { outcome }));
        }
        for outcome in [
            Outcome::confirmed,
            Outcome::invalid,
            Outcome::unroutable,
            Outcome::refused,
            Outcome::late,
            Outcome::unavailable,
        ] {
            drop(metrics.publishes.get_or_create(&Published { outcome }));
            drop(metrics.sends.get_or_create(&Published { outcome }));
        }
        metrics
    }

    /// Adds them to the notifier's registry.
    pub(crate) fn register(&self, notifier: &mut Registry) {
        notifier.register("streams", "Streams of publishes and sends now", self.streams.clone());
        notifier.register("watches", "Watches of presence now", self.watches.clone());
        let help = "Watches of what becomes of messages now";
        notifier.register("delivery_watches", help, self.delivery_watches.clone());
        let help = "Durable messages in each inbox they are for, by what became of them there";
        notifier.register("appends", help, self.appends.clone());
        notifier.register("publishes", "Messages to publish, by outcome", self.publishes.clone());
        notifier.register(
            "sends",
            "Messages to users, sessions, groups and all, by outcome",
            self.sends.clone(),
        );
        notifier.register_with_unit(
            "confirm",
            "Time from a request to its confirm",
            Unit::Seconds,
            self.confirm_seconds.clone(),
        );
    }

    pub(crate) fn count_appends(&self, appended: &[Appended]) {
        for appended in appended {
            let outcome = match appended {
                Appended::Stored { .. } => Append::stored,
                Appended::Scheduled { .. } => Append::scheduled,
                Appended::Known { .. } => Append::known,
                Appended::Full { .. } => Append::full,
            };
            self.appends.get_or_create(&Kept { outcome }).inc();
        }
    }

    pub(crate) fn appends_failed(&self, inboxes: usize) {
        self.appends.get_or_create(&Kept { outcome: Append::failed }).inc_by(inboxes as u64);
    }

    pub(crate) fn count(&self, call: Call, outcome: Outcome, after: Duration) {
        let calls = match call {
            Call::Publish => &self.publishes,
            Call::Send => &self.sends,
        };
        calls.get_or_create(&Published { outcome }).inc();
        if outcome == Outcome::confirmed {
            self.confirm_seconds.observe(after.as_secs_f64());
        }
    }
}
