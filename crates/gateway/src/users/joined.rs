//! Groups that a session is in without asking: one that speaks no STOMP cannot subscribe.
//!
//! Invariants
//! - It hears a group from the time that it is told of its membership (or connects) until that ends.
//! - Seats end with the registration: they would keep it alive otherwise.

use std::collections::HashMap;
use std::sync::Arc;

use broker::Destination;
use presence::{GroupName, Member, Unavailable};

use super::Registered;
use crate::hub::Seat;
use crate::message_frame::Shape;
use crate::node::Node;

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

    pub(super) fn end(&mut self) {
        *self = Self::Over;
    }
}

impl Registered {
    /// Hears what is sent to `group`, if the session is a member and joins groups by itself.
    pub(crate) async fn join(self: &Arc<Self>, node: &Node, group: GroupName) {
        let is_new = match &*self.joined.lock() {
            Joined::In(seats) => !seats.contains_key(&group),
            Joined::BySubscribing | Joined::Over => false,
        };
        let Ok(topic) = cluster::group(&group) else { return };
        if !is_new {
            return;
        }
        let (hub, topic) = (Arc::clone(&node.hub), Destination::Topic(topic));
        let seat = match hub.subscribe_member(topic, Shape::plain(), self, group.clone()).await {
            Ok(seat) => seat,
            Err(error) => return tracing::warn!(%error, "a session misses its group"),
        };
        // Who was removed before the seat was there has been told of by nobody.
        if matches!(self.is_member(&*node.groups, &group).await, Ok(true))
            && let Joined::In(seats) = &mut *self.joined.lock()
        {
            seat.admit();
            seats.insert(group, seat);
        }
    }

    /// Hears nothing of `group` any more.
    pub(crate) fn left(&self, group: &GroupName) {
        if let Joined::In(seats) = &mut *self.joined.lock() {
            seats.remove(group);
        }
    }
}

/// Joins every group that the session is in now.
///
/// # Errors
/// When that cannot be found out.
pub(crate) async fn join_all(node: &Node, session: &Arc<Registered>) -> Result<(), Unavailable> {
    let by_id = Member::Session(session.id.clone());
    let by_user = Member::User(session.user.clone());
    for member in [by_user, by_id] {
        for group in node.groups.groups_of(&member).await? {
            session.join(node, group).await;
        }
    }
    Ok(())
}
