//! How soon presence notices, and how much it does at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of presence. Nodes that shall see each other have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a node that is silent counts as alive, 15 s by default. Then the others clear its
    /// sessions away.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How often a node renews its lease, and looks for nodes that died: 5 s by default, at most a third
    /// of `lease`.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
    /// In which time a node tells the store all its sessions again, a few at a time: 60 s by default.
    #[serde(with = "humantime_serde")]
    pub reassert: Duration,
    /// How long after its last session a user counts as online, so that a page that is loaded again is
    /// no event: 10 s by default.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// How many sessions are written to the store at once, 512 by default, 1 to 4,096.
    pub batch: usize,
    /// How many sessions may wait to be written, 100,000 by default. Beyond it a registration waits for
    /// room, for as long as the store may take to answer.
    pub max_waiting: usize,
}

/// A value that presence cannot run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key in the configuration.
    pub key: &'static str,
    /// What its value must be.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            refresh: Duration::from_secs(5),
            reassert: Duration::from_secs(60),
            linger: Duration::from_secs(10),
            batch: 512,
            max_waiting: 100_000,
        }
    }
}

impl Config {
    /// Whether presence can run with these values.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.to_owned() });
        if self.lease < Duration::from_millis(100) || self.lease > Duration::from_secs(600) {
            return invalid("lease", "must be 100ms to 10min");
        }
        if self.refresh.is_zero() || self.refresh * 3 > self.lease {
            return invalid("refresh", "must be more than 0s and at most a third of lease");
        }
        if self.reassert < self.refresh || self.reassert > Duration::from_secs(600) {
            return invalid("reassert", "must be at least refresh and at most 10min");
        }
        if self.linger > Duration::from_secs(3_600) {
            return invalid("linger", "must be at most 1h");
        }
        if !(1..=4_096).contains(&self.batch) {
            return invalid("batch", "must be 1 to 4096");
        }
        if !(1..=10_000_000).contains(&self.max_waiting) {
            return invalid("max_waiting", "must be 1 to 10000000");
        }
        Ok(())
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
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        let default = Config::default();
        let second = Duration::from_secs(1);
        for (config, key) in [
            (Config { lease: second / 100, ..default.clone() }, "lease"),
            (Config { lease: second * 601, ..default.clone() }, "lease"),
            (Config { refresh: second * 6, ..default.clone() }, "refresh"),
            (Config { refresh: Duration::ZERO, ..default.clone() }, "refresh"),
            (Config { reassert: second, ..default.clone() }, "reassert"),
            (Config { linger: second * 3_601, ..default.clone() }, "linger"),
            (Config { batch: 0, ..default.clone() }, "batch"),
            (Config { batch: 4_097, ..default.clone() }, "batch"),
            (Config { max_waiting: 0, ..default }, "max_waiting"),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Config>("lease = \"20s\"\nlinger_for = \"1s\"").unwrap_err();
        assert!(error.to_string().contains("unknown field `linger_for`"), "{error}");
    }
}
