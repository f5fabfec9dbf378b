//! Settings of sessions without STOMP, section `[plain]`.

use std::time::Duration;

use broker::Destinations;
use broker::destination::Kind;
use serde::{Deserialize, Serialize};
use websocket::close_code;

/// Where clients without STOMP connect, and how they are treated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Path of the WebSocket endpoint; empty for none.
    pub path: String,
    /// The application destination that gets what clients send; empty is `plain` behind the first prefix of
    /// kind app.
    pub destination: String,
    /// How a client is asked whether it is there.
    pub ping: Ping,
    /// How often it is asked.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// The code of the close frame for a client that shows no, or a bad, token.
    pub unauthenticated_code: u16,
}

/// How a client is asked whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ping {
    /// By a ping of WebSocket, which browsers answer by themselves.
    WebSocket,
    /// By that, and by a text message `ping`, for pages that look for it. A text `pong` that comes back goes
    /// to nobody.
    Text,
}

/// A value that cannot work, with its key in its section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key, as written in the section.
    pub key: &'static str,
    /// What is wrong with its value, and what would be right.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: "/plain".into(),
            destination: String::new(),
            ping: Ping::WebSocket,
            ping_interval: Duration::from_secs(30),
            unauthenticated_code: 4401,
        }
    }
}

impl Config {
    /// Refuses what no gateway could work with.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.into() });
        if !self.path.is_empty() && crate::config::wrong_with_path(&self.path).is_some() {
            return invalid("path", "use plain words between slashes, such as \"/plain\", or \"\"");
        }
        if !self.destination.is_empty() && !self.destination.starts_with('/') {
            return invalid(
                "destination",
                "use a destination of kind app, such as \"/app/plain\", or \"\"",
            );
        }
        if self.ping_interval < Duration::from_secs(1)
            || self.ping_interval > Duration::from_secs(3600)
        {
            return invalid("ping_interval", "must be 1s to 1h");
        }
        if !close_code::may_be_sent(self.unauthenticated_code) {
            return invalid(
                "unauthenticated_code",
                "no code that a server may send; use 4401 or 1003",
            );
        }
        Ok(())
    }

    /// The application destination that gets what clients send, by that table; none if it has no prefix of
    /// kind app.
    pub fn handler(&self, destinations: &Destinations) -> Option<String> {
        if !self.destination.is_empty() {
            return Some(self.destination.clone());
        }
        let (prefix, _) = destinations.prefixes().find(|(_, kind)| *kind == Kind::App)?;
        Some(format!("{prefix}/plain"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        let default = Config::default();
        assert_eq!(default.check(), Ok(()));
        let off = Config { path: String::new(), ..default.clone() };
        assert_eq!(off.check(), Ok(()));
        let second = Duration::from_secs(1);
        for (config, key) in [
            (Config { path: "plain".into(), ..default.clone() }, "path"),
            (Config { path: "/plain/".into(), ..default.clone() }, "path"),
            (Config { destination: "app".into(), ..default.clone() }, "destination"),
            (Config { ping_interval: second / 2, ..default.clone() }, "ping_interval"),
            (Config { ping_interval: second * 3601, ..default.clone() }, "ping_interval"),
            (Config { unauthenticated_code: 1005, ..default.clone() }, "unauthenticated_code"),
            (Config { unauthenticated_code: 999, ..default }, "unauthenticated_code"),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
