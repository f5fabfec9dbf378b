//! The names of keys, one hash tag for what must change together.
//!
//! | key | holds |
//! |---|---|
//! | `{nodes}:epoch` | a random text, set once |
//! | `{nodes}:leases` | sorted: boot by the end of its lease, in ms of Redis's clock |
//! | `{nodes}:standing` | hash: boot to `<term> full`, or `<term> partial` while it registers |
//! | `{nodes}:reaped` | sorted: boot by when its sessions were cleared away |
//! | `{nodes}:reap:<boot>` | the reaper that clears that node away, 10 s |
//! | `users` | sorted by name: users who are online |
//! | `lingering` | sorted: user by when to look whether it is offline |
//! | `{u:<user>}:s` | hash: session to `<term> <stamp> <boot> <json>` |
//! | `{u:<user>}:on` | there while the user is told online |
//! | `{u:<user>}:ban` | there while the user is banned |
//! | `{u:<user>}:g`, `{s:<session>}:g` | set: the groups it was added to |
//! | `{n:<boot>}:s` | hash: session to `<term> <user>`; written before the user's hash, removed after |
//! | `{g:<group>}:m` | sorted by name: members |
//! | `{g:<group>}:x` | sorted: members by the end of their time, those that have one |
//! | `{j:<name>}` | the boot that holds the session which its client named so, for a time |
//!
//! All begin with `<namespace>:`. Invariant: different names make different keys, and a name never reaches
//! beyond its hash tag, as what is not a letter, a digit or one of `-_.~@` is percent-encoded.

use std::fmt::Write;

use crate::{Boot, GroupName, Member, SessionId, SessionName, UserName};

#[derive(Debug, Clone)]
pub(super) struct Keys {
    namespace: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    pub(super) fn epoch(&self) -> String {
        self.nodes("epoch")
    }

    pub(super) fn leases(&self) -> String {
        self.nodes("leases")
    }

    pub(super) fn standing(&self) -> String {
        self.nodes("standing")
    }

    pub(super) fn reaped(&self) -> String {
        self.nodes("reaped")
    }

    pub(super) fn reap(&self, boot: Boot) -> String {
        self.nodes(&format!("reap:{boot}"))
    }

    pub(super) fn users(&self) -> String {
        format!("{}:users", self.namespace)
    }

    pub(super) fn lingering(&self) -> String {
        format!("{}:lingering", self.namespace)
    }

    pub(super) fn sessions_of(&self, user: &UserName) -> String {
        self.user(user, "s")
    }

    pub(super) fn online(&self, user: &UserName) -> String {
        self.user(user, "on")
    }

    pub(super) fn ban(&self, user: &UserName) -> String {
        self.user(user, "ban")
    }

    pub(super) fn groups_of(&self, member: &Member) -> String {
        match member {
            Member::User(user) => self.user(user, "g"),
            Member::Session(id) => self.groups_of_session(id),
        }
    }

    pub(super) fn groups_of_session(&self, id: &SessionId) -> String {
        format!("{}:{{s:{id}}}:g", self.namespace)
    }

    pub(super) fn sessions_on(&self, boot: Boot) -> String {
        format!("{}:{{n:{boot}}}:s", self.namespace)
    }

    pub(super) fn owner(&self, session: &SessionName) -> String {
        format!("{}:{{j:{}}}", self.namespace, encoded(session.as_str()))
    }

    pub(super) fn members(&self, group: &GroupName) -> String {
        format!("{}:{{g:{}}}:m", self.namespace, encoded(group.as_str()))
    }

    pub(super) fn ends(&self, group: &GroupName) -> String {
        format!("{}:{{g:{}}}:x", self.namespace, encoded(group.as_str()))
    }

    fn nodes(&self, what: &str) -> String {
        format!("{}:{{nodes}}:{what}", self.namespace)
    }

    fn user(&self, user: &UserName, what: &str) -> String {
        format!("{}:{{u:{}}}:{what}", self.namespace, encoded(user.as_str()))
    }
}

fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' | b'@' => out.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            // Writing to a string does not fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys_of(user: &str, group: &str) -> [String; 7] {
        let keys = Keys::new("fb");
        let user = UserName::new(user.to_owned()).unwrap();
        let session = SessionName::new(group.to_owned()).unwrap();
        let group = GroupName::new(group.to_owned()).unwrap();
        [
            keys.sessions_of(&user),
            keys.online(&user),
            keys.ban(&user),
            keys.groups_of(&Member::User(user)),
            keys.members(&group),
            keys.ends(&group),
            keys.owner(&session),
        ]
    }

    /// What Redis Cluster hashes of a key: between the first `{` and the next `}`.
    fn tag(key: &str) -> &str {
        let from = key.find('{').unwrap() + 1;
        &key[from..from + key[from..].find('}').unwrap()]
    }

    #[test]
    fn plain_names_stay_readable() {
        let [sessions, .., members, _, owner] = keys_of("ann@example.org", "team-1");
        assert_eq!(sessions, "fb:{u:ann@example.org}:s");
        assert_eq!(members, "fb:{g:team-1}:m");
        assert_eq!(owner, "fb:{j:team-1}");
    }

    #[test]
    fn a_name_does_not_reach_beyond_its_tag() {
        let [sessions, ..] = keys_of("a}:s:{b %", "g");
        assert_eq!(sessions, "fb:{u:a%7D%3As%3A%7Bb%20%25}:s");
    }

    proptest! {
        #[test]
        fn different_names_make_different_keys(
            one in "[a{}:%0-9]{1,6}|\\PC{1,6}",
            other in "[a{}:%0-9]{1,6}|\\PC{1,6}",
        ) {
            let (ours, theirs) = (keys_of(&one, &one), keys_of(&other, &other));
            for (n, key) in ours.iter().enumerate() {
                for (m, their) in theirs.iter().enumerate() {
                    prop_assert_eq!(key == their, n == m && one == other);
                }
            }
            // Whatever a script of one user or group touches is in one slot.
            prop_assert!(ours[..4].iter().all(|key| tag(key) == tag(&ours[0])));
            prop_assert_eq!(tag(&ours[4]), tag(&ours[5]));
            prop_assert!(tag(&ours[0]) != tag(&ours[4]));
        }
    }
}
