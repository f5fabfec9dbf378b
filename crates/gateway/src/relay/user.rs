//! Destinations of users: SUBSCRIBE to one's own, SEND to anybody's.

use broker::destination::UserDestination;
use broker::{Confirm, PublisherId};
use bytestring::ByteString;
use cluster::{Content, Outbound, SendError};
use presence::{SessionId, UserName};
use tokio::time::timeout;

use super::seat::Seat;
use super::subscribe::Subscriber;
use super::{PATIENCE, Refused};
use crate::close::CloseReason;
use crate::message_frame::Shape;
use crate::node::Node;

/// Subscribes to `path` within the session's own user. On return presence knows the session, letters reach
/// the node, and so nothing that is sent from now on is missed.
pub(super) async fn subscribe(
    subscriber: &Subscriber,
    number: u32,
    path: ByteString,
    shape: Shape,
) -> Result<Seat, Refused> {
    let node = &subscriber.node;
    timeout(PATIENCE, node.inlet.open()).await.map_err(|_| away())?;
    Ok(Seat::User(node.users.hear(&subscriber.registered, number, Some(path), shape)))
}

/// Sends to a user, or to the session whose id stands in the user's place.
pub(super) async fn send(
    node: &Node,
    publisher: PublisherId,
    to: UserDestination,
    content: Content,
    persistent: bool,
) -> Result<Confirm, Refused> {
    let UserDestination { name, path } = to;
    // Parsed for SEND it always has a name.
    let name = name.unwrap_or_default();
    let outbound = Outbound { path, audience: Vec::new(), content, persistent };
    let router = &node.router;
    let session = SessionId::new(name.clone()).ok();
    let session = session.filter(|id| node.nodes.by_name(id.node_name()).is_some());
    let sent = async {
        let sent = match (session, UserName::new(name)) {
            (Some(id), _) => router.to_sessions(publisher, &[id], &outbound).await?,
            (None, Ok(user)) => router.to_users(publisher, &[user], &outbound).await?,
            // No user has such a name.
            (None, Err(_)) => return Ok(Confirm::known(Ok(()))),
        };
        Ok::<_, SendError>(sent.confirm)
    };
    Ok(timeout(PATIENCE, sent).await.map_err(|_| away())??)
}

fn away() -> Refused {
    Refused::new(
        CloseReason::BrokerUnavailable,
        "the broker is away, so nothing can be sent to a user nor come from there: try again later",
    )
}

impl From<SendError> for Refused {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Publish(error) => error.into(),
            SendError::Group(why) => Self::titled(
                stomp::Title::InvalidDestination,
                CloseReason::Protocol,
                why.to_string(),
            ),
        }
    }
}
