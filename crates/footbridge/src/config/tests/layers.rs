//! What wins over what.

use super::*;

#[test]
fn nothing_said_leaves_what_is_underneath() {
    for role in [Role::Gateway, Role::Notifier, Role::Dev] {
        assert_eq!(Config::load(None, [], role).unwrap(), role.defaults());
    }
    assert_eq!(loaded("", ""), Config::default());
}

#[test]
fn the_file_lies_over_the_defaults_and_the_environment_over_the_file() {
    let file = "[gateway]\nprefetch = 5\nlinger = '1m'\n[log]\nlevel = 'warn'";
    let config = loaded(file, "FOOTBRIDGE_GATEWAY__PREFETCH=7\nFOOTBRIDGE_LOG__FORMAT=json");
    let mut expected = Config::default();
    expected.gateway.prefetch = 7;
    expected.gateway.linger = std::time::Duration::from_secs(60);
    expected.log = log::Config { level: "warn".into(), format: log::Format::Json };
    assert_eq!(config, expected);
}

#[test]
fn a_variable_says_the_same_as_a_line_of_the_file() {
    for (variable, line) in [
        ("FOOTBRIDGE_GATEWAY__LISTEN=0.0.0.0:80", "[gateway]\nlisten = '0.0.0.0:80'"),
        ("FOOTBRIDGE_GATEWAY__LISTEN=\"[::1]:80\"", "[gateway]\nlisten = '[::1]:80'"),
        ("FOOTBRIDGE_GATEWAY__LISTEN=[::1]:80", "[gateway]\nlisten = '[::1]:80'"),
        ("FOOTBRIDGE_GATEWAY__PREFETCH=10", "[gateway]\nprefetch = 10"),
        ("FOOTBRIDGE_GATEWAY__PREFETCH= 10 ", "[gateway]\nprefetch = 10"),
        ("FOOTBRIDGE_GATEWAY__LINGER=5s", "[gateway]\nlinger = '5s'"),
        ("FOOTBRIDGE_GATEWAY__MAILBOX=65536", "[gateway]\nmailbox = 65536"),
        ("FOOTBRIDGE_GATEWAY__MAILBOX=64 KiB", "[gateway]\nmailbox = 65536"),
        ("FOOTBRIDGE_GATEWAY__NACK_REQUEUE=false", "[gateway]\nnack_requeue = false"),
        ("footbridge_Gateway__Nack_Requeue=false", "[gateway]\nnack_requeue = false"),
        ("FOOTBRIDGE_LOG__LEVEL=3", "[log]\nlevel = '3'"),
        ("FOOTBRIDGE_GATEWAY__PATH=/a=b", "[gateway]\npath = '/a=b'"),
        (
            "FOOTBRIDGE_GATEWAY__ORIGINS=[\"https://a.example\"]",
            "[gateway]\norigins = ['https://a.example']",
        ),
        (
            "FOOTBRIDGE_GATEWAY__ORIGINS=https://a.example, https://b.example",
            "[gateway]\norigins = ['https://a.example', 'https://b.example']",
        ),
        (
            "FOOTBRIDGE_RABBITMQ__URIS=amqp://a:b@c/%2f,amqp://a:b@d/%2f",
            "[rabbitmq]\nuris = ['amqp://a:b@c/%2f', 'amqp://a:b@d/%2f']",
        ),
        ("FOOTBRIDGE_ACCESS__RULES=open", "[access]\nrules = 'open'"),
        ("FOOTBRIDGE_GATEWAY__ORIGINS=", "[gateway]\norigins = []"),
        (
            "FOOTBRIDGE_DESTINATIONS__PREFIXES={ \"/Events\" = \"topic\" }",
            "[destinations.prefixes]\n\"/Events\" = \"topic\"",
        ),
        (
            "FOOTBRIDGE_DESTINATIONS__PREFIXES__/Events=topic",
            "[destinations.prefixes]\n\"/Events\" = \"topic\"",
        ),
    ] {
        assert_eq!(loaded("", variable), loaded(line, ""), "{variable}");
    }
}

#[test]
fn a_table_is_laid_over_entry_by_entry() {
    let file = "[destinations.prefixes]\n\"/a\" = 'topic'\n\"/b\" = 'topic'";
    let variable = "FOOTBRIDGE_DESTINATIONS__PREFIXES={ \"/b\" = \"queue\", \"/app\" = \"off\" }";
    let kinds = loaded(file, variable).destinations.prefixes;
    let of = |prefix: &str| toml::Value::try_from(kinds[prefix]).unwrap().to_string();
    assert_eq!(
        ["/a", "/b", "/app", "/user"].map(of),
        ["topic", "queue", "off", "user"].map(|kind| format!("\"{kind}\""))
    );
}

#[test]
fn variables_that_are_none_of_ours_are_let_be() {
    let kubernetes = "FOOTBRIDGE_CONFIG=/etc/footbridge.toml\nFOOTBRIDGE_SERVICE_HOST=10.0.0.1\n\
        FOOTBRIDGE_PORT=tcp://10.0.0.1:8080\nFOOTBRIDGE_PORT_8080_TCP_ADDR=10.0.0.1\n\
        FOOTBRIDGE_GATEWAY_SERVICE_PORT=8080\nGATEWAY__LISTEN=x\nPATH=/bin\nÄÖÜßÄÖÜ=1";
    assert_eq!(loaded("", kubernetes), Config::default());
}
