//! Why a text is no destination, in words for the person who wrote it.

use super::{Kind, Verb};

/// How much of a destination an error repeats, in characters.
const QUOTED: usize = 100;

/// A text that is no destination, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{destination}' {problem}")]
pub struct DestinationError {
    /// The text, cut to 100 characters, its control characters escaped.
    pub destination: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a destination. The text reads on from the destination, and says what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It begins with no configured prefix.
    #[error("is not a valid destination: it must begin with one of {prefixes}")]
    Unknown {
        /// The prefixes there are, separated by commas.
        prefixes: String,
    },
    /// Nothing follows the prefix.
    #[error("names no {kind}: a name must follow {prefix}/")]
    Unnamed {
        /// The prefix.
        prefix: String,
        /// Its kind.
        kind: Kind,
    },
    /// More follows the prefix than its kind has words for.
    #[error(
        "has more words than a {kind} destination: write {form}, and %2F for a slash in a name"
    )]
    TooManyWords {
        /// The kind.
        kind: Kind,
        /// What is right.
        form: String,
    },
    /// Two separators meet, or one stands at an end.
    #[error("has an empty word: separators stand between words, one at a time, none at the end")]
    EmptyWord,
    /// A topic holds a letter that other systems match by.
    #[error("holds '{letter}': the only wildcards are * (one word) and # or ** (any words)")]
    ForeignWildcard {
        /// The letter.
        letter: char,
    },
    /// A wildcard shares its word with something else.
    #[error("has a wildcard inside the word '{word}': *, # and ** must each be a whole word")]
    WildcardInWord {
        /// The word, cut as the destination is.
        word: String,
    },
    /// A pattern has more wildcards for many words than RabbitMQ takes in a binding.
    #[error("has more than two # (or **): at most two may stand in a pattern")]
    TooManyHashes,
    /// A wildcard stands where one destination must be named.
    #[error("is a pattern: only SUBSCRIBE to a topic may use wildcards")]
    Pattern,
    /// A name is longer than AMQP can carry.
    #[error("is too long: its name has {length} bytes and may have {limit}")]
    TooLong {
        /// The name's length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It holds a control character.
    #[error("holds a control character (code {code}): names are printable text")]
    ControlCharacter {
        /// Its Unicode number.
        code: u32,
    },
    /// The kind is not for this verb.
    #[error(
        "is not a valid destination for {verb}: a {kind} can only be named in the reply-to header of a SEND"
    )]
    ReplyToOnly {
        /// The verb.
        verb: Verb,
        /// The kind.
        kind: Kind,
    },
    /// SUBSCRIBE to a user destination that is not the subscriber's own.
    #[error(
        "cannot be subscribed to: a user's destinations are open to that user alone, \
         who writes {prefix} and then one of {paths}"
    )]
    AnotherUser {
        /// The prefix.
        prefix: String,
        /// The prefixes that may follow.
        paths: String,
    },
    /// SEND to a user destination that names no user, or nothing at the user.
    #[error(
        "does not say whom to send to and where: write {prefix}/<user> and then one of {paths}"
    )]
    NoUser {
        /// The prefix.
        prefix: String,
        /// The prefixes that may follow.
        paths: String,
    },
}

impl DestinationError {
    pub(super) fn new(destination: &str, problem: Problem) -> Self {
        Self { destination: quoted(destination), problem }
    }
}

/// Text as an error repeats it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == QUOTED {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
