//! One key against one pattern.

use smallvec::SmallVec;

use super::words;

/// Whether `key` is among the keys that `pattern` stands for.
pub fn matches(pattern: &str, key: &str) -> bool {
    let pattern: SmallVec<[&str; 16]> = words(pattern).collect();
    let key: SmallVec<[&str; 16]> = words(key).collect();
    let (mut p, mut k) = (0, 0);
    // The last # seen and the word of the key up to which it reaches: only the last one ever needs to
    // reach further, since an earlier one reaching further leaves less for the same rest.
    let mut last_hash = None;
    while k < key.len() {
        match pattern.get(p) {
            Some(&"#") => {
                last_hash = Some((p, k));
                p += 1;
            }
            Some(&word) if word == "*" || word == key[k] => {
                p += 1;
                k += 1;
            }
            _ => {
                let Some((hash, reach)) = last_hash else { return false };
                last_hash = Some((hash, reach + 1));
                p = hash + 1;
                k = reach + 1;
            }
        }
    }
    pattern[p..].iter().all(|&word| word == "#")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{key, pattern};
    use super::*;

    /// The definition, word for word.
    fn by_definition(pattern: &[&str], key: &[&str]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some((&"#", rest)) => (0..=key.len()).any(|n| by_definition(rest, &key[n..])),
            Some((&word, rest)) => key
                .split_first()
                .is_some_and(|(&k, key)| (word == "*" || word == k) && by_definition(rest, key)),
        }
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_any_number() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*", "", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("a.#", "ab", false),
            ("#.c", "c", true),
            ("#.c", "a.b.c", true),
            ("#.c", "a.c.b", false),
            ("a.#.d.#", "a.b.d.d", true),
            ("*.*", ".", true),
            ("a", "a.", false),
            ("a.*", "a.", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} on {key}");
        }
    }

    proptest! {
        #[test]
        fn matching_is_as_defined(pattern in pattern(), key in key()) {
            let by_words = by_definition(
                &words(&pattern).collect::<Vec<_>>(),
                &words(&key).collect::<Vec<_>>(),
            );
            prop_assert_eq!(matches(&pattern, &key), by_words);
        }
    }
}
