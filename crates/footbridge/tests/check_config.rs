//! `footbridge check-config` as a shell sees it.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::process::{Command, Output};

/// Runs it with these arguments and, of the environment, nothing but these variables.
fn check_config(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_footbridge"));
    command.arg("check-config").args(arguments).env_clear().envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.code().is_some_and(|code| code < 2), "{status}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

#[test]
fn a_good_configuration_is_printed_so_that_it_can_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved.toml");
    let (good, printed, _) =
        check_config(&["--dev"], &[("FOOTBRIDGE_GATEWAY__LISTEN", "127.0.0.1:80")]);
    assert!(good);
    std::fs::write(&file, &printed).unwrap();

    let (good, again, _) = check_config(&[], &[("FOOTBRIDGE_CONFIG", file.to_str().unwrap())]);
    assert!(good);
    let values = |text: &str| text.parse::<toml::Table>().unwrap();
    assert_eq!(values(&again), values(&printed));
    assert_eq!(values(&again)["gateway"]["listen"].as_str(), Some("127.0.0.1:80"));
}

#[test]
fn a_mistake_is_told_on_standard_error_alone_and_in_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "[gateway]\nlisen = '127.0.0.1:80'\n").unwrap();
    let file = file.to_str().unwrap();
    let (good, printed, told) = check_config(&["--config", file], &[]);
    assert!(!good);
    assert_eq!(printed, "");
    assert!(told.starts_with(&format!("error: {file}:2:1: there is no key `lisen`")), "{told}");
    assert!(told.contains("did you mean `listen`?"), "{told}");
}

#[test]
fn a_file_that_is_not_there_is_told_once() {
    let (good, _, told) = check_config(&["--config", "/none/footbridge.toml"], &[]);
    assert!(!good);
    assert_eq!(
        told,
        "error: cannot read the configuration file /none/footbridge.toml: \
         No such file or directory (os error 2)\n"
    );
}
