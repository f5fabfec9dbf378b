//! Many patterns at once.

use std::collections::HashMap;

use bytestring::ByteString;
use smallvec::SmallVec;

use super::words;

/// Values by pattern, found by key.
///
/// A lookup costs a few steps per word of the key, however many patterns there are, and more only
/// for what matches; it does not allocate for keys of up to 16 words.
#[derive(Debug)]
pub struct Trie<T> {
    root: Node<T>,
    len: usize,
    /// The number of the next entry.
    next: u64,
}

/// Names an entry of a [`Trie`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle {
    pattern: ByteString,
    number: u64,
}

/// The patterns that share their words so far.
#[derive(Debug)]
struct Node<T> {
    words: HashMap<ByteString, Node<T>>,
    star: Option<Box<Node<T>>>,
    hash: Option<Box<Node<T>>>,
    /// The entries whose pattern ends here, oldest first.
    entries: SmallVec<[(u64, T); 1]>,
}

/// How many words of the key a node may have taken, ascending: exactly one number before the first
/// `#` of a pattern, any number behind it.
type Taken = SmallVec<[u16; 16]>;

impl<T> Trie<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { root: Node::new(), len: 0, next: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Enters `value` under `pattern`; one pattern may have any number of entries.
    pub fn insert(&mut self, pattern: ByteString, value: T) -> Handle {
        let handle = Handle { pattern, number: self.next };
        let node = words(&handle.pattern).fold(&mut self.root, Node::child_or_new);
        node.entries.push((handle.number, value));
        self.next += 1;
        self.len += 1;
        handle
    }

    /// Takes an entry out, and with it the nodes that only it needed.
    pub fn remove(&mut self, handle: &Handle) -> Option<T> {
        let value = self.root.remove(words(&handle.pattern), handle.number)?;
        self.len -= 1;
        Some(value)
    }

    /// Calls `found` once with each entry whose pattern matches `key`, in no particular order.
    pub fn for_each_match<'a>(&'a self, key: &str, mut found: impl FnMut(&'a T)) {
        let key: SmallVec<[&str; 16]> = words(key).collect();
        self.root.walk_one(&key, 0, &mut found);
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self { words: HashMap::new(), star: None, hash: None, entries: SmallVec::new() }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty()
            && self.star.is_none()
            && self.hash.is_none()
            && self.entries.is_empty()
    }

    fn child_or_new(&mut self, word: &str) -> &mut Self {
        let new = || Box::new(Self::new());
        match word {
            "*" => self.star.get_or_insert_with(new),
            "#" => self.hash.get_or_insert_with(new),
            word => self.words.entry(word.into()).or_insert_with(Self::new),
        }
    }

    fn remove<'a>(&mut self, mut rest: impl Iterator<Item = &'a str>, number: u64) -> Option<T> {
        let Some(word) = rest.next() else {
            let at = self.entries.iter().position(|(n, _)| *n == number)?;
            return Some(self.entries.remove(at).1);
        };
        let child = match word {
            "*" => self.star.as_deref_mut(),
            "#" => self.hash.as_deref_mut(),
            word => self.words.get_mut(word),
        }?;
        // A trait object: the function would otherwise call itself with ever new types.
        let rest: &mut dyn Iterator<Item = &'a str> = &mut rest;
        let value = child.remove(rest, number)?;
        if child.is_empty() {
            match word {
                "*" => self.star = None,
                "#" => self.hash = None,
                word => {
                    self.words.remove(word);
                }
            }
        }
        Some(value)
    }

    fn report<'a>(&'a self, found: &mut impl FnMut(&'a T)) {
        self.entries.iter().for_each(|(_, value)| found(value));
    }

    /// Walks on from a node that took exactly the first `taken` words of `key`.
    fn walk_one<'a>(&'a self, key: &[&str], taken: usize, found: &mut impl FnMut(&'a T)) {
        if let Some(&word) = key.get(taken) {
            if let Some(child) = self.words.get(word) {
                child.walk_one(key, taken + 1, found);
            }
            if let Some(child) = &self.star {
                child.walk_one(key, taken + 1, found);
            }
        } else {
            self.report(found);
        }
        if let Some(child) = &self.hash {
            child.walk_hash(key, taken, found);
        }
    }

    /// Walks on from the node of a `#` before which `taken` words of `key` may have gone, at least.
    fn walk_hash<'a>(&'a self, key: &[&str], taken: usize, found: &mut impl FnMut(&'a T)) {
        self.report(found);
        if !self.words.is_empty() || self.star.is_some() || self.hash.is_some() {
            // Bounded by the key, whose length is bounded by AMQP.
            let any = (taken..=key.len()).map(|n| n as u16).collect();
            self.walk_on(key, &any, found);
        }
    }

    /// Walks on from a node behind a `#`. All the ways that lead to a node are taken at once, so
    /// that each node is visited once.
    fn walk_many<'a>(&'a self, key: &[&str], taken: &Taken, found: &mut impl FnMut(&'a T)) {
        if taken.last().is_some_and(|&n| usize::from(n) == key.len()) {
            self.report(found);
        }
        self.walk_on(key, taken, found);
    }

    fn walk_on<'a>(&'a self, key: &[&str], taken: &Taken, found: &mut impl FnMut(&'a T)) {
        let word = |n: u16| key.get(usize::from(n)).copied();
        if !self.words.is_empty() {
            for (i, &first) in taken.iter().enumerate() {
                let Some(next) = word(first) else { continue };
                if taken[..i].iter().any(|&n| word(n) == Some(next)) {
                    continue;
                }
                if let Some(child) = self.words.get(next) {
                    let same = taken[i..].iter().filter(|&&n| word(n) == Some(next));
                    child.walk_many(key, &same.map(|n| n + 1).collect(), found);
                }
            }
        }
        if let Some(child) = &self.star {
            let any: Taken = taken.iter().filter(|&&n| word(n).is_some()).map(|n| n + 1).collect();
            if !any.is_empty() {
                child.walk_many(key, &any, found);
            }
        }
        if let (Some(child), Some(&least)) = (&self.hash, taken.first()) {
            child.walk_hash(key, usize::from(least), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::matches;
    use super::super::tests::{key, pattern};
    use super::*;

    fn found(trie: &Trie<usize>, key: &str) -> Vec<usize> {
        let mut all = Vec::new();
        trie.for_each_match(key, |&value| all.push(value));
        all.sort_unstable();
        all
    }

    #[test]
    fn an_entry_is_found_once_however_many_ways_lead_to_it() {
        let mut trie = Trie::new();
        trie.insert("#.a.#".into(), 1);
        trie.insert("#.#.#".into(), 2);
        trie.insert("#.*.#.a".into(), 3);
        assert_eq!(found(&trie, "a.a.a.a"), [1, 2, 3]);
    }

    #[test]
    fn wildcards_in_a_key_are_letters() {
        let mut trie = Trie::new();
        trie.insert("a.b".into(), 1);
        trie.insert("a.*".into(), 2);
        trie.insert("#".into(), 3);
        assert_eq!(found(&trie, "a.*"), [2, 3]);
        assert_eq!(found(&trie, "#"), [3]);
    }

    #[test]
    fn the_longest_key_is_walked() {
        let mut trie = Trie::new();
        trie.insert("#.*.#".into(), 1);
        trie.insert("#.a".into(), 2);
        assert_eq!(found(&trie, &".".repeat(255)), [1]);
        assert_eq!(found(&trie, &format!("{}a", "a.".repeat(127))), [1, 2]);
    }

    #[test]
    fn removing_every_entry_leaves_no_node() {
        let mut trie = Trie::new();
        let patterns = ["a.b", "a.*.c", "a.#", "#", "", "a.b"];
        let handles: Vec<_> =
            patterns.iter().enumerate().map(|(i, p)| trie.insert((*p).into(), i)).collect();
        assert_eq!(trie.len(), 6);
        for (i, handle) in handles.iter().enumerate() {
            assert_eq!(trie.remove(handle), Some(i));
            assert_eq!(trie.remove(handle), None);
        }
        assert!(trie.is_empty() && trie.root.is_empty());
    }

    proptest! {
        #[test]
        fn finds_what_matches_and_nothing_else(
            patterns in proptest::collection::vec((pattern(), any::<bool>()), 0..40),
            keys in proptest::collection::vec(key(), 1..10),
        ) {
            let mut trie = Trie::new();
            let handles: Vec<_> = patterns
                .iter()
                .enumerate()
                .map(|(i, (pattern, _))| trie.insert(pattern.as_str().into(), i))
                .collect();
            for (handle, _) in handles.iter().zip(&patterns).filter(|(_, (_, kept))| !kept) {
                trie.remove(handle);
            }
            for key in keys {
                let expected: Vec<usize> = (0..patterns.len())
                    .filter(|&i| patterns[i].1 && matches(&patterns[i].0, &key))
                    .collect();
                prop_assert_eq!(found(&trie, &key), expected);
            }
        }
    }
}
