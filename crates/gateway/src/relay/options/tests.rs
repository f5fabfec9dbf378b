//! What headers say, and what they must look like.

use super::*;

fn headers(text: &str) -> Headers {
    text.lines().filter_map(|line| line.trim().split_once(':')).map(owned_pair).collect()
}

fn owned_pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn asked(text: &str) -> Asked {
    Asked::of(&headers(text)).unwrap()
}

/// The text of the ERROR.
fn mistake(text: &str) -> String {
    let refused = Asked::of(&headers(text)).unwrap_err();
    assert_eq!(refused.reason, CloseReason::Protocol);
    refused.message
}

#[test]
fn flags_are_read_as_the_plugin_spells_them() {
    let of = |text| {
        let queue = asked(text).queue;
        (queue.durable, queue.auto_delete, queue.exclusive)
    };
    assert_eq!(of("id:1"), (None, None, None));
    assert_eq!(of("id:1\ndurable:true"), (Some(true), None, None));
    assert_eq!(of("id:1\npersistent:True"), (Some(true), None, None));
    assert_eq!(of("id:1\ndurable:false\npersistent:true"), (Some(true), None, None));
    assert_eq!(of("persistent:false"), (Some(false), None, None));
    assert_eq!(of("auto-delete:False\nexclusive:true"), (None, Some(false), Some(true)));
    for name in ["durable", "persistent", "auto-delete", "exclusive"] {
        for value in ["TRUE", "1", "", "yes"] {
            assert_eq!(
                mistake(&format!("{name}:{value}")),
                format!("SUBSCRIBE has {name}:{value}, which should be true or false")
            );
        }
    }
}

#[test]
fn durable_needs_an_id() {
    for text in ["durable:true", "persistent:true", "durable:true\nx-queue-name:q"] {
        assert!(mistake(text).contains("needs the header \"id\""), "{text}");
    }
}

#[test]
fn arguments_have_amqp_types() {
    use Argument::{Flag, Integer, List, Text, Time};
    let cases: &[(&str, Argument)] = &[
        ("x-message-ttl:60000", Integer(60_000)),
        ("x-expires:1", Integer(1)),
        ("x-max-length:0", Integer(0)),
        ("x-max-length-bytes:9223372036854775807", Integer(i64::MAX)),
        ("x-max-priority:10", Integer(10)),
        ("x-overflow:reject-publish", Text("reject-publish".into())),
        ("x-dead-letter-exchange:dlx", Text("dlx".into())),
        ("x-dead-letter-routing-key:a.b", Text("a.b".into())),
        ("x-queue-type:quorum", Text("quorum".into())),
        ("x-max-age:7D", Text("7D".into())),
        ("x-stream-max-segment-size-bytes:1000", Integer(1000)),
        ("x-stream-filter-size-bytes:16", Integer(16)),
        ("x-single-active-consumer:True", Flag(true)),
    ];
    for (line, argument) in cases {
        let (name, _) = line.split_once(':').unwrap();
        let expected = vec![(ByteString::from(name), argument.clone())];
        assert_eq!(asked(line).queue.arguments, expected, "{line}");
        let sent = queue(Command::Send, &headers(line)).unwrap();
        assert_eq!(sent.arguments, expected, "SEND {line}");
    }
    let cases: &[(&str, Argument)] = &[
        ("x-priority:-5", Integer(-5)),
        ("x-stream-offset:first", Text("first".into())),
        ("x-stream-offset:next", Text("next".into())),
        ("x-stream-offset:offset=42", Integer(42)),
        ("x-stream-offset:timestamp=1700000000", Time(1_700_000_000)),
        ("x-stream-filter:a, b,,c", List(vec!["a".into(), "b".into(), "c".into()])),
        ("x-stream-match-unfiltered:false", Flag(false)),
    ];
    for (line, argument) in cases {
        let (name, _) = line.split_once(':').unwrap();
        let expected = vec![(ByteString::from(name), argument.clone())];
        assert_eq!(asked(line).consumer, expected, "{line}");
    }
}

#[test]
fn what_means_nothing_is_an_error_that_says_what_would() {
    for (line, right) in [
        ("x-message-ttl:-1", "a whole number, 0 or more"),
        ("x-message-ttl:+1", "a whole number, 0 or more"),
        ("x-message-ttl:", "a whole number, 0 or more"),
        ("x-max-length:1.5", "a whole number, 0 or more"),
        ("x-expires:9223372036854775808", "a whole number, 0 or more"),
        ("x-priority:high", "a whole number"),
        ("x-priority:--1", "a whole number"),
        ("x-overflow:drop", "drop-head, reject-publish or reject-publish-dlx"),
        ("x-queue-type:lazy", "classic, quorum or stream"),
        ("x-max-age:7", "a whole number and a unit (Y, M, D, h, m or s) such as 7D"),
        ("x-max-age:D", "a whole number and a unit (Y, M, D, h, m or s) such as 7D"),
        ("x-single-active-consumer:1", "true or false"),
        (
            "x-stream-offset:5",
            "first, last, next, offset=<number> or timestamp=<seconds since 1970>",
        ),
        (
            "x-stream-offset:offset=-1",
            "first, last, next, offset=<number> or timestamp=<seconds since 1970>",
        ),
        ("x-stream-filter:, ,", "values separated by commas"),
        ("x-stream-match-unfiltered:no", "true or false"),
        ("x-queue-name:", "a name of 1 to 255 bytes without control characters"),
    ] {
        assert_eq!(mistake(line), format!("SUBSCRIBE has {line}, which should be {right}"));
    }
    let long = mistake(&format!("x-queue-name:{}", "q".repeat(256)));
    assert!(long.ends_with("a name of 1 to 255 bytes without control characters"), "{long}");
    assert!(long.len() < 200, "only the beginning is repeated: {long}");
    assert_eq!(asked(&format!("x-queue-name:{}", "q".repeat(255))).name.unwrap().len(), 255);
}

#[test]
fn what_a_queue_gives_up_is_sent_somewhere() {
    let of = |text: &str| dead_letters(&asked(text).queue).map(|dead| dead.to_string());
    assert_eq!(of("x-max-length:1\nx-dead-letter-routing-key:k"), None);
    assert_eq!(of("x-dead-letter-exchange:x").as_deref(), Some("/exchange/x"));
    let keyed =
        |exchange| of(&format!("x-dead-letter-exchange:{exchange}\nx-dead-letter-routing-key:k"));
    assert_eq!(keyed("x").as_deref(), Some("/exchange/x/k"));
    assert_eq!(keyed("").as_deref(), Some("/queue/k"));
    let long = mistake(&format!("x-dead-letter-exchange:{}", "x".repeat(256)));
    assert!(long.ends_with("a name of at most 255 bytes without control characters"), "{long}");
}

#[test]
fn of_a_header_that_is_repeated_the_first_counts() {
    let queue = asked("x-max-length:1\nx-max-length:2").queue;
    assert_eq!(queue.arguments, [("x-max-length".into(), Argument::Integer(1))]);
}

#[test]
fn what_is_in_no_table_says_nothing() {
    let Asked { queue, consumer, name } =
        asked("x-queue-mode:lazy\nx-mine:1\nack:client\ncontent-type:text/plain");
    assert!(queue.is_empty() && consumer.is_empty() && name.is_none());
}

#[test]
fn of_a_send_persistent_speaks_of_the_message() {
    let of = |text| queue(Command::Send, &headers(text)).unwrap();
    assert!(of("persistent:true").is_empty());
    assert!(of("persistent:maybe").is_empty());
    assert_eq!(of("durable:false").durable, Some(false));
    let refused = queue(Command::Send, &headers("durable:maybe")).unwrap_err();
    assert_eq!(refused.message, "SEND has durable:maybe, which should be true or false");
}

#[test]
fn what_holds_anyway_needs_no_queue() {
    for text in ["", "durable:false", "persistent:false", "auto-delete:true", "exclusive:false"] {
        assert!(!asked(text).needs_a_queue(), "{text}");
    }
    for text in [
        "id:1\ndurable:true",
        "auto-delete:false",
        "exclusive:true",
        "x-max-length:1",
        "x-priority:1",
        "x-queue-name:q",
    ] {
        assert!(asked(text).needs_a_queue(), "{text}");
    }
}
