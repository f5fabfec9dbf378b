//! Routing keys against patterns, as an AMQP topic exchange matches them.
//!
//! A key is words separated by `.`; the empty key has none. In a pattern the word `*` stands for one
//! word and `#` for zero or more; in a key they are letters.
//!
//! Invariants
//! - [`Trie`], [`matches()`], [`contains`] and [`overlaps`] agree.
//! - A walk of the trie reports each entry at most once, however many `#` its pattern has.
//!
//! Not here: how a destination becomes a key ([`crate::destination`]).

mod contains;
mod matches;
mod overlaps;
mod trie;

pub use contains::contains;
pub use matches::matches;
pub use overlaps::overlaps;
pub use trie::{Handle, Trie};

/// The words of a key or pattern.
fn words(key: &str) -> impl Iterator<Item = &str> {
    // An empty key has no word, as in RabbitMQ; `split` would give one empty word.
    (!key.is_empty()).then(|| key.split('.')).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Patterns of few different words, so that they often match.
    pub(super) fn pattern() -> impl Strategy<Value = String> {
        "|(a|b|\\*|#)(\\.(a|b||\\*|#)){0,5}"
    }

    /// Keys of the same words.
    pub(super) fn key() -> impl Strategy<Value = String> {
        "|(a|b)(\\.(a|b||z)){0,5}"
    }

    /// All keys of up to `length` words of `a`, `b` and a word that no pattern spells.
    pub(super) fn keys(length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let to = all.len();
            for i in from..to {
                for word in ["a", "b", "z"] {
                    let key = &all[i];
                    all.push(if key.is_empty() { word.into() } else { format!("{key}.{word}") });
                }
            }
            from = to;
        }
        all
    }
}
