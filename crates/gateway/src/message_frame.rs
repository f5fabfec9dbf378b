//! Encodes MESSAGE frames.
//!
//! Server headers come first, so that they win over whatever a publisher put among its own
//! (STOMP 1.2, "Repeated Header Entries"); names the server sets were stripped from those already.
//!
//! Not here: whom a frame goes to.

mod derived;

use std::borrow::Cow;
use std::fmt::{self, Write};

use broker::destination::{Separator, Topic};
use broker::{Delivery, Destination, Message};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use stomp::{Command, Compat, FrameWriter, Version, header};

use crate::transport::Framing;

/// All in which the MESSAGE frames of one destination differ between its subscribers. Subscribers of
/// equal shape share one encoded frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    /// Whose manners the frames have.
    pub(crate) compat: Compat,
    /// The subscription's id; absent only in STOMP 1.0.
    pub(crate) subscription: Option<ByteString>,
    pub(crate) shown: Shown,
    /// Whether the client acknowledges what it gets.
    pub(crate) acknowledged: bool,
}

impl Shape {
    /// That of clients without STOMP, which get bodies and nothing else.
    pub(crate) fn plain(framing: Framing) -> Self {
        Self {
            framing,
            version: Version::V1_2,
            compat: Compat::Footbridge,
            subscription: None,
            shown: Shown::AsSubscribed(ByteString::new()),
            acknowledged: false,
        }
    }

    /// What to call the subscription when its client is told of it.
    pub(crate) fn name(&self) -> String {
        let id = self.subscription.as_ref().map_or(String::new(), |id| format!(" {id}"));
        match &self.shown {
            Shown::AsSubscribed(destination) => format!("the subscription{id} to {destination}"),
            Shown::ByPattern(topic, _) => format!("the subscription{id} to {topic}"),
            Shown::EachOwn => format!("the subscription{id} to an exchange"),
        }
    }
}

/// The destination that a subscriber sees, unless it is derived as RabbitMQ does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Shown {
    /// The spelling it subscribed with.
    AsSubscribed(ByteString),
    /// Each message's own, with the separators of the pattern. The separator stands here as well,
    /// because patterns of different spelling are equal.
    ByPattern(Topic, Separator),
    /// Each message's own, in the canonical spelling.
    EachOwn,
}

/// Marks the `ack` tokens of shared messages, which have nothing to settle.
pub(crate) const SHARED_TOKEN: &str = "t.";

/// A shared message for subscribers of one shape; `text` says whether its body is UTF-8.
pub(crate) fn encode(shape: &Shape, message: &Message, redelivered: bool, text: bool) -> Bytes {
    let id = Text::<26>::of(&message.id);
    if shape.acknowledged {
        let token = format!("{SHARED_TOKEN}{}", id.as_str());
        write(shape, message, id.as_str(), Some(&token), redelivered, text)
    } else {
        write(shape, message, id.as_str(), None, redelivered, text)
    }
}

/// A queue's delivery; `token` is what the client acknowledges it by, if it does.
pub(crate) fn encode_delivery(shape: &Shape, delivery: &Delivery, token: Option<&str>) -> Bytes {
    let message = &*delivery.message;
    let text = str::from_utf8(&message.body).is_ok();
    write(shape, message, Text::<26>::of(&message.id).as_str(), token, delivery.redelivered, text)
}

fn write(
    shape: &Shape,
    message: &Message,
    id: &str,
    token: Option<&str>,
    redelivered: bool,
    text: bool,
) -> Bytes {
    let derived;
    let destination = match (shape.compat, &shape.shown, &message.destination) {
        (Compat::RabbitMq, _, sent) => {
            derived = derived::destination(sent);
            &derived
        }
        (Compat::Footbridge, Shown::AsSubscribed(destination), _) => destination,
        (Compat::Footbridge, Shown::ByPattern(pattern, _), Destination::Topic(topic)) => {
            derived = pattern.shown(topic);
            &derived
        }
        (Compat::Footbridge, Shown::ByPattern(..) | Shown::EachOwn, sent) => {
            derived = sent.to_string().into();
            &derived
        }
    };
    let redelivered = match (shape.compat, redelivered) {
        (_, true) => Some("true"),
        (Compat::RabbitMq, false) => Some("false"),
        (Compat::Footbridge, false) => None,
    };
    // A body that is no text becomes some before its length is said.
    let body = match text || shape.framing.is_binary_safe() {
        true => Cow::Borrowed(&*message.body),
        false => Cow::Owned(String::from_utf8_lossy(&message.body).into_owned().into_bytes()),
    };
    if shape.framing.is_plain() {
        return shape.framing.wrap(text, |out| out.extend_from_slice(&body));
    }
    shape.framing.wrap(text, |out: &mut BytesMut| {
        out.reserve(body.len() + 192);
        let mut frame = FrameWriter::new(out, Command::Message, shape.version);
        if let Some(subscription) = &shape.subscription {
            frame.header(header::SUBSCRIPTION, subscription);
        }
        frame.header(header::DESTINATION, destination);
        frame.header(header::MESSAGE_ID, id);
        if let Some(redelivered) = redelivered {
            frame.header(header::REDELIVERED, redelivered);
        }
        // Before 1.2 a message is acknowledged by its id.
        if let Some(token) = token.filter(|_| shape.version == Version::V1_2) {
            frame.header(header::ACK, token);
        }
        if message.persistent {
            frame.header("persistent", "true");
        }
        // Where a reply asks to go is for who asks for replies by itself.
        for (name, value) in
            message.headers.iter().filter(|(name, _)| **name != *header::DESTINATION)
        {
            frame.header(name, value);
        }
        frame.finish(&body);
    })
}

/// A short text formatted without an allocation.
struct Text<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
}

impl<const LEN: usize> Text<LEN> {
    fn of(value: &impl fmt::Display) -> Self {
        let mut text = Self { bytes: [0; LEN], len: 0 };
        // What does not fit is cut; message ids are 26 characters.
        let _ = write!(text, "{value}");
        text
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const LEN: usize> Write for Text<LEN> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
