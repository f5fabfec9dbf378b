//! What an operator may set, with the protocol's defaults.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// How an endpoint treats its clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long nothing is sent before a heart-beat is, so that no proxy on the way takes the connection for
    /// dead.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// How long a client may be without a request that receives before its session is over.
    #[serde(with = "humantime_serde")]
    pub disconnect_delay: Duration,
    /// Bytes after which a streaming response ends and the client makes another request, for browsers keep all
    /// of it.
    pub response_limit: ByteSize,
    /// Longest body of a request that sends, and most that waits to be taken from one session: clients put all
    /// that has come up meanwhile into one request.
    pub max_request: ByteSize,
    /// Most sessions over HTTP, with those that have just ended.
    pub max_sessions: usize,
    /// Whether load balancers need a cookie to keep to one node: clients are told so, and JSESSIONID is set.
    pub cookie_needed: bool,
    /// Whether clients may use WebSocket.
    pub websocket: bool,
    /// Where pages for clients that need an iframe load the client's script from.
    pub client_url: String,
}

/// A value that can be read but not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key, as in the file.
    pub key: &'static str,
    /// What is wrong with the value, and what would be right.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(25),
            disconnect_delay: Duration::from_secs(5),
            response_limit: ByteSize::kib(128),
            max_request: ByteSize::mib(1),
            max_sessions: 20_000,
            cookie_needed: false,
            websocket: true,
            client_url: "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js".into(),
        }
    }
}

impl Config {
    /// Refuses values that can only be mistakes.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.into() });
        for (key, time) in
            [("heartbeat", self.heartbeat), ("disconnect_delay", self.disconnect_delay)]
        {
            if time < Duration::from_millis(100) {
                return invalid(key, "below 100 ms no client could keep up; use 5s, say");
            }
            if time > Duration::from_secs(60 * 60) {
                return invalid(key, "more than an hour; use 25s, say");
            }
        }
        if self.response_limit < ByteSize::kib(1) {
            return invalid("response_limit", "below 1 KiB streaming is polling; use 128KiB, say");
        }
        if self.max_request < ByteSize::kib(1) {
            return invalid("max_request", "below 1 KiB no login would fit; use 1MiB, say");
        }
        if self.max_sessions == 0 {
            return invalid("max_sessions", "0 would refuse everything; use 1 or more");
        }
        let is_url = self.client_url.starts_with('/') || self.client_url.starts_with("http");
        if !is_url || self.client_url.contains(['"', '<', '>', ' ', '\n']) {
            return invalid("client_url", "use a URL, or a path such as \"/sockjs.min.js\"");
        }
        Ok(())
    }

    pub(crate) fn response_bytes(&self) -> usize {
        bytes(self.response_limit)
    }

    /// `max_request` in bytes.
    pub fn request_bytes(&self) -> usize {
        bytes(self.max_request)
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
    fn the_defaults_are_the_protocols_and_pass() {
        let config = Config::default();
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.heartbeat.as_secs(), config.disconnect_delay.as_secs()), (25, 5));
        assert_eq!(config.response_bytes(), 128 * 1024);
    }

    #[test]
    fn mistakes_are_named() {
        let key = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().key
        };
        assert_eq!(key(&|config| config.heartbeat = Duration::ZERO), "heartbeat");
        assert_eq!(key(&|config| config.disconnect_delay = Duration::MAX), "disconnect_delay");
        assert_eq!(key(&|config| config.response_limit = ByteSize::b(1)), "response_limit");
        assert_eq!(key(&|config| config.max_request = ByteSize::b(1)), "max_request");
        assert_eq!(key(&|config| config.max_sessions = 0), "max_sessions");
        for url in ["", "sockjs.js", "/a\"onload=\"x", "javascript:x"] {
            assert_eq!(key(&|config| config.client_url = url.into()), "client_url");
        }
    }
}
