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
fn no_password_is_printed_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("footbridge.toml");
    let path = file.to_str().unwrap();
    let right = "amqps://ann:hunter2@rabbit-1/a,amqp://ann:hun%40ter2@rabbit-2:5673/%2f";
    let (good, printed, _) = check_config(&[], &[("FOOTBRIDGE_RABBITMQ__URIS", right)]);
    assert!(good);
    let shown = "uris = [\"amqps://ann:***@rabbit-1/a\", \"amqp://ann:***@rabbit-2:5673/%2f\"]";
    assert!(printed.contains(shown), "{printed}");
    std::fs::write(&file, "[rabbitmq]\nuris = ['amqp://ann:hunter2@rabbit']\n").unwrap();
    let (good, printed, told) = check_config(&["--config", path], &[]);
    assert!(good);
    assert!(printed.contains("uris = [\"amqp://ann:***@rabbit\"]"), "{printed}");
    assert!(!printed.contains("hunter2") && !told.contains("hunter2"), "{printed}\n{told}");

    // What was printed says that it is not whole when it is used.
    std::fs::write(&file, &printed).unwrap();
    let (good, _, told) = check_config(&["--config", path], &[]);
    assert!(!good && told.contains("in place of the ***"), "{told}");

    for wrong in [
        "[rabbitmq]\nuris = 'amqp://ann:hunter2@rabbit'",
        "[rabbitmq]\nuris = ['ann:hunter2@rabbit:5672']",
        "[rabbitmq]\nuris = ['amqp://ann:hunter2']",
        "[rabbitmq]\nuris = ['hunter2']",
        "[rabbitmq]\nuris = 'hunter2'",
        "[rabbitmq]\nuris = [\n  'amqp://ok',\n  'http://ann:hunter2@rabbit',\n]",
        "[rabbitmq]\nuris = [amqp://ann:hunter2@rabbit]",
        "[rabbitmq]\nuris = amqp://ann:hunter2@rabbit",
        "[rabbitmq]\nuris = { hunter2 = 1 }",
        "[rabbitmq]\nuri = ['amqp://ann:hunter2@rabbit']",
        "[rabbit]\nuris = ['amqp://ann:hunter2@rabbit']",
        "rabbitmq = { uris = ['amqp://ann:hunter2@rabbit'], namespace = 1 }",
        "rabbitmq.uris = ['amqp://ann:hunter2@rabbit', 1]",
        "uris = ['amqp://ann:hunter2@rabbit']",
    ] {
        std::fs::write(&file, wrong).unwrap();
        let (good, printed, told) = check_config(&["--config", path], &[]);
        assert!(!good && printed.is_empty(), "{wrong}\n{printed}");
        assert!(told.starts_with("error: ") && !told.contains("hunter2"), "{wrong}\n{told}");
    }
    for (name, value) in [
        ("FOOTBRIDGE_RABBITMQ__URIS", "ann:hunter2@rabbit:5672"),
        ("FOOTBRIDGE_RABBITMQ__URIS", "amqp://ann:hunter2"),
        ("FOOTBRIDGE_RABBITMQ__URIS", "{ \"hunter2\" = 1 }"),
        ("FOOTBRIDGE_RABBITMQ__URIS", "[1, \"amqp://ann:hunter2@rabbit\"]"),
        ("FOOTBRIDGE_RABBITMQ__URI", "amqp://ann:hunter2@rabbit"),
        ("FOOTBRIDGE_RABBITMQ_URIS", "amqp://ann:hunter2@rabbit"),
    ] {
        let (good, printed, told) = check_config(&[], &[(name, value)]);
        assert!(!good && printed.is_empty(), "{value}\n{printed}");
        assert!(told.contains(name) && !told.contains("hunter2"), "{value}\n{told}");
    }
}

#[test]
fn no_secret_is_printed_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("footbridge.toml");
    let path = file.to_str().unwrap();
    let secret = "hunter2hunter2hunter2hunter2hunter2";
    let good_ones = [
        format!("[access]\njwt_secret = '{secret}'"),
        format!(
            "[access]\nrules = [{{ deny = 'send', destination = '**', who = 'anonymous' }}]\njwt_secret = '{secret}'"
        ),
    ];
    for text in &good_ones {
        std::fs::write(&file, text).unwrap();
        let (good, printed, told) = check_config(&["--config", path], &[]);
        assert!(good, "{told}");
        assert!(printed.contains("jwt_secret = \"***\""), "{printed}");
        assert!(!printed.contains("hunter2") && told.is_empty(), "{printed}\n{told}");
        // What was printed says that it is not whole when it is used.
        std::fs::write(&file, &printed).unwrap();
        let (good, _, told) = check_config(&["--config", path], &[]);
        assert!(!good && told.contains("in place of the ***"), "{told}");
    }
    for wrong in [
        "[access]\njwt_secret = 'hunter2'",
        "[access]\njwt_secret = hunter2",
        "[access]\njwt_secret = 'hunter2",
        "[access]\njwt_secret = ['hunter2']",
        "[access]\njwt-secert = 'hunter2'",
        "[acess]\njwt_secret = 'hunter2'",
        "jwt_secret = 'hunter2'",
        "access.jwt_secret = 'hunter2'",
        "access = { rules = 'opn', jwt_secret = 'hunter2' }",
        "[access]\nsecret = 'hunter2'",
    ] {
        std::fs::write(&file, wrong).unwrap();
        let (good, printed, told) = check_config(&["--config", path], &[]);
        assert!(!good && printed.is_empty(), "{wrong}\n{printed}");
        assert!(told.starts_with("error: ") && !told.contains("hunter2"), "{wrong}\n{told}");
    }
    for name in ["FOOTBRIDGE_ACCESS__JWT_SECRET", "FOOTBRIDGE_ACCESS__JWT_SECRT"] {
        let (good, printed, told) = check_config(&[], &[(name, "hunter2")]);
        assert!(!good && printed.is_empty(), "{printed}");
        assert!(told.contains(name) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_rule_that_cannot_be_meant_is_shown_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("footbridge.toml");
    let path = file.to_str().unwrap();
    let rule = |rest: &str| format!("[access]\notherwise = 'deny'\n\n[[access.rules]]\n{rest}\n");
    for (rest, line, why) in [
        (
            "allow = 'send'\ndestination = '/topc/a'\nwho = 'everyone'",
            4,
            "access.rules: rule 1: destination \"/topc/a\": it begins with none of",
        ),
        (
            "allow = 'publish'\ndestination = '/topic/a'\nwho = 'everyone'",
            5,
            "unknown variant `publish`",
        ),
        ("allow = 'send'\ndestination = '/topic/a'\nwho = 'all'", 7, "\"all\" is nobody"),
        ("allow = 'send'\nwhere = '/topic/a'\nwho = 'everyone'", 6, "unknown field `where`"),
    ] {
        std::fs::write(&file, rule(rest)).unwrap();
        let (good, _, told) = check_config(&["--config", path], &[]);
        assert!(!good && told.contains(why), "{told}");
        assert!(told.contains(&format!("{path}:{line}:")), "{told}");
    }
}

#[test]
fn each_process_has_its_own_defaults_and_ports() {
    let admin = |arguments: &[&str]| {
        let (good, printed, _) = check_config(arguments, &[]);
        assert!(good);
        printed.parse::<toml::Table>().unwrap()["admin"]["listen"].as_str().unwrap().to_owned()
    };
    assert_eq!(admin(&[]), "127.0.0.1:8081");
    assert_eq!(admin(&["--notifier"]), "127.0.0.1:8082");
    let ports =
        [("FOOTBRIDGE_GATEWAY__LISTEN", "0.0.0.0:9"), ("FOOTBRIDGE_NOTIFIER__LISTEN", "0.0.0.0:9")];
    assert!(check_config(&[], &ports).0);
    let (good, _, told) = check_config(&["--notifier"], &ports);
    assert!(!good && told.contains("notifier.listen: 0.0.0.0:9 is reached by other"), "{told}");
    let mut open = ports.to_vec();
    open.push(("FOOTBRIDGE_NOTIFIER__CALLERS", "open"));
    assert!(check_config(&["--notifier"], &open).0);
    let (good, _, told) = check_config(&["--dev"], &ports);
    assert!(
        !good && told.contains("notifier.listen: 0.0.0.0:9 is taken by gateway.listen"),
        "{told}"
    );
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
