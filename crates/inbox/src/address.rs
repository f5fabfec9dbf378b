//! Whose inbox.

use bytestring::ByteString;
use presence::UserName;

/// The longest path in bytes; longer destinations have no inbox.
pub const MAX_PATH: usize = 512;

/// The name of one inbox.
///
/// Any text may be in its parts, up to their lengths: stores encode what would meet their own syntax.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A user's, at a destination within it, such as `/queue/news`.
    User {
        /// Whose.
        user: UserName,
        /// The destination, canonical, at most [`MAX_PATH`] bytes.
        path: ByteString,
    },
    /// What is to be published to a destination of the broker's later, such as `/topic/prices`.
    Outbox {
        /// The destination, as `Destinations` spells it, at most [`MAX_PATH`] bytes.
        destination: ByteString,
    },
}

impl Address {
    /// The inbox of `user` at `path`.
    #[must_use]
    pub fn of_user(user: UserName, path: ByteString) -> Self {
        Self::User { user, path }
    }

    /// Whose it is; nobody's for an outbox.
    #[must_use]
    pub fn user(&self) -> Option<&UserName> {
        match self {
            Self::User { user, .. } => Some(user),
            Self::Outbox { .. } => None,
        }
    }

    /// The destination within the user, or of the broker.
    #[must_use]
    pub fn path(&self) -> &ByteString {
        match self {
            Self::User { path, .. } => path,
            Self::Outbox { destination } => destination,
        }
    }

    /// Whether its parts are within their lengths.
    #[must_use]
    pub fn fits(&self) -> bool {
        (1..=MAX_PATH).contains(&self.path().len())
    }
}
