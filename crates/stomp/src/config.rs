//! What a session allows and offers, with its defaults.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::{Compat, Limits};

/// Limits and heart-beats of every STOMP session, section `[stomp]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest frame, from its command to its NUL.
    pub max_frame: ByteSize,
    /// Longest body.
    pub max_body: ByteSize,
    /// Most headers in a frame.
    pub max_headers: usize,
    /// Longest header line.
    pub max_header: ByteSize,
    /// Most subscriptions of one session.
    pub max_subscriptions: usize,
    /// Most open transactions of one session.
    pub max_transactions: usize,
    /// Most frames that one transaction may hold back.
    pub max_transaction_frames: usize,
    /// Most bytes that all open transactions of one session may hold back, headers included.
    pub max_transaction_bytes: ByteSize,
    /// Most frames per second from one session, on average over five seconds; more end it.
    /// 0 sets no limit.
    pub max_frames_per_second: u32,
    /// How long a client may take until its CONNECT frame is complete.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a client may take from a frame's first byte to its last.
    #[serde(with = "humantime_serde")]
    pub frame_timeout: Duration,
    /// How often the server offers to send something, at least 1 s; `0s` offers nothing.
    #[serde(with = "humantime_serde")]
    pub heart_beat_send: Duration,
    /// How often the server wants to hear something, at least 1 s; `0s` wants nothing.
    #[serde(with = "humantime_serde")]
    pub heart_beat_receive: Duration,
    /// Whose manners sessions have. Not a key of this section: whoever runs sessions sets it.
    #[serde(skip)]
    pub compat: Compat,
}

/// A value that cannot work, with its key in this section.
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
            max_frame: ByteSize::kib(64),
            max_body: ByteSize::kib(64),
            max_headers: 100,
            max_header: ByteSize::kib(8),
            max_subscriptions: 100,
            max_transactions: 16,
            max_transaction_frames: 1024,
            max_transaction_bytes: ByteSize::mib(1),
            max_frames_per_second: 1_000,
            connect_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(60),
            heart_beat_send: Duration::from_secs(10),
            heart_beat_receive: Duration::from_secs(10),
            compat: Compat::Footbridge,
        }
    }
}

impl Config {
    /// Refuses what no session could work with.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: String| Err(Invalid { key, why });
        if self.max_frame < ByteSize::kib(1) {
            return invalid("max_frame", format!("{} is below 1 KiB", self.max_frame));
        }
        if self.max_header < ByteSize(64) {
            return invalid("max_header", format!("{} is below 64 B", self.max_header));
        }
        for (key, size) in [("max_body", self.max_body), ("max_header", self.max_header)] {
            if size > self.max_frame {
                return invalid(key, format!("{size} is above max_frame, {}", self.max_frame));
            }
        }
        for (key, count) in
            [("max_headers", self.max_headers), ("max_subscriptions", self.max_subscriptions)]
        {
            if count == 0 {
                return invalid(key, "0 would refuse everything; use 1 or more".into());
            }
        }
        if self.max_frames_per_second > 1_000_000 {
            return invalid("max_frames_per_second", "above 1000000; use 0 for no limit".into());
        }
        for (key, time) in
            [("connect_timeout", self.connect_timeout), ("frame_timeout", self.frame_timeout)]
        {
            if time < Duration::from_millis(100) {
                return invalid(key, "below 100 ms no client could keep up; use 10s, say".into());
            }
            if time > Duration::from_secs(60 * 60) {
                return invalid(key, "more than an hour; use 10s, say".into());
            }
        }
        for (key, interval) in [
            ("heart_beat_send", self.heart_beat_send),
            ("heart_beat_receive", self.heart_beat_receive),
        ] {
            if !interval.is_zero() && interval < Duration::from_secs(1) {
                return invalid(key, "use 0s for none, or 1s or more".into());
            }
            if interval > Duration::from_secs(24 * 60 * 60) {
                return invalid(key, "more than a day; use 0s for none".into());
            }
        }
        Ok(())
    }

    pub(crate) fn transaction_bytes(&self) -> usize {
        bytes(self.max_transaction_bytes)
    }

    /// The limits a decoder works with.
    pub fn limits(&self) -> Limits {
        Limits {
            frame: bytes(self.max_frame),
            headers: self.max_headers,
            header_length: bytes(self.max_header),
            body: bytes(self.max_body),
        }
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
