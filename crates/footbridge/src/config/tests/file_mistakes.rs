//! Mistakes that stand in the file.

use std::fs;

use super::*;

#[test]
fn an_unknown_section_or_key_names_the_right_ones() {
    check(
        "[log]\nformt = 'json'",
        expect![[r#"
        footbridge.toml:2:1: there is no key `formt` in [log]
          |
        2 | formt = 'json'
          | ^^^^^
          = did you mean `format`?
          = the keys of [log] are level, format"#]],
    );
    check(
        "[logs]\nformat = 'json'",
        expect![[r#"
            footbridge.toml:1:2: there is no section `logs`
              |
            1 | [logs]
              |  ^^^^
              = did you mean [log]?
              = the sections are gateway, plain, notifier, admin, access, application, stomp, websocket, sockjs, destinations, rabbitmq, embedded, inbox, presence, redis, cluster, log"#]],
    );
    check(
        "[stomp]\nmax-header = 1\nmaxFrame = 2\nsomething = 3",
        expect![[r#"
            3 mistakes in the configuration

            footbridge.toml:2:1: there is no key `max-header` in [stomp]
              |
            2 | max-header = 1
              | ^^^^^^^^^^
              = did you mean `max_header`?
              = the keys of [stomp] are max_frame, max_body, max_headers, max_header, max_subscriptions, max_transactions, max_transaction_frames, max_transaction_bytes, max_frames_per_second, connect_timeout, frame_timeout, heart_beat_send, heart_beat_receive

            footbridge.toml:3:1: there is no key `maxFrame` in [stomp]
              |
            3 | maxFrame = 2
              | ^^^^^^^^
              = did you mean `max_frame`?
              = the keys of [stomp] are max_frame, max_body, max_headers, max_header, max_subscriptions, max_transactions, max_transaction_frames, max_transaction_bytes, max_frames_per_second, connect_timeout, frame_timeout, heart_beat_send, heart_beat_receive

            footbridge.toml:4:1: there is no key `something` in [stomp]
              |
            4 | something = 3
              | ^^^^^^^^^
              = the keys of [stomp] are max_frame, max_body, max_headers, max_header, max_subscriptions, max_transactions, max_transaction_frames, max_transaction_bytes, max_frames_per_second, connect_timeout, frame_timeout, heart_beat_send, heart_beat_receive"#]],
    );
    check(
        "[admin]\nmax_frame = '1 KiB'",
        expect![[r#"
        footbridge.toml:2:1: there is no key `max_frame` in [admin]
          |
        2 | max_frame = '1 KiB'
          | ^^^^^^^^^
          = `max_frame` is a key of [stomp]
          = the keys of [admin] are listen"#]],
    );
    check(
        "listen = 'localhost'",
        expect![[r#"
            footbridge.toml:1:1: there is no section `listen`
              |
            1 | listen = 'localhost'
              | ^^^^^^
              = `listen` is a key of [gateway] and [notifier] and [admin] and [cluster]
              = the sections are gateway, plain, notifier, admin, access, application, stomp, websocket, sockjs, destinations, rabbitmq, embedded, inbox, presence, redis, cluster, log"#]],
    );
    check(
        "log = 'info'",
        expect![[r#"
        footbridge.toml:1:1: `log` is a section, not a key
          |
        1 | log = 'info'
          | ^^^
          = write [log] alone on a line, its keys below"#]],
    );
    check(
        "[[log]]\nlevel = 'info'",
        expect![[r#"
        footbridge.toml:1:3: `log` is a section, not a key
          |
        1 | [[log]]
          |   ^^^
          = write [log] alone on a line, its keys below"#]],
    );
}

#[test]
fn a_value_of_the_wrong_type_shows_a_right_one() {
    check(
        "[gateway]\nlinger = 5",
        expect![[r#"
        footbridge.toml:2:10: gateway.linger: invalid type: integer `5`, expected a duration
          |
        2 | linger = 5
          |          ^
          = right would be linger = "10s""#]],
    );
    check(
        "\t[gateway]\n\tlinger = '5'\n\tpath = 7",
        expect![[r#"
        2 mistakes in the configuration

        footbridge.toml:2:11: gateway.linger: invalid value: string "5", expected a duration
          |
        2 | 	linger = '5'
          | 	         ^^^
          = right would be linger = "10s"

        footbridge.toml:3:9: gateway.path: invalid type: integer `7`, expected a string
          |
        3 | 	path = 7
          | 	       ^
          = right would be path = "/ws""#]],
    );
    check(
        "[gateway]\nprefetch = 70000",
        expect![[r#"
        footbridge.toml:2:12: gateway.prefetch: invalid value: integer `70000`, expected a whole number from 0 to 65535
          |
        2 | prefetch = 70000
          |            ^^^^^
          = right would be prefetch = 1000"#]],
    );
    check(
        "[gateway]\nmax_sessions = -1\nconsole = 'yes'\nmailbox = 'big'",
        expect![[r#"
        3 mistakes in the configuration

        footbridge.toml:2:16: gateway.max_sessions: invalid value: integer `-1`, expected a whole number
          |
        2 | max_sessions = -1
          |                ^^
          = right would be max_sessions = 10000

        footbridge.toml:3:11: gateway.console: invalid type: string "yes", expected true or false
          |
        3 | console = 'yes'
          |           ^^^^^
          = right would be console = false

        footbridge.toml:4:11: gateway.mailbox: invalid value: string "big", expected a size
          |
        4 | mailbox = 'big'
          |           ^^^^^
          = right would be mailbox = "512.0 KiB""#]],
    );
    check(
        "[gateway]\nlisten = 'localhost:8080'",
        expect![[r#"
        footbridge.toml:2:10: gateway.listen: invalid socket address syntax
          |
        2 | listen = 'localhost:8080'
          |          ^^^^^^^^^^^^^^^^
          = right would be listen = "0.0.0.0:8080""#]],
    );
    check(
        "[gateway]\nstomp_listen = '61613'",
        expect![[r#"
        footbridge.toml:2:16: gateway.stomp_listen: no address and port such as "127.0.0.1:61613"; "" is none
          |
        2 | stomp_listen = '61613'
          |                ^^^^^^^"#]],
    );
    check(
        "[gateway]\norigins = 'https://a.example'",
        expect![[r#"
            footbridge.toml:2:11: gateway.origins: invalid type: string "https://a.example", expected a list
              |
            2 | origins = 'https://a.example'
              |           ^^^^^^^^^^^^^^^^^^^
              = right would be origins = ["...", "..."]"#]],
    );
    check(
        "[gateway]\norigins = ['https://a.example', 'ö']",
        expect![[r#"
        footbridge.toml:2:11: gateway.origins: "ö" is not an origin: it has no scheme; write scheme://host or scheme://host:port, as in "https://app.example.com", with * for one label or the port, as in "https://*.example.com" or "http://localhost:*", or "*" alone for any origin
          |
        2 | origins = ['https://a.example', 'ö']
          |           ^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        "[log]\nformat = 'xml'",
        expect![[r#"
        footbridge.toml:2:10: log.format: unknown variant `xml`, expected `text` or `json`
          |
        2 | format = 'xml'
          |          ^^^^^"#]],
    );
    check(
        "[destinations]\nprefixes = 'topic'",
        expect![[r#"
            footbridge.toml:2:12: destinations.prefixes: invalid type: string "topic", expected a table
              |
            2 | prefixes = 'topic'
              |            ^^^^^^^
              = right would be prefixes = { "/amq/queue" = "amq-queue" }"#]],
    );
    check(
        "[gateway]\ncompat = 'rabbit'\nack_scope = 'connection'\nnack_requeue = 'yes'",
        expect![[r#"
            3 mistakes in the configuration

            footbridge.toml:2:10: gateway.compat: unknown variant `rabbit`, expected `footbridge` or `rabbitmq`
              |
            2 | compat = 'rabbit'
              |          ^^^^^^^^

            footbridge.toml:3:13: gateway.ack_scope: unknown variant `connection`, expected `subscription` or `session`
              |
            3 | ack_scope = 'connection'
              |             ^^^^^^^^^^^^

            footbridge.toml:4:16: gateway.nack_requeue: invalid type: string "yes", expected true or false
              |
            4 | nack_requeue = 'yes'
              |                ^^^^^
              = right would be nack_requeue = true"#]],
    );
    check(
        "[destinations.prefixes]\n'/x' = 'topics'",
        expect![[r#"
        footbridge.toml:2:8: destinations.prefixes: unknown variant `topics`, expected one of `topic`, `queue`, `exchange`, `amq-queue`, `temp-queue`, `reply-queue`, `user`, `group`, `app`, `off`
          |
        2 | '/x' = 'topics'
          |        ^^^^^^^^"#]],
    );
    check(
        "[destinations.prefixes]\n'/x/' = 'topic'",
        expect![[r#"
            footbridge.toml:2:1: destinations.prefixes: prefix "/x/" must not end with a slash
              |
            2 | '/x/' = 'topic'
              | ^^^^^"#]],
    );
}

#[test]
fn broken_toml_shows_the_first_error_of_each_line() {
    check(
        "[gateway]\nlisten = 0.0.0.0:80 # all\npath = /ws\nlinger = 10s\nconsole = on",
        expect![[r#"
            4 mistakes in the configuration

            footbridge.toml:2:13: this is no number, nor true or false
              |
            2 | listen = 0.0.0.0:80 # all
              |             ^^^^^^^
              = text stands in quotes: "0.0.0.0:80"

            footbridge.toml:3:8: this is no number, nor true or false
              |
            3 | path = /ws
              |        ^^^
              = text stands in quotes: "/ws"

            footbridge.toml:4:10: this is no number, nor true or false
              |
            4 | linger = 10s
              |          ^^^
              = text stands in quotes: "10s"

            footbridge.toml:5:11: this is no number, nor true or false
              |
            5 | console = on
              |           ^^
              = text stands in quotes: "on""#]],
    );
    check(
        "[gateway]\nlisten: '0.0.0.0:80'",
        expect![[r#"
        footbridge.toml:2:7: invalid unquoted key, expected letters, numbers, `-`, `_`
          |
        2 | listen: '0.0.0.0:80'
          |       ^"#]],
    );
    check(
        "[gateway\nprefetch = 1",
        expect![[r#"
        footbridge.toml:1:9: unclosed table, expected `]`
          |
        1 | [gateway
          |         ^"#]],
    );
    check(
        "[gateway]\norigins = ['https://a.example'",
        expect![[r#"
        footbridge.toml:2:31: unclosed array, expected `]`
          |
        2 | origins = ['https://a.example'
          |                               ^"#]],
    );
    check(
        "[log]\nlevel = \"info",
        expect![[r#"
        footbridge.toml:2:14: invalid basic string, expected `"`
          |
        2 | level = "info
          |              ^"#]],
    );
    check(
        "[log]\nlevel =",
        expect![[r#"
            footbridge.toml:2:8: the value is missing
              |
            2 | level =
              |        ^"#]],
    );
}

#[test]
fn what_is_given_twice_shows_both_lines() {
    check(
        "[log]\nlevel = 'info'\nformat = 'json'\nlevel = 'warn'",
        expect![[r#"
        footbridge.toml:4:1: duplicate key
          |
        4 | level = 'warn'
          | ^^^^^
          = it is on line 2 already"#]],
    );
    check(
        "[log]\n[admin]\n[log] # again",
        expect![[r#"
        footbridge.toml:3:2: duplicate key
          |
        3 | [log] # again
          |  ^^^
          = it is on line 1 already"#]],
    );
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| {
        let error = Config::load(Some(path), [], Role::Gateway).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        let folder = folder.path().display().to_string();
        format!("{error}{}", source.unwrap_or_default()).replace(&folder, "/etc")
    };
    expect!["cannot read the configuration file /etc: Is a directory (os error 21)"]
        .assert_eq(&load(folder.path()));
    expect![
        "cannot read the configuration file /etc/none.toml: No such file or directory (os error 2)"
    ]
    .assert_eq(&load(&folder.path().join("none.toml")));

    let file = folder.path().join("latin1.toml");
    fs::write(&file, b"# ok\n[log] # f\xfcr\nlevel = 'info'\n").unwrap();
    expect![[r#"
        /etc/latin1.toml:2:10: the file is not UTF-8 from here on
          |
        2 | [log] # f�r
          |          ^
          = save it as UTF-8"#]]
    .assert_eq(&load(&file));
}
