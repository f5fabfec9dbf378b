//! What an operator may set, with defaults fit for the public internet.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The smallest `max_message` that is not surely a mistake: below it a STOMP CONNECT with a token in it,
/// or a modest header block, would be refused.
const LEAST_MAX_MESSAGE: ByteSize = ByteSize::kib(1);

/// Limits on what a client may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest message in bytes, its fragments together: 128 KiB unless set, at least 1 KiB.
    pub max_message: ByteSize,
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
        Self { max_message: ByteSize::kib(128) }
    }
}

impl Config {
    /// Refuses values that can only be mistakes.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.max_message < LEAST_MAX_MESSAGE {
            let why = format!("{} is too small, give at least 1 KiB", self.max_message);
            return Err(Invalid { key: "max_message", why });
        }
        Ok(())
    }

    pub(crate) fn limit(&self) -> usize {
        usize::try_from(self.max_message.as_u64()).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_the_check() {
        assert_eq!(Config::default().max_message.as_u64(), 128 * 1024);
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_message_limit_below_1_kib_is_refused() {
        let at_the_limit = Config { max_message: ByteSize::b(1024) };
        assert_eq!(at_the_limit.check(), Ok(()));

        let below = Config { max_message: ByteSize::b(1023) };
        let invalid = below.check().unwrap_err();
        assert_eq!(invalid.key, "max_message");
        assert!(invalid.to_string().starts_with("max_message: 1023 B is too small"), "{invalid}");
    }
}
