//! That PROTOCOL.md names tests that are there, and all of them.

use std::collections::BTreeSet;

const TABLE: &str = include_str!("../../PROTOCOL.md");

const MODULES: [(&str, &str); 9] = [
    ("closing", include_str!("closing.rs")),
    ("cookies", include_str!("cookies.rs")),
    ("encoding", include_str!("encoding.rs")),
    ("hostile", include_str!("hostile.rs")),
    ("http", include_str!("http.rs")),
    ("polling", include_str!("polling.rs")),
    ("resources", include_str!("resources.rs")),
    ("session_urls", include_str!("session_urls.rs")),
    ("streaming", include_str!("streaming.rs")),
];

const WEBSOCKETS: (&str, &str) = ("websockets", include_str!("websockets.rs"));

/// The tests of the modules, as `module::name`.
fn tests() -> BTreeSet<String> {
    let modules = MODULES.into_iter().chain([WEBSOCKETS]);
    modules
        .flat_map(|(module, text)| {
            let functions = text.split("#[tokio::test]\nasync fn ").skip(1);
            functions.map(move |function| {
                format!("{module}::{}", function.split('(').next().unwrap_or_default())
            })
        })
        .collect()
}

#[test]
fn every_test_stands_in_the_table_and_the_table_names_no_other() {
    let named: BTreeSet<String> = TABLE
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("::") && !code.contains(' '))
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(named, tests());
}
