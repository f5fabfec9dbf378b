//! The names of keys, one hash tag for what must change together.
//!
//! | key | holds |
//! |---|---|
//! | `{u:<user>}:i:<path>:<letter>` | an inbox: what each letter is, `common.lua` says |
//! | `{u:<user>}:i:<path>:k:<key>` | an idempotency key: `<id> <epoch>` |
//! | `{u:<user>}:inboxes` | sorted by 0: the user's paths with anything in them; by when they are forgotten: others |
//! | `{o:<destination>}:i::<letter>`, `{o:<destination>}:inboxes` | the same of an outbox |
//! | `{due:<0..15>}:at` | sorted: inbox by when it is to be looked at |
//! | `{due:<0..15>}:looking` | sorted: inbox that somebody looks at, by when that one counts as dead |
//! | `known:<0..15>` | sorted by name: users who are known |
//!
//! All begin with `<namespace>:`. Invariant: different inboxes make different keys, and a name never reaches
//! beyond its hash tag, as what is not a letter, a digit or one of `-_.~@`, nor a `/` of a path, is
//! percent-encoded.

use std::fmt::Write;

use bytestring::ByteString;
use presence::UserName;

use crate::Address;

/// Over how many keys the indexes of all inboxes are spread.
pub(super) const SHARDS: usize = 16;

/// What an inbox consists of, in the order in which scripts get it.
const PARTS: [&str; 13] = ["x", "e", "q", "w", "h", "b", "a", "t", "s", "y", "f", "c", "r"];

/// Which of [`Keys::inbox`] is about the inbox.
pub(super) const ABOUT: usize = 0;

/// Which of [`Keys::inbox`] is sorted by number, by when it is due, and by when it failed.
pub(super) const LINE: usize = 2;
pub(super) const SCHEDULED: usize = 8;
pub(super) const FAILED: usize = 10;

#[derive(Debug, Clone)]
pub(super) struct Keys {
    namespace: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// The keys that every script of an inbox gets.
    pub(super) fn inbox(&self, of: &Address) -> Vec<String> {
        let stem = self.stem(of);
        let mut keys = Vec::with_capacity(PARTS.len() + 2);
        keys.extend(PARTS.iter().map(|part| format!("{stem}:{part}")));
        keys.push(format!("{}:inboxes", self.tag(of)));
        keys
    }

    /// The key that follows them where there is an idempotency key.
    pub(super) fn idempotency(&self, of: &Address, key: &str) -> String {
        format!("{}:k:{}", self.stem(of), encoded(key, b""))
    }

    pub(super) fn inboxes_of(&self, user: &UserName) -> String {
        format!("{}:{{u:{}}}:inboxes", self.namespace, encoded(user.as_str(), b""))
    }

    pub(super) fn known(&self, shard: usize) -> String {
        format!("{}:known:{shard}", self.namespace)
    }

    /// Inboxes by when they are to be looked at, and those that somebody looks at.
    pub(super) fn due(&self, shard: usize) -> [String; 2] {
        ["at", "looking"].map(|what| format!("{}:{{due:{shard}}}:{what}", self.namespace))
    }

    fn tag(&self, of: &Address) -> String {
        match of {
            Address::User { user, .. } => {
                format!("{}:{{u:{}}}", self.namespace, encoded(user.as_str(), b""))
            }
            Address::Outbox { destination } => {
                format!("{}:{{o:{}}}", self.namespace, encoded(destination, b"/"))
            }
        }
    }

    fn stem(&self, of: &Address) -> String {
        let path = match of {
            Address::User { path, .. } => encoded(path, b"/"),
            Address::Outbox { .. } => String::new(),
        };
        format!("{}:i:{path}", self.tag(of))
    }
}

fn encoded(name: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' | b'@' => out.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() || also.contains(&byte) => out.push(byte.into()),
            // Writing to a string does not fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// In which of the [`SHARDS`] a name is, in every process and version (FNV-1a).
pub(super) fn shard(name: &[u8]) -> usize {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash >> 32) % SHARDS as u64) as usize
}

/// The name of an inbox in an index.
pub(super) fn member(of: &Address) -> Vec<u8> {
    match of {
        Address::User { user, path } => {
            format!("u{}:{user}{path}", user.as_str().len()).into_bytes()
        }
        Address::Outbox { destination } => format!("o{destination}").into_bytes(),
    }
}

/// The inbox that [`member`] named so.
pub(super) fn address(member: &[u8]) -> Option<Address> {
    let text = std::str::from_utf8(member).ok()?;
    if let Some(destination) = text.strip_prefix('o') {
        return Some(Address::Outbox { destination: destination.into() });
    }
    let (length, rest) = text.strip_prefix('u')?.split_once(':')?;
    let (user, path) = rest.split_at_checked(length.parse().ok()?)?;
    Some(Address::of_user(UserName::new(user.to_owned()).ok()?, ByteString::from(path)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(user: &str, path: &str) -> Address {
        Address::of_user(UserName::new(user.to_owned()).unwrap(), path.into())
    }

    /// What Redis Cluster hashes of a key: between the first `{` and the next `}`.
    fn tag(key: &str) -> &str {
        let from = key.find('{').unwrap() + 1;
        &key[from..from + key[from..].find('}').unwrap()]
    }

    #[test]
    fn plain_names_stay_readable() {
        let keys = Keys::new("fb");
        let ann = of("ann@example.org", "/queue/news");
        let all = keys.inbox(&ann);
        assert_eq!(all[0], "fb:{u:ann@example.org}:i:/queue/news:x");
        assert_eq!(all[LINE], "fb:{u:ann@example.org}:i:/queue/news:q");
        assert_eq!(all[SCHEDULED], "fb:{u:ann@example.org}:i:/queue/news:s");
        assert_eq!(all[FAILED], "fb:{u:ann@example.org}:i:/queue/news:f");
        assert_eq!(all[13], "fb:{u:ann@example.org}:inboxes");
        assert_eq!(
            keys.idempotency(&ann, "order 1"),
            "fb:{u:ann@example.org}:i:/queue/news:k:order%201"
        );
    }

    proptest! {
        #[test]
        fn different_inboxes_make_different_keys(
            one in ("[a{}:%/]{1,4}|\\PC{1,4}", "[a{}:%/]{1,4}|\\PC{1,4}"),
            other in ("[a{}:%/]{1,4}|\\PC{1,4}", "[a{}:%/]{1,4}|\\PC{1,4}"),
        ) {
            let keys = Keys::new("fb");
            let inboxes = [
                of(&one.0, &one.1),
                of(&other.0, &other.1),
                Address::Outbox { destination: (&*one.1).into() },
            ];
            for (n, inbox) in inboxes.iter().enumerate() {
                let mut all = keys.inbox(inbox);
                all.push(keys.idempotency(inbox, &one.0));
                prop_assert!(all.iter().all(|key| tag(key) == tag(&all[0])));
                prop_assert_eq!(address(&member(inbox)), Some(inbox.clone()));
                for (m, another) in inboxes.iter().enumerate() {
                    let theirs = keys.inbox(another);
                    let is_same = inbox == another;
                    prop_assert_eq!(all[..13].iter().any(|key| theirs[..13].contains(key)), is_same);
                    prop_assert!(n != m || is_same);
                }
            }
        }
    }
}
