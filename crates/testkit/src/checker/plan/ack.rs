//! How a queue's consumers acknowledge.

use stomp::action::AckMode;

/// How a subscription acknowledges. ACKs ask for a receipt, some are in transactions; now and then a
/// NACK takes the place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Not at all.
    Auto,
    /// Each delivery by itself.
    Individual {
        /// How many may come before the first is acknowledged, at least 1.
        prefetch: u16,
        /// Whether it keeps its ACKs to itself while the run tells it to, so that what is sent stays in
        /// the queue. A run does that before each fault, until it is over.
        lazy: bool,
    },
    /// Many at once: an ACK covers all before it.
    Cumulative {
        /// As above.
        prefetch: u16,
        /// How many deliveries are waited for; at most `prefetch`.
        every: u16,
    },
}

impl Ack {
    /// The `ack` header.
    pub(crate) fn mode(self) -> AckMode {
        match self {
            Ack::Auto => AckMode::Auto,
            Ack::Individual { .. } => AckMode::ClientIndividual,
            Ack::Cumulative { .. } => AckMode::Client,
        }
    }

    /// The `prefetch-count` header, if there is one.
    pub(crate) fn prefetch(self) -> Option<u16> {
        match self {
            Ack::Auto => None,
            Ack::Individual { prefetch, .. } | Ack::Cumulative { prefetch, .. } => Some(prefetch),
        }
    }
}
