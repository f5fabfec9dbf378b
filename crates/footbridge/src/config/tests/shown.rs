//! What `check-config` prints.

use bytesize::ByteSize;

use super::*;

#[test]
fn what_is_shown_can_be_saved_and_loaded_and_rounds_nothing() {
    let file = "[stomp]\nmax_body = 60001\n[gateway]\norigins = ['https://a.example']\n\
        [destinations.prefixes]\n\"/Q x\" = 'queue'";
    for base in [Config::default(), Role::Dev.defaults()] {
        let shown = load(file, "FOOTBRIDGE_LOG__LEVEL=warn,gateway=debug", &base).unwrap();
        assert_eq!(shown.config.stomp.max_body, ByteSize(60_001));
        assert_eq!(loaded(&shown.to_string(), ""), shown.config);
    }
}

#[test]
fn what_is_shown_is_no_secret() {
    let file = "[access]\njwt_secret = 'a secret that is long enough: 32 bytes'\n\
        [cluster]\nsecret = 'another that is long enough: 32 bytes'";
    let shown = load(file, "", &Config::default()).unwrap().to_string();
    assert!(!shown.contains("long enough"), "{shown}");
    assert_eq!(shown.matches("secret = \"***\"").count(), 2, "{shown}");
}

#[test]
fn what_is_shown_says_where_it_comes_from() {
    let variables = "FOOTBRIDGE_LOG__FORMAT=json\nFOOTBRIDGE_DESTINATIONS__PREFIXES__/x=topic";
    let shown = load("[log]\nlevel = 'warn'", variables, &Config::default()).unwrap().to_string();
    expect![[r#"
        [destinations]

        [destinations.prefixes]  # FOOTBRIDGE_DESTINATIONS__PREFIXES__/x
        "/amq/queue" = "amq-queue"
        "/app" = "app"
        "/exchange" = "exchange"
        "/group" = "group"
        "/queue" = "queue"
        "/reply-queue" = "reply-queue"
        "/temp-queue" = "temp-queue"
        "/topic" = "topic"
        "/user" = "user"
        "/x" = "topic"

        [rabbitmq]
        uris = ["amqp://guest:guest@127.0.0.1:5672/%2f"]
        ca_file = ""
        namespace = "footbridge"
        topic_exchange = "amq.topic"
        publish_timeout = "1m"
        subscribe_timeout = "1m"
        connect_timeout = "10s"
        reconnect_pause = "5s"
        heart_beat = "5s"
        retained = "64.0 MiB"
        max_message = "16.0 MiB"
        max_outbound_message = "1.0 MiB"
        publish_channels = 4
        topic_prefetch = 1000
        topic_queue_length = 100000
        topic_queue_expiry = "2m"
        subscription_names = "user"

        [embedded]
        max_queues = 1000
        max_queue_length = 100000
        max_queue_bytes = "64.0 MiB"
        max_bytes = "512.0 MiB"
        max_message = "1.0 MiB"

        [inbox]
        store = "auto"
        directory = "footbridge-data"
        durable = []
        ttl = "7days"
        max_messages = 10000
        max_bytes = "16.0 MiB"
        overflow = "refuse"
        ack_wait = "5m"
        max_attempts = 20
        retry = "1s"
        dead_letter = ""
        idempotency = "1day"
        remembered = 1000
        unsafe_durability = false
        wait_replicas = 0

        [presence]
        lease = "15s"
        refresh = "5s"
        reassert = "1m"
        linger = "10s"
        batch = 512
        max_waiting = 100000

        [redis]
        urls = ["redis://127.0.0.1:6379/"]
        cluster = false
        ca_file = ""
        namespace = "footbridge"
        command_timeout = "2s"
        connect_timeout = "5s"
        reconnect_pause = "2s"

        [cluster]
        listen = ""
        advertise = ""
        secret = ""

        [log]
        level = "warn"  # footbridge.toml:2:1
        format = "json"  # FOOTBRIDGE_LOG__FORMAT
    "#]]
    .assert_eq(&shown[shown.find("[destinations]").unwrap()..]);
}

/// Whoever adds an optional key must see to it that it is known although its default shows nothing.
#[test]
fn every_key_shows_in_the_defaults() {
    let values = toml::Table::try_from(Config::default()).unwrap();
    let sections: Vec<_> = std::iter::once(("", &values))
        .chain(values.iter().map(|(name, keys)| (&**name, keys.as_table().unwrap())))
        .collect();
    for (section, keys) in sections {
        let file =
            if section.is_empty() { "zz = 1".into() } else { format!("[{section}]\nzz = 1") };
        let error = toml::from_str::<Config>(&file).unwrap_err().to_string();
        let (_, said) = error.split_once(", expected ").unwrap();
        let said: Vec<_> = said.split('`').skip(1).step_by(2).collect();
        assert_eq!(keys.keys().collect::<Vec<_>>(), said, "[{section}]");
    }
}
