//! Who a client is, once it has shown it.

use std::sync::Arc;
use std::time::SystemTime;

use bytestring::ByteString;

use crate::claims::Claims;

/// The longest user name in bytes: it becomes a word of destinations, which AMQP limits to this.
pub const MAX_NAME: usize = 255;

/// The name of those who said none.
pub const ANONYMOUS: ByteString = ByteString::from_static("anonymous");

/// Who a session or a caller belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// The user's name: 1 to [`MAX_NAME`] bytes without control characters.
    pub name: ByteString,
    /// What is said of the user by whoever vouches for it: the payload of the token, or the entry in
    /// the users file.
    pub claims: Arc<Claims>,
    /// The roles, taken from the claim that the configuration names.
    pub roles: Arc<[ByteString]>,
    /// When this ends to be true, which ends the session; none is never.
    pub expires_at: Option<SystemTime>,
    /// How it was shown.
    pub authentication: Authentication,
}

/// How a principal showed who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// By a token that was signed for it.
    Token,
    /// By the passcode of an entry in the users file.
    Passcode,
    /// Not at all: the name is what it says, which is believed only where everything is open.
    Unproven,
    /// Not at all, and it has no name of its own: many may be [`ANONYMOUS`].
    Anonymous,
}

impl Principal {
    /// Somebody who showed nothing.
    pub fn anonymous() -> Self {
        Self::without_claims(ANONYMOUS, Authentication::Anonymous)
    }

    /// Somebody of whom nothing but the name is known.
    pub(crate) fn without_claims(name: ByteString, authentication: Authentication) -> Self {
        Self {
            name,
            claims: Arc::default(),
            roles: Arc::default(),
            expires_at: None,
            authentication,
        }
    }

    /// Whether it showed who it is.
    pub fn is_authenticated(&self) -> bool {
        match self.authentication {
            Authentication::Token | Authentication::Passcode => true,
            Authentication::Unproven | Authentication::Anonymous => false,
        }
    }

    /// Whether it has that role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| *has == *role)
    }
}

/// What is wrong with a user name, if anything is.
pub(crate) fn wrong_with_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME {
        Some("is longer than 255 bytes")
    } else if name.chars().any(char::is_control) {
        Some("holds a control character")
    } else {
        None
    }
}
