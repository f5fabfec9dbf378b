//! Values that cannot work, and what is said of them.

use std::io::Write;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn check(toml: &str) -> Result<(), Invalid> {
    let config: Config = toml::from_str(toml).unwrap_or_else(|why| panic!("{toml}\n{why}"));
    config.check(&Destinations::default())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn the_defaults_are_fit_to_run_and_let_everybody_in() {
    let config = Config::default();
    assert_eq!(config.check(&Destinations::default()), Ok(()));
    assert!(config.lets_anonymous_in() && !config.can_authenticate());
}

#[test]
fn what_was_written_before_still_means_the_same() {
    for (toml, rules) in [
        ("", rules::Config::Default),
        ("rules = 'default'", rules::Config::Default),
        ("rules = 'open'", rules::Config::Open),
        ("rules = []", rules::Config::List(Vec::new())),
    ] {
        assert_eq!(toml::from_str::<Config>(toml).unwrap().rules, rules);
    }
    let config: Config = toml::from_str(
        "[[rules]]\nallow = ['send', 'subscribe']\ndestination = '/topic/a'\nwho = 'everyone'",
    )
    .unwrap();
    assert!(matches!(config.rules, rules::Config::List(list) if list.len() == 1));
}

#[test]
fn who_shows_nothing_is_let_in_while_nothing_can_be_shown() {
    let lets_in = |toml: &str| toml::from_str::<Config>(toml).unwrap().lets_anonymous_in();
    let secret = format!("jwt_secret = '{SECRET}'");
    assert!(!lets_in(&secret));
    assert!(!lets_in("users_file = '/etc/users.toml'"));
    assert!(!lets_in("jwks_url = 'https://id.example.com/jwks'"));
    assert!(lets_in(&format!("anonymous = 'allow'\n{secret}")));
    assert!(!lets_in("anonymous = 'refuse'"));
    assert!(lets_in("anonymous = 'auto'"));
}

#[test]
fn a_value_that_cannot_work_is_refused_by_its_key() {
    let private = rcgen::KeyPair::generate().unwrap();
    let (private, public) = (file(&private.serialize_pem()), file(&private.public_key_pem()));
    let certificate = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let nothing = file("");
    let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    let keys = |text: &str| {
        let file = file(text);
        let path = path(&file);
        (file, path)
    };
    let short = keys("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}");
    let many = keys(&format!("{{\"keys\":[{}7]}}", "7,".repeat(100)));
    for (toml, key, why) in [
        ("jwt_secret = 'short'".into(), "jwt_secret", "a secret of 5 bytes is too short"),
        ("jwt_secret = 'base64:AAAA'".into(), "jwt_secret", "a secret of 3 bytes is too short"),
        ("jwt_secret = 'base64:!'".into(), "jwt_secret", "no base64"),
        ("jwt_secret = '***'".into(), "jwt_secret", "in place of the ***"),
        (
            format!("jwt_secret = '{SECRET}'\njwks_url = 'https://a/b'"),
            "jwks_url",
            "besides jwt_secret",
        ),
        ("jwt_key_file = '/none'".into(), "jwt_key_file", "cannot be used: /none: No such file"),
        (format!("jwt_key_file = '{}'", path(&private)), "jwt_key_file", "a private key"),
        (format!("jwt_key_file = '{}'", path(&certificate)), "jwt_key_file", "a certificate"),
        (format!("jwt_key_file = '{}'", path(&nothing)), "jwt_key_file", "no public key in PEM"),
        ("jwks_file = '/none'".into(), "jwks_file", "No such file"),
        (format!("jwks_file = '{}'", path(&nothing)), "jwks_file", "no JSON Web Key Set"),
        (format!("jwks_file = '{}'", short.1), "jwks_file", "key 1: a secret of 3 bytes"),
        (format!("jwks_file = '{}'", many.1), "jwks_file", "101 keys"),
        ("jwks_url = 'id.example.com'".into(), "jwks_url", "must begin with https://"),
        ("jwks_url = 'ftp://id.example.com/x'".into(), "jwks_url", "must begin with https://"),
        ("jwks_url = 'https://a:b@id.example.com/x'".into(), "jwks_url", "user or password"),
        ("jwks_url = 'https://a b'".into(), "jwks_url", "is no URL"),
        ("jwks_url = 'http://id.example.com/jwks'".into(), "jwks_url", "is not encrypted"),
        ("jwks_url = 'http://127.0.0.1.example.com/jwks'".into(), "jwks_url", "is not encrypted"),
        (format!("jwks_ca_file = '{}'", path(&nothing)), "jwks_ca_file", "holds none"),
        ("jwks_timeout = '1ms'".into(), "jwks_timeout", "must be from 100ms to 1m"),
        ("jwks_min_interval = '0s'".into(), "jwks_min_interval", "must be from 1s"),
        ("jwks_max_age = '10s'".into(), "jwks_min_interval", "not be more than jwks_max_age"),
        ("jwt_leeway = '2h'".into(), "jwt_leeway", "must be from 0s to 1h"),
        ("jwt_user_claim = ''".into(), "jwt_user_claim", "must name a claim"),
        ("token_header = 'Authorization'".into(), "token_header", "in any case"),
        ("token_header = 'login'".into(), "token_header", "a name"),
        ("token_cookie = 'a b'".into(), "token_cookie", "a cookie's name"),
        ("users_file = '/none'".into(), "users_file", "cannot be used: /none"),
        (
            format!("users_file = '{}'\ntoken_header = 'passcode'", path(&nothing)),
            "token_header",
            "beside users_file",
        ),
        ("hash_threads = 0".into(), "hash_threads", "1 to 256"),
        ("max_failures = 1000001".into(), "max_failures", "at most"),
        ("failure_memory = '0s'".into(), "failure_memory", "must be from 1ms"),
        (
            "rules = [{ allow = 'send', destination = '/topic', who = 'everyone' }]".into(),
            "rules",
            "rule 1: destination \"/topic\": nothing follows",
        ),
    ] {
        let invalid = check(&toml).expect_err(&toml);
        assert_eq!(invalid.key, key, "{toml}\n{invalid}");
        assert!(invalid.why.contains(why), "{toml}\n{invalid}");
        assert!(!invalid.why.contains(SECRET), "{invalid}");
    }
    for good in [
        format!("jwt_secret = '{SECRET}'"),
        format!("jwt_key_file = '{}'", path(&public)),
        format!("users_file = '{}'", path(&nothing)),
        "jwks_url = 'https://id.example.com/jwks'".into(),
        "jwks_url = 'http://localhost:8080/jwks'".into(),
        "jwks_url = 'http://[::1]:8080/jwks'".into(),
        "jwks_url = 'http://id.internal/jwks'\njwks_plain_http = true".into(),
        "token_header = 'passcode'".into(),
        "max_failures = 0".into(),
    ] {
        assert_eq!(check(&good), Ok(()), "{good}");
    }
}

#[test]
fn a_configuration_is_not_shown_with_its_secret() {
    let config: Config = toml::from_str(&format!("jwt_secret = '{SECRET}'")).unwrap();
    assert!(!format!("{config:?}").contains(SECRET));
}
