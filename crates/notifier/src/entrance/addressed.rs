//! What a service's message says of whom it is for, and what they get.
//!
//! Invariant: what passes names nobody that cannot be, and a destination that clients can subscribe to.

use broker::destination::{Kind, Verb};
use broker::{Destination, Destinations, Message};
use bytestring::ByteString;
use cluster::{Content, Outbound};
use humantime_serde::re::humantime;
use presence::{GroupName, SessionId, UserName};
use proto::v1::Durable;

use super::outcome::{CORRELATION_ID, REPLY_TO};

/// Where within the user it goes if nobody says.
const USUAL_PATH: &str = "/queue/messages";

/// Says where within the user.
const DESTINATION: &str = "destination";

/// Says whom, where the key does not.
const TO: &str = "to";

/// Says that it is stored.
const DURABLE: &str = "durable";

/// Say how it is kept.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const TTL: &str = "ttl";
const DELIVER_AT: &str = "deliver-at";
const COLLAPSE_KEY: &str = "collapse-key";

/// The headers that are between the service and this node.
const OURS: [&str; 3] = [DESTINATION, REPLY_TO, CORRELATION_ID];

/// Those that are so where it is stored.
const OF_DURABLE: [&str; 5] = [DURABLE, IDEMPOTENCY_KEY, TTL, DELIVER_AT, COLLAPSE_KEY];

/// A message to send.
#[derive(Debug, PartialEq)]
pub(crate) struct Addressed {
    pub(crate) to: To,
    /// For a group without a path, unless it is durable.
    pub(crate) outbound: Outbound,
    /// How it is kept, if the service wants that.
    pub(crate) durable: Option<Durable>,
}

/// Whom it is for.
#[derive(Debug, PartialEq)]
pub(crate) enum To {
    User(UserName),
    Session(SessionId),
    Group(GroupName),
    All,
}

/// Why a message is for nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misaddressed {
    #[error("it was put into the queue: publish it to the exchange, with a routing key")]
    Queue,
    #[error(
        "the routing key '{0}' names nobody: use user.<name>, session.<id>, group.<name> or all; with user, \
         session or group alone the name is taken from the header to"
    )]
    Key(ByteString),
    #[error("there can be no {kind} of that name: {why}")]
    Name { kind: &'static str, why: String },
    #[error("the header destination {0}")]
    Path(String),
    #[error("the header {header} {problem}")]
    Durable { header: &'static str, problem: &'static str },
}

impl Addressed {
    pub(crate) fn read(
        message: &Message,
        destinations: &Destinations,
    ) -> Result<Self, Misaddressed> {
        let Destination::Topic(topic) = &message.destination else {
            return Err(Misaddressed::Queue);
        };
        let header = |wanted: &str| {
            message.headers.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| value)
        };
        let key = topic.key();
        let nobody = || Misaddressed::Key(key.clone());
        let (kind, name, is_header) = match key.split_once('.') {
            Some((kind, name)) => (kind, name.into(), false),
            None if **key == *"all" => ("all", ByteString::new(), false),
            None => (&**key, header(TO).cloned().ok_or_else(nobody)?, true),
        };
        let to = match kind {
            "user" => To::User(name_of("user", &name, UserName::new)?),
            "session" => To::Session(name_of("session", &name, SessionId::new)?),
            "group" => {
                let group = name_of("group", &name, GroupName::new)?;
                cluster::group(&group).map_err(|why| misnamed("group", &why))?;
                To::Group(group)
            }
            "all" if name.is_empty() && !is_header && **key == *"all" => To::All,
            _ => return Err(nobody()),
        };
        let durable = durable(header)?;
        if durable.is_some() && matches!(to, To::Session(_)) {
            let problem = "is not for a session, which has no inbox: name its user";
            return Err(Misaddressed::Durable { header: DURABLE, problem });
        }
        let path = match (&to, header(DESTINATION)) {
            (To::Group(_), None) if durable.is_none() => ByteString::new(),
            (To::Group(_), Some(_)) if durable.is_none() => {
                let why = "is not for groups, whose messages go to who is subscribed to the group: leave it out";
                return Err(Misaddressed::Path(why.to_owned()));
            }
            (_, path) => path_of(path.map_or(USUAL_PATH, |path| &**path), destinations)?,
        };
        let is_ours = |name: &str| {
            OURS.contains(&name)
                || is_header && name == TO
                || durable.is_some() && OF_DURABLE.contains(&name)
        };
        let is_content = |name: &str| !is_ours(name) && name != DURABLE;
        let headers = message.headers.iter().filter(|(name, _)| is_content(name)).cloned();
        let content =
            Content { id: message.id, headers: headers.collect(), body: message.body.clone() };
        let persistent = message.persistent;
        let outbound = Outbound { path, audience: Vec::new(), content, persistent };
        Ok(Self { to, outbound, durable })
    }
}

/// How it is kept, if that is wanted.
fn durable<'a>(
    header: impl Fn(&str) -> Option<&'a ByteString>,
) -> Result<Option<Durable>, Misaddressed> {
    let wrong = |header, problem| Err(Misaddressed::Durable { header, problem });
    match header(DURABLE).map(|text| &**text) {
        None | Some("false") => return Ok(None),
        Some("true") => {}
        Some(_) => return wrong(DURABLE, "must be true or false"),
    }
    let text = |name| header(name).map(ToString::to_string).unwrap_or_default();
    let ttl = match header(TTL).map(|text| humantime::parse_duration(text)) {
        None => None,
        Some(Ok(ttl)) => ttl.try_into().ok(),
        Some(Err(_)) => return wrong(TTL, "is no time such as 90s, 1h or 7days"),
    };
    let deliver_at = match header(DELIVER_AT).map(|text| humantime::parse_rfc3339(text)) {
        None => None,
        Some(Ok(at)) => Some(at.into()),
        Some(Err(_)) => return wrong(DELIVER_AT, "is no time such as 2030-01-31T08:00:00Z"),
    };
    Ok(Some(Durable {
        idempotency_key: text(IDEMPOTENCY_KEY),
        ttl,
        deliver_at,
        collapse_key: text(COLLAPSE_KEY),
    }))
}

fn name_of<T, E: std::fmt::Display>(
    kind: &'static str,
    name: &ByteString,
    new: impl FnOnce(ByteString) -> Result<T, E>,
) -> Result<T, Misaddressed> {
    if name.chars().any(char::is_control) {
        return Err(misnamed(kind, &"it holds a control character"));
    }
    new(name.clone()).map_err(|why| misnamed(kind, &why))
}

fn misnamed(kind: &'static str, why: &dyn std::fmt::Display) -> Misaddressed {
    Misaddressed::Name { kind, why: why.to_string() }
}

/// The destination within a user, as a client would subscribe to it behind the prefix of users.
fn path_of(text: &str, destinations: &Destinations) -> Result<ByteString, Misaddressed> {
    let wrong = |why: String| Err(Misaddressed::Path(why));
    let Some((prefix, _)) = destinations.prefixes().find(|(_, kind)| *kind == Kind::User) else {
        return wrong(
            "names one within the user, and the configuration has no prefix of users".to_owned(),
        );
    };
    if text.strip_prefix(&**prefix).is_some_and(|rest| rest.starts_with('/')) {
        return wrong(format!("is within the user already: leave {prefix} out"));
    }
    match destinations.parse(&format!("{prefix}{text}"), Verb::Subscribe) {
        Ok(Destination::User(to)) => Ok(to.path),
        Ok(_) => wrong("is no destination within a user, such as /queue/news".to_owned()),
        Err(error) => wrong(format!("is no destination within a user: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use broker::destination::Topic;
    use presence::Boot;

    use super::*;

    type Headers<'a> = &'a [(&'static str, &'a str)];

    fn message(key: &str, headers: Headers<'_>) -> Message {
        let topic = Topic::exact("/~to".into(), key.into());
        let mut message = Message::new(Destination::Topic(topic), "body");
        let header = |(name, value): &(&'static str, &str)| ((*name).into(), (*value).into());
        message.headers = headers.iter().map(header).collect();
        message
    }

    fn read(key: &str, headers: Headers<'_>) -> Result<Addressed, Misaddressed> {
        Addressed::read(&message(key, headers), &Destinations::default())
    }

    fn user(name: &str) -> To {
        To::User(UserName::new(name).unwrap())
    }

    #[test]
    fn the_key_says_whom() {
        let id = SessionId::generate(Boot::generate());
        for (key, to) in [
            ("user.ann".to_owned(), user("ann")),
            ("user.ann.b@c.example".to_owned(), user("ann.b@c.example")),
            ("user..".to_owned(), user(".")),
            ("user.*".to_owned(), user("*")),
            ("user.#".to_owned(), user("#")),
            ("user.a/b%2Fé".to_owned(), user("a/b%2Fé")),
            (format!("session.{id}"), To::Session(id.clone())),
            ("group.a.b".to_owned(), To::Group(GroupName::new("a.b").unwrap())),
            ("all".to_owned(), To::All),
        ] {
            let read = read(&key, &[("to", "somebody else's")]).unwrap();
            assert_eq!(read.to, to, "{key}");
            assert_eq!(read.outbound.content.headers.len(), 1, "it is the sender's own");
        }
    }

    #[test]
    fn a_name_that_no_key_can_carry_is_in_a_header() {
        let long = "x".repeat(512);
        let read = read("user", &[("to", &long), ("kind", "tick")]).unwrap();
        assert_eq!(read.to, user(&long));
        assert_eq!(read.outbound.content.headers, [("kind".into(), "tick".into())]);
    }

    #[test]
    fn a_header_says_where_within_the_user() {
        let path = |headers| read("user.ann", headers).unwrap().outbound.path;
        assert_eq!(path(&[]), USUAL_PATH);
        assert_eq!(path(&[("destination", "/topic/a.b")]), "/topic/a.b");
        assert_eq!(read("group.g", &[]).unwrap().outbound.path, "");
    }

    #[test]
    fn clients_get_all_but_what_is_between_the_service_and_this_node() {
        let headers = [
            ("destination", "/queue/x"),
            ("reply-to", "/reply-queue/r"),
            ("correlation-id", "1"),
            ("content-type", "text/plain"),
        ];
        let mut message = message("all", &headers);
        message.persistent = true;
        let read = Addressed::read(&message, &Destinations::default()).unwrap();
        let content = read.outbound.content;
        assert_eq!((content.id, &*content.body), (message.id, &b"body"[..]));
        assert_eq!(content.headers, [("content-type".into(), "text/plain".into())]);
        assert!(read.outbound.persistent);
    }

    #[test]
    fn headers_say_how_it_is_kept() {
        let headers = [
            ("durable", "true"),
            ("idempotency-key", "k"),
            ("ttl", "90s"),
            ("deliver-at", "2030-01-31T08:00:00Z"),
            ("collapse-key", "c"),
            ("kind", "tick"),
        ];
        let read = |key, headers| read(key, headers).unwrap();
        let kept = read("user.ann", &headers);
        let durable = kept.durable.unwrap();
        assert_eq!((&*durable.idempotency_key, &*durable.collapse_key), ("k", "c"));
        assert_eq!(durable.ttl.map(|ttl| ttl.seconds), Some(90));
        assert_eq!(durable.deliver_at.map(|at| at.seconds), Some(1_896_076_800));
        assert_eq!(kept.outbound.content.headers, [("kind".into(), "tick".into())]);
        // A group's durable message goes to its members' own destination.
        assert_eq!(read("group.g", &[("durable", "true")]).outbound.path, USUAL_PATH);
        let headers = [("durable", "true"), ("destination", "/queue/x")];
        assert_eq!(read("group.g", &headers).outbound.path, "/queue/x");
        // Without it these headers are the sender's own.
        let live = read("user.ann", &[("durable", "false"), ("ttl", "90s")]);
        assert_eq!(live.durable, None);
        assert_eq!(live.outbound.content.headers, [("ttl".into(), "90s".into())]);
    }

    #[test]
    fn what_names_nobody_is_told_why() {
        let long = "x".repeat(513);
        let session = format!("session.{}", SessionId::generate(Boot::generate()));
        let cases: [(&str, Headers<'_>, &str); 19] = [
            ("user.ann", &[("durable", "yes")], "the header durable must be true or false"),
            ("user.ann", &[("durable", "true"), ("ttl", "soon")], "the header ttl is no time"),
            (
                "user.ann",
                &[("durable", "true"), ("deliver-at", "1")],
                "the header deliver-at is no",
            ),
            (&session, &[("durable", "true")], "the header durable is not for a session"),
            ("", &[], "names nobody"),
            ("ann", &[], "names nobody"),
            ("users.ann", &[], "names nobody"),
            ("user", &[], "names nobody"),
            ("all.of.them", &[], "names nobody"),
            ("nobody", &[("to", "ann")], "names nobody"),
            ("user.", &[], "no user of that name: a name must not be empty"),
            ("user", &[("to", &long)], "longer than the limit of 512"),
            ("user.a\u{0}b", &[], "control character"),
            ("session.x", &[], "no session of that name"),
            ("group.", &[], "no group of that name"),
            ("group", &[("to", &"#".repeat(100))], "when it is encoded"),
            ("group.g", &[("destination", "/queue/x")], "leave it out"),
            ("user.ann", &[("destination", "/user/queue/x")], "leave /user out"),
            ("user.ann", &[("destination", "/queue/*")], "is no destination within a user"),
        ];
        for (key, headers, why) in cases {
            let refused = read(key, headers).unwrap_err().to_string();
            assert!(refused.contains(why), "{key}: {refused}");
        }
        for path in ["", "x", "/app/x", "/queue", "/queue/", "/group/g", "/user/ann/queue/x"] {
            assert!(read("user.ann", &[("destination", path)]).is_err(), "{path}");
        }
        let put = Message::new(Destination::Queue("footbridge.to".into()), "");
        let refused = Addressed::read(&put, &Destinations::default());
        assert_eq!(refused, Err(Misaddressed::Queue));
    }
}
