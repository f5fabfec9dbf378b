//! The table of guarantees in the README: each cell names tests, and these are there.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeMap;
use std::path::Path;

/// The README from the table on, to the end of the list of tests.
fn section() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("### What holds").unwrap();
    rest.split_once("</details>").unwrap().0.to_owned()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The tests by their numbers: file and name.
fn tests(section: &str) -> BTreeMap<u32, (String, String)> {
    let test = |line: &str| {
        let (number, rest) = line.split_once(". [")?;
        let (_, rest) = rest.split_once("](")?;
        let (file, rest) = rest.split_once(") `")?;
        Some((number.parse().ok()?, (file.to_owned(), rest.strip_suffix('`')?.to_owned())))
    };
    section.lines().filter_map(test).collect()
}

/// The numbers that a cell names.
fn named(cell: &str) -> Vec<u32> {
    cell.split('[').skip(1).filter_map(|rest| rest.split_once(']')?.0.parse().ok()).collect()
}

#[test]
fn each_cell_names_tests_that_are_there() {
    let section = section();
    let tests = tests(&section);
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).collect();
    let mut unused = tests.clone();
    // Behind the heads of the columns.
    assert_eq!(rows.len(), 9, "{rows:?}");
    for row in &rows[1..] {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 8, "{row}");
        for cell in &cells[1..] {
            let numbers = named(cell);
            assert!(!numbers.is_empty(), "no test stands behind: {cell}");
            for number in numbers {
                assert!(tests.contains_key(&number), "{number} is no test: {cell}");
                unused.remove(&number);
            }
        }
    }
    assert!(unused.is_empty(), "named by no cell: {unused:?}");
    for (number, (file, name)) in tests {
        let code = std::fs::read_to_string(root().join(&file));
        let code = code.unwrap_or_else(|error| panic!("{number}: {file}: {error}"));
        let is_there =
            code.contains(&format!("fn {name}(")) || code.contains(&format!("test('{name}'"));
        assert!(is_there, "{number}: {file} has no test {name}");
    }
}
