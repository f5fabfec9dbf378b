//! What the environment says: variables named `FOOTBRIDGE_SECTION__KEY`, in any case.
//!
//! A value is read as TOML where that fits the key, else as it stands, so that neither `10`, `5s`
//! nor `["a", "b"]` needs more quotes than the shell wants; a list may also be given with commas.
//! One entry of a table is `FOOTBRIDGE_SECTION__KEY__entry`, the entry in its own case.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys::Keys;
use super::mistake::Mistake;
use super::setting::{Origin, Setting, fitting};

const PREFIX: &str = "FOOTBRIDGE_";

/// Names the configuration file, on the command line's behalf.
const FILE: &str = "FOOTBRIDGE_CONFIG";

/// The variables of this process. What is not Unicode in one comes as U+FFFD, which fits no key
/// that it could harm, instead of ending the process.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |raw: std::ffi::OsString| raw.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// Every key that a variable gives a value, and every mistake, in the order of the names.
pub(super) fn settings(
    environment: impl IntoIterator<Item = (String, String)>,
    keys: &Keys<'_>,
) -> Vec<Result<Setting, Mistake>> {
    let mut ours: Vec<_> = environment.into_iter().filter(|(name, _)| is_ours(name)).collect();
    ours.sort();
    // By what they name, the variables that were seen: two may differ in case alone.
    let mut seen = BTreeMap::new();
    let mut settings = Vec::new();
    for (name, text) in &ours {
        let origin = Origin::Variable(name.clone());
        let mut parts = name[PREFIX.len()..].splitn(3, "__");
        let section = parts.next().unwrap_or_default().to_lowercase();
        let Some(key) = parts.next().map(str::to_lowercase) else {
            settings.extend(resembling(&section, keys, origin).map(Err));
            continue;
        };
        let entry = parts.next();
        if let Some(other) = seen.insert((section.clone(), key.clone(), entry), name) {
            let what = format!("{other} sets the same key");
            let hints = vec!["unset one of them".to_owned()];
            settings.push(Err(Mistake { section, origin: Some(origin), what, hints }));
            continue;
        }
        settings.push(setting(section, key, entry, text.trim(), keys, origin));
    }
    settings
}

fn is_ours(name: &str) -> bool {
    let prefix = name.get(..PREFIX.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
        && !name.eq_ignore_ascii_case(FILE)
}

fn setting(
    section: String,
    key: String,
    entry: Option<&str>,
    text: &str,
    keys: &Keys<'_>,
    origin: Origin,
) -> Result<Setting, Mistake> {
    let default = keys.default(&section, &key);
    let Some(default) = default.filter(|value| entry.is_none() || value.is_table()) else {
        let key = entry.map_or(key.clone(), |entry| format!("{key}__{entry}"));
        return Err(keys.unknown(&section, Some(&key), origin));
    };
    let spanned = |value| Spanned::new(0..text.len(), value);
    let plain = |text| spanned(DeValue::String(Cow::Borrowed(text)));
    let literal = if default.is_array() {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        spanned(DeValue::Array(DeArray::from_iter(items.map(plain))))
    } else {
        plain(text)
    };
    let within = |value| match entry {
        Some(entry) => {
            let entry = Spanned::new(0..0, Cow::Borrowed(entry));
            spanned(DeValue::Table(DeTable::from_iter([(entry, value)])))
        }
        None => value,
    };
    let fit = |value| fitting(&section, &key, within(value));
    let value = match DeValue::parse(text) {
        // What parses but does not fit was still meant as TOML, unless the text fits: `3` as text.
        Ok(value) => fit(value).or_else(|error| fit(literal).map_err(|_| error)),
        Err(_) => fit(literal),
    };
    match value {
        Ok(value) => Ok(Setting { section, key, value, origin }),
        Err(error) => Err(keys.unfit(&section, &key, error.message(), origin)),
    }
}

/// The mistake of writing `FOOTBRIDGE_GATEWAY_LISTEN` or leaving something out. Other names without
/// `__` are let be: Kubernetes sets `FOOTBRIDGE_SERVICE_HOST` and `FOOTBRIDGE_PORT_8080_TCP` for a
/// Service named `footbridge`.
fn resembling(name: &str, keys: &Keys<'_>, origin: Origin) -> Option<Mistake> {
    let resembles = |section: &str, key: &str| {
        name == section || name == key || name.split_once('_') == Some((section, key))
    };
    let (section, key) = keys.all().find(|(section, key)| resembles(section, key))?;
    let what = "a section and a key are joined by two underscores".to_owned();
    let hints = vec![format!("did you mean {}?", origin.spelling(section, key))];
    Some(Mistake { section: String::new(), origin: Some(origin), what, hints })
}
