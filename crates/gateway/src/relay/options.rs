//! Headers of SUBSCRIBE and SEND that speak of the queue and the consumer behind a destination, as
//! RabbitMQ's STOMP plugin knows them.
//!
//! Invariants
//! - What is read here is well-formed; whether a broker has it is the broker's to say.
//! - A header that is not in the tables says nothing. (`x-queue-mode` is not: RabbitMQ has had one mode
//!   since 3.12, and takes no such argument from 4.3 on.)
//!
//! `x-overflow` and `x-single-active-consumer` are here although the plugin takes no notice of them.

use broker::{Argument, Arguments, Destination, QueueOptions};
use bytestring::ByteString;
use stomp::{Command, Fault, Headers, Title};

use super::Refused;
use crate::close::CloseReason;

/// Names the queue of a subscription to a topic or an exchange.
const QUEUE_NAME: &str = "x-queue-name";

/// Where a queue sends what it gives up, and by which routing key if not the message's own.
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";

/// The longest name in bytes: AMQP's short string.
const NAME_LIMIT: usize = 255;

/// The headers that become arguments of the queue.
const OF_QUEUE: [(&str, Form); 13] = [
    ("x-message-ttl", Form::Count),
    ("x-expires", Form::Count),
    ("x-max-length", Form::Count),
    ("x-max-length-bytes", Form::Count),
    ("x-max-priority", Form::Count),
    ("x-overflow", Form::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"], OVERFLOW)),
    (DEAD_LETTER_EXCHANGE, Form::Name),
    (DEAD_LETTER_KEY, Form::Name),
    ("x-queue-type", Form::OneOf(&["classic", "quorum", "stream"], TYPE)),
    ("x-max-age", Form::Age),
    ("x-stream-max-segment-size-bytes", Form::Count),
    ("x-stream-filter-size-bytes", Form::Count),
    ("x-single-active-consumer", Form::Flag),
];

/// The headers that become arguments of the consumer.
const OF_CONSUMER: [(&str, Form); 4] = [
    ("x-priority", Form::Integer),
    ("x-stream-offset", Form::Offset),
    ("x-stream-filter", Form::List),
    ("x-stream-match-unfiltered", Form::Flag),
];

const OVERFLOW: &str = "drop-head, reject-publish or reject-publish-dlx";
const TYPE: &str = "classic, quorum or stream";
const FLAG: &str = "true or false";

/// What a value looks like.
#[derive(Clone, Copy)]
enum Form {
    Count,
    Integer,
    Flag,
    /// What AMQP can carry as a name; may be empty.
    Name,
    /// One of these, and how to say so.
    OneOf(&'static [&'static str], &'static str),
    /// A number and a unit of time.
    Age,
    /// Where in a stream to begin.
    Offset,
    List,
}

/// All that a SUBSCRIBE says of its queue and consumer.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) queue: QueueOptions,
    pub(super) consumer: Arguments,
    /// What the queue of a topic or an exchange is to be called.
    pub(super) name: Option<ByteString>,
}

impl Asked {
    /// What the headers of a SUBSCRIBE ask for.
    pub(super) fn of(headers: &Headers) -> Result<Self, Refused> {
        let asked = Self {
            queue: queue(Command::Subscribe, headers)?,
            consumer: arguments(Command::Subscribe, headers, &OF_CONSUMER)?,
            name: headers.get(QUEUE_NAME).map(queue_name).transpose()?,
        };
        let durable = asked.queue.durable == Some(true);
        if durable && headers.get(stomp::header::ID).is_none() {
            return Err(Refused::titled(
                Title::MissingId,
                CloseReason::Protocol,
                "a durable subscription needs the header \"id\", by which it is found again",
            ));
        }
        Ok(asked)
    }

    /// Whether a topic or an exchange needs a queue for it. `durable:false`, `auto-delete:true` and
    /// `exclusive:false` say what holds without one.
    pub(super) fn needs_a_queue(&self) -> bool {
        self.name.is_some()
            || !self.consumer.is_empty()
            || !self.queue.arguments.is_empty()
            || self.queue.durable == Some(true)
            || self.queue.auto_delete == Some(false)
            || self.queue.exclusive == Some(true)
    }
}

/// What a frame says of its queue. Of a SEND `persistent` speaks of the message; the plugin has it
/// declare a transient queue of the same name by `persistent:false`, which helps nobody.
pub(super) fn queue(command: Command, headers: &Headers) -> Result<QueueOptions, Refused> {
    let flag = |name| flag(command, headers, name);
    let durable = match (flag("durable")?, command) {
        (said, Command::Send) => said,
        // The plugin takes either, and `true` from any.
        (said, _) => match (said, flag("persistent")?) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (said, alias) => said.or(alias),
        },
    };
    Ok(QueueOptions {
        durable,
        auto_delete: flag("auto-delete")?,
        exclusive: flag("exclusive")?,
        arguments: arguments(command, headers, &OF_QUEUE)?,
    })
}

/// Where a queue of these options sends what it gives up: whoever declares it sends there.
pub(super) fn dead_letters(queue: &QueueOptions) -> Option<Destination> {
    let text = |wanted: &str| {
        queue.arguments.iter().find_map(|(name, value)| match value {
            Argument::Text(text) if **name == *wanted => Some(text.clone()),
            _ => None,
        })
    };
    let (exchange, key) = (text(DEAD_LETTER_EXCHANGE)?, text(DEAD_LETTER_KEY));
    Some(match key {
        // The exchange without a name is that of all queues.
        Some(queue) if exchange.is_empty() => Destination::Queue(queue),
        key => Destination::Exchange { exchange, key },
    })
}

/// A header that is true or false, as the plugin spells them.
pub(super) fn flag(
    command: Command,
    headers: &Headers,
    name: &'static str,
) -> Result<Option<bool>, Refused> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match truth(value) {
        Some(truth) => Ok(Some(truth)),
        None => Err(bad(command, name, value, FLAG)),
    }
}

fn arguments(
    command: Command,
    headers: &Headers,
    table: &[(&'static str, Form)],
) -> Result<Arguments, Refused> {
    let mut arguments = Arguments::new();
    if !headers.iter().any(|(name, _)| name.starts_with("x-")) {
        return Ok(arguments);
    }
    // The table is walked, not the frame: a header that is repeated counts once.
    for &(name, form) in table {
        let Some(value) = headers.get(name) else { continue };
        let argument = form.read(value).map_err(|right| bad(command, name, value, right))?;
        arguments.push((ByteString::from_static(name), argument));
    }
    Ok(arguments)
}

fn queue_name(name: &ByteString) -> Result<ByteString, Refused> {
    if name.is_empty() || !is_name(name) {
        let right = "a name of 1 to 255 bytes without control characters";
        return Err(bad(Command::Subscribe, QUEUE_NAME, name, right));
    }
    Ok(owned(name))
}

/// ERROR for a header whose value means nothing. (The plugin has no words of its own for it.)
pub(super) fn bad(
    command: Command,
    header: &'static str,
    value: &str,
    expected: &'static str,
) -> Refused {
    let value = value.chars().take(100).collect();
    let fault = Fault::BadHeader { command, header, value, expected };
    Refused { title: Title::ProcessingError, ..fault.into() }
}

impl Form {
    /// The argument that `value` is, or what would be right.
    fn read(self, value: &ByteString) -> Result<Argument, &'static str> {
        match self {
            Self::Count => count(value).map(Argument::Integer).ok_or("a whole number, 0 or more"),
            Self::Integer => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                let number = count(digits).and_then(|_| value.parse().ok());
                number.map(Argument::Integer).ok_or("a whole number")
            }
            Self::Flag => truth(value).map(Argument::Flag).ok_or(FLAG),
            Self::Name => {
                let name = is_name(value).then(|| Argument::Text(owned(value)));
                name.ok_or("a name of at most 255 bytes without control characters")
            }
            Self::OneOf(all, right) => {
                let known = all.contains(&&**value);
                known.then(|| Argument::Text(owned(value))).ok_or(right)
            }
            Self::Age => {
                let number = value.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).and_then(count);
                let age = number.map(|_| Argument::Text(owned(value)));
                age.ok_or("a whole number and a unit (Y, M, D, h, m or s) such as 7D")
            }
            Self::Offset => offset(value)
                .ok_or("first, last, next, offset=<number> or timestamp=<seconds since 1970>"),
            Self::List => {
                let values = value.split(',').map(str::trim).filter(|value| !value.is_empty());
                let values: Vec<_> =
                    values.map(|value| ByteString::from(value.to_owned())).collect();
                if values.is_empty() {
                    return Err("values separated by commas");
                }
                Ok(Argument::List(values))
            }
        }
    }
}

fn is_name(value: &str) -> bool {
    value.len() <= NAME_LIMIT && !value.contains(char::is_control)
}

fn truth(value: &str) -> Option<bool> {
    match value {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

/// Decimal digits and nothing else.
fn count(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn offset(value: &ByteString) -> Option<Argument> {
    match value.split_once('=') {
        None if matches!(&**value, "first" | "last" | "next") => Some(Argument::Text(owned(value))),
        Some(("offset", number)) => count(number).map(Argument::Integer),
        Some(("timestamp", seconds)) => {
            count(seconds).map(|seconds| Argument::Time(seconds.unsigned_abs()))
        }
        _ => None,
    }
}

/// A copy: the header's own bytes are a piece of what was received, which may be much longer.
fn owned(text: &str) -> ByteString {
    ByteString::from(text.to_owned())
}

#[cfg(test)]
mod tests;
