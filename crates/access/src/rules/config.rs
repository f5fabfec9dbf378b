//! Rules as the configuration writes them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Action;
use super::who::Who;

/// The key `rules` of `[access]`: a word, or a list of rules, which is written `[[access.rules]]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Rules {
    /// `"default"`: no rules; clients may SUBSCRIBE to topics and their own user destinations, SEND to the
    /// application, and use the groups they are in.
    #[default]
    Default,
    /// `"open"`: everybody may do everything.
    Open,
    /// These; the first that is about a request decides it.
    List(Vec<Rule>),
}

/// One entry of `[[access.rules]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    /// Whether it allows or forbids.
    pub effect: Effect,
    /// What: the value of `allow` or `deny`.
    pub actions: Vec<Action>,
    /// Where: patterns of destinations.
    pub destinations: Vec<String>,
    /// Whom.
    pub who: Who,
}

/// What a rule does with the requests that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// They are granted.
    Allow,
    /// They are refused.
    Deny,
}

/// What becomes of a request that no rule is about: the key `otherwise`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// Clients may SUBSCRIBE to topics and their own user destinations, SEND to the application, and use the
    /// groups they are in.
    #[default]
    Default,
    /// It is refused.
    Deny,
    /// It is granted.
    Open,
}

/// A rule as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allow: Option<OneOrMore<Action>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deny: Option<OneOrMore<Action>>,
    destination: OneOrMore<String>,
    who: Who,
}

/// A list, of which one alone may be written as itself.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
struct OneOrMore<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Forms<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
                T::deserialize(text.into_deserializer()).map(|one| vec![one])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list))
            }
        }
        deserializer.deserialize_any(Forms(PhantomData)).map(Self)
    }
}

impl TryFrom<Written> for Rule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let (effect, actions) = match (written.allow, written.deny) {
            (Some(actions), None) => (Effect::Allow, actions.0),
            (None, Some(actions)) => (Effect::Deny, actions.0),
            _ => return Err("a rule has either allow or deny"),
        };
        let destinations = written.destination.0;
        if actions.is_empty() {
            return Err("a rule allows or denies \"send\", \"subscribe\" or \"queue\"");
        }
        if destinations.is_empty() {
            return Err("a rule has at least one destination");
        }
        Ok(Self { effect, actions, destinations, who: written.who })
    }
}

impl From<Rule> for Written {
    fn from(rule: Rule) -> Self {
        let (mut allow, mut deny) = (None, None);
        match rule.effect {
            Effect::Allow => allow = Some(OneOrMore(rule.actions)),
            Effect::Deny => deny = Some(OneOrMore(rule.actions)),
        }
        Self { allow, deny, destination: OneOrMore(rule.destinations), who: rule.who }
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Rules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"default\", \"open\", or rules under [[access.rules]]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Rules, E> {
                match text {
                    "default" => Ok(Rules::Default),
                    "open" => Ok(Rules::Open),
                    other => Err(E::unknown_variant(other, &["default", "open"])),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Rules, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Rules::List)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Default => serializer.serialize_str("default"),
            Self::Open => serializer.serialize_str("open"),
            Self::List(rules) => rules.serialize(serializer),
        }
    }
}

/// In a word or two, for a person.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Open => f.write_str("open"),
            Self::List(rules) => write!(f, "{} of its own", rules.len()),
        }
    }
}
