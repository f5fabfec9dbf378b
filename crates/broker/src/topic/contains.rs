//! One pattern within another.

use smallvec::SmallVec;

use super::words;

/// Whether every key that `inner` stands for is also one that `outer` stands for.
///
/// The time is that of a match to the power of the number of `#` in `inner`, at the length of `outer`:
/// give the pattern from outside as `inner`, with its `#` limited.
pub fn contains(outer: &str, inner: &str) -> bool {
    let outer: SmallVec<[&str; 16]> = words(outer).collect();
    let inner: SmallVec<[&str; 16]> = words(inner).collect();
    Reached::at_start(&outer).accepts_all(&outer, &inner)
}

/// Which places of the outer pattern some part of a key can lead to: place `n` is before word `n`.
///
/// A wildcard of the inner pattern stands for words that the outer one does not spell, for those
/// are the hardest to match: whatever takes them takes any.
#[derive(Clone, PartialEq)]
struct Reached(SmallVec<[bool; 17]>);

impl Reached {
    fn at_start(outer: &[&str]) -> Self {
        let mut reached = Self(SmallVec::from_elem(false, outer.len() + 1));
        reached.0[0] = true;
        reached.skip_hashes(outer);
        reached
    }

    /// After one more word; none is a word that `outer` does not spell.
    fn after(&self, outer: &[&str], word: Option<&str>) -> Self {
        let mut next = Self(SmallVec::from_elem(false, self.0.len()));
        for (place, &pattern) in outer.iter().enumerate().filter(|(place, _)| self.0[*place]) {
            if pattern == "#" {
                next.0[place] = true;
            } else if pattern == "*" || Some(pattern) == word {
                next.0[place + 1] = true;
            }
        }
        next.skip_hashes(outer);
        next
    }

    /// A # may stand for no word.
    fn skip_hashes(&mut self, outer: &[&str]) {
        for (place, _) in outer.iter().enumerate().filter(|(_, word)| **word == "#") {
            self.0[place + 1] |= self.0[place];
        }
    }

    /// Whether everything that `inner` stands for leads from here to the end of `outer`.
    fn accepts_all(&self, outer: &[&str], inner: &[&str]) -> bool {
        match inner.split_first() {
            None => self.0[outer.len()],
            Some((&"#", rest)) => {
                let mut reached = self.clone();
                loop {
                    if !reached.accepts_all(outer, rest) {
                        return false;
                    }
                    // Ends after at most two more words than `outer` has: by then only its # hold
                    // on, and they hold on for ever.
                    let next = reached.after(outer, None);
                    if next == reached {
                        return true;
                    }
                    reached = next;
                }
            }
            Some((&"*", rest)) => self.after(outer, None).accepts_all(outer, rest),
            Some((&word, rest)) => self.after(outer, Some(word)).accepts_all(outer, rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::matches;
    use super::super::tests::{key, keys, pattern};
    use super::*;

    #[test]
    fn a_pattern_contains_what_it_covers() {
        for (outer, inner, expected) in [
            ("a.#", "a.b.*", true),
            ("a.#", "a", true),
            ("a.#", "a.#", true),
            ("a.*", "a.#", false),
            ("a.*", "a.b", true),
            ("*.#", "#", false),
            ("#.*", "*.#", true),
            ("*.#", "#.*", true),
            ("#", "#.a.#", true),
            ("#.a.#", "#", false),
            ("a.*.#", "a.#.b", true),
            ("a.*", "*.a", false),
            ("*", "a", true),
            ("a", "*", false),
        ] {
            assert_eq!(contains(outer, inner), expected, "{outer} contains {inner}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_inner_matches_the_outer_matches(
            outer in pattern(), inner in pattern(), key in key(),
        ) {
            if contains(&outer, &inner) && matches(&inner, &key) {
                prop_assert!(matches(&outer, &key));
            }
        }

        #[test]
        fn what_is_not_contained_has_a_key_to_show_it(
            outer in "(a|b|\\*|#)(\\.(a|b|\\*|#)){0,2}", inner in "(a|b|\\*|#)(\\.(a|b|\\*|#)){0,2}",
        ) {
            let shown = keys(7).iter().any(|key| matches(&inner, key) && !matches(&outer, key));
            prop_assert_eq!(contains(&outer, &inner), !shown);
        }
    }
}
