//! Which process it is: one run of a node.
//!
//! Invariant: a process that starts again has another boot. Nothing of the one before is its own.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

/// One run of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boot(Ulid);

/// How many characters of a session's id name its node.
pub(crate) const NODE_NAME: usize = 8;

impl Boot {
    /// The boot of that id.
    #[must_use]
    pub const fn new(id: Ulid) -> Self {
        Self(id)
    }

    /// A boot that was never before.
    #[must_use]
    pub fn generate() -> Self {
        Self(Ulid::generate())
    }

    /// Its id.
    #[must_use]
    pub const fn ulid(self) -> Ulid {
        self.0
    }

    /// The eight characters that begin the ids of its sessions: the last of the ULID, which are
    /// random; the first are the time.
    #[must_use]
    pub fn node_name(self) -> String {
        let mut text = self.0.to_string();
        text.split_off(text.len() - NODE_NAME)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Boot {
    type Err = ulid::DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
