//! Letters about what is stored for users: that something came, and what became of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytestring::ByteString;
use inbox::{Address, Position, State, Status};
use presence::UserName;
use ulid::Ulid;

use super::{Content, Unreadable, malformed, read_pairs, wire, write_pairs};

/// Something came into inboxes.
#[derive(Debug, Clone, PartialEq)]
pub struct Doorbell {
    /// The destination within each user.
    pub path: ByteString,
    /// Whose inboxes.
    pub rings: Vec<Ring>,
    /// What it is; none where it is to be read from the store.
    pub content: Option<Content>,
}

/// Something came into one user's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Whose.
    pub user: UserName,
    /// Where it is.
    pub at: Position,
}

/// What became of a message in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which inbox.
    pub address: Address,
    /// The message.
    pub id: Ulid,
    /// How it stands.
    pub status: Status,
}

/// States by what stands for them in a letter.
const STATES: [(u32, State); 7] = [
    (1, State::Scheduled),
    (2, State::Pending),
    (3, State::Delivered),
    (4, State::Acked),
    (5, State::Failed),
    (6, State::Expired),
    (7, State::Dropped),
];

impl From<&Doorbell> for wire::Doorbell {
    fn from(doorbell: &Doorbell) -> Self {
        let ring = |ring: &Ring| wire::Ring {
            user: ring.user.to_string(),
            epoch: ring.at.epoch,
            seq: ring.at.seq,
        };
        let content = |content: &Content| wire::Content {
            id: content.id.to_string(),
            headers: write_pairs(&content.headers),
            body: content.body.clone(),
        };
        Self {
            path: doorbell.path.to_string(),
            rings: doorbell.rings.iter().map(ring).collect(),
            content: doorbell.content.as_ref().map(content),
        }
    }
}

impl TryFrom<wire::Doorbell> for Doorbell {
    type Error = Unreadable;

    fn try_from(doorbell: wire::Doorbell) -> Result<Self, Unreadable> {
        let ring = |ring: wire::Ring| {
            let user = UserName::new(ring.user).map_err(malformed)?;
            Ok(Ring { user, at: Position { epoch: ring.epoch, seq: ring.seq } })
        };
        let content = |content: wire::Content| {
            Ok(Content {
                id: content.id.parse().map_err(malformed)?,
                headers: read_pairs(content.headers),
                body: content.body,
            })
        };
        Ok(Self {
            path: doorbell.path.into(),
            rings: doorbell.rings.into_iter().map(ring).collect::<Result<_, _>>()?,
            content: doorbell.content.map(content).transpose()?,
        })
    }
}

impl From<&Told> for wire::Told {
    fn from(told: &Told) -> Self {
        let number = STATES.iter().find(|(_, state)| *state == told.status.state);
        let since = told.status.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            user: told.address.user().map(UserName::to_string).unwrap_or_default(),
            path: told.address.path().to_string(),
            id: told.id.to_string(),
            state: number.map_or(0, |(number, _)| *number),
            attempts: told.status.attempts,
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<wire::Told> for Told {
    type Error = Unreadable;

    fn try_from(told: wire::Told) -> Result<Self, Unreadable> {
        let address = match UserName::new(told.user) {
            Ok(user) => Address::of_user(user, told.path.into()),
            Err(_) => Address::Outbox { destination: told.path.into() },
        };
        let state = STATES.iter().find(|(number, _)| *number == told.state);
        let since = UNIX_EPOCH.checked_add(Duration::from_millis(told.since));
        let status = Status {
            state: state.ok_or(Unreadable::Unknown)?.1,
            attempts: told.attempts,
            since: since.unwrap_or_else(SystemTime::now),
        };
        Ok(Self { address, id: told.id.parse().map_err(malformed)?, status })
    }
}
