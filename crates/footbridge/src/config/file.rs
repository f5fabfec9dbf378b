//! What a configuration file says.

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue, Error};
use toml::{Spanned, Value};

use super::keys::Keys;
use super::mistake::{ConfigError, Mistake, Mistakes};
use super::place::Place;
use super::secret;
use super::setting::{Origin, Setting, fitting};

/// The text of a file.
#[derive(Debug)]
pub(super) struct File {
    /// As it shall be shown.
    pub(super) name: String,
    pub(super) text: String,
}

impl File {
    /// Reads all of it.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
        let bytes = fs::read(path).map_err(unreadable)?;
        let name = path.display().to_string().escape_debug().to_string();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                // The replacement character stands where the text breaks off.
                let file = Self { name, text: String::from_utf8_lossy(error.as_bytes()).into() };
                let end = at + char::REPLACEMENT_CHARACTER.len_utf8();
                let origin = Some(file.origin(at..end));
                let what = "the file is not UTF-8 from here on".to_owned();
                let hints = vec!["save it as UTF-8".to_owned()];
                let section = String::new();
                Err(Mistakes(vec![Mistake { section, origin, what, hints }]).into())
            }
        }
    }

    /// Every key that it gives a value, and every mistake.
    pub(super) fn settings(&self, keys: &Keys<'_>) -> Vec<Result<Setting, Mistake>> {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            return self.broken(errors).into_iter().map(Err).collect();
        }
        let mut settings = Vec::new();
        for (section, value) in document.into_inner() {
            let (name, origin) = (section.get_ref(), self.origin(section.span()));
            match value.into_inner() {
                _ if !keys.0.contains_key(&**name) => {
                    settings.push(Err(keys.unknown(name, None, origin)));
                }
                DeValue::Table(table) => {
                    for (key, value) in table {
                        let default = keys.default(name, key.get_ref());
                        let parts = parts(value, default.is_some_and(Value::is_table));
                        let one = |value| self.setting(name, &key, value, keys);
                        settings.extend(parts.into_iter().map(one));
                    }
                }
                _ => {
                    let what = format!("`{name}` is a section, not a key");
                    let hints = vec![format!("write [{name}] alone on a line, its keys below")];
                    let section = name.to_string();
                    let origin = Some(origin);
                    settings.push(Err(Mistake { section, origin, what, hints }));
                }
            }
        }
        settings
    }

    fn setting(
        &self,
        section: &str,
        key: &Spanned<impl AsRef<str>>,
        value: Spanned<DeValue<'_>>,
        keys: &Keys<'_>,
    ) -> Result<Setting, Mistake> {
        let (place, key) = (self.place(key.span()), key.get_ref().as_ref());
        let is_secret = secret::is_secret(section, key);
        let place = if is_secret { place.without_value() } else { place };
        let origin = Origin::File(Box::new(place));
        if keys.default(section, key).is_none() {
            return Err(keys.unknown(section, Some(key), origin));
        }
        let at = value.span();
        match fitting(section, key, value) {
            Ok(value) => Ok(Setting { section: section.into(), key: key.into(), value, origin }),
            Err(error) => {
                let within = || self.origin(error.span().unwrap_or(at));
                let origin = if is_secret { origin } else { within() };
                Err(keys.unfit(section, key, error.message(), origin))
            }
        }
    }

    /// What is no TOML: the first error of each line, since the others there follow from it.
    fn broken(&self, mut errors: Vec<Error>) -> Vec<Mistake> {
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        let placed =
            errors.into_iter().map(|error| (self.place(error.span().unwrap_or(0..0)), error));
        let mut placed: Vec<(Place, Error)> = placed.collect();
        placed.dedup_by_key(|(place, _)| place.line);
        let mistake = |(place, error): (Place, Error)| {
            let (what, hint) = match error.message() {
                what @ "duplicate key" => (what, self.first_of(&place)),
                what if is_about_a_value(what) => match unquoted(&place) {
                    Some("") => ("the value is missing", None),
                    Some(text) => {
                        let hint = format!("text stands in quotes: \"{text}\"");
                        ("this is no number, nor true or false", Some(hint))
                    }
                    None => (what, None),
                },
                what => (what, None),
            };
            let (what, hints) = (what.to_owned(), hint.into_iter().collect());
            Mistake {
                section: String::new(),
                origin: Some(Origin::File(place.into())),
                what,
                hints,
            }
        };
        placed.into_iter().map(mistake).collect()
    }

    /// Where the section or key at `place` was before, as far as the lines tell.
    fn first_of(&self, place: &Place) -> Option<String> {
        let is_header = |line: &str| line.trim_start().starts_with('[');
        let name = |line: &'_ str| line.split(['=', '#']).next().map(|name| name.trim().to_owned());
        let header = is_header(&place.text);
        let above: Vec<_> = self.text.lines().take(place.line - 1).enumerate().collect();
        let same_table = above.iter().rev().take_while(|(_, line)| header || !is_header(line));
        let mut same = same_table.filter(|(_, line)| name(line) == name(&place.text));
        same.next().map(|(index, _)| format!("it is on line {} already", index + 1))
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        Origin::File(Box::new(self.place(span)))
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.name, &self.text, span)
    }
}

/// A value whole or, if it is laid over its default entry by entry, in tables of one entry, so that
/// each is judged alone.
fn parts(value: Spanned<DeValue<'_>>, by_entry: bool) -> Vec<Spanned<DeValue<'_>>> {
    let at = value.span();
    match value.into_inner() {
        DeValue::Table(table) if by_entry => {
            let alone = |(entry, value): (Spanned<_>, _)| {
                Spanned::new(entry.span(), DeValue::Table(DeTable::from_iter([(entry, value)])))
            };
            table.into_iter().map(alone).collect()
        }
        value => vec![Spanned::new(at, value)],
    }
}

/// What stands for a value in the line, if it has no quotes or brackets. That is the most common
/// mistake; the parser takes it for a number or a boolean by its first letters, and speaks of that.
fn unquoted(place: &Place) -> Option<&str> {
    let (_, value) = place.text.split_once('=')?;
    let value = value.split('#').next()?.trim();
    (!value.contains(['"', '\'', '[', '{'])).then_some(value)
}

fn is_about_a_value(error: &str) -> bool {
    ["string values must be", "invalid boolean", "invalid float", "invalid integer"]
        .iter()
        .any(|begin| error.starts_with(begin))
}
