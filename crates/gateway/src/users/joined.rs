//! Groups that a session is in without asking: one that speaks no STOMP cannot subscribe.
//!
//! Invariants
//! - It hears a group from the time that it is told of its membership (or connects) until that ends; while the
//!   store or the broker is away, from soon after their return.
//! - It has one seat of a group, and none that is revoked.
//! - Seats end with the registration: they would keep it alive otherwise.
//! - Lock order: `joined`, then the `subscribers` of a fan.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Destination, SubscribeError};
use presence::{GroupName, Member};

use super::Registered;
use crate::hub::Seat;
use crate::message_frame::Shape;
use crate::node::Node;

/// How long until the store or the broker is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) enum Joined {
    /// The session subscribes, or does not.
    BySubscribing,
    /// It is in these.
    In(HashMap<GroupName, Seat>),
    /// It has ended.
    Over,
}

impl Joined {
    pub(super) fn new(joins: bool) -> Self {
        if joins { Self::In(HashMap::new()) } else { Self::BySubscribing }
    }

    pub(super) fn joins(&self) -> bool {
        matches!(self, Self::In(_))
    }

    /// Whether it may hear that group and does not.
    fn has_place_for(&self, group: &GroupName) -> bool {
        match self {
            Self::In(seats) => !seats.contains_key(group),
            Self::BySubscribing | Self::Over => false,
        }
    }

    pub(super) fn end(&mut self) {
        *self = Self::Over;
    }
}

impl Registered {
    /// Hears what is sent to `group`, if the session is a member and joins groups by itself. While that cannot
    /// be found out it is tried again, until the session has ended.
    pub(crate) async fn join(self: &Arc<Self>, node: &Node, group: GroupName) {
        while let Err(why) = self.try_to_join(node, &group).await {
            tracing::debug!(why, "a session does not hear its group yet");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_to_join(self: &Arc<Self>, node: &Node, group: &GroupName) -> Result<(), String> {
        if !self.joined.lock().has_place_for(group) {
            return Ok(());
        }
        let Ok(topic) = cluster::group(group) else { return Ok(()) };
        let (hub, topic) = (Arc::clone(&node.hub), Destination::Topic(topic));
        let seat = match hub.subscribe_member(topic, Shape::plain(), self, group.clone()).await {
            Ok(seat) => seat,
            Err(SubscribeError::Unavailable(why)) => return Err(why),
            Err(error) => {
                tracing::warn!(%error, "a session misses its group");
                return Ok(());
            }
        };
        // Who was removed before the seat was there has been told of by nobody.
        let is_member = self.is_member(&*node.groups, group).await;
        if is_member.map_err(|why| why.to_string())? {
            let mut joined = self.joined.lock();
            // Another may have come first.
            if joined.has_place_for(group)
                && let Joined::In(seats) = &mut *joined
            {
                seat.admit();
                // Who was removed meanwhile was not in, and could not be put out.
                if !seat.is_revoked() {
                    seats.insert(group.clone(), seat);
                }
            }
        }
        Ok(())
    }

    /// Ends what the session hears of `destination`: at once where it did not subscribe, and else its task does,
    /// which tells the client.
    pub(crate) fn end_subscriptions(&self, destination: &Destination) {
        if let Joined::In(seats) = &mut *self.joined.lock() {
            if let Destination::Group(name) = destination {
                seats.retain(|group, _| *group.as_str() != **name);
            }
            return;
        }
        self.mailbox.end_subscriptions(destination.clone());
    }
}

/// Joins every group that the session is in now, once that can be found out.
pub(crate) async fn join_all(node: &Node, session: &Arc<Registered>) {
    let by_id = Member::Session(session.id.clone());
    let by_user = Member::User(session.user.clone());
    for member in [by_user, by_id] {
        for group in groups_of(node, session, &member).await {
            session.join(node, group).await;
        }
    }
}

/// The groups that `member` is in; none once the session has ended.
async fn groups_of(node: &Node, session: &Registered, member: &Member) -> Vec<GroupName> {
    while session.joined.lock().joins() {
        match node.groups.groups_of(member).await {
            Ok(groups) => return groups,
            Err(error) => tracing::debug!(%error, "a session does not know its groups yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
    Vec::new()
}
