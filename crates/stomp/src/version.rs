//! The protocol versions, and how two peers agree on one of them.

use std::{fmt, str::FromStr};

/// A version of the protocol; later ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// STOMP 1.0: no escapes, no negotiation, no heart-beats, no NACK.
    V1_0,
    /// STOMP 1.1: escapes for `\`, `:` and LF.
    V1_1,
    /// STOMP 1.2: escapes for CR too, and lines that may end in CRLF.
    V1_2,
}

/// A text that names none of the versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a STOMP version spoken here, which are {}", Version::SUPPORTED)]
pub struct UnknownVersion;

impl Version {
    /// Every version, the oldest first.
    pub const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    /// Every version as `accept-version` lists them; also what the ERROR of a failed negotiation
    /// carries in its `version` header (STOMP 1.2, "Protocol Negotiation").
    pub const SUPPORTED: &str = "1.0,1.1,1.2";

    /// The highest version that a CONNECT's `accept-version` lists and this crate speaks, `None`
    /// where there is none. A CONNECT without that header speaks 1.0. Unknown versions and the
    /// spaces around commas are passed over.
    pub fn negotiate(accept_version: Option<&str>) -> Option<Self> {
        let Some(offered) = accept_version else { return Some(Self::V1_0) };
        offered.split(',').filter_map(|version| version.trim().parse().ok()).max()
    }

    /// The version as headers spell it: `1.2`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or(UnknownVersion)
    }
}
