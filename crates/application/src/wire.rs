//! What is asked and answered, between the gateway's types and those of gRPC and of replies by AMQP.
//!
//! Invariant: what a service answered is taken over as it is or refused as a whole, with a reason for the
//! log. What all answers have in common is checked by the gateway.

use broker::destination::{UserDestination, Verb};
use broker::{Destination, Destinations, Message as Reply, header};
use bytes::Bytes;
use bytestring::ByteString;
use gateway::application::{Answer, Call, CallError, Caller, Connecting, Content, Pairs, To};
use presence::Attributes;
use prost_types::{ListValue, Struct, Value, value::Kind};
use proto::v1::application_send::To as SendTo;
use proto::v1::message::Body;
use proto::v1::{
    ApplicationConnectRequest, ApplicationError, ApplicationMessageRequest, ApplicationSend,
    ApplicationSubscribeRequest, Header, Message,
};
use serde::de::IgnoredAny;
use serde_json::{Number, Value as Json};

use crate::replies::CORRELATION;

const CONTENT_TYPE: &str = "content-type";

/// On a reply: that the client is at fault, and how, for programs.
const ERROR: &str = "error";

/// On a reply: where it goes.
const DESTINATION: &str = "destination";

/// Where a reply goes that does not say.
const REPLIES: &str = "/queue/replies";

/// The longest code of an error in bytes.
const CODE: usize = 64;

/// What makes no sense in an answer.
pub(crate) type Wrong = String;

pub(crate) fn caller(caller: &Caller) -> proto::v1::Caller {
    let principal = &caller.principal;
    // A map of JSON values always has a text.
    let claims = serde_json::to_string(principal.claims.as_map()).unwrap_or_default();
    proto::v1::Caller {
        user: principal.name.to_string(),
        authenticated: principal.is_authenticated(),
        session: caller.session.to_string(),
        address: caller.address.to_string(),
        claims,
        roles: principal.roles.iter().map(ToString::to_string).collect(),
        attributes: Some(structure(&caller.attributes)),
    }
}

pub(crate) fn connect(connecting: Connecting) -> ApplicationConnectRequest {
    ApplicationConnectRequest {
        caller: Some(caller(&connecting.caller)),
        headers: headers(connecting.headers),
        connect_headers: headers(connecting.connect_headers),
        query: headers(connecting.query),
        cookies: headers(connecting.cookies),
    }
}

pub(crate) fn message(call: Call) -> ApplicationMessageRequest {
    let (types, own): (Pairs, Pairs) =
        call.headers.into_iter().partition(|(name, _)| **name == *CONTENT_TYPE);
    ApplicationMessageRequest {
        caller: Some(caller(&call.caller)),
        destination: call.destination.to_string(),
        path: call.path.to_string(),
        headers: headers(own),
        content_type: types.first().map_or_else(String::new, |(_, value)| value.to_string()),
        body: call.body,
    }
}

pub(crate) fn subscribe(call: Call) -> ApplicationSubscribeRequest {
    ApplicationSubscribeRequest {
        caller: Some(caller(&call.caller)),
        destination: call.destination.to_string(),
        path: call.path.to_string(),
        headers: headers(call.headers),
    }
}

fn headers(pairs: Pairs) -> Vec<Header> {
    let header = |(name, value): (ByteString, ByteString)| Header {
        name: name.to_string(),
        value: value.to_string(),
    };
    pairs.into_iter().map(header).collect()
}

/// What a service found a client to have done wrong.
pub(crate) fn error(error: ApplicationError) -> CallError {
    CallError::Refused { code: code(error.code), message: error.message }
}

fn code(text: String) -> ByteString {
    let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !text.is_empty() && text.len() <= CODE && text.chars().all(is_code) {
        true => text.into(),
        false => ByteString::from_static("refused"),
    }
}

pub(crate) fn answer(send: ApplicationSend) -> Result<Answer, Wrong> {
    let to = match send.to.ok_or("something is to be sent nowhere")? {
        SendTo::Destination(destination) => To::Destination(destination.into()),
        SendTo::Session(path) => To::Session(path.into()),
        SendTo::User(path) => To::User(path.into()),
    };
    Ok(Answer { to, content: content(send.message.ok_or("there is no message to send")?)? })
}

pub(crate) fn content(message: Message) -> Result<Content, Wrong> {
    let (body, implied): (Bytes, _) = match message.body.ok_or("a message has no body")? {
        Body::Text(text) => (text.into(), Some("text/plain")),
        Body::Bytes(bytes) => (bytes, None),
        Body::Json(json) => {
            serde_json::from_str::<IgnoredAny>(&json)
                .map_err(|error| format!("a body is not JSON: {error}"))?;
            (json.into(), Some("application/json"))
        }
    };
    let named = (!message.content_type.is_empty()).then(|| message.content_type.into());
    let content_type = named.or(implied.map(ByteString::from_static));
    let mut headers: Pairs = Vec::with_capacity(message.headers.len() + 1);
    headers.extend(content_type.map(|content_type| (CONTENT_TYPE.into(), content_type)));
    for Header { name, value } in message.headers {
        if matches!(&*name, CONTENT_TYPE | "persistent") {
            return Err(format!("a header {name} is a field of the message"));
        }
        headers.push((name.into(), value.into()));
    }
    Ok(Content { headers, body, persistent: message.persistent })
}

/// What a reply to a SEND wants sent: to the session that asked, or where its header `destination` says. A
/// reply without body or destination only says that all is done.
pub(crate) fn reply(reply: &Reply, destinations: &Destinations) -> Result<Vec<Answer>, CallError> {
    let content = of_reply(reply)?;
    let to = match find(reply, DESTINATION) {
        None if content.body.is_empty() => return Ok(Vec::new()),
        None => To::Session(REPLIES.into()),
        Some(text) => match destinations.parse(text, Verb::Subscribe) {
            Ok(Destination::User(UserDestination { path, .. })) => To::Session(path),
            _ => To::Destination(text.clone()),
        },
    };
    Ok(vec![Answer { to, content }])
}

/// What a reply to a SUBSCRIBE gives the subscription; nothing if it has no body.
pub(crate) fn reply_to_subscribe(reply: &Reply) -> Result<Vec<Content>, CallError> {
    let content = of_reply(reply)?;
    Ok(if content.body.is_empty() { Vec::new() } else { vec![content] })
}

fn of_reply(reply: &Reply) -> Result<Content, CallError> {
    if let Some(code) = find(reply, ERROR) {
        let message = String::from_utf8_lossy(&reply.body).into_owned();
        return Err(error(ApplicationError { code: code.to_string(), message }));
    }
    let is_own =
        |name: &str| name != CORRELATION && name != "persistent" && !header::is_reserved(name);
    let own = reply.headers.iter().filter(|(name, _)| is_own(name));
    let headers = own.cloned().collect();
    Ok(Content { headers, body: reply.body.clone(), persistent: None })
}

fn find<'a>(reply: &'a Reply, name: &str) -> Option<&'a ByteString> {
    reply.headers.iter().find(|(header, _)| **header == *name).map(|(_, value)| value)
}

/// The attributes that a hook annotates a session with.
pub(crate) fn attributes(attributes: Option<Struct>) -> Attributes {
    attributes.map_or_else(Attributes::new, |attributes| {
        attributes.fields.into_iter().map(|(name, value)| (name, json(value))).collect()
    })
}

fn json(value: Value) -> Json {
    /// Up to here every whole number is itself in a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        // So that 42 is not 42.0, by which nobody would address it.
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within what is exact")]
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() <= EXACT => {
            (value as i64).into()
        }
        Some(Kind::NumberValue(value)) => Number::from_f64(value).map_or(Json::Null, Json::Number),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(object)) => Json::Object(attributes(Some(object))),
    }
}

fn structure(attributes: &Attributes) -> Struct {
    Struct {
        fields: attributes.iter().map(|(name, value)| (name.clone(), of_json(value))).collect(),
    }
}

fn of_json(value: &Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(of_json).collect() })
        }
        Json::Object(object) => Kind::StructValue(structure(object)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_come_back_as_they_were() {
        let Json::Object(before) = json!({
            "plan": "gold", "level": 42, "ratio": 0.5, "on": true, "none": null,
            "rooms": ["a", "b"], "deep": { "n": [-1] },
        }) else {
            unreachable!()
        };
        assert_eq!(attributes(Some(structure(&before))), before);
        let odd = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
        assert_eq!(json(odd), Json::Null);
    }

    #[test]
    fn an_answer_without_what_it_needs_makes_no_sense() {
        let text = || Some(Message { body: Some(Body::Text("x".into())), ..Message::default() });
        let session = || Some(SendTo::Session("/queue/a".into()));
        let json = Some(Message { body: Some(Body::Json("{".into())), ..Message::default() });
        let header = Header { name: "content-type".into(), value: "x".into() };
        let typed = text().map(|message| Message { headers: vec![header], ..message });
        for send in [
            ApplicationSend { to: None, message: text() },
            ApplicationSend { to: session(), message: None },
            ApplicationSend { to: session(), message: Some(Message::default()) },
            ApplicationSend { to: session(), message: json },
            ApplicationSend { to: session(), message: typed },
        ] {
            assert!(answer(send.clone()).is_err(), "{send:?}");
        }
        let answer = answer(ApplicationSend { to: session(), message: text() }).unwrap();
        assert_eq!(answer.content.headers, [("content-type".into(), "text/plain".into())]);
    }

    #[test]
    fn a_code_is_for_programs() {
        assert_eq!(code("no_such_room".into()), "no_such_room");
        for odd in ["", "No such room", "a\nb", &"x".repeat(65)] {
            assert_eq!(code(odd.to_owned()), "refused");
        }
    }

    fn of(headers: &[(&str, &str)], body: &'static str) -> Result<Vec<Answer>, CallError> {
        let mut message = Reply::new(Destination::ReplyQueue("q".into()), body);
        message.headers =
            headers.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        reply(&message, &Destinations::default())
    }

    #[test]
    fn a_reply_goes_to_who_asked_unless_it_says_otherwise() {
        let to = |headers: &[(&str, &str)]| of(headers, "x").unwrap().remove(0).to;
        assert_eq!(to(&[]), To::Session("/queue/replies".into()));
        assert_eq!(to(&[("destination", "/user/queue/a")]), To::Session("/queue/a".into()));
        assert_eq!(to(&[("destination", "/topic/a")]), To::Destination("/topic/a".into()));
        let another = "/user/ann/queue/a";
        assert_eq!(to(&[("destination", another)]), To::Destination(another.into()));
        assert_eq!(of(&[("correlation-id", "1")], ""), Ok(Vec::new()));
        let kept = of(&[("correlation-id", "1"), ("kind", "a"), ("destination", "/topic/a")], "x");
        assert_eq!(kept.unwrap()[0].content.headers, [("kind".into(), "a".into())]);
    }

    #[test]
    fn a_reply_with_an_error_is_one() {
        let refused = CallError::Refused { code: "full".into(), message: "no room".into() };
        assert_eq!(of(&[("error", "full")], "no room"), Err(refused));
    }
}
