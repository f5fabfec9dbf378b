//! What became of a message in the inboxes it is for.

use std::collections::HashMap;

use inbox::{Address, Appended};
use presence::UserName;
use proto::v1::stored_for_user::Outcome;
use proto::v1::{Stored, StoredForUser};
use ulid::Ulid;

use crate::refusal::Refusal;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) stored: u64,
    pub(crate) scheduled: u64,
    pub(crate) known: u64,
    pub(crate) full: u64,
    /// The id under which an inbox had it already; of several the first that was met.
    pub(crate) known_as: Option<Ulid>,
    /// For each user, where these are told one by one.
    users: Vec<StoredForUser>,
}

impl Outcomes {
    /// Counts what became of some appends of message `id`.
    pub(crate) fn add(&mut self, id: Ulid, appended: &[Appended]) {
        for appended in appended {
            match outcome(id, appended) {
                (Outcome::Stored, _) => self.stored += 1,
                (Outcome::Scheduled, _) => self.scheduled += 1,
                (Outcome::Known, id) => {
                    self.known += 1;
                    self.known_as = self.known_as.or(id);
                }
                (Outcome::Full | Outcome::Unspecified, _) => self.full += 1,
            }
        }
    }

    /// Tells each of `named`, who may be named twice, what became of it in that user's inbox.
    pub(crate) fn tell(
        &mut self,
        id: Ulid,
        named: &[UserName],
        to: &[Address],
        appended: &[Appended],
    ) {
        let by_user: HashMap<_, _> = to
            .iter()
            .zip(appended)
            .filter_map(|(to, appended)| Some((to.user()?, appended)))
            .collect();
        self.users = named
            .iter()
            .filter_map(|user| {
                let (outcome, id) = outcome(id, by_user.get(user)?);
                let message_id = id.map(|id| id.to_string()).unwrap_or_default();
                let (user, outcome) = (user.to_string(), outcome.into());
                Some(StoredForUser { user, outcome, message_id })
            })
            .collect();
    }

    /// In how many inboxes it is.
    pub(crate) fn kept(&self) -> u64 {
        self.stored + self.scheduled + self.known
    }

    /// The id by which the message is known: that of the one before, where nothing of this was stored.
    pub(crate) fn id(&self, id: Ulid) -> Ulid {
        match self.known_as {
            Some(before) if self.stored + self.scheduled == 0 => before,
            _ => id,
        }
    }

    /// The same, unless every inbox is full.
    pub(crate) fn unless_full(self) -> Result<Self, Refusal> {
        match (self.kept(), self.full) {
            (0, 1) => Err(Refusal::Refused(
                "the inbox is full, and the message was not stored".to_owned(),
            )),
            (0, full) if full > 0 => Err(Refusal::Refused(format!(
                "all {full} inboxes are full, and the message was not stored"
            ))),
            _ => Ok(self),
        }
    }
}

impl From<Outcomes> for Stored {
    fn from(outcomes: Outcomes) -> Self {
        let Outcomes { stored, scheduled, known, full, users, known_as: _ } = outcomes;
        Self { stored, scheduled, known, full, users }
    }
}

/// What became of one, and the id that is in the inbox.
fn outcome(id: Ulid, appended: &Appended) -> (Outcome, Option<Ulid>) {
    match appended {
        Appended::Stored { .. } => (Outcome::Stored, Some(id)),
        Appended::Scheduled { .. } => (Outcome::Scheduled, Some(id)),
        Appended::Known { id } => (Outcome::Known, Some(*id)),
        Appended::Full { .. } => (Outcome::Full, None),
    }
}
