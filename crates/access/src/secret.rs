//! A text that nobody shall read.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// What stands for a secret where it is shown.
pub(crate) const HIDDEN: &str = "***";

/// What a secret that is written in base64 begins with.
const BASE64: &str = "base64:";

/// A secret of the configuration. Neither `Display` nor `Debug` shows it: they put `***` in its place,
/// and nothing where there is none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is what stands for a secret where it is shown.
    pub fn is_hidden(&self) -> bool {
        self.0 == HIDDEN
    }

    /// Its bytes: the text's own or, behind `base64:`, what the rest encodes, in either alphabet and
    /// with or without padding.
    pub fn bytes(&self) -> Result<Vec<u8>, &'static str> {
        let Some(encoded) = self.0.strip_prefix(BASE64) else {
            return Ok(self.0.clone().into_bytes());
        };
        [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
            .iter()
            .find_map(|alphabet| alphabet.decode(encoded.trim()).ok())
            .ok_or("what follows base64: is no base64")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** \"***\"");
        assert_eq!(format!("{:?}", Secret::default()), "\"\"");
    }

    #[test]
    fn a_secret_may_be_written_in_base64() {
        for text in ["base64:+/8=", "base64:+/8", "base64:-_8=", "base64:-_8"] {
            assert_eq!(Secret::from(text).bytes().unwrap(), [0xfb, 0xff], "{text}");
        }
        assert_eq!(Secret::from("+/8=").bytes().unwrap(), b"+/8=");
        assert!(Secret::from("base64:!").bytes().is_err());
    }
}
