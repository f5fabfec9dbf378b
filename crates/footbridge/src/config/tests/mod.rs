//! What becomes of a file and an environment, as their authors see it.

mod conflicts;
mod deployments;
mod file_mistakes;
mod layers;
mod reference;
mod shown;
mod variable_mistakes;

use expect_test::{Expect, expect};

use super::file::File;
use super::*;

/// Loads `text` as `footbridge.toml` and the variables, `NAME=value` a line each.
fn load(text: &str, variables: &str, base: &Config) -> Result<Effective, String> {
    load_as(Role::Gateway, text, variables, base)
}

fn load_as(role: Role, text: &str, variables: &str, base: &Config) -> Result<Effective, String> {
    let file = File { name: "footbridge.toml".into(), text: text.into() };
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Effective::laid_over(base, role, Some(file), environment).map_err(|error| error.to_string())
}

fn loaded(text: &str, variables: &str) -> Config {
    load(text, variables, &Config::default()).unwrap_or_else(|error| panic!("{error}")).config
}

fn check(text: &str, expect: Expect) {
    check_with(text, "", expect);
}

fn check_with(text: &str, variables: &str, expect: Expect) {
    let error = load(text, variables, &Config::default()).map(|_| "no mistake").unwrap_err();
    expect.assert_eq(&error);
}
