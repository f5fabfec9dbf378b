//! Whom a rule is about.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::principal::{Authentication, Principal};

/// Those whom a rule is about, as `who` of `[[access.rules]]` says it.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// `"everyone"`.
    Everyone,
    /// `"authenticated"`: everyone who showed who they are.
    Authenticated,
    /// `"anonymous"`: everyone who did not.
    Anonymous,
    /// `{ users = ["ann", "bob"] }`: these, if they showed it.
    Users(Vec<String>),
    /// `{ roles = ["admin"] }`: everyone with one of these roles.
    Roles(Vec<String>),
    /// `{ claim = "tier", equals = "gold" }`: everyone whose claim is just that.
    Equals {
        /// The claim's name.
        claim: String,
        /// A text, a number, true or false.
        value: Value,
    },
    /// `{ claim = "groups", contains = "staff" }`: everyone whose claim is a list with that text, or a
    /// text with that word.
    Contains {
        /// The claim's name.
        claim: String,
        /// The text or word.
        text: String,
    },
    /// A list of the above: everyone about whom one of them is.
    Any(Vec<Who>),
}

impl Who {
    /// Whether `principal` is one of them.
    pub fn includes(&self, principal: &Principal) -> bool {
        match self {
            Self::Everyone => true,
            Self::Authenticated => principal.is_authenticated(),
            Self::Anonymous => match principal.authentication {
                Authentication::Anonymous | Authentication::Unproven => true,
                Authentication::Token | Authentication::Passcode => false,
            },
            Self::Users(names) => {
                principal.is_authenticated() && names.iter().any(|name| *principal.name == **name)
            }
            Self::Roles(roles) => roles.iter().any(|role| principal.has_role(role)),
            Self::Equals { claim, value } => principal.claims.get(claim) == Some(value),
            Self::Contains { claim, text } => {
                principal.claims.texts(claim).any(|has| has == text)
                    || principal.claims.get(claim).and_then(Value::as_str) == Some(text)
            }
            Self::Any(list) => list.iter().any(|who| who.includes(principal)),
        }
    }
}

/// The table that stands for some of them.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    equals: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contains: Option<String>,
}

/// What may be written.
const FORMS: &str = "\"everyone\", \"authenticated\", \"anonymous\", { users = [\"...\"] }, \
                     { roles = [\"...\"] }, { claim = \"...\", equals = \"...\" }, \
                     { claim = \"...\", contains = \"...\" }, or a list of these";

impl TryFrom<Table> for Who {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        match table {
            Table {
                users: Some(users),
                roles: None,
                claim: None,
                equals: None,
                contains: None,
            } => Ok(Self::Users(users)),
            Table {
                users: None,
                roles: Some(roles),
                claim: None,
                equals: None,
                contains: None,
            } => Ok(Self::Roles(roles)),
            Table {
                users: None,
                roles: None,
                claim: Some(claim),
                equals: Some(value),
                contains: None,
            } => match value {
                Value::String(_) | Value::Number(_) | Value::Bool(_) => {
                    Ok(Self::Equals { claim, value })
                }
                _ => Err("equals must be a text, a number, true or false".to_owned()),
            },
            Table {
                users: None,
                roles: None,
                claim: Some(claim),
                equals: None,
                contains: Some(text),
            } => Ok(Self::Contains { claim, text }),
            _ => Err(format!("this says nobody; write {FORMS}")),
        }
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = Who;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORMS)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Who, E> {
                match text {
                    "everyone" => Ok(Who::Everyone),
                    "authenticated" => Ok(Who::Authenticated),
                    "anonymous" => Ok(Who::Anonymous),
                    other => Err(E::custom(format!("\"{other}\" is nobody; write {FORMS}"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Who, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Who::try_from(table).map_err(A::Error::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Who, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Who::Any)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = match self.clone() {
            Self::Everyone => return serializer.serialize_str("everyone"),
            Self::Authenticated => return serializer.serialize_str("authenticated"),
            Self::Anonymous => return serializer.serialize_str("anonymous"),
            Self::Any(list) => return list.serialize(serializer),
            Self::Users(users) => Table { users: Some(users), ..Table::default() },
            Self::Roles(roles) => Table { roles: Some(roles), ..Table::default() },
            Self::Equals { claim, value } => {
                Table { claim: Some(claim), equals: Some(value), ..Table::default() }
            }
            Self::Contains { claim, text } => {
                Table { claim: Some(claim), contains: Some(text), ..Table::default() }
            }
        };
        table.serialize(serializer)
    }
}
