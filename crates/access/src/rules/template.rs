//! A pattern of words in which some depend on who asks.
//!
//! Text becomes words here as it does in [`broker::destination`]: separated by dots, or by slashes once
//! there is one, when a dot is a letter. So `/topic/a/b` and `/topic/a.b` are the same two words.
//!
//! Invariants
//! - A placeholder becomes exactly one word, whatever the value holds, and different values become
//!   different words: see [`encoded_word`].
//! - What is compared is words, never text in which a value was put.

use std::borrow::Cow;
use std::fmt::Write;

use broker::topic;

use crate::principal::Principal;

/// The longest word: AMQP's short string.
const MAX_WORD: usize = 255;

/// How `value` is written as one word of a destination, such as that of `{user}` in a rule; none if it
/// cannot be: it is empty, holds a control character or is longer than AMQP can carry.
///
/// `%`, `.`, `*`, `#`, `?`, `{` and `}` become `%25`, `%2E`, `%2A`, `%23`, `%3F`, `%7B` and `%7D`. A slash is
/// a letter here; in a destination it is written `%2F`, which [`written_word`] does.
pub fn encoded_word(value: &str) -> Option<String> {
    if value.is_empty() || value.len() > MAX_WORD || value.chars().any(char::is_control) {
        return None;
    }
    let mut word = String::with_capacity(value.len() + 8);
    for letter in value.chars() {
        if matches!(letter, '%' | '.' | '*' | '#' | '?' | '{' | '}') {
            // Writing to a String cannot fail.
            let _ = write!(word, "%{:02X}", u32::from(letter));
        } else {
            word.push(letter);
        }
    }
    (word.len() <= MAX_WORD).then_some(word)
}

/// [`encoded_word`] as it is written in a destination, after a prefix and a separator.
pub fn written_word(value: &str) -> Option<String> {
    encoded_word(value).map(|word| word.replace('/', "%2F"))
}

/// A pattern of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    words: Vec<Word>,
    /// All of it as a key, where it depends on nobody: rules are asked for every SEND.
    fixed: Option<String>,
}

/// One word of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// Itself, as it stands in a key.
    Is(String),
    /// `*`: any one.
    One,
    /// `#` or `**`: any number of any.
    Many,
    /// What depends on who asks.
    Of(Placeholder),
}

/// What stands for something of the principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// `{user}`: the name of a principal that showed who it is.
    User,
    /// `{claim.x}`: the claim `x`, if it is one text or number.
    Claim(String),
}

/// What a key is compared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Everything asked for is within the pattern.
    Within,
    /// Something asked for is within the pattern.
    Touching,
}

/// What is asked for, in words.
#[derive(Debug, Clone)]
pub(crate) struct Key<'a> {
    /// Words separated by dots.
    pub(crate) text: Cow<'a, str>,
    /// Whether `*` and `#` are wildcards in it. At most two `#`, for the time that it takes.
    pub(crate) is_pattern: bool,
}

impl Template {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self::new(vec![Word::Many])
    }

    /// No words.
    pub(crate) fn empty() -> Self {
        Self::new(Vec::new())
    }

    fn new(words: Vec<Word>) -> Self {
        let fixed = joined(&words, |_| None);
        Self { words, fixed }
    }

    /// The words of a text, which are separated as those of a topic.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let pieces = pieces(text)?;
        let slashes =
            pieces.iter().any(|piece| matches!(piece, Piece::Letter('/'))) || text == "**";
        let separator = if slashes { '/' } else { '.' };
        let mut words = Vec::new();
        for word in pieces.split(|piece| *piece == Piece::Letter(separator)) {
            let word = parse_word(word, slashes)?;
            // Neighbouring ones mean no more than one.
            if word != Word::Many || words.last() != Some(&Word::Many) {
                words.push(word);
            }
        }
        Ok(Self::new(words))
    }

    /// The same with these words in front.
    pub(crate) fn behind(self, words: &str) -> Self {
        let front = words.split('/').filter(|word| !word.is_empty());
        Self::new(front.map(|word| Word::Is(word.to_owned())).chain(self.words).collect())
    }

    /// Whether `key` relates so to what this pattern is for `principal`. It does not if a placeholder has
    /// no value, or none that a word can hold.
    pub(crate) fn relates(&self, relation: Relation, key: &Key<'_>, principal: &Principal) -> bool {
        let Some(pattern) = self.expanded(principal) else { return false };
        match (key.is_pattern, relation) {
            (false, _) => topic::matches(&pattern, &key.text),
            (true, Relation::Within) => topic::contains(&pattern, &key.text),
            (true, Relation::Touching) => topic::overlaps(&pattern, &key.text),
        }
    }

    /// Whether everything that `inner` may be, whoever asks, is within this pattern, whoever asks.
    pub(crate) fn contains(&self, inner: &Self) -> bool {
        let Some(outer) = &self.fixed else { return self == inner };
        let any = |_: &Placeholder| Some("*".to_owned());
        // `contains` takes its time for many #; a rule that has so many is not looked through.
        let hashes = inner.words.iter().filter(|word| **word == Word::Many).count();
        hashes <= 2 && joined(&inner.words, any).is_some_and(|inner| topic::contains(outer, &inner))
    }

    fn expanded(&self, principal: &Principal) -> Option<Cow<'_, str>> {
        if let Some(fixed) = &self.fixed {
            return Some(Cow::Borrowed(fixed));
        }
        let value = |placeholder: &Placeholder| encoded_word(&placeholder.value(principal)?);
        joined(&self.words, value).map(Cow::Owned)
    }
}

/// The words as a key, with these values for placeholders; none if one has none.
fn joined(words: &[Word], value: impl Fn(&Placeholder) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            out.push('.');
        }
        match word {
            Word::Is(word) => out.push_str(word),
            Word::One => out.push('*'),
            Word::Many => out.push('#'),
            Word::Of(placeholder) => out.push_str(&value(placeholder)?),
        }
    }
    Some(out)
}

impl Placeholder {
    /// What it is for that principal. The name of one who showed nothing is nobody's.
    pub(crate) fn value<'a>(&self, principal: &'a Principal) -> Option<Cow<'a, str>> {
        match self {
            Self::User => principal.is_authenticated().then(|| Cow::Borrowed(&*principal.name)),
            Self::Claim(name) => principal.claims.text(name),
        }
    }

    /// What the text between braces means.
    pub(crate) fn parse(inside: &str) -> Result<Self, String> {
        match inside.strip_prefix("claim.") {
            Some(name) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            _ if inside == "user" => Ok(Self::User),
            _ => Err(format!("{{{inside}}} is neither {{user}} nor {{claim.name}}")),
        }
    }
}

/// The key of a text in which nothing is a wildcard, by the same rules as a pattern's.
pub(crate) fn exact_key(text: &str) -> String {
    if !text.contains('/') {
        return text.replace("%2F", "/");
    }
    let words = text.split('/').map(|word| word.replace('.', "%2E").replace("%2F", "/"));
    words.collect::<Vec<_>>().join(".")
}

/// A letter, or what stood between braces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<'a> {
    Letter(char),
    Placeholder(&'a str),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        match letter {
            '{' => {
                let end = rest.find('}').ok_or("a { is not closed by a }")?;
                pieces.push(Piece::Placeholder(&rest[1..end]));
                rest = &rest[end + 1..];
                continue;
            }
            '}' => return Err("a } closes no {".to_owned()),
            '?' => {
                return Err("? is no wildcard; * stands for one word, # for any number".to_owned());
            }
            letter if letter.is_control() => return Err("it holds a control character".to_owned()),
            letter => pieces.push(Piece::Letter(letter)),
        }
        rest = &rest[letter.len_utf8()..];
    }
    Ok(pieces)
}

fn parse_word(pieces: &[Piece<'_>], dots_are_letters: bool) -> Result<Word, String> {
    let mut letters = String::new();
    for piece in pieces {
        match piece {
            Piece::Placeholder(inside) if pieces.len() == 1 => {
                return Placeholder::parse(inside).map(Word::Of);
            }
            Piece::Placeholder(inside) => {
                return Err(format!("{{{inside}}} must be a word of its own, between separators"));
            }
            Piece::Letter(letter) => letters.push(*letter),
        }
    }
    match &*letters {
        "" => Err("it has an empty word".to_owned()),
        "*" => Ok(Word::One),
        "#" | "**" => Ok(Word::Many),
        word if word.contains(['*', '#']) => {
            Err(format!("\"{word}\" holds a wildcard, which must be a word of its own"))
        }
        word => {
            let word = if dots_are_letters { word.replace('.', "%2E") } else { word.to_owned() };
            Ok(Word::Is(word.replace("%2F", "/")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use broker::Destinations;
    use broker::destination::{Destination, Verb};
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> Option<String> {
        let template = Template::parse(text).unwrap();
        template.expanded(&Principal::anonymous()).map(Cow::into_owned)
    }

    #[test]
    fn slashes_and_dots_are_the_same_words() {
        assert_eq!(key("a/*/**").unwrap(), "a.*.#");
        assert_eq!(key("a.*.#").unwrap(), "a.*.#");
        assert_eq!(key("user/john.doe").unwrap(), "user.john%2Edoe");
        assert_eq!(key("a%2Fb.c").unwrap(), "a/b.c");
        assert_eq!(key("**").unwrap(), "#");
        assert_eq!(key("#.#.a").unwrap(), "#.a");
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, why) in [
            ("a..b", "empty word"),
            ("a/", "empty word"),
            ("", "empty word"),
            ("a.b*", "wildcard"),
            ("?", "? is no wildcard"),
            ("x-{user}", "a word of its own"),
            ("{user", "not closed"),
            ("user}", "closes no"),
            ("{name}", "neither {user} nor {claim.name}"),
            ("{claim.}", "neither"),
            ("a\u{7}", "control"),
        ] {
            let said = Template::parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn separators_within_braces_are_letters() {
        let template = Template::parse("t.{claim.realm.tenant}.#").unwrap();
        assert_eq!(template.words.len(), 3);
        let template = Template::parse("{claim.https://example.com/id}.x").unwrap();
        assert_eq!(
            template.words[0],
            Word::Of(Placeholder::Claim("https://example.com/id".into()))
        );
    }

    #[test]
    fn what_no_word_can_hold_is_none() {
        for value in ["", "a\nb", "\0", &"x".repeat(256), &"%".repeat(86), "\u{85}"] {
            assert_eq!(encoded_word(value), None, "{value:?}");
        }
        assert_eq!(encoded_word("a/.*#%2F").unwrap(), "a/%2E%2A%23%252F");
        assert_eq!(written_word("a/b").unwrap(), "a%2Fb");
    }

    proptest! {
        /// The word that a client writes is the word that a rule expands to, with either separator.
        #[test]
        fn a_written_word_is_one_word_of_a_topic(value in "[a-z./%*#?{}2FE ]{1,12}") {
            let destinations = Destinations::default();
            let word = written_word(&value).unwrap();
            for text in [format!("/topic/u.{word}.x"), format!("/topic/u/{word}/x")] {
                let Ok(Destination::Topic(topic)) = destinations.parse(&text, Verb::Subscribe) else {
                    panic!("{text}");
                };
                prop_assert!(!topic.is_pattern());
                let expected = format!("u.{}.x", encoded_word(&value).unwrap());
                prop_assert_eq!(&**topic.key(), expected);
            }
        }

        #[test]
        fn different_values_are_different_words(
            values in proptest::collection::vec("[a./%*#2FE]{1,5}", 2..40),
        ) {
            let mut seen = HashMap::new();
            for value in values {
                let other = seen.insert(encoded_word(&value).unwrap(), value.clone());
                prop_assert!(other.is_none_or(|other| other == value));
            }
        }

        /// A rule and a client that write the same mean the same.
        #[test]
        fn a_pattern_has_the_words_that_a_subscription_has(
            text in "(a|b\\.c|%2F|%2E|\\*|#|\\*\\*)([./](a|b|%2F|\\*|#|\\*\\*)){0,4}",
        ) {
            let parsed = Destinations::default().parse(&format!("/topic/{text}"), Verb::Subscribe);
            if let Ok(Destination::Topic(topic)) = parsed {
                prop_assert_eq!(key(&text).unwrap(), &**topic.key());
            }
        }

        #[test]
        fn an_exact_key_is_that_of_the_topic(text in "[a-c]{1,2}([./%][a-c2F]{1,3}){0,4}") {
            let parsed = Destinations::default().parse(&format!("/topic/{text}"), Verb::Send);
            if let Ok(Destination::Topic(topic)) = parsed {
                prop_assert_eq!(exact_key(&text), &**topic.key());
            }
        }
    }
}
