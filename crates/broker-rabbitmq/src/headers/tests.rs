use broker::Destinations;
use broker::destination::Verb;

use super::*;

const BOOT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn message(headers: &[(&str, &str)]) -> Message {
    let to = Destinations::default().parse("/topic/a.b", Verb::Send).unwrap();
    let mut message = Message::new(to, "body");
    message.headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    message
}

fn written(headers: &[(&str, &str)]) -> Result<BasicProperties, Unfit> {
    write(&message(headers), BOOT, Some("guest"))
}

fn table(properties: &BasicProperties) -> Vec<(String, String)> {
    let table = properties.headers().clone().unwrap_or_default();
    table.inner().iter().map(|(n, v)| (n.to_string(), text(v).unwrap().to_string())).collect()
}

#[test]
fn a_header_with_a_property_goes_there_and_comes_back() {
    let headers = [
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("priority", "5"),
        ("correlation-id", "c"),
        ("reply-to", "/queue/replies"),
        ("expiration", "1000"),
        ("amqp-message-id", "m"),
        ("timestamp", "1700000000"),
        ("type", "t"),
        ("user-id", "guest"),
        ("app-id", "app"),
    ];
    let properties = written(&headers).unwrap();
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
    assert_eq!(*properties.priority(), Some(5));
    assert_eq!(*properties.timestamp(), Some(1_700_000_000));
    assert_eq!(*properties.delivery_mode(), None);
    assert!(table(&properties).iter().all(|(name, _)| name.starts_with(OURS)));
    assert_eq!(read(&properties).unwrap().headers, message(&headers).headers);
}

#[test]
fn every_other_header_goes_to_the_table_the_first_of_a_name() {
    let properties = written(&[("a", "1"), ("Content-Type", "x"), ("a", "2")]).unwrap();
    let table = table(&properties);
    assert!(table.contains(&("a".to_owned(), "1".to_owned())));
    assert!(table.contains(&("Content-Type".to_owned(), "x".to_owned())));
    assert_eq!(*properties.content_type(), None);
}

#[test]
fn the_id_and_the_node_travel_along_and_are_not_shown() {
    let message = message(&[("x-footbridge-id", "forged"), ("a", "1")]);
    let properties = write(&message, BOOT, None).unwrap();
    let received = read(&properties).unwrap();
    assert_eq!(received.id, Some(message.id));
    assert_eq!(received.headers, [("a".into(), "1".into())]);
    assert!(!received.republished);
    assert!(read(&republished(&properties)).unwrap().republished);
    let from = table(&properties).into_iter().find(|(name, _)| name == FROM);
    assert_eq!(from, Some((FROM.to_owned(), BOOT.to_owned())));
}

#[test]
fn a_newer_version_or_an_unknown_kind_is_skipped_if_a_node_of_ours_wrote_it() {
    let from = Ulid::generate().to_string();
    let properties = write(&message(&[]), &from, None).unwrap();
    let with = |name: &'static str, value: AMQPValue| {
        let mut table = properties.headers().clone().unwrap();
        table.insert(name.into(), value);
        read(&properties.clone().with_headers(table))
    };
    let long = |text: &str| AMQPValue::LongString(text.into());
    assert_eq!(with(VERSION, AMQPValue::LongInt(2)), Err(Skip::Version));
    assert_eq!(with(VERSION, AMQPValue::LongLongInt(2)), Err(Skip::Version));
    assert_eq!(with(KIND, long("doorbell")), Err(Skip::Kind));
    assert!(with(KIND, long("message")).unwrap().id.is_some());
    // No node of ours writes any of these.
    for (name, value) in [(VERSION, long("2")), (FROM, long("app")), (ID, long("order-1"))] {
        assert_eq!(with(name, value).unwrap().id, None);
    }
    let mut table = FieldTable::default();
    table.insert(VERSION.into(), AMQPValue::LongInt(2));
    table.insert(REPUBLISHED.into(), long("true"));
    let received = read(&BasicProperties::default().with_headers(table)).unwrap();
    assert_eq!((received.id, received.republished), (None, false));
}

#[test]
fn persistence_is_the_delivery_mode() {
    let mut message = message(&[("persistent", "true")]);
    assert!(!read(&write(&message, BOOT, None).unwrap()).unwrap().persistent);
    message.persistent = true;
    let properties = write(&message, BOOT, None).unwrap();
    assert_eq!(*properties.delivery_mode(), Some(2));
    let received = read(&properties).unwrap();
    assert!(received.persistent && received.headers.is_empty());
}

#[test]
fn what_would_close_the_channel_is_refused() {
    let long = "x".repeat(256);
    let longest = "x".repeat(LIMIT);
    for (name, value) in [
        ("priority", "high"),
        ("priority", "256"),
        ("timestamp", "yesterday"),
        ("expiration", "1s"),
        ("x-delay", "soon"),
        ("x-delay", ""),
        ("user-id", "root"),
        ("reply-to", "amq.rabbitmq.reply-to"),
        ("reply-to", "amq.rabbitmq.reply-to.g1h2AA"),
        ("CC", "a"),
        ("BCC", "a"),
        ("content-type", &long),
        (&long, ""),
        ("a", &longest),
    ] {
        assert!(written(&[(name, value)]).is_err(), "{name}");
    }
    let unknown = write(&message(&[("user-id", "guest")]), BOOT, None).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "header user-id must be the name by which this node is known to RabbitMQ"
    );
}

#[test]
fn text_and_integers_of_another_publishers_table_are_shown() {
    let mut table = FieldTable::default();
    table.insert("text".into(), AMQPValue::LongString("t".into()));
    table.insert("bytes".into(), AMQPValue::LongString(vec![b'a', 0xff].into()));
    table.insert("int".into(), AMQPValue::LongInt(-1));
    table.insert("long".into(), AMQPValue::LongLongInt(1 << 40));
    table.insert("short".into(), AMQPValue::ShortInt(1));
    table.insert("unsigned".into(), AMQPValue::LongUInt(1));
    table.insert("float".into(), AMQPValue::Double(1.0));
    table.insert("nothing".into(), AMQPValue::Void);
    table.insert("bool".into(), AMQPValue::Boolean(true));
    table.insert("nested".into(), AMQPValue::FieldTable(FieldTable::default()));
    // A STOMP 1.0 client would read the last two as the server's.
    for server in ["destination", " message-id", "ack:"] {
        table.insert(server.into(), AMQPValue::LongString("forged".into()));
    }
    table.insert("x-footbridge-id".into(), AMQPValue::LongString("order-1".into()));
    let received = read(&BasicProperties::default().with_headers(table)).unwrap();
    assert_eq!(received.id, None);
    let shown = received.headers.iter().map(|(n, v)| (&**n, &**v));
    assert_eq!(
        Vec::from_iter(shown),
        [("bytes", "a\u{fffd}"), ("int", "-1"), ("long", "1099511627776"), ("text", "t")]
    );
}

#[test]
fn a_reply_to_that_names_a_queue_is_shown_as_a_destination() {
    for (carried, shown) in [
        ("amq.gen-1", "/reply-queue/amq.gen-1"),
        ("/temp", "/reply-queue//temp"),
        ("/queue/q", "/queue/q"),
    ] {
        let properties = BasicProperties::default().with_reply_to(carried.into());
        assert_eq!(read(&properties).unwrap().headers, [("reply-to".into(), shown.into())]);
    }
}

/// What lapin writes, counted.
#[test]
fn the_length_of_a_frame_is_known_before() {
    use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame};

    for headers in [
        &[][..],
        &[("a", "1"), ("b", ""), ("umlaut \u{fc}", "\u{fc}")],
        &[
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("priority", "5"),
            ("correlation-id", "c"),
            ("reply-to", "/queue/replies"),
            ("expiration", "1000"),
            ("amqp-message-id", "m"),
            ("timestamp", "1700000000"),
            ("type", "t"),
            ("user-id", "guest"),
            ("app-id", "app"),
        ],
    ] {
        for persistent in [true, false] {
            let mut message = message(headers);
            message.persistent = persistent;
            let properties = write(&message, BOOT, Some("guest")).unwrap();
            let header = AMQPContentHeader {
                class_id: 60,
                body_size: 4,
                properties: republished(&properties),
            };
            let written = AMQPFrame::Header(1, header);
            let written = gen_frame::<Vec<u8>>(&written)(Vec::new().into()).unwrap();
            assert_eq!(frame(&properties), written.write.len());
        }
    }
}

#[test]
fn many_small_headers_count_as_what_they_take() {
    let headers: Vec<_> = (0..LIMIT / 9).map(|n| (format!("{n}"), "")).collect();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, *value)).collect();
    assert!(matches!(written(&headers), Err(Unfit::TooLong { .. })));
    let fewer = &headers[..LIMIT / 16];
    assert!(frame(&written(fewer).unwrap()) < LIMIT + 1_024);
}
