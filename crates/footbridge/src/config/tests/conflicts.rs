//! Values that cannot work.

use super::*;

#[test]
fn a_value_that_cannot_work_is_shown_where_it_was_given() {
    check(
        "[gateway]\npath = 'ws'",
        expect![[r#"
            footbridge.toml:2:1: gateway.path: use a path such as "/ws", without a slash at its end
              |
            2 | path = 'ws'
              | ^^^^"#]],
    );
    check(
        "[log]\nlevel = 'inof'",
        expect![[r#"
            footbridge.toml:2:1: log.level: "inof" is no level; use off, error, warn, info, debug or trace, and target=level with commas between, as in "info,gateway=debug"
              |
            2 | level = 'inof'
              | ^^^^^"#]],
    );
    check(
        "[embedded]\nmax_queues = 0",
        expect![[r#"
        footbridge.toml:2:1: embedded.max_queues: must be at least 1
          |
        2 | max_queues = 0
          | ^^^^^^^^^^"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_GATEWAY__PREFETCH=0",
        expect![
            "FOOTBRIDGE_GATEWAY__PREFETCH: gateway.prefetch: 0 would refuse everything; use 1 or more"
        ],
    );
}

#[test]
fn values_that_cannot_work_together_show_both_places() {
    check(
        "[stomp]\nmax_frame = '2 KiB'\nmax_header = '1 KiB'",
        expect![[r#"
        footbridge.toml:2:1: stomp.max_body: 64.0 KiB is above max_frame, 2.0 KiB
          |
        2 | max_frame = '2 KiB'
          | ^^^^^^^^^
          = stomp.max_body has its default"#]],
    );
    check(
        "[stomp]\nmax_frame = '2 KiB'\nmax_body = '3 KiB'\nmax_header = '1 KiB'",
        expect![[r#"
        footbridge.toml:3:1: stomp.max_body: 3.0 KiB is above max_frame, 2.0 KiB
          |
        3 | max_body = '3 KiB'
          | ^^^^^^^^
          = stomp.max_frame is set by footbridge.toml:2:1"#]],
    );
    check(
        "[rabbitmq]\nmax_outbound_message = '512 KiB'",
        expect![[r#"
        footbridge.toml:2:1: rabbitmq.max_outbound_message: 512.0 KiB is below notifier.max_message, 1.0 MiB: such a message could be sent and would reach no client
          |
        2 | max_outbound_message = '512 KiB'
          | ^^^^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        "[gateway]\nlisten = '0.0.0.0:8081'",
        expect![[r#"
        footbridge.toml:2:1: admin.listen: 127.0.0.1:8081 is taken by gateway.listen, 0.0.0.0:8081; use another port
          |
        2 | listen = '0.0.0.0:8081'
          | ^^^^^^
          = admin.listen has its default"#]],
    );
    check(
        "[gateway]\nstomp_listen = '127.0.0.1:8080'",
        expect![[r#"
        footbridge.toml:2:1: gateway.stomp_listen: 127.0.0.1:8080 is taken by gateway.listen, 0.0.0.0:8080; use another port
          |
        2 | stomp_listen = '127.0.0.1:8080'
          | ^^^^^^^^^^^^"#]],
    );
    check_with(
        "[stomp]\nmax_frame = '1 MiB'",
        "FOOTBRIDGE_WEBSOCKET__MAX_MESSAGE=512 KiB",
        expect![[r#"
            FOOTBRIDGE_WEBSOCKET__MAX_MESSAGE: websocket.max_message: 512.0 KiB is below stomp.max_frame, 1.0 MiB: such a frame could not arrive in one message
              = stomp.max_frame is set by footbridge.toml:2:1"#]],
    );
}

#[test]
fn a_uri_that_cannot_work_is_shown_without_its_password() {
    check(
        "[rabbitmq]\nuris = ['amqp://ok', 'amqp://ann:secret']",
        expect![[r#"
        footbridge.toml:2:1: rabbitmq.uris: "***" is no AMQP URI (invalid port number); write amqp://user:password@host:5672/vhost, with %2f for the vhost /
          |
        2 | uris = ...
          | ^^^^"#]],
    );
    check(
        "[rabbitmq]\nuris = 'amqp://ann:secret@rabbit'",
        expect![[r#"
        footbridge.toml:2:1: rabbitmq.uris: expected a list of texts
          |
        2 | uris = ...
          | ^^^^
          = right would be uris = ["amqp://guest:guest@127.0.0.1:5672/%2f"]"#]],
    );
    check_with(
        "",
        "FOOTBRIDGE_RABBITMQ__URIS=http://ann:secret@rabbit",
        expect![[
            r#"FOOTBRIDGE_RABBITMQ__URIS: rabbitmq.uris: "***@rabbit" is no AMQP URI (it begins with neither amqp:// nor amqps://); write amqp://user:password@host:5672/vhost, with %2f for the vhost /"#
        ]],
    );
}

#[test]
fn a_port_for_other_gateways_needs_a_secret_and_an_address() {
    let secret = "FOOTBRIDGE_CLUSTER__SECRET=a secret that is long enough: 32 bytes";
    check(
        "[cluster]\nlisten = '10.0.0.1:8083'",
        expect![[r#"
        cluster.secret: is needed where listen is set: whoever knows none could be anybody; give all gateways the same, 32 bytes or more
          = cluster.secret has its default"#]],
    );
    check_with(
        "[cluster]\nlisten = '0.0.0.0:8083'",
        secret,
        expect![[r#"
        cluster.advertise: is needed where listen is every interface: name host and port at which the others reach this node
          = cluster.advertise has its default"#]],
    );
    check_with(
        "[cluster]\nadvertise = 'gateway-1:8083'",
        secret,
        expect![[r#"
        footbridge.toml:2:1: cluster.advertise: leads nowhere while listen is ""
          |
        2 | advertise = 'gateway-1:8083'
          | ^^^^^^^^^"#]],
    );
    let short = "FOOTBRIDGE_CLUSTER__SECRET=open sesame";
    check_with(
        "[cluster]\nlisten = '10.0.0.1:8083'",
        short,
        expect![
            "FOOTBRIDGE_CLUSTER__SECRET: cluster.secret: has 11 bytes, and fewer than 32 could be guessed"
        ],
    );
    check_with(
        "[cluster]\nlisten = '127.0.0.1:8081'",
        secret,
        expect![[r#"
        footbridge.toml:2:1: cluster.listen: 127.0.0.1:8081 is taken by admin.listen, 127.0.0.1:8081; use another port
          |
        2 | listen = '127.0.0.1:8081'
          | ^^^^^^"#]],
    );
    // Only a gateway opens it.
    let config = "[cluster]\nlisten = '127.0.0.1:8081'";
    for role in [Role::Dev, Role::Notifier] {
        load_as(role, config, secret, &role.defaults()).unwrap();
    }
}

#[test]
fn each_process_minds_its_own_ports() {
    let file = "[gateway]\nlisten = '127.0.0.1:9'\n[notifier]\nlisten = '0.0.0.0:9'\n\
        [admin]\nlisten = '127.0.0.1:9'";
    // The notifier minds no port of the gateway's.
    let stomp = "[gateway]\nstomp_listen = '127.0.0.1:8082'\nlisten = '127.0.0.1:8082'";
    load_as(Role::Notifier, stomp, "", &Config::default()).unwrap();
    for role in [Role::Gateway, Role::Notifier, Role::Dev] {
        let error = load_as(role, file, "", &Config::default()).unwrap_err();
        assert_eq!(error.matches("is taken by").count(), if role == Role::Dev { 2 } else { 1 });
        assert_eq!(
            error.contains("admin.listen: 127.0.0.1:9 is taken by notifier.listen"),
            role == Role::Notifier
        );
    }
}

#[test]
fn two_listeners_may_share_a_port_only_at_different_addresses() {
    for (gateway, admin, fit) in [
        ("0.0.0.0:8080", "127.0.0.1:8080", false),
        ("127.0.0.1:8080", "127.0.0.1:8080", false),
        ("127.0.0.1:8080", "127.0.0.2:8080", true),
        ("127.0.0.1:8080", "127.0.0.1:8081", true),
        ("127.0.0.1:0", "127.0.0.1:0", true),
    ] {
        let file = format!("[gateway]\nlisten = '{gateway}'\n[admin]\nlisten = '{admin}'");
        assert_eq!(load(&file, "", &Config::default()).is_ok(), fit, "{gateway} {admin}");
    }
}

#[test]
fn a_default_that_cannot_work_is_called_a_default() {
    let mut base = Config::default();
    base.gateway.prefetch = 0;
    let error = load("", "", &base).unwrap_err();
    expect![[r#"
        gateway.prefetch: 0 would refuse everything; use 1 or more
          = gateway.prefetch has its default"#]]
    .assert_eq(&error);
}

#[test]
fn a_console_outside_dev_needs_a_role_unless_everything_is_open() {
    check(
        "[gateway]\nconsole = true",
        expect![[r#"
        gateway.console_role: is needed with console = true, for the console shows who is connected and what waits for users; name a role of those who may see it, such as "operator"
          = gateway.console_role has its default"#]],
    );
    loaded("[gateway]\nconsole = true\nconsole_role = 'operator'", "");
    loaded("[gateway]\nconsole = true\n[access]\nrules = 'open'", "");
    let dev = "[access]\nrules = 'default'";
    assert!(load_as(Role::Dev, dev, "", &Role::Dev.defaults()).is_ok());
}

#[test]
fn nothing_else_is_where_the_console_is() {
    let open = "[access]\nrules = 'open'\n[gateway]\nconsole = true";
    check(
        &format!("{open}\npath = '/console/ws'"),
        expect![[r#"
        footbridge.toml:5:1: gateway.path: is below /console/, where the console is; use another
          |
        5 | path = '/console/ws'
          | ^^^^"#]],
    );
    check(
        &format!("{open}\n[plain]\npath = '/console/plain'"),
        expect![[r#"
        footbridge.toml:6:1: plain.path: is below /console/, where the console is; use another
          |
        6 | path = '/console/plain'
          | ^^^^"#]],
    );
    loaded("[gateway]\npath = '/console/ws'", "");
}
