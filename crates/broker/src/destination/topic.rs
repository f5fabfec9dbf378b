//! A topic, or a pattern of topics, by its AMQP routing key.
//!
//! Invariant: equality and hash are by prefix, key and whether it is a pattern, never by the spelling.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytestring::ByteString;

use super::error::quoted;
use super::parse::bounded;
use super::{Escaped, Problem};

/// A topic or, for SUBSCRIBE, a pattern of topics.
#[derive(Debug, Clone)]
pub struct Topic {
    prefix: ByteString,
    key: ByteString,
    separator: Separator,
    pattern: bool,
}

/// What stands between the words of a topic as its user writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Separator {
    /// `/topic/a.b`, as in AMQP.
    Dot,
    /// `/topic/a/b`; here a dot is a letter.
    Slash,
}

impl Topic {
    /// The topic that a broker's routing key names, whatever the key looks like; `prefix` is the
    /// configured one under which this broker's topics are known.
    pub fn exact(prefix: ByteString, key: ByteString) -> Self {
        Self { prefix, key, separator: Separator::Dot, pattern: false }
    }

    /// The configured prefix it was named by. Topics under different prefixes are different topics.
    pub fn prefix(&self) -> &ByteString {
        &self.prefix
    }

    /// The AMQP routing key, or binding key of a pattern: words separated by `.`, where `%2E` is a
    /// dot inside a word and `/` a letter; in a pattern `*` is one word and `#` zero or more.
    pub fn key(&self) -> &ByteString {
        &self.key
    }

    /// Whether it is a pattern.
    pub fn is_pattern(&self) -> bool {
        self.pattern
    }

    /// What it was spelled with.
    pub fn separator(&self) -> Separator {
        self.separator
    }

    /// How a subscriber to this pattern sees the destination of `message`: with the pattern's
    /// separators. (A subscriber to an exact topic sees the spelling it used, which is not kept here.)
    ///
    /// What is shown names the same topic again, as long as the key is one that can be written.
    pub fn shown(&self, message: &Topic) -> ByteString {
        // A single word has no slash to show that its dot is a letter: it keeps its %2E.
        let slashes = self.separator == Separator::Slash && message.key.contains('.');
        let mut out = String::with_capacity(message.prefix.len() + 1 + message.key.len() + 8);
        out.push_str(&message.prefix);
        out.push('/');
        let mut rest: &str = &message.key;
        while let Some(c) = rest.chars().next() {
            let mut taken = c.len_utf8();
            match c {
                '/' => out.push_str("%2F"),
                '.' if slashes => out.push('/'),
                '%' if slashes && rest.starts_with("%2E") => {
                    out.push('.');
                    taken = 3;
                }
                c => out.push(c),
            }
            rest = &rest[taken..];
        }
        out.into()
    }

    /// What follows the prefix and its slash, as a topic or pattern.
    pub(super) fn parse(prefix: &ByteString, text: &str) -> Result<Self, Problem> {
        // A lone ** names no separator, but only people who write slashes write it.
        let slashes = text.contains('/') || text == "**";
        let separator = if slashes { Separator::Slash } else { Separator::Dot };
        let mut key = String::with_capacity(text.len() + 8);
        let (mut pattern, mut hashes, mut after_hash) = (false, 0, false);
        for word in text.split(if slashes { '/' } else { '.' }) {
            let hash = matches!(word, "#" | "**");
            check_word(word)?;
            // Neighbouring ones mean no more than one.
            if hash && after_hash {
                continue;
            }
            if !key.is_empty() {
                key.push('.');
            }
            if hash {
                key.push('#');
            } else {
                push_word(&mut key, word, separator);
            }
            hashes += usize::from(hash);
            pattern |= hash || word == "*";
            after_hash = hash;
        }
        if hashes > 2 {
            return Err(Problem::TooManyHashes);
        }
        Ok(Self { prefix: prefix.clone(), key: bounded(key)?, separator, pattern })
    }
}

/// Writes a word as it stands in a key.
fn push_word(key: &mut String, word: &str, separator: Separator) {
    for (i, part) in word.split("%2F").enumerate() {
        if i > 0 {
            key.push('/');
        }
        match separator {
            Separator::Dot => key.push_str(part),
            Separator::Slash => {
                for (i, part) in part.split('.').enumerate() {
                    if i > 0 {
                        key.push_str("%2E");
                    }
                    key.push_str(part);
                }
            }
        }
    }
}

/// A word of a topic: a wildcard alone, or letters without any.
pub(super) fn check_word(word: &str) -> Result<(), Problem> {
    if word.is_empty() {
        return Err(Problem::EmptyWord);
    }
    if let Some(letter) = word.chars().find(|c| matches!(c, '?' | '{')) {
        return Err(Problem::ForeignWildcard { letter });
    }
    if !matches!(word, "*" | "#" | "**") && word.contains(['*', '#']) {
        return Err(Problem::WildcardInWord { word: quoted(word) });
    }
    Ok(())
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.pattern == other.pattern && self.prefix == other.prefix
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.prefix.hash(state);
        self.key.hash(state);
        self.pattern.hash(state);
    }
}

/// The spelling with dots.
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, Escaped(&self.key))
    }
}
