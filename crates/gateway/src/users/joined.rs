//! Groups that a session is in without asking: one that speaks no STOMP cannot subscribe.
//!
//! Invariants
//! - It hears a group from the time that it is told of its membership (or connects) until that ends; while the
//!   store or the broker is away, from soon after their return.
//! - It has one seat of a group, and none that is revoked. Who is told of a membership while it has a seat may
//!   have been removed and added again, and the word of the removal may come later: it asks again when that
//!   seat ends ([`Registered::revoked`]).
//! - Seats end with the registration: they would keep it alive otherwise.
//! - Lock order: `joined`, then the `subscribers` of a fan.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Destination, SubscribeError};
use presence::{GroupName, Member};

use super::Registered;
use crate::hub::{Hub, Seat};
use crate::message_frame::Shape;
use crate::node::Node;

/// How long until the store or the broker is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) enum Joined {
    /// The session subscribes, or does not.
    BySubscribing,
    /// It is in these, and gets what is sent to them in this shape.
    In { shape: Shape, places: HashMap<GroupName, Place> },
    /// It has ended.
    Over,
}

/// What a session has of one group.
pub(super) struct Place {
    _seat: Seat,
    /// Whether it was told of its membership when it had the seat already.
    told_again: bool,
}

/// Whether there is something left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It is in, or no member.
    Done,
    /// It was a member and removed, in this or the other order.
    Again,
}

impl Joined {
    pub(super) fn new(joins: Option<Shape>) -> Self {
        match joins {
            Some(shape) => Self::In { shape, places: HashMap::new() },
            None => Self::BySubscribing,
        }
    }

    pub(super) fn joins(&self) -> bool {
        matches!(self, Self::In { .. })
    }

    fn shape(&self) -> Option<Shape> {
        match self {
            Self::In { shape, .. } => Some(shape.clone()),
            Self::BySubscribing | Self::Over => None,
        }
    }

    /// The seats, if it may hear that group and does not.
    fn without(&mut self, group: &GroupName) -> Option<&mut HashMap<GroupName, Place>> {
        let Self::In { places, .. } = self else { return None };
        if let Some(place) = places.get_mut(group) {
            place.told_again = true;
            return None;
        }
        Some(places)
    }

    pub(super) fn end(&mut self) {
        *self = Self::Over;
    }
}

impl Registered {
    /// Hears what is sent to `group`, if the session is a member and joins groups by itself. While that cannot
    /// be found out it is tried again, until the session has ended.
    pub(crate) async fn join(self: &Arc<Self>, hub: &Arc<Hub>, group: GroupName) {
        loop {
            match self.try_to_join(hub, &group).await {
                Ok(Tried::Done) => return,
                Ok(Tried::Again) => {}
                Err(why) => {
                    tracing::debug!(why, "a session does not hear its group yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_to_join(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        group: &GroupName,
    ) -> Result<Tried, String> {
        if self.joined.lock().without(group).is_none() {
            return Ok(Tried::Done);
        }
        let Ok(topic) = cluster::group(group) else { return Ok(Tried::Done) };
        let Some(shape) = self.joined.lock().shape() else { return Ok(Tried::Done) };
        let (taking, topic) = (Arc::clone(hub), Destination::Topic(topic));
        let seat = match taking.subscribe_member(topic, shape, self, group.clone()).await {
            Ok(seat) => seat,
            Err(SubscribeError::Unavailable(why)) => return Err(why),
            Err(error) => {
                tracing::warn!(%error, "a session misses its group");
                return Ok(Tried::Done);
            }
        };
        // Who was removed before the seat was there has been told of by nobody.
        let is_member = self.is_member(hub.groups(), group).await;
        if is_member.map_err(|why| why.to_string())? {
            let mut joined = self.joined.lock();
            // Another may have come first.
            if let Some(places) = joined.without(group) {
                seat.admit();
                // Who was removed meanwhile was not in, and could not be put out; or it was removed before,
                // and has been added again.
                if seat.is_revoked() {
                    return Ok(Tried::Again);
                }
                places.insert(group.clone(), Place { _seat: seat, told_again: false });
            }
        }
        Ok(Tried::Done)
    }

    /// Ends what the session hears of `group`, of which it was no member any more when `hub` asked.
    pub(crate) fn revoked(self: &Arc<Self>, hub: &Arc<Hub>, group: &GroupName) {
        let ended = match &mut *self.joined.lock() {
            Joined::In { places, .. } => places.remove(group),
            Joined::BySubscribing | Joined::Over => {
                self.mailbox.end_subscriptions(Destination::Group(group.as_str().into()));
                None
            }
        };
        if ended.is_some_and(|place| place.told_again) {
            let (session, hub, group) = (Arc::clone(self), Arc::clone(hub), group.clone());
            tokio::spawn(async move { session.join(&hub, group).await });
        }
    }

    /// Ends what the session hears of `destination`: at once where it did not subscribe, and else its task does,
    /// which tells the client.
    pub(crate) fn end_subscriptions(&self, destination: &Destination) {
        if let Joined::In { places, .. } = &mut *self.joined.lock() {
            if let Destination::Group(name) = destination {
                places.retain(|group, _| *group.as_str() != **name);
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
            session.join(&node.hub, group).await;
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

#[cfg(test)]
mod tests;
