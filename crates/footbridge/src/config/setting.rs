//! One key with the value that somebody gave it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue, Error};
use toml::{Spanned, Value};

use super::Config;
use super::place::Place;

/// A value that fits its key's type.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Who gave a key its value.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The file, there. Boxed, since every mistake and so many results hold one.
    File(Box<Place>),
    /// The environment, by the variable of this name.
    Variable(String),
}

impl Origin {
    /// How a key is written where this one was.
    pub(super) fn spelling(&self, section: &str, key: &str) -> String {
        match self {
            Self::File(_) => format!("`{key}`"),
            Self::Variable(_) => format!("FOOTBRIDGE_{section}__{key}").to_uppercase(),
        }
    }

    /// How a key is given a value where this one was.
    pub(super) fn assignment(&self, section: &str, key: &str, value: &Value) -> String {
        match (self, value) {
            (Self::File(_), value) => format!("{key} = {value}"),
            (Self::Variable(_), Value::String(text)) => {
                format!("{}={text}", self.spelling(section, key))
            }
            (Self::Variable(_), value) => format!("{}={value}", self.spelling(section, key)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(place) => write!(f, "{place}"),
            Self::Variable(name) => write!(f, "{}", name.escape_debug()),
        }
    }
}

/// The value, if it fits the type of that key. The key's own type judges, by a configuration that
/// says nothing else; an error's span is that of the value or of what is wrong in it.
pub(super) fn fitting(
    section: &str,
    key: &str,
    value: Spanned<DeValue<'_>>,
) -> Result<Value, Error> {
    let at = value.span();
    let only = |name: &str, value| {
        let name = Spanned::new(at.clone(), Cow::Owned(name.to_owned()));
        DeTable::from_iter([(name, value)])
    };
    let keys = Spanned::new(at.clone(), DeValue::Table(only(key, value.clone())));
    let sections = Spanned::new(at.clone(), only(section, keys));
    Config::deserialize(sections.into_deserializer())?;
    Value::deserialize(value.into_deserializer())
}
