//! A session as presence knows it: whose it is, where it is, and what is known of it.
//!
//! Invariants
//! - A session's id begins with its node's name, so it is reached without a lookup.
//! - What is kept of a session is bounded: its name by [`MAX_NAME`](crate::MAX_NAME), the rest by
//!   [`MAX_TEXT`], [`MAX_ATTRIBUTES`] and [`MAX_DEPTH`].

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use rand::RngExt;
#[cfg(feature = "redis")]
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::boot::NODE_NAME;
use crate::{Boot, UserName};

/// The longest address and device in bytes.
pub const MAX_TEXT: usize = 256;
/// The most that the attributes of a session may take, as JSON, in bytes.
pub const MAX_ATTRIBUTES: usize = 4096;

/// How deep the attributes of a session may be nested: readers of JSON give up somewhere.
pub const MAX_DEPTH: usize = 32;

/// How long an id is.
const ID: usize = NODE_NAME + RANDOM;
const RANDOM: usize = 22;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Names a session cluster-wide: eight characters that name the node, 22 that cannot be guessed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(ByteString);

/// Text that is no session's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session's id is {ID} letters and digits")]
pub struct NotASessionId;

/// What is known of a session besides: claims of its token, annotations. A JSON object.
pub type Attributes = Map<String, Value>;

/// A session that is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its id, of the node that holds it.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserName,
    /// The node that holds it.
    pub boot: Boot,
    /// Where the client is, as text; empty when that is not known.
    pub address: ByteString,
    /// What the client is, such as its user agent; empty when that is not known.
    pub device: ByteString,
    /// When it began, kept to the millisecond.
    pub since: SystemTime,
    /// What else is known of it.
    pub attributes: Attributes,
}

/// What of a session is more than is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {size} exceeds the limit of {limit}")]
pub struct TooMuch {
    /// What is too long or too deep.
    pub what: &'static str,
    /// Its length in bytes, or its depth.
    pub size: usize,
    /// The limit, alike.
    pub limit: usize,
}

impl SessionId {
    /// A new id for a session of `boot`, from a generator fit for secrets.
    #[must_use]
    pub fn generate(boot: Boot) -> Self {
        let mut rng = rand::rng();
        let mut id = boot.node_name();
        // 62 to the power of 22 is 2 to the power of 131.
        id.extend((0..RANDOM).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])));
        Self(id.into())
    }

    /// That id.
    ///
    /// # Errors
    /// When it is not 30 ASCII letters and digits.
    pub fn new(id: impl Into<ByteString>) -> Result<Self, NotASessionId> {
        let id = id.into();
        match id.len() == ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => Ok(Self(id)),
            false => Err(NotASessionId),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its node, see [`Boot::node_name`].
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.0[..NODE_NAME]
    }
}

impl Session {
    /// A session of `user` that begins now, of which nothing else is known.
    #[must_use]
    pub fn new(id: SessionId, user: UserName, boot: Boot) -> Self {
        Self {
            id,
            user,
            boot,
            address: ByteString::new(),
            device: ByteString::new(),
            since: millis(since_epoch(SystemTime::now())),
            attributes: Attributes::new(),
        }
    }

    /// Whether it is within the limits.
    pub(crate) fn check(&self) -> Result<(), TooMuch> {
        // A map of strings always has a JSON text.
        let attributes = serde_json::to_vec(&self.attributes).map_or(0, |json| json.len());
        let depth = self.attributes.values().map(depth).max().unwrap_or_default() + 1;
        for (what, size, limit) in [
            ("an address", self.address.len(), MAX_TEXT),
            ("a device", self.device.len(), MAX_TEXT),
            ("attributes", attributes, MAX_ATTRIBUTES),
            ("a depth of attributes", depth, MAX_DEPTH),
        ] {
            if size > limit {
                return Err(TooMuch { what, size, limit });
            }
        }
        Ok(())
    }

    /// What a store keeps of it beside its id, user and boot.
    #[cfg(feature = "redis")]
    pub(crate) fn to_json(&self) -> String {
        let kept = Kept {
            since: since_epoch(self.since),
            address: self.address.to_string(),
            device: self.device.to_string(),
            attributes: self.attributes.clone(),
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// The session of which a store kept `json`.
    #[cfg(feature = "redis")]
    pub(crate) fn from_json(
        id: SessionId,
        user: UserName,
        boot: Boot,
        json: &str,
    ) -> Result<Self, serde_json::Error> {
        let kept: Kept = serde_json::from_str(json)?;
        Ok(Self {
            id,
            user,
            boot,
            address: kept.address.into(),
            device: kept.device.into(),
            since: millis(kept.since),
            attributes: kept.attributes,
        })
    }
}

/// A session in a store. What a newer version adds is skipped by an older one.
#[cfg(feature = "redis")]
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Milliseconds since 1970.
    since: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    device: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    attributes: Attributes,
}

/// How deep a value is nested; what is no list and no object is 0 deep.
fn depth(value: &Value) -> usize {
    let deepest = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(values) => values.values().map(depth).max(),
        _ => return 0,
    };
    deepest.unwrap_or_default() + 1
}

fn since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn millis(since_epoch: u64) -> SystemTime {
    // A time that this machine cannot hold is nonsense of somebody else's.
    UNIX_EPOCH.checked_add(Duration::from_millis(since_epoch)).unwrap_or(UNIX_EPOCH)
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let boot = Boot::generate();
        Session::new(SessionId::generate(boot), UserName::new("ann").unwrap(), boot)
    }

    #[test]
    fn an_id_names_its_node_and_is_no_other() {
        let boot = Boot::generate();
        let (one, other) = (SessionId::generate(boot), SessionId::generate(boot));
        assert_eq!(one.node_name(), boot.node_name());
        assert_ne!(one, other);
        assert_eq!(SessionId::new(one.as_str()), Ok(one));
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        let long = "x".repeat(ID + 1);
        for text in ["", "x", &long, "{nodes}:01234567890123456789012"] {
            assert_eq!(SessionId::new(text), Err(NotASessionId), "{text}");
        }
    }

    #[test]
    fn a_session_survives_its_json() {
        let mut one = session();
        one.address = "[::1]:80".into();
        one.device = "a \"browser\"".into();
        one.attributes.insert("tenant".into(), serde_json::json!({"id": [1, 2]}));
        let json = one.to_json();
        let again = Session::from_json(one.id.clone(), one.user.clone(), one.boot, &json).unwrap();
        assert_eq!(again, one);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut one = session();
        assert_eq!(one.check(), Ok(()));
        one.device = "x".repeat(MAX_TEXT + 1).into();
        assert_eq!(one.check().unwrap_err().what, "a device");
        let mut one = session();
        one.attributes.insert("a".into(), "x".repeat(MAX_ATTRIBUTES).into());
        assert_eq!(one.check().unwrap_err().what, "attributes");
    }

    #[test]
    fn what_is_too_deep_to_be_read_again_is_refused() {
        let mut one = session();
        let mut value = Value::Null;
        for depth in 1..MAX_DEPTH {
            one.attributes.insert("a".into(), value.clone());
            assert_eq!(one.check(), Ok(()), "{depth}");
            let json = one.to_json();
            Session::from_json(one.id.clone(), one.user.clone(), one.boot, &json).unwrap();
            value = Value::Array(vec![value]);
        }
        value = Value::Array(vec![value]);
        one.attributes.insert("a".into(), value);
        assert_eq!(one.check().unwrap_err().size, MAX_DEPTH + 1);
    }
}
