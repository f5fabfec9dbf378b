//! Mistakes in the environment, and several at once.

use super::*;

#[test]
fn a_variable_is_named_in_its_mistake() {
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__PREFETCH=many",
        expect![[r#"
        FOOTBRIDGE_GATEWAY__PREFETCH: gateway.prefetch: invalid type: string "many", expected a whole number from 0 to 65535
          = right would be FOOTBRIDGE_GATEWAY__PREFETCH=1000"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__PREFETCH=-1",
        expect![[r#"
        FOOTBRIDGE_GATEWAY__PREFETCH: gateway.prefetch: invalid value: integer `-1`, expected a whole number from 0 to 65535
          = right would be FOOTBRIDGE_GATEWAY__PREFETCH=1000"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__LINGER=5",
        expect![[r#"
        FOOTBRIDGE_GATEWAY__LINGER: gateway.linger: invalid type: integer `5`, expected a duration
          = right would be FOOTBRIDGE_GATEWAY__LINGER=10s"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__LISTEN=",
        expect![[r#"
        FOOTBRIDGE_GATEWAY__LISTEN: gateway.listen: invalid socket address syntax
          = right would be FOOTBRIDGE_GATEWAY__LISTEN=0.0.0.0:8080"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__ORIGINS=https://a.example,b",
        expect![[
            r#"FOOTBRIDGE_GATEWAY__ORIGINS: gateway.origins: "b" is not an origin: it has no scheme; write scheme://host or scheme://host:port, as in "https://app.example.com", with * for one label or the port, as in "https://*.example.com" or "http://localhost:*", or "*" alone for any origin"#
        ]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__LISEN=0.0.0.0:80",
        expect![[r#"
            FOOTBRIDGE_GATEWAY__LISEN: there is no key `lisen` in [gateway]
              = did you mean FOOTBRIDGE_GATEWAY__LISTEN?
              = the keys of [gateway] are listen, stomp_listen, path, origins, sockjs, console, console_role, compat, max_sessions, max_user_sessions, attribute_claims, max_handshakes, request_timeout, mailbox, send_timeout, linger, prefetch, max_prefetch, max_own_queues, ack_scope, nack_requeue, ack_timeout, max_unconfirmed, max_unconfirmed_bytes, drain, drain_notice"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATWAY__LISTEN=0.0.0.0:80",
        expect![[r#"
            FOOTBRIDGE_GATWAY__LISTEN: there is no section `gatway`
              = did you mean FOOTBRIDGE_GATEWAY__LISTEN?
              = the sections are gateway, plain, notifier, admin, access, application, stomp, websocket, sockjs, destinations, rabbitmq, embedded, inbox, presence, redis, cluster, log"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__LISTEN__PORT=80",
        expect![[r#"
            FOOTBRIDGE_GATEWAY__LISTEN__PORT: there is no key `listen__PORT` in [gateway]
              = the keys of [gateway] are listen, stomp_listen, path, origins, sockjs, console, console_role, compat, max_sessions, max_user_sessions, attribute_claims, max_handshakes, request_timeout, mailbox, send_timeout, linger, prefetch, max_prefetch, max_own_queues, ack_scope, nack_requeue, ack_timeout, max_unconfirmed, max_unconfirmed_bytes, drain, drain_notice"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__LISTEN=[::]:1\nfootbridge_gateway__listen=[::]:2",
        expect![[r#"
        footbridge_gateway__listen: FOOTBRIDGE_GATEWAY__LISTEN sets the same key
          = unset one of them"#]],
    );
}

#[test]
fn a_name_that_lacks_an_underscore_or_its_section_is_not_let_be() {
    for name in ["FOOTBRIDGE_GATEWAY_MAX_SESSIONS", "FOOTBRIDGE_MAX_SESSIONS"] {
        let error = load("", &format!("{name}=5"), &Config::default()).map(drop).unwrap_err();
        let right = "did you mean FOOTBRIDGE_GATEWAY__MAX_SESSIONS?";
        assert!(error.starts_with(name) && error.ends_with(right), "{error}");
    }
    check_with(
        "",
        "FOOTBRIDGE_LOG=debug",
        expect![[r#"
        FOOTBRIDGE_LOG: a section and a key are joined by two underscores
          = did you mean FOOTBRIDGE_LOG__LEVEL?"#]],
    );
}

#[test]
fn several_mistakes_are_told_at_once() {
    check_with(
        "[gateway]\nprefech = 1\nlinger = 5\npath = 'ws'\n[log]\nlevel = 'inof'\n",
        "FOOTBRIDGE_STOMP__MAX_HEADERS=0",
        expect![[r#"
            4 mistakes in the configuration

            footbridge.toml:2:1: there is no key `prefech` in [gateway]
              |
            2 | prefech = 1
              | ^^^^^^^
              = did you mean `prefetch`?
              = the keys of [gateway] are listen, stomp_listen, path, origins, sockjs, console, console_role, compat, max_sessions, max_user_sessions, attribute_claims, max_handshakes, request_timeout, mailbox, send_timeout, linger, prefetch, max_prefetch, max_own_queues, ack_scope, nack_requeue, ack_timeout, max_unconfirmed, max_unconfirmed_bytes, drain, drain_notice

            footbridge.toml:3:10: gateway.linger: invalid type: integer `5`, expected a duration
              |
            3 | linger = 5
              |          ^
              = right would be linger = "10s"

            FOOTBRIDGE_STOMP__MAX_HEADERS: stomp.max_headers: 0 would refuse everything; use 1 or more

            footbridge.toml:6:1: log.level: "inof" is no level; use off, error, warn, info, debug or trace, and target=level with commas between, as in "info,gateway=debug"
              |
            6 | level = 'inof'
              | ^^^^^"#]],
    );
}
