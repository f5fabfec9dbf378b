//! Arguments of queues and consumers: whether RabbitMQ takes them, and as AMQP writes them.
//!
//! Invariants
//! - RabbitMQ closes the channel of a consumer over an argument of the wrong type, and whole connections
//!   over a table that does not fit a frame. What is written here was checked for both.
//! - What a queue may be given is known to RabbitMQ alone, by its version and plugins: an argument that
//!   is not known here goes there as it is, on a channel apart.

use broker::{Argument, Arguments, SubscribeError};
use bytestring::ByteString;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};

/// What all arguments of one queue or consumer may take, in bytes: they travel in one AMQP frame with
/// the names, and the shortest that RabbitMQ can be told to use is 4,096 bytes.
const LIMIT: usize = 3 * 1024;

/// The longest name of an argument, in bytes.
const NAME: usize = 255;

/// What tells a queue's type.
pub(crate) const QUEUE_TYPE: &str = "x-queue-type";

/// Where a consumer begins in a stream, and where in it a delivery stood.
pub(crate) const STREAM_OFFSET: &str = "x-stream-offset";

/// What an argument must be.
#[derive(Debug, Clone, Copy)]
enum Must {
    /// A whole number within these bounds.
    Number(i64, i64),
    /// Text, any.
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A number and a unit, such as `7D`.
    Age,
    /// true or false.
    Flag,
    /// `first`, `last`, `next`, an offset, a time, or an age.
    Offset,
    /// Text, or a list of texts.
    Texts,
}

/// The arguments of queues whose type is the same in all versions.
fn of_queue(name: &str) -> Option<Must> {
    Some(match name {
        "x-message-ttl" | "x-max-length" | "x-max-length-bytes" | "x-delivery-limit" => {
            Must::Number(0, i64::MAX)
        }
        "x-expires" | "x-stream-max-segment-size-bytes" => Must::Number(1, i64::MAX),
        "x-stream-filter-size-bytes" => Must::Number(16, 255),
        "x-max-priority" => Must::Number(0, 255),
        "x-dead-letter-exchange" | "x-dead-letter-routing-key" => Must::Text,
        "x-overflow" => Must::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
        QUEUE_TYPE => Must::OneOf(&["classic", "quorum", "stream"]),
        "x-max-age" => Must::Age,
        "x-single-active-consumer" => Must::Flag,
        _ => return None,
    })
}

/// The arguments of consumers; RabbitMQ knows no others.
fn of_consumer(name: &str) -> Option<Must> {
    Some(match name {
        "x-priority" => Must::Number(i32::MIN.into(), i32::MAX.into()),
        "x-cancel-on-ha-failover" | "x-stream-match-unfiltered" => Must::Flag,
        STREAM_OFFSET => Must::Offset,
        "x-stream-filter" => Must::Texts,
        _ => return None,
    })
}

/// Whether a queue can be given these.
pub(crate) fn check_queue(arguments: &Arguments) -> Result<(), SubscribeError> {
    for (name, value) in arguments {
        // RabbitMQ 4.3 refuses them on every queue.
        if matches!(&**name, "x-queue-mode" | "x-queue-version" | "x-ha-policy") {
            return Err(unsupported(name, "leave it out; RabbitMQ has given it up"));
        }
        if let Some(must) = of_queue(name) {
            must.check(name, value)?;
        }
    }
    check_size(arguments)
}

/// Whether a consumer can be given these.
pub(crate) fn check_consumer(arguments: &Arguments) -> Result<(), SubscribeError> {
    for (name, value) in arguments {
        let Some(must) = of_consumer(name) else {
            return Err(unsupported(
                name,
                "leave it out; RabbitMQ's consumers have no such argument",
            ));
        };
        must.check(name, value)?;
    }
    check_size(arguments)
}

fn unsupported(name: &str, instead: &'static str) -> SubscribeError {
    let shown: String = name.chars().take(100).collect();
    SubscribeError::UnsupportedOption { what: format!("the argument {shown}"), instead }
}

fn check_size(arguments: &Arguments) -> Result<(), SubscribeError> {
    if let Some((name, _)) = arguments.iter().find(|(name, _)| name.len() > NAME) {
        let size = name.len();
        return Err(SubscribeError::Refused(format!(
            "PRECONDITION_FAILED - an argument's name of {size} bytes is longer than {NAME}"
        )));
    }
    let size: usize = arguments.iter().map(|(name, value)| name.len() + self::size(value)).sum();
    if size > LIMIT {
        return Err(SubscribeError::Refused(format!(
            "PRECONDITION_FAILED - arguments of {size} bytes are longer than {LIMIT}"
        )));
    }
    Ok(())
}

/// What `value` takes in AMQP, at most.
fn size(value: &Argument) -> usize {
    match value {
        Argument::Integer(_) | Argument::Flag(_) | Argument::Time(_) => 10,
        Argument::Text(text) => 6 + text.len(),
        Argument::List(texts) => 6 + texts.iter().map(|text| 5 + text.len()).sum::<usize>(),
    }
}

/// The arguments as AMQP writes them. Of two of one name the first counts.
pub(crate) fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments.iter().rev() {
        if let Ok(name) = ShortString::try_new(&**name) {
            table.insert(name, self::value(value));
        }
    }
    table
}

/// One argument's value as AMQP writes it.
pub(crate) fn value(value: &Argument) -> AMQPValue {
    let text = |text: &ByteString| AMQPValue::LongString((**text).into());
    match value {
        Argument::Integer(number) => AMQPValue::LongLongInt(*number),
        Argument::Text(value) => text(value),
        Argument::Flag(flag) => AMQPValue::Boolean(*flag),
        Argument::Time(seconds) => AMQPValue::Timestamp(*seconds),
        Argument::List(texts) => {
            let texts: Vec<_> = texts.iter().map(text).collect();
            AMQPValue::FieldArray(FieldArray::from(texts))
        }
    }
}

impl Must {
    fn check(self, name: &str, value: &Argument) -> Result<(), SubscribeError> {
        if self.allows(value) {
            return Ok(());
        }
        let must = match self {
            Self::Number(least, i64::MAX) => format!("a whole number, at least {least}"),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Text => "text".to_owned(),
            Self::OneOf(words) => words.join(" or "),
            Self::Age => "a number and a unit: Y, M, D, h, m or s".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Offset => "first, last, next, an offset, a time, or an age such as 7D".to_owned(),
            Self::Texts => "text, or a list of texts".to_owned(),
        };
        Err(SubscribeError::Refused(format!(
            "PRECONDITION_FAILED - invalid arg '{name}': it must be {must}"
        )))
    }

    fn allows(self, value: &Argument) -> bool {
        match (self, value) {
            (Self::Number(least, most), Argument::Integer(number)) => {
                (least..=most).contains(number)
            }
            (Self::Text, Argument::Text(_)) => true,
            (Self::OneOf(words), Argument::Text(text)) => words.contains(&&**text),
            (Self::Age, Argument::Text(text)) => is_age(text),
            (Self::Flag, Argument::Flag(_)) => true,
            (Self::Offset, Argument::Text(text)) => {
                matches!(&**text, "first" | "last" | "next") || is_age(text)
            }
            (Self::Offset, Argument::Integer(offset)) => *offset >= 0,
            (Self::Offset, Argument::Time(_)) => true,
            (Self::Texts, Argument::Text(_) | Argument::List(_)) => true,
            _ => false,
        }
    }
}

fn is_age(text: &str) -> bool {
    let Some(number) = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']) else { return false };
    (1..=9).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Argument {
        Argument::Text(text.into())
    }

    fn one(name: &str, value: &Argument) -> Arguments {
        vec![(name.into(), value.clone())]
    }

    #[test]
    fn what_would_close_a_consumers_channel_is_refused() {
        let list = Argument::List(vec!["a".into()]);
        for (name, value) in [
            ("x-priority", Argument::Integer(-5)),
            ("x-stream-offset", text("first")),
            ("x-stream-offset", text("30m")),
            ("x-stream-offset", Argument::Integer(7)),
            ("x-stream-offset", Argument::Time(1_700_000_000)),
            ("x-stream-filter", list.clone()),
            ("x-stream-match-unfiltered", Argument::Flag(true)),
        ] {
            assert_eq!(check_consumer(&one(name, &value)), Ok(()), "{name} {value:?}");
        }
        for (name, value) in [
            ("x-priority", text("5")),
            ("x-priority", Argument::Integer(1 << 40)),
            ("x-stream-offset", text("tomorrow")),
            ("x-stream-offset", text("D")),
            ("x-stream-offset", Argument::Integer(-1)),
            ("x-stream-filter", Argument::Flag(true)),
        ] {
            let refused = check_consumer(&one(name, &value)).unwrap_err();
            let SubscribeError::Refused(why) = refused else { panic!("{refused}") };
            assert!(why.starts_with("PRECONDITION_FAILED - ") && why.contains(name), "{why}");
        }
        let unknown = check_consumer(&one("x-credit", &list));
        assert!(matches!(unknown, Err(SubscribeError::UnsupportedOption { .. })));
    }

    #[test]
    fn what_a_queue_is_given_has_its_type() {
        for (name, value) in [
            ("x-message-ttl", Argument::Integer(0)),
            ("x-max-age", text("7D")),
            ("x-queue-type", text("quorum")),
            ("x-delayed-by-a-plugin", text("whatever")),
        ] {
            assert_eq!(check_queue(&one(name, &value)), Ok(()), "{name} {value:?}");
        }
        for (name, value) in [
            ("x-message-ttl", text("1")),
            ("x-expires", Argument::Integer(0)),
            ("x-max-age", text("7 days")),
            ("x-queue-type", text("fast")),
        ] {
            let refused = check_queue(&one(name, &value)).unwrap_err();
            assert!(matches!(refused, SubscribeError::Refused(_)), "{refused}");
        }
        let given_up = check_queue(&one("x-queue-mode", &text("lazy")));
        assert!(matches!(given_up, Err(SubscribeError::UnsupportedOption { .. })));
    }

    #[test]
    fn what_does_not_fit_a_frame_is_refused_with_the_limit() {
        let long = "x".repeat(256);
        let names = check_queue(&one(&long, &Argument::Flag(true))).unwrap_err().to_string();
        assert!(names.contains("256 bytes is longer than 255"), "{names}");
        let many = Argument::List(vec!["a".repeat(100).into(); 40]);
        let size = check_consumer(&one("x-stream-filter", &many)).unwrap_err().to_string();
        assert!(size.contains("longer than 3072"), "{size}");
    }

    #[test]
    fn each_kind_has_its_type_in_amqp() {
        let list = Argument::List(vec!["a".into(), "b".into()]);
        let arguments = vec![
            ("n".into(), Argument::Integer(1)),
            ("t".into(), text("x")),
            ("f".into(), Argument::Flag(true)),
            ("s".into(), Argument::Time(9)),
            ("l".into(), list),
            ("n".into(), Argument::Integer(2)),
        ];
        let table = table(&arguments);
        let long = |text: &str| AMQPValue::LongString(text.into());
        for (name, value) in [
            ("n", AMQPValue::LongLongInt(1)),
            ("t", long("x")),
            ("f", AMQPValue::Boolean(true)),
            ("s", AMQPValue::Timestamp(9)),
            ("l", AMQPValue::FieldArray(FieldArray::from(vec![long("a"), long("b")]))),
        ] {
            assert_eq!(table.inner().get(name), Some(&value), "{name}");
        }
    }
}
