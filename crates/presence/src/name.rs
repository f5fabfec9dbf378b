//! Names of users and groups, and of sessions where the client chose one: any text, within a length.
//!
//! Invariant: a name that exists is not empty and not longer than [`MAX_NAME`]; what stands in it is its
//! owner's affair. Stores encode it where it would meet their own syntax.

use std::fmt;

use bytestring::ByteString;

/// The longest name in bytes.
pub const MAX_NAME: usize = 512;

/// Text that is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// It is empty.
    #[error("a name must not be empty")]
    Empty,
    /// It is too long.
    #[error("a name of {length} bytes is longer than the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// The name of a user, as the principal has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(ByteString);

/// The name of a group.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(ByteString);

/// The name that a client gave its session.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionName(ByteString);

fn checked(name: ByteString) -> Result<ByteString, NotAName> {
    match name.len() {
        0 => Err(NotAName::Empty),
        length if length > MAX_NAME => Err(NotAName::TooLong { length, limit: MAX_NAME }),
        _ => Ok(name),
    }
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// That name.
            ///
            /// # Errors
            /// When it is empty or longer than [`MAX_NAME`].
            pub fn new(name: impl Into<ByteString>) -> Result<Self, NotAName> {
                checked(name.into()).map(Self)
            }

            /// The name as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

name!(UserName);
name!(GroupName);
name!(SessionName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_neither_empty_nor_longer_than_the_limit() {
        assert_eq!(UserName::new(""), Err(NotAName::Empty));
        let longest = "x".repeat(MAX_NAME);
        assert_eq!(UserName::new(longest.clone()).unwrap().as_str(), longest);
        let over = NotAName::TooLong { length: MAX_NAME + 1, limit: MAX_NAME };
        assert_eq!(GroupName::new(longest + "x"), Err(over));
    }
}
