//! What a token says of its bearer: a JSON object, asked by name.
//!
//! Not here: whether it is true ([`crate::jwt`]), what follows from it ([`crate::rules`]).

use std::borrow::Cow;

use bytestring::ByteString;
use serde_json::{Map, Value};

/// A JSON object of claims.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// The claim of that name. A name with dots may also lead into objects: `realm_access.roles` is the
    /// member `roles` of the claim `realm_access`, unless there is a claim of the whole name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        within(&self.0, name)
    }

    /// The claim of that name as one text: a text, or a whole number written in digits.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.get(name)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) if number.is_u64() || number.is_i64() => {
                Some(Cow::Owned(number.to_string()))
            }
            _ => None,
        }
    }

    /// The texts in the claim of that name: those of a list, or the words of one text between spaces,
    /// as OAuth writes `scope` (RFC 6749, section 3.3).
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let (list, text) = match self.get(name) {
            Some(Value::Array(list)) => (list.as_slice(), ""),
            Some(Value::String(text)) => (&[][..], text.as_str()),
            _ => (&[][..], ""),
        };
        list.iter().filter_map(Value::as_str).chain(text.split_ascii_whitespace())
    }

    /// All of it.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The texts in the claim of that name, to be kept.
    pub(crate) fn roles(&self, name: &str) -> Vec<ByteString> {
        self.texts(name).map(ByteString::from).collect()
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

fn within<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| match object.get(&name[..dot])? {
            Value::Object(inner) => within(inner, &name[dot + 1..]),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        match value {
            Value::Object(map) => map.into(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_name_with_dots_leads_into_objects_unless_it_is_a_whole_name() {
        let claims = claims(json!({
            "realm_access": { "roles": ["a"], "x.y": { "z": 1 } },
            "https://example.com/roles": ["b"],
            "a.b": 2, "a": { "b": 3 },
        }));
        assert_eq!(claims.get("realm_access.roles"), Some(&json!(["a"])));
        assert_eq!(claims.get("realm_access.x.y.z"), Some(&json!(1)));
        assert_eq!(claims.get("https://example.com/roles"), Some(&json!(["b"])));
        assert_eq!(claims.get("a.b"), Some(&json!(2)));
        assert_eq!(claims.get("realm_access.none"), None);
        assert_eq!(claims.get("a.b.c"), None);
        assert_eq!(claims.get(""), None);
    }

    #[test]
    fn texts_are_those_of_a_list_or_the_words_of_a_text() {
        let claims = claims(json!({ "list": ["a b", 1, "c"], "scope": "read  write", "n": 7 }));
        assert_eq!(claims.texts("list").collect::<Vec<_>>(), ["a b", "c"]);
        assert_eq!(claims.texts("scope").collect::<Vec<_>>(), ["read", "write"]);
        assert_eq!(claims.texts("n").count() + claims.texts("none").count(), 0);
        assert_eq!(claims.text("n").as_deref(), Some("7"));
        assert_eq!(claims.text("list"), None);
    }
}
