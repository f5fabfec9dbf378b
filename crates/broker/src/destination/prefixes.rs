//! The table of prefixes: which first words mean which kind of destination.

use std::collections::BTreeMap;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::Kind;
use crate::internal;

/// The prefixes that are there without any configuration.
const DEFAULTS: [(&str, Kind); 9] = [
    ("/topic", Kind::Topic),
    ("/queue", Kind::Queue),
    ("/exchange", Kind::Exchange),
    ("/amq/queue", Kind::AmqQueue),
    ("/temp-queue", Kind::TempQueue),
    ("/reply-queue", Kind::ReplyQueue),
    ("/user", Kind::User),
    ("/group", Kind::Group),
    ("/app", Kind::App),
];

/// The `[destinations]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Prefix to kind. What a file says is laid over the defaults prefix by prefix:
    /// `/topic` topic, `/queue` queue, `/exchange` exchange, `/amq/queue` amq-queue, `/temp-queue`
    /// temp-queue, `/reply-queue` reply-queue, `/user` user, `/group` group, `/app` app. Kind `off`
    /// switches a prefix off. A prefix is one or more whole words; the longest that fits wins.
    #[serde(deserialize_with = "over_defaults")]
    pub prefixes: BTreeMap<String, Kind>,
}

impl Default for Config {
    fn default() -> Self {
        Self { prefixes: DEFAULTS.map(|(prefix, kind)| (prefix.to_owned(), kind)).into() }
    }
}

/// The prefixes of a [`Config`], ready to parse by.
#[derive(Debug, Clone)]
pub struct Destinations {
    /// Longest first, so that the first that fits is the one.
    table: Vec<(ByteString, Kind)>,
}

impl Destinations {
    /// The table that `config` describes.
    pub fn new(config: &Config) -> Self {
        let mut table: Vec<(ByteString, Kind)> = config
            .prefixes
            .iter()
            .map(|(prefix, &kind)| (ByteString::from(prefix.as_str()), kind))
            .collect();
        table.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { table }
    }

    /// The prefixes in use with their kinds, longest first.
    pub fn prefixes(&self) -> impl Iterator<Item = (&ByteString, Kind)> {
        self.table
            .iter()
            .filter(|(_, kind)| *kind != Kind::Off)
            .map(|(prefix, kind)| (prefix, *kind))
    }

    /// The prefix that `text` begins with, its kind, and what follows it: nothing, or a slash and
    /// the rest. None also for a prefix that is switched off.
    pub(super) fn split<'a>(&self, text: &'a str) -> Option<(&ByteString, Kind, &'a str)> {
        let (prefix, kind, rest) = self.table.iter().find_map(|(prefix, kind)| {
            let rest = text.strip_prefix(&**prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((prefix, *kind, rest))
        })?;
        (kind != Kind::Off).then_some((prefix, kind, rest))
    }

    /// The prefixes of which `wanted` holds, for an error's text.
    pub(super) fn listed(&self, wanted: impl Fn(Kind) -> bool) -> String {
        let mut names: Vec<&str> = self
            .prefixes()
            .filter(|(_, kind)| wanted(*kind))
            .map(|(prefix, _)| &**prefix)
            .collect();
        names.sort_unstable();
        names.join(", ")
    }
}

impl Default for Destinations {
    fn default() -> Self {
        Self::new(&Config::default())
    }
}

fn over_defaults<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Kind>, D::Error> {
    let mut prefixes = Config::default().prefixes;
    for (prefix, kind) in BTreeMap::<String, Kind>::deserialize(from)? {
        if let Some(why) = wrong_with(&prefix) {
            return Err(de::Error::custom(format!("prefix \"{prefix}\" {why}")));
        }
        prefixes.insert(prefix, kind);
    }
    Ok(prefixes)
}

fn wrong_with(prefix: &str) -> Option<&'static str> {
    let Some(words) = prefix.strip_prefix('/') else {
        return Some("must begin with a slash");
    };
    if words.is_empty() {
        Some("must have a word after the slash")
    } else if prefix.starts_with(internal::MARK) {
        Some("must not begin with /~, as the nodes' own topics do")
    } else if words.ends_with('/') {
        Some("must not end with a slash")
    } else if words.split('/').any(str::is_empty) {
        Some("has an empty word")
    } else if words.contains(['*', '#', '?', '{']) {
        Some("must not hold a wildcard (*, #, ? or {)")
    } else if words.chars().any(char::is_control) {
        Some("must not hold a control character")
    } else {
        None
    }
}
