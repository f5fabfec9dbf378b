//! Two patterns that share a key.

use smallvec::SmallVec;

use super::words;

/// Whether some key is one that both `one` and `other` stand for.
///
/// The time is the product of the numbers of words.
pub fn overlaps(one: &str, other: &str) -> bool {
    let one: SmallVec<[&str; 16]> = words(one).collect();
    let other: SmallVec<[&str; 16]> = words(other).collect();
    // Whether the words of `one` so far and those of `other` up to each place share a key.
    let mut so_far: SmallVec<[bool; 17]> = SmallVec::from_elem(false, other.len() + 1);
    so_far[0] = true;
    for (place, &word) in other.iter().enumerate() {
        so_far[place + 1] = so_far[place] && word == "#";
    }
    for &a in &one {
        let mut next: SmallVec<[bool; 17]> = SmallVec::from_elem(false, other.len() + 1);
        next[0] = so_far[0] && a == "#";
        for (place, &b) in other.iter().enumerate() {
            next[place + 1] = if a == "#" || b == "#" {
                // It stands for no word, or takes one more of what is opposite.
                so_far[place + 1] || next[place]
            } else {
                so_far[place] && (a == b || a == "*" || b == "*")
            };
        }
        so_far = next;
    }
    so_far[other.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{key, keys, pattern};
    use super::super::{contains, matches};
    use super::*;

    #[test]
    fn patterns_overlap_where_a_key_is_both() {
        for (one, other, expected) in [
            ("a.*", "*.b", true),
            ("a.#", "#.b", true),
            ("a.#", "b.#", false),
            ("#", "", true),
            ("*", "", false),
            ("a", "a.#", true),
            ("a.*.c", "#.b.#", true),
            ("a.*", "a.b.#.c", false),
            ("#.a", "#.b", false),
            ("", "", true),
        ] {
            assert_eq!(overlaps(one, other), expected, "{one} and {other}");
            assert_eq!(overlaps(other, one), expected, "{other} and {one}");
        }
    }

    proptest! {
        #[test]
        fn a_key_of_both_shows_that_they_overlap(
            one in pattern(), other in pattern(), key in key(),
        ) {
            if matches(&one, &key) && matches(&other, &key) {
                prop_assert!(overlaps(&one, &other));
            }
        }

        #[test]
        fn where_they_overlap_there_is_a_key_of_both(
            one in "(a|b|\\*|#)(\\.(a|b|\\*|#)){0,2}", other in "(a|b|\\*|#)(\\.(a|b|\\*|#)){0,2}",
        ) {
            let shown = keys(6).iter().any(|key| matches(&one, key) && matches(&other, key));
            prop_assert_eq!(overlaps(&one, &other), shown);
        }

        #[test]
        fn what_contains_another_overlaps_it(outer in pattern(), inner in pattern()) {
            if contains(&outer, &inner) {
                prop_assert!(overlaps(&outer, &inner));
            }
        }
    }
}
