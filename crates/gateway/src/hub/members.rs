//! Ends subscriptions to a group whose sessions are no members any more.

use std::collections::HashSet;
use std::sync::Arc;

use cluster::Target;
use futures_util::stream::{self, StreamExt};

use super::Hub;
use super::fan::{Fan, Subscriber};
use crate::users::Registered;

/// How many memberships are asked about side by side.
const SIDE_BY_SIDE: usize = 64;

/// What is to be believed when the store of groups does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Somebody was removed: whoever is concerned is no member.
    AgainstMembers,
    /// Nothing has happened: whoever was a member is one.
    ForMembers,
}

impl Hub {
    /// Ends the subscriptions of those among `members`, or of all if it names nobody, who are members no
    /// more. Removals are in the store before anybody is told of them, so what it says now counts.
    pub(super) async fn revoke(self: &Arc<Self>, fan: &Fan, members: &[Target], doubt: Doubt) {
        let Some(group) = &fan.group else { return };
        let asked = stream::iter(fan.members(members)).map(|member| async move {
            let is_member = member.is_member(&*self.groups, group).await;
            (member, is_member.unwrap_or(doubt == Doubt::ForMembers))
        });
        let gone: Vec<_> = asked
            .buffer_unordered(SIDE_BY_SIDE)
            .filter_map(|(member, is_member)| async move { (!is_member).then_some(member) })
            .collect()
            .await;
        fan.revoke(&gone);
        for member in gone {
            member.revoked(self, group);
        }
    }
}

impl Fan {
    /// The members that are subscribed and among `targets`, or all if that names nobody.
    fn members(&self, targets: &[Target]) -> Vec<Arc<Registered>> {
        let subscribers = self.subscribers.lock();
        let members = subscribers.shapes.values().flatten().filter_map(|(_, one)| match one {
            Subscriber::Newcomer(member) | Subscriber::Member(member) => Some(member),
            Subscriber::Session(_) | Subscriber::Revoked => None,
        });
        let mut members: Vec<_> = members
            .filter(|member| targets.is_empty() || member.is_among(targets))
            .cloned()
            .collect();
        members.sort_unstable_by(|one, other| one.id().cmp(other.id()));
        members.dedup_by(|one, other| one.id() == other.id());
        members
    }

    /// Nothing goes to these any more.
    fn revoke(&self, gone: &[Arc<Registered>]) {
        if gone.is_empty() {
            return;
        }
        let gone: HashSet<_> = gone.iter().map(|member| member.id()).collect();
        let mut subscribers = self.subscribers.lock();
        for (_, subscriber) in subscribers.shapes.values_mut().flatten() {
            if let Subscriber::Newcomer(member) | Subscriber::Member(member) = subscriber
                && gone.contains(member.id())
            {
                *subscriber = Subscriber::Revoked;
            }
        }
    }
}
