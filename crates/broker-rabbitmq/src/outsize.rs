//! Messages that are too long for clients: counted, and told of now and then.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// How often the log tells of them, at most.
const TELL: Duration = Duration::from_secs(10);

/// What clients may be sent.
#[derive(Debug)]
pub(crate) struct Outsize {
    /// The longest body in bytes.
    limit: usize,
    metrics: Arc<Metrics>,
    /// When the log told of one. Held for a comparison.
    told: Mutex<Option<Instant>>,
}

/// What becomes of such a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No subscriber of the topic gets it.
    Dropped,
    /// It goes where the queue's dead letters go, if anywhere.
    Rejected,
}

impl Fate {
    pub(crate) const ALL: [Self; 2] = [Self::Dropped, Self::Rejected];

    /// As metrics show it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
        }
    }
}

impl Outsize {
    pub(crate) fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self { limit, metrics, told: Mutex::default() }
    }

    /// Whether a body of `size` bytes that came from `name` is too long; if it is, the caller sees to
    /// its `fate`.
    pub(crate) fn is(&self, size: usize, name: &str, fate: Fate) -> bool {
        if size <= self.limit {
            return false;
        }
        self.metrics.outsize(fate);
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            *told = Some(Instant::now());
            let (limit, fate) = (self.limit, fate.label());
            tracing::warn!(
                name,
                size,
                limit,
                fate,
                "a message is longer than max_outbound_message"
            );
        }
        true
    }
}
