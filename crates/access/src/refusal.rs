//! Why somebody is not let in.

use crate::credentials::Unreadable;
use crate::jwt::TokenError;

/// Why somebody is not let in. The text is for the client, and tells nothing that it may not know: whether
/// a user exists is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token is not accepted.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// There is no such user, or the passcode is another.
    #[error("login or passcode is wrong")]
    Passcode,
    /// Several users were named.
    #[error("the credentials name different users; show one identity")]
    Conflicting,
    /// What was shown cannot be read.
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
    /// Nothing was shown, and that does not do here.
    #[error("show who you are: {0}")]
    Missing(&'static str),
    /// Too many log in at once; trying later may work.
    #[error("too many logins at once; try again later")]
    Busy,
}

impl Refusal {
    /// Whether the same may be accepted later: it is no fault of the client, and its address should not
    /// pay for it.
    pub fn may_pass_later(&self) -> bool {
        match self {
            Self::Busy | Self::Token(TokenError::KeysUnavailable) => true,
            Self::Token(_)
            | Self::Passcode
            | Self::Conflicting
            | Self::Unreadable(_)
            | Self::Missing(_) => false,
        }
    }
}
