//! Groups: SUBSCRIBE by members, SEND by members or by rule.

use std::sync::Arc;

use access::Action;
use broker::{Confirm, Destination};
use bytestring::ByteString;
use cluster::Content;
use presence::GroupName;
use stomp::Title;
use tokio::time::timeout;

use super::seat::Seat;
use super::subscribe::Subscriber;
use super::{PATIENCE, Refused};
use crate::close::CloseReason;
use crate::message_frame::Shape;
use crate::node::Node;
use crate::users::Registered;

/// Subscribes a member to what is sent to its group.
pub(super) async fn subscribe(
    subscriber: &Subscriber,
    name: &ByteString,
    shape: Shape,
) -> Result<Seat, Refused> {
    let (node, registered) = (&subscriber.node, &subscriber.registered);
    let group = named(name)?;
    let topic = Destination::Topic(cluster::group(&group).map_err(invalid)?);
    members_only(node, registered, &group, Action::Subscribe).await?;
    let hub = Arc::clone(&node.hub);
    let seat = hub.subscribe_member(topic, shape, registered, group.clone()).await?;
    // Who was removed before the seat was there has been told of by nobody.
    members_only(node, registered, &group, Action::Subscribe).await?;
    seat.admit();
    match seat.is_revoked() {
        true => Err(no_member(&group, Action::Subscribe)),
        false => Ok(Seat::Hub(seat)),
    }
}

/// Sends to those who are subscribed to a group.
pub(super) async fn send(
    from: &Subscriber,
    name: &ByteString,
    content: Content,
    persistent: bool,
) -> Result<Confirm, Refused> {
    let node = &from.node;
    let group = named(name)?;
    let destination = Destination::Group(name.clone());
    if node.access.asks_membership(&from.caller.principal, Action::Send, &destination) {
        members_only(node, &from.registered, &group, Action::Send).await?;
    }
    let sent = node.router.to_group(from.publisher, &group, content, persistent);
    match timeout(PATIENCE, sent).await {
        Ok(confirm) => Ok(confirm?),
        Err(_) => {
            Err(Refused::new(CloseReason::BrokerUnavailable, "the broker is away: try again later"))
        }
    }
}

async fn members_only(
    node: &Node,
    registered: &Registered,
    group: &GroupName,
    action: Action,
) -> Result<(), Refused> {
    match registered.is_member(&*node.groups, group).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(no_member(group, action)),
        Err(why) => {
            // Names of our servers are in it.
            tracing::debug!(%why, "a membership cannot be found out");
            Err(Refused::new(
                CloseReason::BrokerUnavailable,
                format!(
                    "whether this session is a member of /group/{group} cannot be found out now: try again later"
                ),
            ))
        }
    }
}

/// Whether there is such a group is nobody's affair but its members'.
fn no_member(group: &GroupName, action: Action) -> Refused {
    Refused::titled(
        Title::AccessRefused,
        CloseReason::Forbidden,
        format!("{action} to /group/{group} is for the group's members, and this session is none"),
    )
}

fn named(name: &ByteString) -> Result<GroupName, Refused> {
    GroupName::new(name.clone()).map_err(invalid)
}

fn invalid(why: impl std::fmt::Display) -> Refused {
    Refused::titled(Title::InvalidDestination, CloseReason::Protocol, why.to_string())
}
