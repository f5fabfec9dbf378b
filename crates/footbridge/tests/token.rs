//! `footbridge token` as a shell sees it.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const SECRET: (&str, &str) = ("FOOTBRIDGE_ACCESS__JWT_SECRET", "0123456789abcdef0123456789abcdef");

/// Runs it with these arguments, this on standard input and, of the environment, nothing but these
/// variables.
fn token(arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_footbridge"));
    command.arg("token").args(arguments).env_clear().envs(variables.iter().copied());
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

#[test]
fn a_token_that_is_made_is_accepted_and_explained() {
    let variables = [SECRET, ("FOOTBRIDGE_ACCESS__JWT_AUDIENCES", "chat")];
    let arguments =
        ["make", "ann", "--role", "admin", "--claim", "n=3", "--claim", "t=acme", "--ttl", "5m"];
    let (good, made, told) = token(&arguments, "", &variables);
    assert!(good, "{told}");
    for (arguments, input) in [(&["check", made.trim()][..], ""), (&["check"], &*made)] {
        let (good, said, told) = token(arguments, input, &variables);
        assert!(good, "{told}");
        for part in
            ["\"n\": 3", "\"t\": \"acme\"", "\"aud\": \"chat\"", "accepted: user \"ann\" with"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
    let elsewhere = [(SECRET.0, "another secret of at least 32 bytes.")];
    let (good, said, told) = token(&["check"], &made, &elsewhere);
    assert!(!good);
    assert!(said.contains("refused: the token's signature is wrong"), "{said}");
    assert_eq!(told, "error: the token is refused\n");
    let unreachable = [("FOOTBRIDGE_ACCESS__JWKS_URL", "http://127.0.0.1:9/jwks.json")];
    let (good, said, told) = token(&["check"], &made, &unreachable);
    assert!(!good && said.contains("refused: the token cannot be checked now"), "{said}");
    assert!(told.contains("access.jwks_url: ") && told.contains("refused"), "{told}");
}

#[test]
fn without_a_key_it_says_what_to_set() {
    let (good, made, told) = token(&["make", "ann"], "", &[]);
    assert!(!good && made.is_empty());
    assert!(told.contains("FOOTBRIDGE_ACCESS__JWT_SECRET"), "{told}");
    let (good, said, told) = token(&["check", "x"], "", &[]);
    assert!(!good && said.is_empty());
    assert!(told.contains("jwks_url"), "{told}");
    let (good, _, told) = token(&["make", "ann", "--ttl", "soon"], "", &[SECRET]);
    assert!(!good && told.contains("write 15m"), "{told}");
}

#[test]
fn the_secret_is_in_no_text() {
    let short = (SECRET.0, "hunter2");
    for (arguments, variables) in
        [(&["make", "ann"][..], [short]), (&["check", "x"], [short]), (&["check", "x"], [SECRET])]
    {
        let (good, said, told) = token(arguments, "", &variables);
        assert!(!good);
        for text in [said, told] {
            assert!(!text.contains(variables[0].1), "{text}");
        }
    }
}

#[test]
fn a_process_starts_with_no_roles_that_it_would_not_heed() {
    for (process, key) in [("dev", Some(SECRET)), ("notifier", None)] {
        let output = Command::new(env!("CARGO_BIN_EXE_footbridge"))
            .arg(process)
            .env_clear()
            .envs(key)
            .envs([
                ("FOOTBRIDGE_ACCESS__GRPC_ROLES", r#"{ publisher = ["*"] }"#),
                ("FOOTBRIDGE_GATEWAY__LISTEN", "127.0.0.1:0"),
            ])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("notifier.callers: asks callers for nothing"), "{told}");
    }
}
