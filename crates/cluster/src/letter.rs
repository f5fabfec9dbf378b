//! What nodes send each other, and how it is written.
//!
//! A letter is the body of a message in the broker, in protobuf: fields that a newer version adds are
//! skipped by an older one, and a letter of a kind that a node does not know is counted and skipped. So
//! neighbouring versions run side by side.
//!
//! Not here: which node a letter goes to (`router`), and what it does there.

mod stored;
mod wire;

use broker::MessageId;
use bytes::Bytes;
use bytestring::ByteString;
use presence::{Announcement, Boot, Epoch, GroupName, SessionId, UserName};
use prost::Message as _;

pub use self::stored::{Doorbell, Ring, Told};

/// One letter.
#[derive(Debug, Clone, PartialEq)]
pub enum Letter {
    /// A message for sessions of the node.
    Message(Addressed),
    /// Sessions are to end.
    Disconnect {
        /// Whose.
        of: Vec<Target>,
        /// What their clients are told.
        reason: ByteString,
    },
    /// Subscriptions are to end.
    Unsubscribe {
        /// Whose.
        of: Vec<Target>,
        /// To which destination, spelled as clients spell it.
        destination: ByteString,
    },
    /// Members have been removed from a group; it comes by the way of the group's messages.
    Revoke {
        /// From which.
        group: GroupName,
        /// Whom; nobody in particular means everybody.
        members: Vec<Target>,
    },
    /// A node says how it is.
    Announcement(Announcement),
    /// A node ends.
    GoodBye(Boot),
    /// Members have been added to a group: sessions that cannot subscribe hear it from now on.
    Grant {
        /// To which.
        group: GroupName,
        /// Whom.
        members: Vec<Target>,
    },
    /// Something came into inboxes of users of the node.
    Doorbell(Doorbell),
    /// What became of messages that this process has put into inboxes.
    Told(Vec<Told>),
}

/// A message and whom it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Addressed {
    /// Whom. For a group's message nobody: it is for those who are subscribed.
    pub to: Vec<Target>,
    /// The destination within the user, such as `/queue/x`; empty for a group's message.
    pub path: ByteString,
    /// Only sessions with all of these attributes.
    pub audience: Vec<(ByteString, ByteString)>,
    /// What they get.
    pub content: Content,
}

/// What sessions get.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// Unique across the cluster.
    pub id: MessageId,
    /// The sender's own headers, `content-type` among them.
    pub headers: Vec<(ByteString, ByteString)>,
    /// The body.
    pub body: Bytes,
}

/// Whom something is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// All sessions of a user.
    User(UserName),
    /// One session.
    Session(SessionId),
    /// Every session.
    All,
}

/// Bytes that are no letter this node can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They are nonsense, or from somebody else.
    #[error("not a letter: {0}")]
    Malformed(String),
    /// A newer version has such letters.
    #[error("a letter of a kind that this version does not know")]
    Unknown,
}

impl Letter {
    /// The letter as bytes.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let kind = match self {
            Self::Message(addressed) => wire::Kind::Message(addressed.into()),
            Self::Disconnect { of, reason } => wire::Kind::Disconnect(wire::Disconnect {
                of: write(of),
                reason: reason.to_string(),
            }),
            Self::Unsubscribe { of, destination } => wire::Kind::Unsubscribe(wire::Unsubscribe {
                of: write(of),
                destination: destination.to_string(),
            }),
            Self::Revoke { group, members } => wire::Kind::Revoke(wire::Members {
                group: group.to_string(),
                members: write(members),
            }),
            Self::Announcement(announcement) => wire::Kind::Announcement(wire::Announcement {
                boot: announcement.boot.to_string(),
                registered: announcement.registered.as_ref().map(Epoch::to_string),
                draining: announcement.draining,
                forward: announcement.forward.as_ref().map(ToString::to_string),
            }),
            Self::GoodBye(boot) => wire::Kind::GoodBye(boot.to_string()),
            Self::Grant { group, members } => wire::Kind::Grant(wire::Members {
                group: group.to_string(),
                members: write(members),
            }),
            Self::Doorbell(doorbell) => wire::Kind::Doorbell(doorbell.into()),
            Self::Told(told) => {
                wire::Kind::Told(wire::AllTold { told: told.iter().map(Into::into).collect() })
            }
        };
        wire::Letter { kind: Some(kind) }.encode_to_vec().into()
    }

    /// The letter that `bytes` are.
    ///
    /// # Errors
    /// When they are none, or of a kind that is not known here.
    pub fn read(bytes: Bytes) -> Result<Self, Unreadable> {
        let letter = wire::Letter::decode(bytes).map_err(malformed)?;
        Ok(match letter.kind.ok_or(Unreadable::Unknown)? {
            wire::Kind::Message(message) => Self::Message(message.try_into()?),
            wire::Kind::Disconnect(wire::Disconnect { of, reason }) => {
                Self::Disconnect { of: read(of)?, reason: reason.into() }
            }
            wire::Kind::Unsubscribe(wire::Unsubscribe { of, destination }) => {
                Self::Unsubscribe { of: read(of)?, destination: destination.into() }
            }
            wire::Kind::Revoke(wire::Members { group, members }) => Self::Revoke {
                group: GroupName::new(group).map_err(malformed)?,
                members: read(members)?,
            },
            wire::Kind::Announcement(wire::Announcement {
                boot,
                registered,
                draining,
                forward,
            }) => Self::Announcement(Announcement {
                boot: boot.parse().map_err(malformed)?,
                registered: registered.as_deref().map(Epoch::new),
                draining,
                forward: forward.map(Into::into),
            }),
            wire::Kind::GoodBye(boot) => Self::GoodBye(boot.parse().map_err(malformed)?),
            wire::Kind::Grant(wire::Members { group, members }) => Self::Grant {
                group: GroupName::new(group).map_err(malformed)?,
                members: read(members)?,
            },
            wire::Kind::Doorbell(doorbell) => Self::Doorbell(doorbell.try_into()?),
            wire::Kind::Told(wire::AllTold { told }) => {
                Self::Told(told.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
        })
    }
}

fn malformed(error: impl std::fmt::Display) -> Unreadable {
    Unreadable::Malformed(error.to_string())
}

fn write(targets: &[Target]) -> Vec<wire::Target> {
    let target = |target: &Target| match target {
        Target::User(name) => wire::OneTarget::User(name.to_string()),
        Target::Session(id) => wire::OneTarget::Session(id.to_string()),
        Target::All => wire::OneTarget::All(true),
    };
    targets.iter().map(|one| wire::Target { target: Some(target(one)) }).collect()
}

fn read(targets: Vec<wire::Target>) -> Result<Vec<Target>, Unreadable> {
    let target = |target: wire::Target| match target.target.ok_or(Unreadable::Unknown)? {
        wire::OneTarget::User(name) => UserName::new(name).map(Target::User).map_err(malformed),
        wire::OneTarget::Session(id) => SessionId::new(id).map(Target::Session).map_err(malformed),
        wire::OneTarget::All(_) => Ok(Target::All),
    };
    targets.into_iter().map(target).collect()
}

fn write_pairs(pairs: &[(ByteString, ByteString)]) -> Vec<wire::Pair> {
    let pair = |(name, value): &(ByteString, ByteString)| wire::Pair {
        name: name.to_string(),
        value: value.to_string(),
    };
    pairs.iter().map(pair).collect()
}

fn read_pairs(pairs: Vec<wire::Pair>) -> Vec<(ByteString, ByteString)> {
    pairs.into_iter().map(|pair| (pair.name.into(), pair.value.into())).collect()
}

impl From<&Addressed> for wire::Message {
    fn from(addressed: &Addressed) -> Self {
        let Addressed { to, path, audience, content } = addressed;
        Self {
            to: write(to),
            path: path.to_string(),
            audience: write_pairs(audience),
            id: content.id.to_string(),
            headers: write_pairs(&content.headers),
            body: content.body.clone(),
        }
    }
}

impl TryFrom<wire::Message> for Addressed {
    type Error = Unreadable;

    fn try_from(message: wire::Message) -> Result<Self, Unreadable> {
        let content = Content {
            id: message.id.parse().map_err(malformed)?,
            headers: read_pairs(message.headers),
            body: message.body,
        };
        Ok(Self {
            to: read(message.to)?,
            path: message.path.into(),
            audience: read_pairs(message.audience),
            content,
        })
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    fn every_kind() -> Vec<Letter> {
        let boot = Boot::new(Ulid::from_parts(1, 2));
        let to = vec![
            Target::User(UserName::new("ann/é%2F").unwrap()),
            Target::Session(SessionId::generate(boot)),
            Target::All,
        ];
        let content = Content {
            id: MessageId::new(),
            headers: vec![("kind".into(), "tick".into())],
            body: Bytes::from_static(&[0, 255]),
        };
        vec![
            Letter::Message(Addressed {
                to: to.clone(),
                path: "/queue/x".into(),
                audience: vec![("plan".into(), "gold".into())],
                content,
            }),
            Letter::Disconnect { of: to.clone(), reason: "spam".into() },
            Letter::Unsubscribe { of: to.clone(), destination: "/topic/a".into() },
            Letter::Revoke { group: GroupName::new("g").unwrap(), members: to.clone() },
            Letter::Grant { group: GroupName::new("g").unwrap(), members: to },
            Letter::Announcement(Announcement {
                boot,
                registered: Some(Epoch::new("e")),
                draining: true,
                forward: Some("[::1]:8083".into()),
            }),
            Letter::Announcement(Announcement {
                boot,
                registered: None,
                draining: false,
                forward: None,
            }),
            Letter::GoodBye(boot),
            Letter::Doorbell(Doorbell {
                path: "/queue/x".into(),
                rings: vec![Ring {
                    user: UserName::new("ann").unwrap(),
                    at: inbox::Position { epoch: u64::MAX, seq: 7 },
                }],
                content: None,
            }),
            Letter::Told(vec![Told {
                address: inbox::Address::of_user(UserName::new("ann").unwrap(), "/queue/x".into()),
                id: Ulid::from_parts(3, 4),
                status: inbox::Status {
                    state: inbox::State::Failed,
                    attempts: 3,
                    since: std::time::UNIX_EPOCH + std::time::Duration::from_millis(5),
                },
            }]),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for letter in every_kind() {
            assert_eq!(Letter::read(letter.write()), Ok(letter));
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_known_as_such() {
        // Field 15, a length of one, one byte.
        let newer = Bytes::from_static(&[0x7a, 1, 0]);
        assert_eq!(Letter::read(newer), Err(Unreadable::Unknown));
    }

    /// Kind 5 with the boot, its epoch and that it drains: what nodes wrote before they said where they take
    /// requests. What came last is skipped by who does not know it.
    #[test]
    fn an_announcement_of_another_version_is_understood() {
        let boot = Boot::new(Ulid::from_parts(1, 2));
        let old =
            [&[0x0a, 26][..], boot.to_string().as_bytes(), &[0x12, 1, b'e', 0x18, 1]].concat();
        let letter = |announcement: &[u8]| {
            let length = u8::try_from(announcement.len()).unwrap();
            Bytes::from([&[0x2a, length][..], announcement].concat())
        };
        let understood = Letter::Announcement(Announcement {
            boot,
            registered: Some(Epoch::new("e")),
            draining: true,
            forward: None,
        });
        assert_eq!(understood.write(), letter(&old));
        assert_eq!(Letter::read(letter(&old)), Ok(understood.clone()));
        // Field 15 is of a newer one.
        let newer = [&old[..], &[0x7a, 2, b'h', b'i']].concat();
        assert_eq!(Letter::read(letter(&newer)), Ok(understood));
    }

    #[test]
    fn nonsense_is_no_letter() {
        for bytes in [&b"hello"[..], &[0x0a, 200], &[0x32, 3, b'a', b'b', b'c']] {
            let read = Letter::read(Bytes::copy_from_slice(bytes));
            assert!(matches!(read, Err(Unreadable::Malformed(_))), "{read:?}");
        }
    }
}
