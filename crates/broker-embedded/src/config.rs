//! How much the broker may hold.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The limits of an [`EmbeddedBroker`](crate::EmbeddedBroker). All of them are about memory, and
/// what is beyond them is refused to its publisher; nothing that was taken is dropped.
///
/// A publisher to a topic is refused nothing for a subscriber's sake: a queue of a subscription's own
/// that is full misses what comes, until half of it is free. That is one gap, which the broker's state
/// counts and the log tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many queues there may be at once, 1,000 by default, those of subscriptions' own and those
    /// for replies counted. A SEND or SUBSCRIBE that would need one more is refused. A queue without
    /// messages and consumers does not count: it gives way, and its name is not known any more, unless
    /// it was declared to be deleted with its last consumer and has had none.
    pub max_queues: usize,
    /// How many messages a queue may hold, 100,000 by default: those that wait and those that were
    /// delivered and are not settled. One more is refused.
    pub max_queue_length: usize,
    /// How many bytes a queue may hold, 64 MiB by default, counted as for `max_queue_length`:
    /// bodies, headers, and 256 bytes for each message and 64 for each header, which is what
    /// keeping them costs. A message that would not fit is refused.
    pub max_queue_bytes: ByteSize,
    /// How many bytes all queues may hold together, 512 MiB by default, counted alike.
    pub max_bytes: ByteSize,
    /// The longest body in bytes, 1 MiB by default; a message with a longer one is refused.
    pub max_message: ByteSize,
}

/// A value that no broker can run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {why}")]
pub struct Invalid {
    /// The key in the configuration.
    pub key: &'static str,
    /// What its value must be.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_queues: 1_000,
            max_queue_length: 100_000,
            max_queue_bytes: ByteSize::mib(64),
            max_bytes: ByteSize::mib(512),
            max_message: ByteSize::mib(1),
        }
    }
}

impl Config {
    /// Whether a broker can run with these values: none is 0, and the longest message fits a queue.
    pub fn check(&self) -> Result<(), Invalid> {
        for (key, value) in [
            ("max_queues", self.max_queues as u64),
            ("max_queue_length", self.max_queue_length as u64),
            ("max_message", self.max_message.as_u64()),
        ] {
            if value == 0 {
                return Err(Invalid { key, why: "must be at least 1".to_owned() });
            }
        }
        if self.max_queue_bytes < self.max_message {
            let why = format!("must be at least max_message, which is {}", self.max_message);
            return Err(Invalid { key: "max_queue_bytes", why });
        }
        if self.max_bytes < self.max_queue_bytes {
            let why =
                format!("must be at least max_queue_bytes, which is {}", self.max_queue_bytes);
            return Err(Invalid { key: "max_bytes", why });
        }
        Ok(())
    }

    pub(crate) fn max_bytes(&self) -> usize {
        bytes(self.max_bytes)
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        bytes(self.max_message)
    }

    pub(crate) fn max_queue_bytes(&self) -> usize {
        bytes(self.max_queue_bytes)
    }
}

/// What this machine cannot address is as good as no limit.
fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fit_to_run() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_that_refuses_everything_is_refused() {
        let default = Config::default();
        for (config, key) in [
            (Config { max_queues: 0, ..default.clone() }, "max_queues"),
            (Config { max_queue_length: 0, ..default.clone() }, "max_queue_length"),
            (Config { max_message: ByteSize(0), ..default.clone() }, "max_message"),
            (Config { max_message: ByteSize::mib(65), ..default }, "max_queue_bytes"),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
