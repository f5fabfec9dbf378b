//! From text to a [`Destination`], kind by kind.

use bytestring::ByteString;

use super::topic::check_word;
use super::{
    App, Destination, DestinationError, Destinations, Kind, Problem, Topic, UserDestination, Verb,
};

/// The longest name: AMQP's short string.
const NAME_LIMIT: usize = 255;

impl Destinations {
    /// The destination that `text` names for a frame of the given `verb`.
    ///
    /// A text without a leading slash is the queue of that name, while any prefix is for queues.
    /// In all kinds but `reply-queue` and `app`, `%2F` (with this very F) is a slash inside a name; nothing
    /// else is decoded.
    pub fn parse(&self, text: &str, verb: Verb) -> Result<Destination, DestinationError> {
        self.parse_text(text, verb).map_err(|problem| DestinationError::new(text, problem))
    }

    /// The destination that the `reply-to` header of a SEND names: a temp-queue, or what
    /// [`parse`](Self::parse) takes for SEND.
    pub fn parse_reply_to(&self, text: &str) -> Result<Destination, DestinationError> {
        self.parse_text_reply_to(text).map_err(|problem| DestinationError::new(text, problem))
    }

    fn parse_text_reply_to(&self, text: &str) -> Result<Destination, Problem> {
        match self.split(text) {
            Some((prefix, kind @ Kind::TempQueue, rest)) => {
                no_controls(text)?;
                one_name(prefix, kind, rest).map(Destination::TempQueue)
            }
            _ => self.parse_text(text, Verb::Send),
        }
    }

    fn parse_text(&self, text: &str, verb: Verb) -> Result<Destination, Problem> {
        no_controls(text)?;
        let Some((prefix, kind, rest)) = self.split(text) else {
            let queues = self.prefixes().any(|(_, kind)| kind == Kind::Queue);
            if queues && !text.is_empty() && !text.contains('/') {
                return name(text).map(Destination::Queue);
            }
            return Err(Problem::Unknown { prefixes: self.listed(|_| true) });
        };
        match kind {
            Kind::Topic => {
                let topic = Topic::parse(prefix, something(prefix, kind, rest)?)?;
                if topic.is_pattern() && verb == Verb::Send {
                    return Err(Problem::Pattern);
                }
                Ok(Destination::Topic(topic))
            }
            Kind::Queue => one_name(prefix, kind, rest).map(Destination::Queue),
            Kind::AmqQueue => one_name(prefix, kind, rest).map(Destination::AmqQueue),
            Kind::Group => one_name(prefix, kind, rest).map(Destination::Group),
            Kind::Exchange => exchange(prefix, rest),
            Kind::ReplyQueue => {
                bounded(something(prefix, kind, rest)?.to_owned()).map(Destination::ReplyQueue)
            }
            Kind::TempQueue => Err(Problem::ReplyToOnly { verb, kind }),
            Kind::User => self.user(prefix, rest, verb).map(Destination::User),
            Kind::App => {
                let path = something(prefix, kind, rest)?;
                if path.split('/').any(str::is_empty) {
                    return Err(Problem::EmptyWord);
                }
                Ok(Destination::App(App { prefix: prefix.clone(), path: path.into() }))
            }
            // The table does not hand these out.
            Kind::Off => Err(Problem::Unknown { prefixes: self.listed(|_| true) }),
        }
    }

    fn user(&self, prefix: &str, rest: &str, verb: Verb) -> Result<UserDestination, Problem> {
        match verb {
            Verb::Subscribe => {
                let path = self.user_path(rest)?.ok_or_else(|| Problem::AnotherUser {
                    prefix: prefix.to_owned(),
                    paths: self.listed(within_user),
                })?;
                Ok(UserDestination { name: None, path })
            }
            Verb::Send => {
                let no_user = || Problem::NoUser {
                    prefix: prefix.to_owned(),
                    paths: self.listed(within_user),
                };
                let rest = rest.strip_prefix('/').ok_or_else(no_user)?;
                let (user, path) = rest.split_at(rest.find('/').ok_or_else(no_user)?);
                if user.is_empty() {
                    return Err(no_user());
                }
                let path = self.user_path(path)?.ok_or_else(no_user)?;
                Ok(UserDestination { name: Some(name(user)?), path })
            }
        }
    }

    /// A path within a user: a prefix of topics or queues and any number of words, none of them a
    /// wildcard. None if it begins otherwise.
    fn user_path(&self, path: &str) -> Result<Option<ByteString>, Problem> {
        let Some((prefix, kind, rest)) = self.split(path).filter(|(_, kind, _)| within_user(*kind))
        else {
            return Ok(None);
        };
        for word in something(prefix, kind, rest)?.split('/') {
            check_word(word)?;
            if matches!(word, "*" | "#" | "**") {
                return Err(Problem::Pattern);
            }
        }
        bounded(path.to_owned()).map(Some)
    }
}

fn within_user(kind: Kind) -> bool {
    matches!(kind, Kind::Topic | Kind::Queue)
}

fn exchange(prefix: &str, rest: &str) -> Result<Destination, Problem> {
    let rest = something(prefix, Kind::Exchange, rest)?;
    let (exchange, key) = match rest.split_once('/') {
        None => (rest, None),
        Some((_, key)) if key.contains('/') => {
            let form = format!("{prefix}/<name>/<key>");
            return Err(Problem::TooManyWords { kind: Kind::Exchange, form });
        }
        Some((exchange, key)) => (exchange, (!key.is_empty()).then_some(key)),
    };
    if exchange.is_empty() {
        return Err(Problem::EmptyWord);
    }
    Ok(Destination::Exchange { exchange: name(exchange)?, key: key.map(name).transpose()? })
}

/// The only word after a prefix, decoded.
fn one_name(prefix: &str, kind: Kind, rest: &str) -> Result<ByteString, Problem> {
    let word = something(prefix, kind, rest)?;
    if word.contains('/') {
        return Err(Problem::TooManyWords { kind, form: format!("{prefix}/<name>") });
    }
    name(word)
}

/// What follows a prefix and its slash, if anything does.
fn something<'a>(prefix: &str, kind: Kind, rest: &'a str) -> Result<&'a str, Problem> {
    match rest.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => Ok(rest),
        _ => Err(Problem::Unnamed { prefix: prefix.to_owned(), kind }),
    }
}

fn name(word: &str) -> Result<ByteString, Problem> {
    bounded(word.replace("%2F", "/"))
}

/// A name that AMQP can carry.
pub(super) fn bounded(name: String) -> Result<ByteString, Problem> {
    if name.len() > NAME_LIMIT {
        return Err(Problem::TooLong { length: name.len(), limit: NAME_LIMIT });
    }
    Ok(name.into())
}

fn no_controls(text: &str) -> Result<(), Problem> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Problem::ControlCharacter { code: c.into() }),
        None => Ok(()),
    }
}
