//! What the queues of subscriptions are called.
//!
//! Invariants
//! - Every name begins with `stomp-`, by which operators give such queues their policies.
//! - A queue that stays is found again by the same subscriber, on whichever node, under the same name.
//! - By the default no two subscribers find each other's queue, whatever they call theirs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytestring::ByteString;
use md5::{Digest, Md5};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// How the queue of a durable subscription is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SubscriptionNames {
    /// By user, exchange, key and id: each user has subscriptions of its own.
    #[default]
    #[serde(rename = "user")]
    User,
    /// As RabbitMQ's STOMP plugin names it up to 4.3, by key and id: the queues that its clients left
    /// behind are found again, and whoever says the same shares them.
    #[serde(rename = "plugin")]
    Plugin,
    /// As the plugin names it from 4.4 on.
    #[serde(rename = "plugin-4.4")]
    Plugin44,
}

/// Who subscribes to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept<'a> {
    /// The user, or none where such queues are not a user's own.
    pub(crate) owner: Option<&'a str>,
    pub(crate) exchange: &'a str,
    pub(crate) key: &'a str,
    /// What the subscriber calls it.
    pub(crate) id: &'a str,
}

/// What begins the name of a subscription's queue.
const SUBSCRIPTION: &str = "stomp-subscription-";

/// What begins the name of a reply queue.
const REPLY: &str = "stomp-reply-";

/// A name for the queue of one subscription, which nobody can guess.
pub(crate) fn own() -> ByteString {
    random(SUBSCRIPTION)
}

/// A name for a reply queue: whoever knows it may reply.
pub(crate) fn reply() -> ByteString {
    random(REPLY)
}

/// Whether it is the name of a reply queue.
pub(crate) fn is_reply(queue: &str) -> bool {
    queue.starts_with(REPLY)
}

fn random(begin: &str) -> ByteString {
    let secret: [u8; 16] = rand::rng().random();
    format!("{begin}{}", URL_SAFE_NO_PAD.encode(secret)).into()
}

impl SubscriptionNames {
    /// The name of the queue that `kept` finds again.
    pub(crate) fn kept(self, kept: Kept<'_>) -> ByteString {
        let mut hash = Md5::new();
        match self {
            Self::User => {
                hash.update([u8::from(kept.owner.is_some())]);
                for part in [kept.owner.unwrap_or_default(), kept.exchange, kept.key, kept.id] {
                    hash.update(length(part).to_be_bytes());
                    hash.update(part);
                }
            }
            Self::Plugin => {
                hash.update(PAIR);
                for part in [kept.key, kept.id] {
                    // Erlang's strings; these are at most 64 KiB, and an empty one is an empty list.
                    match u16::try_from(part.len()) {
                        Ok(0) => hash.update([NIL]),
                        Ok(length) => {
                            hash.update([STRING]);
                            hash.update(length.to_be_bytes());
                            hash.update(part);
                        }
                        Err(_) => {
                            hash.update([LIST]);
                            hash.update(length(part).to_be_bytes());
                            for byte in part.bytes() {
                                hash.update([SMALL_INTEGER, byte]);
                            }
                            hash.update([NIL]);
                        }
                    }
                }
            }
            Self::Plugin44 => {
                hash.update(PAIR);
                for part in [kept.key, kept.id] {
                    hash.update([BINARY]);
                    hash.update(length(part).to_be_bytes());
                    hash.update(part);
                }
            }
        }
        format!("{SUBSCRIPTION}{}", URL_SAFE_NO_PAD.encode(hash.finalize())).into()
    }
}

// Tags of Erlang's external term format, <https://www.erlang.org/doc/apps/erts/erl_ext_dist>.
/// The format's version, and a tuple of two.
const PAIR: [u8; 3] = [131, 104, 2];
const SMALL_INTEGER: u8 = 97;
const NIL: u8 = 106;
const STRING: u8 = 107;
const LIST: u8 = 108;
const BINARY: u8 = 109;

fn length(part: &str) -> u32 {
    u32::try_from(part.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Kept<'_> = Kept { owner: Some("ann"), exchange: "amq.topic", key: "a.b", id: "s1" };

    /// Observed at the plugin of RabbitMQ 3.10.8.
    #[test]
    fn a_name_of_the_plugin_is_the_plugins() {
        let name = SubscriptionNames::Plugin.kept(KEPT);
        assert_eq!(name, "stomp-subscription-tZkUyKxczL6C9kpilXdR9w");
        let other = Kept { owner: Some("bob"), exchange: "x", ..KEPT };
        assert_eq!(SubscriptionNames::Plugin.kept(other), name);
        assert_ne!(SubscriptionNames::Plugin44.kept(KEPT), name);
    }

    #[test]
    fn nobody_finds_the_queue_of_another() {
        let names = [
            KEPT,
            Kept { owner: None, ..KEPT },
            Kept { owner: Some(""), ..KEPT },
            Kept { owner: Some("bob"), ..KEPT },
            Kept { exchange: "x", ..KEPT },
            Kept { key: "a.bs", id: "1", ..KEPT },
            Kept { key: "a.", id: "bs1", ..KEPT },
            Kept { id: "s2", ..KEPT },
        ]
        .map(|kept| SubscriptionNames::User.kept(kept));
        for (n, name) in names.iter().enumerate() {
            assert!(name.starts_with("stomp-subscription-") && name.len() == 19 + 22, "{name}");
            assert!(!names[..n].contains(name), "{name}");
        }
        assert_eq!(SubscriptionNames::User.kept(KEPT), names[0]);
    }

    #[test]
    fn names_that_are_given_once_are_given_once() {
        assert_ne!(own(), own());
        assert!(own().starts_with("stomp-subscription-"));
        assert!(reply().starts_with("stomp-reply-"));
    }
}
