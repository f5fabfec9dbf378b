//! Groups: named sets of users and sessions that outlive connections.
//!
//! Invariants
//! - A group exists while it has members; nobody needs to create one.
//! - A member whose time is up is none, whether or not somebody has cleared it away yet.
//! - A user's membership ends with its time or its removal. A session's ends with the session as well.

use std::time::Duration;

use async_trait::async_trait;

use crate::{GroupName, Page, PageRequest, SessionId, Unavailable, UserName};

/// Who may be in a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// One session, for as long as it lasts.
    Session(SessionId),
    /// All sessions of a user, those to come as well.
    User(UserName),
}

/// The most members that one call adds or removes.
pub const MAX_MEMBERS: usize = 1_000;

/// Groups as the gateway and the notifier see them.
#[async_trait]
pub trait Groups: Send + Sync + 'static {
    /// Makes each of `members` one of `group`, for `lifetime` from now, or until removed. For one that
    /// is already, the time begins anew. Says how many are new.
    ///
    /// # Errors
    /// [`GroupError::TooMany`] beyond [`MAX_MEMBERS`].
    async fn add(
        &self,
        group: &GroupName,
        members: &[Member],
        lifetime: Option<Duration>,
    ) -> Result<usize, GroupError>;

    /// Ends the membership of each of `members`. Says how many were members.
    ///
    /// # Errors
    /// [`GroupError::TooMany`] beyond [`MAX_MEMBERS`].
    async fn remove(&self, group: &GroupName, members: &[Member]) -> Result<usize, GroupError>;

    /// Ends the whole group `lifetime` from now, or takes that back. Says whether there is such a
    /// group.
    async fn set_lifetime(
        &self,
        group: &GroupName,
        lifetime: Option<Duration>,
    ) -> Result<bool, Unavailable>;

    /// Ends every membership in `group`. Says whether there was any.
    async fn delete(&self, group: &GroupName) -> Result<bool, Unavailable>;

    /// A page of the members, in an order that stays.
    async fn members(
        &self,
        group: &GroupName,
        page: &PageRequest,
    ) -> Result<Page<Member>, Unavailable>;

    /// How many members the group has.
    async fn size(&self, group: &GroupName) -> Result<u64, Unavailable>;

    /// The groups that `member` is in, in order.
    async fn groups_of(&self, member: &Member) -> Result<Vec<GroupName>, Unavailable>;

    /// Whether the session, or the user whose it is, is a member of `group`: what SUBSCRIBE asks.
    async fn is_member(
        &self,
        user: &UserName,
        session: &SessionId,
        group: &GroupName,
    ) -> Result<bool, Unavailable>;
}

/// Why a group was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// More members at once than are taken.
    #[error("{given} members at once are more than the limit of {limit}")]
    TooMany {
        /// How many there were.
        given: usize,
        /// The limit.
        limit: usize,
    },
    /// The store is not to be had; what was asked for may or may not have been done.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Whether so many members may come at once.
pub(crate) fn check_count(members: &[Member]) -> Result<(), GroupError> {
    match members.len() {
        given if given > MAX_MEMBERS => Err(GroupError::TooMany { given, limit: MAX_MEMBERS }),
        _ => Ok(()),
    }
}

impl Member {
    /// As text that no other member has, and that is ordered as members are.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Session(id) => format!("s:{id}"),
            Self::User(name) => format!("u:{name}"),
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        match text.split_at_checked(2)? {
            ("s:", id) => SessionId::new(id).ok().map(Self::Session),
            ("u:", name) => UserName::new(name).ok().map(Self::User),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Boot;

    proptest! {
        #[test]
        fn a_member_is_its_text(name in "\\PC{1,20}|[su]:.{1,9}") {
            let member = Member::User(UserName::new(name).unwrap());
            prop_assert_eq!(Member::from_text(&member.to_text()), Some(member));
        }
    }

    #[test]
    fn a_user_named_like_a_session_is_another_member() {
        let id = SessionId::generate(Boot::generate());
        let user = Member::User(UserName::new(id.as_str()).unwrap());
        assert_ne!(Member::Session(id).to_text(), user.to_text());
    }

    #[test]
    fn text_of_nobody_is_no_member() {
        for text in ["", "u", "u:", "s:short", "x:y", "ü"] {
            assert_eq!(Member::from_text(text), None, "{text}");
        }
    }
}
