//! Where a message goes, or where a subscription listens: the name, parsed.
//!
//! Invariants
//! - Text becomes a [`Destination`] in one place, [`Destinations::parse`], and is compared only in
//!   that form: two spellings of one topic are equal.
//! - Every name in here is within what AMQP can carry (255 bytes) and free of control characters;
//!   what a broker hands out ([`Topic::exact`]) is taken as it is.
//!
//! Not here: matching keys against patterns ([`crate::topic`]), who may do what.

mod error;
mod parse;
mod prefixes;
mod topic;

use std::fmt;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

pub use error::{DestinationError, Problem};
pub use prefixes::{Config, Destinations};
pub use topic::{Separator, Topic};

/// A destination, without the spelling it was given in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To every subscriber.
    Topic(Topic),
    /// To one of the consumers; the queue comes into being with its first use.
    Queue(ByteString),
    /// An AMQP exchange, by name, with the routing key or binding pattern.
    Exchange {
        /// The exchange's name.
        exchange: ByteString,
        /// The routing key (SEND) or binding key (SUBSCRIBE); none means the empty one.
        key: Option<ByteString>,
    },
    /// A queue that someone else declared, such as an AMQP application.
    AmqQueue(ByteString),
    /// A queue of the session's own; only the `reply-to` header of a SEND can name one.
    TempQueue(ByteString),
    /// Where replies go: the name of a queue as a `reply-to` header of a MESSAGE carried it.
    ReplyQueue(ByteString),
    /// A user's own destination.
    User(UserDestination),
    /// The members of a group.
    Group(ByteString),
    /// The application.
    App(App),
}

/// A destination within a user, or within a session that is named in the user's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserDestination {
    /// The user or session: none (the subscriber itself) for SUBSCRIBE, always some for SEND.
    pub name: Option<ByteString>,
    /// The destination there, with its prefix: `/queue/x`.
    pub path: ByteString,
}

/// A destination that the application handles.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct App {
    /// The configured prefix it was named by; applications may share a gateway by prefix.
    pub prefix: ByteString,
    /// What follows the prefix and its slash, as written: `a/b` of `/app/a/b`.
    pub path: ByteString,
}

/// The kinds of destination, as the table of prefixes names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`Destination::Topic`].
    Topic,
    /// [`Destination::Queue`].
    Queue,
    /// [`Destination::Exchange`].
    Exchange,
    /// [`Destination::AmqQueue`].
    AmqQueue,
    /// [`Destination::TempQueue`].
    TempQueue,
    /// [`Destination::ReplyQueue`].
    ReplyQueue,
    /// [`Destination::User`].
    User,
    /// [`Destination::Group`].
    Group,
    /// [`Destination::App`].
    App,
    /// No destination at all: nothing under this prefix can be named.
    Off,
}

/// What a frame wants of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// The SEND frame.
    Send,
    /// The SUBSCRIBE frame.
    Subscribe,
}

impl Destination {
    /// The kind; never [`Kind::Off`].
    pub fn kind(&self) -> Kind {
        match self {
            Self::Topic(_) => Kind::Topic,
            Self::Queue(_) => Kind::Queue,
            Self::Exchange { .. } => Kind::Exchange,
            Self::AmqQueue(_) => Kind::AmqQueue,
            Self::TempQueue(_) => Kind::TempQueue,
            Self::ReplyQueue(_) => Kind::ReplyQueue,
            Self::User(_) => Kind::User,
            Self::Group(_) => Kind::Group,
            Self::App(_) => Kind::App,
        }
    }
}

/// The canonical spelling: the default prefix of the kind, except where the value holds its own.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => topic.fmt(f),
            Self::Queue(name) => write!(f, "/queue/{}", Escaped(name)),
            Self::Exchange { exchange, key: None } => write!(f, "/exchange/{}", Escaped(exchange)),
            Self::Exchange { exchange, key: Some(key) } => {
                write!(f, "/exchange/{}/{}", Escaped(exchange), Escaped(key))
            }
            Self::AmqQueue(name) => write!(f, "/amq/queue/{}", Escaped(name)),
            Self::TempQueue(name) => write!(f, "/temp-queue/{}", Escaped(name)),
            Self::ReplyQueue(name) => write!(f, "/reply-queue/{name}"),
            Self::User(UserDestination { name: None, path }) => write!(f, "/user{path}"),
            Self::User(UserDestination { name: Some(name), path }) => {
                write!(f, "/user/{}{path}", Escaped(name))
            }
            Self::Group(name) => write!(f, "/group/{}", Escaped(name)),
            Self::App(App { prefix, path }) => write!(f, "{prefix}/{path}"),
        }
    }
}

impl Kind {
    /// The word that the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Queue => "queue",
            Self::Exchange => "exchange",
            Self::AmqQueue => "amq-queue",
            Self::TempQueue => "temp-queue",
            Self::ReplyQueue => "reply-queue",
            Self::User => "user",
            Self::Group => "group",
            Self::App => "app",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Verb {
    /// The command of the frame.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name with its slashes written `%2F`.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.split('/').enumerate() {
            if i > 0 {
                f.write_str("%2F")?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}
