//! Which destinations a rule is about.
//!
//! Invariant: what is asked for is compared kind by kind and, for topics and the application, prefix by
//! prefix; topics under different prefixes never meet.

use broker::destination::{App, Destination, Destinations, Kind, UserDestination};
use bytestring::ByteString;

use super::template::{Key, Placeholder, Relation, Template, exact_key};
use crate::principal::Principal;

/// A pattern of destinations of one kind, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// `**`: every destination of every kind.
    Any,
    /// `/topic/orders.#`.
    Topic { prefix: ByteString, key: Template },
    /// `/queue/orders.*`, and likewise amq-queue, temp-queue, reply-queue and group: the words of a name
    /// are separated by dots.
    Named { kind: Kind, name: Template },
    /// `/exchange/name/key`, or `/exchange/**`.
    Exchange { name: Template, key: Template },
    /// `/user/queue/x`: one's own.
    Own { path: Template },
    /// `/user/{name}/queue/x`: that of somebody, as they are named for SEND.
    Of { name: Name, path: Template },
    /// `/user/**`: one's own, and everybody's.
    Users,
    /// `/app/orders.#`.
    App { prefix: ByteString, key: Template },
}

/// Which user a destination within a user is of. Compared as a whole, not in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// `*`.
    Any,
    /// That one.
    Is(String),
    /// One that depends on who asks.
    Of(Placeholder),
}

/// A destination as it is compared.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    Topic { prefix: &'a str, key: Key<'a> },
    Named { kind: Kind, name: Key<'a> },
    Exchange { name: Key<'a>, key: Key<'a> },
    Own { path: Key<'a> },
    Of { name: &'a str, path: Key<'a> },
    App { prefix: &'a str, key: Key<'a> },
}

impl Pattern {
    /// What `text` means by that table of prefixes.
    pub(crate) fn parse(text: &str, destinations: &Destinations) -> Result<Self, String> {
        if matches!(text, "**" | "/**") {
            return Ok(Self::Any);
        }
        let Some((prefix, kind, rest)) = split(text, destinations) else {
            let mut known: Vec<&str> =
                destinations.prefixes().map(|(prefix, _)| &**prefix).collect();
            known.sort_unstable();
            return Err(format!("it begins with none of {}", known.join(", ")));
        };
        if rest.is_empty() {
            return Err(format!("nothing follows {prefix}; {prefix}/** is everything there"));
        }
        match kind {
            Kind::Topic => Ok(Self::Topic { prefix: prefix.clone(), key: Template::parse(rest)? }),
            Kind::App => Ok(Self::App { prefix: prefix.clone(), key: Template::parse(rest)? }),
            Kind::Exchange => exchange(rest),
            Kind::User => user(rest, destinations),
            Kind::Queue | Kind::AmqQueue | Kind::TempQueue | Kind::ReplyQueue | Kind::Group => {
                if outside_braces(rest).contains('/') {
                    return Err(format!(
                        "{prefix} is followed by one name, its words separated by dots; a slash in it \
                         is written %2F"
                    ));
                }
                Ok(Self::Named { kind, name: Template::parse(rest)? })
            }
            // The table does not hand these out.
            Kind::Off => Err(format!("{prefix} is switched off")),
        }
    }

    /// Whether `target` relates so to what this pattern is for `principal`.
    pub(crate) fn relates(
        &self,
        relation: Relation,
        target: &Target<'_>,
        principal: &Principal,
    ) -> bool {
        let related =
            |template: &Template, key: &Key<'_>| template.relates(relation, key, principal);
        match (self, target) {
            (Self::Any, _) | (Self::Users, Target::Own { .. } | Target::Of { .. }) => true,
            (Self::Topic { prefix, key }, Target::Topic { prefix: asked, key: to })
            | (Self::App { prefix, key }, Target::App { prefix: asked, key: to }) => {
                **prefix == **asked && related(key, to)
            }
            (Self::Named { kind, name }, Target::Named { kind: asked, name: to }) => {
                kind == asked && related(name, to)
            }
            (Self::Exchange { name, key }, Target::Exchange { name: asked, key: to }) => {
                related(name, asked) && related(key, to)
            }
            (Self::Own { path }, Target::Own { path: to }) => related(path, to),
            (Self::Of { name, path }, Target::Of { name: asked, path: to }) => {
                name.is(asked, principal) && related(path, to)
            }
            _ => false,
        }
    }

    /// Whether whatever `inner` is for anybody is within this pattern, whoever asks.
    pub(crate) fn contains(&self, inner: &Self) -> bool {
        match (self, inner) {
            (Self::Any, _) | (Self::Users, Self::Users | Self::Own { .. } | Self::Of { .. }) => {
                true
            }
            (Self::Topic { prefix, key }, Self::Topic { prefix: of, key: inner })
            | (Self::App { prefix, key }, Self::App { prefix: of, key: inner }) => {
                prefix == of && key.contains(inner)
            }
            (Self::Named { kind, name }, Self::Named { kind: of, name: inner }) => {
                kind == of && name.contains(inner)
            }
            (Self::Exchange { name, key }, Self::Exchange { name: of, key: inner }) => {
                name.contains(of) && key.contains(inner)
            }
            (Self::Own { path }, Self::Own { path: inner }) => path.contains(inner),
            (Self::Of { name, path }, Self::Of { name: of, path: inner }) => {
                (*name == Name::Any || name == of) && path.contains(inner)
            }
            _ => false,
        }
    }
}

impl Name {
    fn is(&self, asked: &str, principal: &Principal) -> bool {
        match self {
            Self::Any => true,
            Self::Is(name) => name == asked,
            Self::Of(placeholder) => {
                placeholder.value(principal).is_some_and(|value| value == asked)
            }
        }
    }
}

impl<'a> Target<'a> {
    /// `destination` as it is compared; none if it holds more wildcards than can be compared in time.
    /// `listens` says that messages shall come from there.
    pub(crate) fn new(
        destination: &'a Destination,
        listens: bool,
        destinations: &Destinations,
    ) -> Option<Self> {
        let exact = |text: &'a str| Key { text: text.into(), is_pattern: false };
        let named = |kind, name: &'a str| Self::Named { kind, name: exact(name) };
        Some(match destination {
            Destination::Topic(topic) => Self::Topic {
                prefix: topic.prefix(),
                key: Key { text: (&**topic.key()).into(), is_pattern: topic.is_pattern() },
            },
            Destination::Queue(name) => named(Kind::Queue, name),
            Destination::AmqQueue(name) => named(Kind::AmqQueue, name),
            Destination::TempQueue(name) => named(Kind::TempQueue, name),
            Destination::ReplyQueue(name) => named(Kind::ReplyQueue, name),
            Destination::Group(name) => named(Kind::Group, name),
            Destination::Exchange { exchange, key } => {
                let key = key.as_deref().unwrap_or_default();
                // Nobody counted the # of a binding key yet.
                if listens && key.split('.').filter(|word| *word == "#").count() > 2 {
                    return None;
                }
                let key = Key { text: key.into(), is_pattern: listens };
                Self::Exchange { name: exact(exchange), key }
            }
            Destination::User(UserDestination { name, path }) => {
                let path = Key { text: path_key(path, destinations).into(), is_pattern: false };
                match name {
                    None => Self::Own { path },
                    Some(name) => Self::Of { name, path },
                }
            }
            Destination::App(App { prefix, path }) => {
                Self::App { prefix, key: Key { text: exact_key(path).into(), is_pattern: false } }
            }
        })
    }
}

/// The prefix that `text` begins with, its kind, and what follows it and its slash.
fn split<'a, 't>(
    text: &'t str,
    destinations: &'a Destinations,
) -> Option<(&'a ByteString, Kind, &'t str)> {
    destinations.prefixes().find_map(|(prefix, kind)| {
        let rest = text.strip_prefix(&**prefix)?;
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
        Some((prefix, kind, rest))
    })
}

fn within_user(kind: Kind) -> bool {
    matches!(kind, Kind::Topic | Kind::Queue)
}

/// The words of a path within a user: those of its prefix, then those behind.
fn path_key(path: &str, destinations: &Destinations) -> String {
    match split(path, destinations).filter(|(_, kind, _)| within_user(*kind)) {
        Some((prefix, _, rest)) => {
            let words = prefix.split('/').filter(|word| !word.is_empty());
            let words: Vec<_> = words.map(|word| word.replace('.', "%2E")).collect();
            format!("{}.{}", words.join("."), exact_key(rest))
        }
        None => topic_words(path),
    }
}

fn topic_words(path: &str) -> String {
    exact_key(path.strip_prefix('/').unwrap_or(path))
}

/// A path within a user, with its slash in front.
fn path(text: &str, destinations: &Destinations) -> Result<Option<Template>, String> {
    if text == "/**" || text == "/#" {
        return Ok(Some(Template::all()));
    }
    match split(text, destinations).filter(|(_, kind, _)| within_user(*kind)) {
        Some((prefix, _, rest)) if !rest.is_empty() => {
            Template::parse(rest).map(|words| Some(words.behind(&prefix.replace('.', "%2E"))))
        }
        Some((prefix, ..)) => Err(format!("nothing follows {prefix}")),
        None => Ok(None),
    }
}

fn user(rest: &str, destinations: &Destinations) -> Result<Pattern, String> {
    if rest == "**" || rest == "#" {
        return Ok(Pattern::Users);
    }
    if let Some(path) = path(&format!("/{rest}"), destinations)? {
        return Ok(Pattern::Own { path });
    }
    let wrong = || {
        let inner = destinations.prefixes().filter(|(_, kind)| within_user(*kind));
        let mut inner: Vec<&str> = inner.map(|(prefix, _)| &**prefix).collect();
        inner.sort_unstable();
        format!(
            "what follows must be {paths} and a name (one's own), or a user's name, * or {{user}}, and \
             then these",
            paths = inner.join(" or ")
        )
    };
    let behind = outside_braces(rest).find('/').ok_or_else(wrong)?;
    let (name, within) = rest.split_at(behind);
    let path = path(within, destinations)?.ok_or_else(wrong)?;
    let inside = name.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    let name = match (name, inside) {
        ("*", _) => Name::Any,
        (_, Some(inside)) => Name::Of(Placeholder::parse(inside)?),
        ("", _) => return Err(wrong()),
        (name, _) if name.contains(['*', '#', '?', '{', '}']) => {
            return Err(format!(
                "\"{name}\" holds a wildcard or brace; a user is a whole name, * or {{user}}"
            ));
        }
        (name, _) => Name::Is(name.replace("%2F", "/")),
    };
    Ok(Pattern::Of { name, path })
}

fn exchange(rest: &str) -> Result<Pattern, String> {
    if rest == "**" || rest == "#" {
        return Ok(Pattern::Exchange { name: Template::all(), key: Template::all() });
    }
    let (name, key) = match outside_braces(rest).find('/') {
        None => (rest, Template::empty()),
        Some(slash) => {
            let key = &rest[slash + 1..];
            if key != "**" && outside_braces(key).contains('/') {
                return Err(
                    "an exchange and one key are separated by a slash, the words of the key by \
                            dots; a slash in them is written %2F"
                        .to_owned(),
                );
            }
            (&rest[..slash], Template::parse(key)?)
        }
    };
    Ok(Pattern::Exchange { name: Template::parse(name)?, key })
}

/// The text with other letters, of the same lengths, for what stands between braces.
fn outside_braces(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        inside |= letter == '{';
        if inside {
            out.extend(std::iter::repeat_n('_', letter.len_utf8()));
        } else {
            out.push(letter);
        }
        inside &= letter != '}';
    }
    out
}
