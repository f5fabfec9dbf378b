//! What is in force: each key's value, and who said it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::conflict::Conflict;
use super::file::File;
use super::keys::Keys;
use super::mistake::{ConfigError, Mistake, Mistakes};
use super::setting::{Origin, Setting};
use super::{Config, Role, environment, secret};

/// A configuration together with where its values come from. Displays as TOML that holds every key
/// and can be saved and loaded, once the passwords that it does not show are put in.
#[derive(Debug)]
pub(crate) struct Effective {
    /// The values.
    pub(crate) config: Config,
    /// The same as they were written, so that showing them rounds nothing: a size such as 70000
    /// bytes would come back as 68.4 KiB.
    values: Table,
    /// Section and key to who said it; what is not in here has its default.
    origins: BTreeMap<(String, String), Origin>,
}

impl Effective {
    /// As [`Config::load`].
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        role: Role,
    ) -> Result<Self, ConfigError> {
        Self::laid_over(&role.defaults(), role, file.map(File::read).transpose()?, environment)
    }

    pub(super) fn laid_over(
        base: &Config,
        role: Role,
        file: Option<File>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut values = Table::try_from(base).map_err(Mistake::of_the_whole)?;
        let keys = Keys(&values);
        let mut said = file.map_or_else(Vec::new, |file| file.settings(&keys));
        said.extend(environment::settings(environment, &keys));

        let mut origins = BTreeMap::new();
        let mut mistakes = Vec::new();
        for setting in said {
            match setting {
                Ok(Setting { section, key, value, origin }) => {
                    let keys = Table::from_iter([(key.clone(), value)]);
                    lay_over(&mut values, Table::from_iter([(section.clone(), keys.into())]));
                    origins.insert((section, key), origin);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let config = Config::deserialize(values.clone()).map_err(Mistake::of_the_whole)?;
        let effective = Self { config, values, origins };
        let faulty: Vec<String> = mistakes.iter().map(|mistake| mistake.section.clone()).collect();
        for conflict in effective.config.conflicts(role) {
            // What seems to conflict may be right once the section's other mistakes are.
            if !faulty.iter().any(|section| section == conflict.section) {
                mistakes.push(effective.mistake(conflict));
            }
        }
        if mistakes.is_empty() { Ok(effective) } else { Err(Mistakes(mistakes).into()) }
    }

    /// Puts the conflict where somebody said something: at its key or, where that has its default,
    /// at the other key.
    fn mistake(&self, conflict: Conflict) -> Mistake {
        let Conflict { section, key, why } = conflict;
        let what = format!("{section}.{key}: {why}");
        let own = self.origins.get(&(section.to_owned(), key.to_owned()));
        let other = || {
            let mut said = self.origins.iter();
            said.find(|((of, other), _)| {
                (section, key) != (of, other) && mentions(&why, section, of, other)
            })
        };
        let (origin, hints) = match (own, other()) {
            (Some(origin), Some(((of, other), at))) => {
                (Some(origin), vec![format!("{of}.{other} is set by {at}")])
            }
            (Some(origin), None) => (Some(origin), Vec::new()),
            (None, Some((_, at))) => (Some(at), vec![format!("{section}.{key} has its default")]),
            (None, None) => (None, vec![format!("{section}.{key} has its default")]),
        };
        Mistake { section: section.to_owned(), origin: origin.cloned(), what, hints }
    }
}

/// Whether the words of `why`, which is about `section`, name the key `other` of the section `of`.
/// A word such as "path" does not: it may just be a word.
fn mentions(why: &str, section: &str, of: &str, other: &str) -> bool {
    let mut words = why.split(|c: char| !c.is_alphanumeric() && !"_.".contains(c));
    words.any(|word| match word.split_once('.') {
        Some((named, key)) => named == of && key == other,
        None => section == of && word == other && word.contains('_'),
    })
}

/// Table by table, entry by entry; everything else is replaced whole.
fn lay_over(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            (Some(under), value) => *under = value,
            (None, value) => {
                under.insert(key, value);
            }
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = Table::try_from(Config::default()).map_err(|_| fmt::Error)?;
        writeln!(f, "# A value without a remark is the default.")?;
        for (section, keys) in &self.values {
            writeln!(f, "\n[{section}]")?;
            let remark = |key: &String| {
                let origin = self.origins.get(&(section.clone(), key.clone()));
                origin.map_or_else(String::new, |origin| format!("  # {origin}"))
            };
            let keys = || keys.as_table().into_iter().flatten();
            for (key, value) in keys().filter(|(_, value)| !value.is_table()) {
                if secret::is_secret(section, key) {
                    let value = secret::without(key, value, &defaults[section][key]);
                    writeln!(f, "{key} = {value}{}", remark(key))?;
                } else {
                    writeln!(f, "{key} = {value}{}", remark(key))?;
                }
            }
            for (key, value) in keys() {
                if let Value::Table(entries) = value {
                    write!(f, "\n[{section}.{key}]{}\n{entries}", remark(key))?;
                }
            }
        }
        Ok(())
    }
}
