//! STOMP headers as AMQP properties and table, and back, as RabbitMQ's STOMP plugin maps them.
//!
//! A header with a property of its own goes there; every other goes to the table as a long string.
//! Back, long strings and integers of the table become headers, then the properties.
//!
//! Invariants
//! - What is written is within what RabbitMQ takes: nothing a sender puts in a header can close the
//!   AMQP channel that others publish on. What would is [`Unfit`].
//! - Of headers of one name the first counts, as STOMP says.
//! - `x-footbridge-*` in the table is ours: read here and shown to nobody.
//!
//! Differs from the plugin: `delivery_mode` is not a header but [`Message::persistent`], and 1 is
//! nothing, where the plugin shows `persistent:1`; a header that the server sets is never shown from
//! the table; `content-length`, `receipt` and `transaction` of a SEND do not travel.

use std::collections::HashSet;

use broker::{Destination, Message, MessageId, PublishError, header};
use bytes::Bytes;
use bytestring::ByteString;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use ulid::Ulid;

const VERSION: &str = "x-footbridge-v";
const ID: &str = "x-footbridge-id";
const FROM: &str = "x-footbridge-from";
const REPUBLISHED: &str = "x-footbridge-republished";
const REPLY_DESTINATION: &str = "destination";
/// The value of [`REPUBLISHED`].
const MARKED: &str = "true";
const KIND: &str = "x-footbridge-kind";
const OURS: &str = "x-footbridge-";
const SAID_DESTINATION: &str = "destination";

/// The version of the `x-footbridge-*` headers.
const CURRENT: i32 = 1;

/// The longest expiration that RabbitMQ takes, in milliseconds.
const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// What all headers may take together, each with its [`FIELD`]. They travel in one AMQP frame, which is
/// 128 KiB long if nobody has configured it otherwise.
const LIMIT: usize = 64 * 1024;

/// What a header takes in AMQP besides its name and value: their lengths, and the value's type.
const FIELD: usize = 6;

/// Where RabbitMQ takes replies for a channel of its own accord.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

/// The prefixes that a `reply-to` may begin with; another one names a queue.
const PREFIXES: [&str; 6] =
    ["/queue/", "/topic/", "/exchange/", "/amq/queue/", "/temp-queue/", "/reply-queue/"];

/// Why a message cannot be carried by AMQP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("header {name} must be {what}")]
    Value { name: &'static str, what: &'static str },
    #[error("header {name} is longer than {limit} bytes")]
    ValueTooLong { name: String, limit: usize },
    #[error("a header's name is longer than {limit} bytes")]
    NameTooLong { limit: usize },
    #[error("headers of {size} bytes are longer than {limit}")]
    TooLong { size: usize, limit: usize },
    #[error("header {name} is RabbitMQ's own")]
    Reserved { name: String },
    #[error("the destination's prefix is longer than the name of an exchange may be")]
    PrefixTooLong,
    #[error("the name of {what} is longer than {limit} bytes")]
    DestinationTooLong { what: &'static str, limit: usize },
}

impl From<Unfit> for PublishError {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit.to_string())
    }
}

/// Why a message of a node of ours is not delivered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// It speaks another version of our headers.
    Version,
    /// It is no message for clients, but of a kind that this node does not know.
    Kind,
}

impl Skip {
    pub(crate) const ALL: [Self; 2] = [Self::Version, Self::Kind];

    /// As metrics show it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Kind => "kind",
        }
    }
}

/// What came with a delivery, besides where it came from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The id that a node of ours gave it, if one did.
    pub(crate) id: Option<MessageId>,
    /// Whether it was published again because its first publish was not confirmed.
    pub(crate) republished: bool,
    pub(crate) headers: Vec<(ByteString, ByteString)>,
    pub(crate) persistent: bool,
}

/// The properties of `message` as node `from` publishes it to a broker where it is `user`, if that
/// is known.
pub(crate) fn write(
    message: &Message,
    from: &str,
    user: Option<&str>,
) -> Result<BasicProperties, Unfit> {
    let size = message.headers.iter().map(|(name, value)| name.len() + value.len() + FIELD).sum();
    if size > LIMIT {
        return Err(Unfit::TooLong { size, limit: LIMIT });
    }
    let mut properties = BasicProperties::default();
    let mut table = FieldTable::default();
    let mut seen: HashSet<&str> = HashSet::with_capacity(message.headers.len());
    for (name, value) in &message.headers {
        if !seen.insert(name) {
            continue;
        }
        let short = || {
            ShortString::try_new(&**value)
                .map_err(|_| Unfit::ValueTooLong { name: name.to_string(), limit: 255 })
        };
        properties = match &**name {
            "content-type" => properties.with_content_type(short()?),
            "content-encoding" => properties.with_content_encoding(short()?),
            "correlation-id" => properties.with_correlation_id(short()?),
            // RabbitMQ closes the channel unless it consumes from there itself.
            "reply-to" if value.starts_with(DIRECT_REPLY) => {
                return Err(Unfit::Value {
                    name: "reply-to",
                    what: "a queue, and not RabbitMQ's own amq.rabbitmq.reply-to",
                });
            }
            "reply-to" => properties.with_reply_to(short()?),
            "amqp-message-id" => properties.with_message_id(short()?),
            "type" => properties.with_type(short()?),
            "app-id" => properties.with_app_id(short()?),
            "priority" => properties.with_priority(number("priority", "0 to 255", value)?),
            "timestamp" => {
                properties.with_timestamp(number("timestamp", "a whole number of seconds", value)?)
            }
            "expiration" => {
                let what = "a whole number of milliseconds, at most ten years";
                if number::<u64>("expiration", what, value)? > TEN_YEARS {
                    return Err(Unfit::Value { name: "expiration", what });
                }
                properties.with_expiration(short()?)
            }
            // RabbitMQ closes the channel on any other name.
            "user-id" if user != Some(&**value) => {
                return Err(Unfit::Value {
                    name: "user-id",
                    what: "the name by which this node is known to RabbitMQ",
                });
            }
            "user-id" => properties.with_user_id(short()?),
            // An exchange of type x-delayed-message ends the connection at any other text.
            "x-delay" if value.parse::<i64>().is_err() => {
                return Err(Unfit::Value {
                    name: "x-delay",
                    what: "a whole number of milliseconds",
                });
            }
            "persistent" => properties,
            // It takes these as lists only, and closes the channel on a string.
            "CC" | "BCC" => return Err(Unfit::Reserved { name: name.to_string() }),
            own if own.starts_with(OURS) && !header::is_of_a_call(own) => properties,
            other => {
                let name =
                    ShortString::try_new(other).map_err(|_| Unfit::NameTooLong { limit: 255 })?;
                table.insert(name, AMQPValue::LongString((**value).into()));
                properties
            }
        };
    }
    table.insert(VERSION.into(), AMQPValue::LongInt(CURRENT));
    table.insert(ID.into(), AMQPValue::LongString(message.id.to_string().into()));
    table.insert(FROM.into(), AMQPValue::LongString(from.into()));
    if !seen.contains(header::DESTINATION) {
        let destination = message.destination.to_string();
        table.insert(header::DESTINATION.into(), AMQPValue::LongString(destination.into()));
    }
    if message.persistent {
        properties = properties.with_delivery_mode(2);
    }
    Ok(properties.with_headers(table))
}

/// The same properties, for a message that may be there already.
pub(crate) fn republished(properties: &BasicProperties) -> BasicProperties {
    let mut table = properties.headers().clone().unwrap_or_default();
    table.insert(REPUBLISHED.into(), AMQPValue::LongString(MARKED.into()));
    properties.clone().with_headers(table)
}

/// How long the frame is that carries `properties` as they are [written](write) and
/// [marked](republished), in bytes, with its head and end.
pub(crate) fn frame(properties: &BasicProperties) -> usize {
    const HEAD: usize = 7 + 2 + 2 + 8 + 2;
    const END: usize = 1;
    let short = |value: &Option<ShortString>| value.as_ref().map_or(0, |v| 1 + v.as_str().len());
    let shorts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
    ];
    let numbers = usize::from(properties.delivery_mode().is_some())
        + usize::from(properties.priority().is_some())
        + properties.timestamp().map_or(0, |_| 8);
    let field = |name: &ShortString, value: &AMQPValue| match value {
        AMQPValue::LongString(value) => name.as_str().len() + value.as_bytes().len() + FIELD,
        // The only other one is an integer of ours.
        _ => name.as_str().len() + 1 + 1 + 4,
    };
    let table: usize = properties
        .headers()
        .iter()
        .flat_map(FieldTable::inner)
        .map(|(name, value)| field(name, value))
        .sum();
    let mark = REPUBLISHED.len() + MARKED.len() + FIELD;
    HEAD + shorts.into_iter().map(short).sum::<usize>() + numbers + 4 + table + mark + END
}

/// What `properties` say to a subscriber, unless the message is one that this node must skip.
///
/// Our headers count only all together, as a node of ours writes them. Whoever may publish to the
/// exchange can write them as well, and by that skip, or call a repeat, none but its own message.
pub(crate) fn read(properties: &BasicProperties) -> Result<Received, Skip> {
    let ours = properties.headers().as_ref().and_then(Ours::of);
    if let Some(ours) = &ours {
        ours.check()?;
    }
    let mut received = Received {
        id: ours.map(|ours| ours.id),
        republished: false,
        headers: Vec::new(),
        persistent: *properties.delivery_mode() == Some(2),
    };
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        match name.as_str() {
            REPUBLISHED => received.republished = received.id.is_some(),
            name if header::is_reserved(name) => {}
            name => received.headers.extend(text(value).map(|value| (name.into(), value))),
        }
    }
    let mut show = |name: &str, value: Option<ByteString>| {
        if let Some(value) = value
            && !received.headers.iter().any(|(shown, _)| **shown == *name)
        {
            received.headers.push((name.into(), value));
        }
    };
    let short = |value: &Option<ShortString>| value.as_ref().map(|value| value.as_str().into());
    show("content-type", short(properties.content_type()));
    show("content-encoding", short(properties.content_encoding()));
    show("priority", properties.priority().map(|n| n.to_string().into()));
    show("correlation-id", short(properties.correlation_id()));
    show("reply-to", properties.reply_to().as_ref().map(|name| reply_to(name.as_str())));
    show("expiration", short(properties.expiration()));
    show("amqp-message-id", short(properties.message_id()));
    show("timestamp", properties.timestamp().map(|n| n.to_string().into()));
    show("type", short(properties.kind()));
    show("user-id", short(properties.user_id()));
    show("app-id", short(properties.app_id()));
    Ok(received)
}

/// What a node of ours wrote besides the sender's headers.
struct Ours<'a> {
    version: i64,
    id: MessageId,
    kind: Option<&'a str>,
}

impl<'a> Ours<'a> {
    /// None if one of them is missing or no such thing: someone else wrote it.
    fn of(table: &'a FieldTable) -> Option<Self> {
        let version = match table.inner().get(VERSION)? {
            AMQPValue::LongInt(version) => (*version).into(),
            AMQPValue::LongLongInt(version) => *version,
            _ => return None,
        };
        let _: Ulid = long(table, FROM)?.parse().ok()?;
        let id = long(table, ID)?.parse().ok()?;
        Some(Self { version, id, kind: long(table, KIND) })
    }

    fn check(&self) -> Result<(), Skip> {
        if self.version != i64::from(CURRENT) {
            return Err(Skip::Version);
        }
        match self.kind {
            None | Some("message") => Ok(()),
            Some(_) => Err(Skip::Kind),
        }
    }
}

fn long<'a>(table: &'a FieldTable, name: &str) -> Option<&'a str> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        _ => None,
    }
}

/// Where a service says that its message shall go: a header that others' messages do not have, for the
/// server sets it on what clients get.
pub(crate) fn said_destination(properties: &BasicProperties) -> Option<ByteString> {
    long(properties.headers().as_ref()?, SAID_DESTINATION).map(Into::into)
}

/// The id that a node of ours gave the message.
pub(crate) fn id(properties: &BasicProperties) -> Option<MessageId> {
    long(properties.headers().as_ref()?, ID)?.parse().ok()
}

/// The routing keys that an AMQP publisher named besides the first.
pub(crate) fn copies(properties: &BasicProperties) -> impl Iterator<Item = &str> {
    let keys = match properties.headers().as_ref().and_then(|table| table.inner().get("CC")) {
        Some(AMQPValue::FieldArray(keys)) => keys.as_slice(),
        _ => &[],
    };
    keys.iter().filter_map(|key| match key {
        AMQPValue::LongString(key) => std::str::from_utf8(key.as_bytes()).ok(),
        _ => None,
    })
}

/// What a reply says of where it goes, in the table's `destination`: shown of replies alone, for of all other
/// messages the server says where they went.
pub(crate) fn wanted_destination(properties: &BasicProperties) -> Option<(ByteString, ByteString)> {
    let destination = properties.headers().as_ref()?.inner().get(REPLY_DESTINATION)?;
    text(destination).map(|destination| (REPLY_DESTINATION.into(), destination))
}

/// The message of a delivery that came to `destination`.
pub(crate) fn message(
    received: Received,
    destination: Destination,
    delivery: &mut Delivery,
) -> Message {
    Message {
        id: received.id.unwrap_or_else(MessageId::new),
        destination,
        headers: received.headers,
        body: Bytes::from(std::mem::take(&mut delivery.data)),
        persistent: received.persistent,
    }
}

fn number<T: std::str::FromStr>(
    name: &'static str,
    what: &'static str,
    value: &str,
) -> Result<T, Unfit> {
    value.parse().map_err(|_| Unfit::Value { name, what })
}

fn text(value: &AMQPValue) -> Option<ByteString> {
    Some(match value {
        AMQPValue::LongString(value) => String::from_utf8_lossy(value.as_bytes()).as_ref().into(),
        AMQPValue::LongInt(n) => n.to_string().into(),
        AMQPValue::LongLongInt(n) => n.to_string().into(),
        // Booleans, other numbers, times, lists and tables: what the plugin leaves out.
        _ => return None,
    })
}

/// A destination that replies can be sent to.
fn reply_to(name: &str) -> ByteString {
    if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        name.into()
    } else {
        format!("/reply-queue/{name}").into()
    }
}

#[cfg(test)]
mod tests;
