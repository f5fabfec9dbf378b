//! From a request's message to the content that clients get, or the field that is wrong.
//!
//! Invariant: whatever passes can be written as a STOMP frame and as an AMQP message, and sets no
//! header that is the server's to set.
//!
//! Not here: where it goes (`outgoing`, `sends`).

use broker::{MessageId, header};
use bytes::Bytes;
use bytestring::ByteString;
use cluster::Content;
use proto::v1::message::Body;
use proto::v1::{Header, Message};
use serde::de::IgnoredAny;

use crate::config::Config;
use crate::refusal::Refusal;

const CONTENT_TYPE: ByteString = ByteString::from_static("content-type");

/// Headers that are fields of a message, and the fields.
const FIELDS: [(&str, &str); 2] =
    [("content-type", "message.content_type"), ("persistent", "message.persistent")];

/// The longest name or content type in bytes: AMQP's short string.
const SHORT: usize = 255;

/// What `message` asks to send, with a new id, and whether it persists.
pub(crate) fn content(
    message: Option<Message>,
    config: &Config,
) -> Result<(Content, bool), Refusal> {
    let Some(message) = message else {
        return Err(Refusal::invalid("message", "is missing"));
    };
    let (body, implied_type) = body(message.body, config.max_message_bytes())?;
    let content_type = content_type(message.content_type, implied_type)?;
    if message.headers.len() > config.max_headers {
        let (count, most) = (message.headers.len(), config.max_headers);
        let problem = format!("has {count} headers and may have {most}");
        return Err(Refusal::invalid("message.headers", problem));
    }
    let mut headers = Vec::with_capacity(message.headers.len() + 1);
    headers.extend(content_type.map(|content_type| (CONTENT_TYPE, content_type)));
    for (index, Header { name, value }) in message.headers.into_iter().enumerate() {
        check_header(index, &name, &value, config.max_header_bytes())?;
        headers.push((name.into(), value.into()));
    }
    // A confirm alone does not outlive the broker's restart, and who publishes here was promised more.
    let persistent = message.persistent.unwrap_or(true);
    Ok((Content { id: MessageId::new(), headers, body }, persistent))
}

/// The body, and the type it has if the sender names none.
fn body(body: Option<Body>, limit: usize) -> Result<(Bytes, Option<&'static str>), Refusal> {
    let (field, bytes, implied_type) = match body {
        None => {
            return Err(Refusal::invalid("message.body", "is missing: set text, bytes or json"));
        }
        Some(Body::Text(text)) => ("message.text", text.into(), Some("text/plain")),
        Some(Body::Bytes(bytes)) => ("message.bytes", bytes, None),
        Some(Body::Json(json)) => ("message.json", json.into(), Some("application/json")),
    };
    if bytes.len() > limit {
        let problem = format!("is too long: it has {} bytes and may have {limit}", bytes.len());
        return Err(Refusal::invalid(field, problem));
    }
    if field == "message.json" {
        serde_json::from_slice::<IgnoredAny>(&bytes)
            .map_err(|error| Refusal::invalid(field, format!("is not JSON: {error}")))?;
    }
    Ok((bytes, implied_type))
}

fn content_type(
    named: String,
    implied: Option<&'static str>,
) -> Result<Option<ByteString>, Refusal> {
    const FIELD: &str = "message.content_type";
    if named.is_empty() {
        return Ok(implied.map(ByteString::from_static));
    }
    printable(FIELD, &named)?;
    short(FIELD, &named)?;
    Ok(Some(named.into()))
}

fn check_header(index: usize, name: &str, value: &str, limit: usize) -> Result<(), Refusal> {
    let field = |part: &str| format!("message.headers[{index}]{part}");
    if name.is_empty() {
        return Err(Refusal::invalid(field(".name"), "is empty"));
    }
    printable(field(".name"), name)?;
    short(field(".name"), name)?;
    printable(field(".value"), value)?;
    let length = name.len() + value.len();
    if length > limit {
        let problem =
            format!("is too long: name and value have {length} bytes and may have {limit}");
        return Err(Refusal::invalid(field(""), problem));
    }
    let name = header::as_read(name);
    if header::is_reserved(name) {
        let problem = format!("is reserved: the server sets '{name}'");
        return Err(Refusal::invalid(field(".name"), problem));
    }
    if let Some((_, instead)) = FIELDS.iter().find(|(reserved, _)| *reserved == name) {
        let problem = format!("is reserved: set {instead} in place of a header '{name}'");
        return Err(Refusal::invalid(field(".name"), problem));
    }
    Ok(())
}

pub(crate) fn printable(field: impl Into<String>, text: &str) -> Result<(), Refusal> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => {
            let problem = format!("holds a control character (code {})", u32::from(c));
            Err(Refusal::invalid(field, problem))
        }
        None => Ok(()),
    }
}

pub(crate) fn short(field: impl Into<String>, text: &str) -> Result<(), Refusal> {
    if text.len() > SHORT {
        let problem = format!("is too long: it has {} bytes and may have {SHORT}", text.len());
        return Err(Refusal::invalid(field, problem));
    }
    Ok(())
}
