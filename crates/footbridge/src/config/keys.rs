//! Which sections and keys there are, and what to say of one that there is not.

use toml::{Table, Value};

use super::mistake::Mistake;
use super::secret;
use super::setting::Origin;

/// The keys with their default values, section by section.
pub(super) struct Keys<'a>(pub(super) &'a Table);

impl Keys<'_> {
    /// The default of a key; `None` if there is no such key.
    pub(super) fn default(&self, section: &str, key: &str) -> Option<&Value> {
        self.0.get(section)?.get(key)
    }

    /// Every key with its section.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(section, keys)| {
            let keys = keys.as_table().into_iter().flat_map(Table::keys);
            keys.map(|key| (section.as_str(), key.as_str()))
        })
    }

    /// `key`, or its section, does not exist. `key` is none where only a section was named.
    pub(super) fn unknown(&self, section: &str, key: Option<&str>, origin: Origin) -> Mistake {
        let mut hints = Vec::new();
        let what = match (self.0.get(section).and_then(Value::as_table), key) {
            (Some(keys), Some(key)) => {
                let names = || keys.keys().map(String::as_str);
                if let Some(sections) = self.sections_of(key) {
                    hints.push(format!("`{key}` is a key of {sections}"));
                } else if let Some(near) = nearest(key, names()) {
                    hints.push(format!("did you mean {}?", origin.spelling(section, near)));
                }
                hints.push(format!("the keys of [{section}] are {}", listed(names())));
                format!("there is no key `{key}` in [{section}]")
            }
            _ => {
                let names = || self.0.keys().map(String::as_str);
                if let Some(sections) = self.sections_of(section) {
                    hints.push(format!("`{section}` is a key of {sections}"));
                } else if let Some(near) = nearest(section, names()) {
                    hints.push(match (&origin, key) {
                        (Origin::Variable(_), Some(key)) => {
                            format!("did you mean {}?", origin.spelling(near, key))
                        }
                        _ => format!("did you mean [{near}]?"),
                    });
                }
                hints.push(format!("the sections are {}", listed(names())));
                format!("there is no section `{section}`")
            }
        };
        Mistake { section: section.to_owned(), origin: Some(origin), what, hints }
    }

    /// The value of a key is not of its type, for the reason `why`.
    pub(super) fn unfit(&self, section: &str, key: &str, why: &str, origin: Origin) -> Mistake {
        let right = |value| format!("right would be {}", origin.assignment(section, key, value));
        let default = self.default(section, key);
        let (why, sample) = if secret::is_secret(section, key) {
            // The reason would quote the value.
            match default {
                Some(Value::Array(_)) => ("expected a list of texts".to_owned(), default.cloned()),
                _ => ("expected a text".to_owned(), None),
            }
        } else {
            (in_words(why), default.and_then(|default| sample(default, why)))
        };
        let hints = sample.as_ref().map(right).into_iter().collect();
        let what = format!("{section}.{key}: {why}");
        Mistake { section: section.to_owned(), origin: Some(origin), what, hints }
    }

    /// Where else `key` is a key.
    fn sections_of(&self, key: &str) -> Option<String> {
        let homes: Vec<_> =
            self.all().filter(|(_, k)| *k == key).map(|(home, _)| format!("[{home}]")).collect();
        (!homes.is_empty()).then(|| homes.join(" and "))
    }
}

/// The name that `given` was probably meant to be.
fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase().replace('-', "_");
    let distance = |name: &str| strsim::osa_distance(&given, name);
    let near = names.min_by_key(|name| distance(name))?;
    (distance(near) <= (near.len() / 3).max(1)).then_some(near)
}

/// A value like `default`, to show the way where `why` does not.
fn sample(default: &Value, why: &str) -> Option<Value> {
    let wrong_type = why.starts_with("invalid type");
    match default {
        _ if why.starts_with("unknown variant") => None,
        Value::Array(_) | Value::Table(_) if !wrong_type => None,
        // The default list may be empty, or one that is not to be recommended.
        Value::Array(_) => Some(Value::from(vec!["...", "..."])),
        Value::Table(entries) => {
            let (name, value) = entries.iter().next()?;
            Some(Table::from_iter([(name.clone(), value.clone())]).into())
        }
        Value::String(text) if text.is_empty() => None,
        value => Some(value.clone()),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Says a type as a person would who does not write Rust.
fn in_words(why: &str) -> String {
    const WORDS: [(&str, &str); 10] = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u64", "expected a whole number"),
        ("expected usize", "expected a whole number"),
        ("expected a map", "expected a table"),
        ("expected a sequence", "expected a list"),
        ("expected a boolean", "expected true or false"),
        ("expected an integer or string", "expected a size"),
        ("expected parsable string", "expected a size"),
        ("expected integer overflow", "expected a size"),
    ];
    let words = WORDS.iter().find(|(rust, _)| why.ends_with(rust));
    words.map_or_else(|| why.to_owned(), |(rust, plain)| why.replace(rust, plain))
}
