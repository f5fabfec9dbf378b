//! Destinations of users: SUBSCRIBE to one's own, SEND to anybody's.

use broker::destination::UserDestination;
use broker::{Confirm, Destination, PublisherId};
use bytestring::ByteString;
use cluster::{Content, Outbound, SendError};
use presence::{SessionId, UserName};
use stomp::action::AckMode;
use tokio::time::timeout;

use super::queue::{Queue, Source, Supply};
use super::seat::Seat;
use super::subscribe::{Opened, Subscriber};
use super::{PATIENCE, Refused};
use crate::close::CloseReason;
use crate::inboxes::Reader;
use crate::message_frame::Shape;
use crate::node::Node;

/// What is subscribed to.
pub(super) struct Wanted {
    pub(super) number: u32,
    /// The destination within the session's own user.
    pub(super) path: ByteString,
    pub(super) shape: Shape,
    /// How many stored messages may be unsettled.
    pub(super) prefetch: u16,
}

/// Subscribes to a destination of the session's own user. On return presence knows the session, letters reach
/// the node, and so nothing that is sent from now on is missed. What is stored for the user follows.
pub(super) async fn subscribe(
    subscriber: &Subscriber,
    wanted: Wanted,
    ack: AckMode,
    destination: Destination,
) -> Result<Opened, Refused> {
    let Wanted { number, path, shape, prefetch } = wanted;
    let (node, registered) = (&subscriber.node, &subscriber.registered);
    timeout(PATIENCE, node.inlet.open()).await.map_err(|_| away())?;
    let reader = node
        .inboxes
        .as_ref()
        .and_then(|inboxes| Reader::open(inboxes, registered, &path, usize::from(prefetch)));
    let inbox = reader.map(|reader| {
        let (supply, shape) = (Supply::Inbox(Box::new(reader)), shape.clone());
        Queue::new(subscriber, supply, Some(number), ack, shape, Source::Others, destination)
    });
    let seat = Seat::User(node.users.hear(registered, number, Some(path), shape));
    Ok(Opened::User { number, acknowledged: ack != AckMode::Auto, seat, inbox })
}

/// How a message to a user is kept until its clients have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Not at all.
    Not,
    /// By the broker, on its way to nodes.
    OnItsWay,
    /// In the user's inbox.
    InInbox,
}

impl Kept {
    /// What a sender says by `persistent`; where it says nothing, a receipt speaks for it, which asks for nothing
    /// to be stored.
    pub(super) fn of(persistent: Option<bool>, receipted: bool) -> Self {
        match (persistent, receipted) {
            (Some(true), _) => Self::InInbox,
            (None, true) => Self::OnItsWay,
            (Some(false), _) | (None, false) => Self::Not,
        }
    }
}

/// Sends to a user, or to the session whose id stands in the user's place. Nothing is stored for a session.
pub(super) async fn send(
    node: &Node,
    publisher: PublisherId,
    to: UserDestination,
    content: Content,
    kept: Kept,
) -> Result<Confirm, Refused> {
    let UserDestination { name, path } = to;
    // Parsed for SEND it always has a name.
    let name = name.unwrap_or_default();
    let session = SessionId::new(name.clone()).ok();
    let session = session.filter(|id| node.nodes.by_name(id.node_name()).is_some());
    if session.is_none()
        && let Some(inboxes) = &node.inboxes
        && (kept == Kept::InInbox || inboxes.keeps(&path))
        && let Ok(user) = UserName::new(name.clone())
    {
        return inboxes.append(user, path, content).await;
    }
    let persistent = kept != Kept::Not;
    let outbound = Outbound { path, audience: Vec::new(), content, persistent };
    let router = &node.router;
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
