//! Tests that `deploy/footbridge.toml`, the reference of all keys, is true.

use toml::Table;
use toml::de::{DeTable, DeValue};

use super::*;

const REFERENCE: &str = include_str!("../../../../../deploy/footbridge.toml");

/// Section and key, in order, and entries of tables as keys; with the lines they are on, from 0.
fn keys_of(text: &str) -> Vec<(String, usize)> {
    fn walk(table: &DeTable<'_>, within: &str, text: &str, keys: &mut Vec<(String, usize)>) {
        for (name, value) in table {
            let name_in_full = format!("{within}{}", name.get_ref());
            keys.push((name_in_full.clone(), text[..name.span().start].matches('\n').count()));
            if let DeValue::Table(table) = value.get_ref() {
                walk(table, &format!("{name_in_full}."), text, keys);
            }
        }
    }
    let mut keys = Vec::new();
    walk(DeTable::parse(text).unwrap().get_ref(), "", text, &mut keys);
    keys
}

#[test]
fn the_reference_as_it_stands_is_the_defaults() {
    assert_eq!(toml::from_str::<Config>(REFERENCE).unwrap(), Config::default());
}

#[test]
fn the_reference_names_every_key_in_order() {
    let names = |text: &str| keys_of(text).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(REFERENCE), names(&toml::to_string(&Config::default()).unwrap()));
}

#[test]
fn the_reference_explains_every_key() {
    let lines: Vec<_> = REFERENCE.lines().collect();
    for (name, line) in keys_of(REFERENCE) {
        let above = line.checked_sub(1).map_or("", |above| lines[above]);
        assert!(above.starts_with("# ") || lines[line].contains(" # "), "{name}");
    }
}

#[test]
fn the_reference_says_how_the_other_defaults_differ() {
    let table = |role: Role| Table::try_from(role.defaults()).unwrap();
    let default = table(Role::Gateway);
    assert_eq!(default, Table::try_from(Config::default()).unwrap());
    let mut differing = Vec::new();
    for role in [Role::Dev, Role::Notifier] {
        for (section, keys) in &table(role) {
            for (key, value) in keys.as_table().unwrap() {
                if default[section][key] != *value {
                    differing.push(format!("#     {section}.{key} = {value}"));
                }
            }
        }
    }
    assert!(!differing.is_empty());
    let said: Vec<_> = REFERENCE.lines().filter(|line| line.starts_with("#     ")).collect();
    assert_eq!(said, differing);
}
