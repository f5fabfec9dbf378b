//! Where inboxes are, and their limits.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::Durable;

/// Where inboxes are, and their limits, the same for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where what waits for users is stored: `redis`, for all nodes; `disk` and `memory`, for one process alone;
    /// `none`, which refuses to store anything. By default (`auto`) on disk where there is one process, and else
    /// in Redis.
    pub store: Store,
    /// The directory of the store on disk, `footbridge-data` by default. It is made where it is not there.
    pub directory: PathBuf,
    /// The destinations within users at which everything is stored, whatever its sender says: such as
    /// `/queue/alerts`, or `/queue/alerts/*` for all below. None by default.
    pub durable: Vec<String>,
    /// How long a message waits at most before it expires, 7 days by default. A sender may say less, and not
    /// more.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// How many messages one inbox holds, scheduled ones included; 10,000 by default.
    pub max_messages: u64,
    /// How many bytes one inbox holds: bodies, headers, and 128 bytes for each message; 16 MiB by default.
    pub max_bytes: ByteSize,
    /// What becomes of a message for an inbox that is full: it is refused (`refuse`, the default), or those that
    /// wait longest give way (`drop-oldest`).
    pub overflow: Overflow,
    /// After how long a message is tried again that was handed out and of which nothing was heard, 5 min by
    /// default. The end of a session gives back what it has at once, so this is for nodes that died.
    #[serde(with = "humantime_serde")]
    pub ack_wait: Duration,
    /// How often a message is handed out before it has failed, 20 by default.
    pub max_attempts: u32,
    /// After how long a message is tried again that a client has refused: 1 s by default. It doubles with each
    /// attempt, up to 5 min.
    #[serde(with = "humantime_serde")]
    pub retry: Duration,
    /// Where a message is published that has failed, such as `/exchange/dead/inbox` or `/queue/dead`. Empty, which
    /// is nowhere, by default.
    pub dead_letter: String,
    /// How long a sender's idempotency key is known, 24 h by default.
    #[serde(with = "humantime_serde")]
    pub idempotency: Duration,
    /// How many messages of an inbox are remembered after they have left it, so that their status can be
    /// asked for; 1,000 by default, for at most 24 h.
    pub remembered: u64,
    /// Whether Redis may store what it does not keep through its own restart, `false` by default: then what is
    /// durable may be lost.
    pub unsafe_durability: bool,
    /// How many replicas of Redis must have a message before it counts as stored, 0 by default.
    pub wait_replicas: u32,
    /// Whether what has failed stays until it was published elsewhere; set by who publishes it.
    #[serde(skip)]
    pub keeps_failed: bool,
}

/// Where inboxes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// On disk where there is one process, and else in Redis.
    Auto,
    /// In Redis, for all nodes.
    Redis,
    /// On disk, for one process.
    Disk,
    /// In memory: gone with the process.
    Memory,
    /// Nowhere.
    None,
}

/// What becomes of a message for an inbox that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// It is refused.
    Refuse,
    /// The oldest give way.
    DropOldest,
}

/// A value that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {why}")]
pub struct Invalid {
    /// Which key.
    pub key: &'static str,
    /// What it must be.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: Store::Auto,
            directory: PathBuf::from("footbridge-data"),
            durable: Vec::new(),
            dead_letter: String::new(),
            unsafe_durability: false,
            wait_replicas: 0,
            ttl: Duration::from_secs(7 * 24 * 3600),
            max_messages: 10_000,
            max_bytes: ByteSize::mib(16),
            overflow: Overflow::Refuse,
            ack_wait: Duration::from_secs(300),
            max_attempts: 20,
            retry: Duration::from_secs(1),
            idempotency: Duration::from_secs(24 * 3600),
            remembered: 1_000,
            keeps_failed: false,
        }
    }
}

/// The longest that `ttl`, and the time until a message is delivered, may be.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

impl Config {
    /// Whether a store can work with these values.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.to_owned() });
        let second = Duration::from_secs(1);
        if self.directory.as_os_str().is_empty() {
            return invalid("directory", "must name a directory");
        }
        if let Err(why) = Durable::new(&self.durable) {
            return invalid("durable", &format!("names {why}"));
        }
        if self.wait_replicas > 16 {
            return invalid("wait_replicas", "must be at most 16");
        }
        if !(second..=LONGEST).contains(&self.ttl) {
            return invalid("ttl", "must be 1s to 3650 days");
        }
        if !(1..=1_000_000).contains(&self.max_messages) {
            return invalid("max_messages", "must be 1 to 1,000,000");
        }
        if !(ByteSize::kib(1)..=ByteSize::gib(1)).contains(&self.max_bytes) {
            return invalid("max_bytes", "must be 1 KiB to 1 GiB");
        }
        if !(Duration::from_millis(100)..=LONGEST).contains(&self.ack_wait) {
            return invalid("ack_wait", "must be 100ms to 3650 days");
        }
        if self.max_attempts == 0 {
            return invalid("max_attempts", "must be 1 or more");
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(300)).contains(&self.retry) {
            return invalid("retry", "must be 10ms to 5min");
        }
        if self.idempotency > LONGEST {
            return invalid("idempotency", "must be at most 3650 days");
        }
        if self.remembered > 100_000 {
            return invalid("remembered", "must be at most 100,000");
        }
        Ok(())
    }

    /// How long until an entry that was handed out `attempts` times is tried again after a refusal.
    #[must_use]
    pub fn retry_after(&self, attempts: u32) -> Duration {
        let doubled = self.retry.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        doubled.min(Duration::from_secs(300))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fit_to_run() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let config = Config::default();
        let seconds = [1, 2, 3, 9, 10, 1000].map(|n| config.retry_after(n).as_secs());
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
