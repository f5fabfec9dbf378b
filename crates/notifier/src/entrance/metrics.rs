//! What the entrance counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What became of the messages that services sent by AMQP.
pub struct EntranceMetrics {
    messages: Family<Met, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Met {
    fate: Fate,
}

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's spelling")]
pub(crate) enum Fate {
    /// The broker confirmed it for all whom it is for.
    sent,
    /// It was for nobody, and rejected.
    misaddressed,
    /// The broker refused it, and it was rejected.
    refused,
    /// The broker was away; it comes again.
    put_back,
}

impl EntranceMetrics {
    pub(crate) fn new() -> Self {
        let messages = Family::default();
        for fate in [Fate::sent, Fate::misaddressed, Fate::refused, Fate::put_back] {
            drop(messages.get_or_create(&Met { fate }));
        }
        Self { messages }
    }

    /// Adds them to the notifier's registry.
    pub fn register(&self, notifier: &mut Registry) {
        let help = "Messages that services sent to users by AMQP, by what became of them";
        notifier.register("entrance_messages", help, self.messages.clone());
    }

    pub(crate) fn count(&self, fate: Fate) {
        self.messages.get_or_create(&Met { fate }).inc();
    }
}
