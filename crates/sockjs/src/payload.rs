//! What clients send (protocol 0.3.3, "Framing accepted by the server"): JSON strings, alone or in an array.
//!
//! JavaScript's strings may hold halves of surrogate pairs, which are no text in UTF-8. They become U+FFFD, as
//! browsers themselves have it for WebSockets (WHATWG, `USVString`).

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::error::Category;

/// Why a payload is none. The texts are those the protocol demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    /// Nothing, or JSON but not messages.
    #[error("Payload expected.\n")]
    Missing,
    /// No JSON.
    #[error("Broken JSON encoding.\n")]
    Broken,
}

impl From<serde_json::Error> for PayloadError {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self::Missing,
            Category::Io | Category::Syntax | Category::Eof => Self::Broken,
        }
    }
}

/// The messages of a request's body: an array.
pub(crate) fn array(payload: &[u8]) -> Result<Vec<Bytes>, PayloadError> {
    if payload.is_empty() {
        return Err(PayloadError::Missing);
    }
    let messages: Vec<Message> = serde_json::from_slice(payload)?;
    Ok(messages.into_iter().map(|message| message.0).collect())
}

/// The messages of a WebSocket message: nothing, an array, or one alone.
pub(crate) fn websocket(payload: &[u8]) -> Result<Vec<Bytes>, PayloadError> {
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    let either: OneOrMany = serde_json::from_slice(payload)?;
    Ok(either.0)
}

/// One message.
struct Message(Bytes);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As bytes, for only so does serde_json let halves of pairs pass.
        deserializer.deserialize_bytes(MessageVisitor).map(Self)
    }
}

struct OneOrMany(Vec<Bytes>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(OneOrManyVisitor).map(Self)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(text(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Bytes, A::Error> {
        Err(A::Error::custom("an array is no message"))
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = Vec<Bytes>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, or an array of strings")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<Bytes>, E> {
        Ok(vec![text(bytes)])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<Bytes>, A::Error> {
        let mut messages = Vec::new();
        while let Some(Message(message)) = array.next_element()? {
            messages.push(message);
        }
        Ok(messages)
    }
}

/// Text of what is text but for halves of surrogate pairs, each of which is three bytes from 0xed 0xa0 on.
fn text(bytes: &[u8]) -> Bytes {
    if str::from_utf8(bytes).is_ok() {
        return Bytes::copy_from_slice(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match rest {
            [0xed, 0xa0..=0xbf, _, after @ ..] => {
                out.extend_from_slice("\u{fffd}".as_bytes());
                rest = after;
            }
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
            [] => {}
        }
    }
    match String::from_utf8(out) {
        Ok(text) => text.into(),
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_array(payload: &str) -> Result<Vec<Bytes>, PayloadError> {
        array(payload.as_bytes())
    }

    fn of_websocket(payload: &str) -> Result<Vec<Bytes>, PayloadError> {
        websocket(payload.as_bytes())
    }

    #[test]
    fn a_body_is_an_array_of_strings() {
        assert_eq!(of_array(r#"["a","b\n", ""]"#).unwrap(), ["a", "b\n", ""]);
        assert_eq!(of_array("[]").unwrap(), [""; 0]);
        for payload in
            ["", "\"a\"", "1", "null", "{}", "[1]", "[\"a\",null]", "[[\"a\"]]", "[[97]]"]
        {
            assert_eq!(of_array(payload), Err(PayloadError::Missing), "{payload}");
        }
        for payload in ["[\"a", "[", "[\"a\"] x", "[\"a\",]", "[\"\\x\"]", " "] {
            assert_eq!(of_array(payload), Err(PayloadError::Broken), "{payload}");
        }
        // What browsers never send and JSON has not is taken for what it seems to be.
        assert_eq!(array(b"[\"\xff\"]"), Ok(vec!["\u{fffd}".into()]));
        assert_eq!(of_array("[\"\n\"]").unwrap(), ["\n"]);
    }

    #[test]
    fn a_websocket_message_may_be_one_string_or_nothing() {
        assert_eq!(of_websocket("").unwrap(), [""; 0]);
        assert_eq!(of_websocket("\"a\"").unwrap(), ["a"]);
        assert_eq!(of_websocket("[\"a\",\"b\"]").unwrap(), ["a", "b"]);
        assert_eq!(of_websocket("[\"a"), Err(PayloadError::Broken));
        for payload in ["1", "{}", "[1]", "[[\"a\"]]"] {
            assert_eq!(of_websocket(payload), Err(PayloadError::Missing), "{payload}");
        }
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced_and_whole_ones_are_not() {
        assert_eq!(of_array(r#"["\ud800"]"#).unwrap(), ["\u{fffd}"]);
        assert_eq!(of_array(r#"["a\udc00b\ud83dc"]"#).unwrap(), ["a\u{fffd}b\u{fffd}c"]);
        assert_eq!(of_array(r#"["\ud83d\ude00"]"#).unwrap(), ["\u{1f600}"]);
    }
}
