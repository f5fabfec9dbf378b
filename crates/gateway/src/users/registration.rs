//! How a session comes to be known: on its node, and in presence.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Authentication, Principal};
use bytestring::ByteString;
use parking_lot::Mutex;
use presence::{Attributes, RegisterError, Session, SessionId, UserName};
use stomp::Title;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Joined, Registered, Seen, TooMany};
use crate::close::CloseReason;
use crate::inboxes::Bells;
use crate::mailbox::Mailbox;
use crate::message_frame::Shape;
use crate::node::Node;
use crate::relay::Refused;
use crate::transport::Framing;

/// How long until this node says again how it is.
const RETRY: Duration = Duration::from_millis(500);

/// A session's place among those that messages can be addressed to. Dropping it takes the session off, here
/// at once and in presence soon after.
pub(crate) struct Registration {
    node: Arc<Node>,
    registered: Arc<Registered>,
}

/// What registers.
pub(crate) struct Newcomer {
    pub(crate) id: SessionId,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) address: IpAddr,
    /// What the client says it is, such as by `User-Agent`; may be empty.
    pub(crate) device: ByteString,
    /// What is known of it besides its claims, and wins over what else has the same name.
    pub(crate) annotations: Attributes,
    /// How it gets what is sent to its groups, if it is in them without asking.
    pub(crate) joins: Option<Shape>,
    /// How what it gets is wrapped.
    pub(crate) framing: Framing,
}

/// Makes a session known, so that on return every message to it or its user comes here. One of nobody in
/// particular is the only one of a user that is named by its id.
///
/// # Errors
/// What its client is told, at `latest`.
pub(super) async fn register(
    node: &Arc<Node>,
    principal: &Principal,
    newcomer: Newcomer,
    latest: Instant,
) -> Result<Registration, Refused> {
    let Newcomer { id, mailbox, address, device, annotations, joins, framing } = newcomer;
    let user = match principal.authentication {
        Authentication::Token | Authentication::Passcode | Authentication::Unproven => {
            let name = UserName::new(principal.name.clone());
            name.map_err(|why| Refused::new(CloseReason::Protocol, why.to_string()))?
        }
        // Nobody else has that name: a user of its own, for as long as the session lasts.
        Authentication::Anonymous => UserName::new(id.as_str().to_owned())
            .map_err(|why| Refused::new(CloseReason::Protocol, why.to_string()))?,
    };
    let attributes = attributes(principal, &node.config.attribute_claims, annotations);
    let seen = node.config.console.then(|| Box::new(Seen::new(address, device.clone(), framing)));
    let registered = Arc::new(Registered {
        id: id.clone(),
        user: user.clone(),
        attributes: attributes.clone(),
        mailbox,
        heard: Mutex::default(),
        joined: Mutex::new(Joined::new(joins)),
        bells: Bells::default(),
        seen,
    });
    let limit = node.config.max_user_sessions;
    if let Err(TooMany) = node.users.enter(&registered, limit) {
        return Err(Refused::new(
            CloseReason::Limit,
            format!(
                "{} has {limit} sessions on this node, and may have no more (gateway.max_user_sessions)",
                principal.name
            ),
        ));
    }
    let registration = Registration { node: Arc::clone(node), registered };
    // Nobody in particular does not come back, so nothing waits for them.
    if principal.authentication != Authentication::Anonymous
        && let Some(inboxes) = &node.inboxes
    {
        inboxes.know(&user).await;
    }
    let mut session = Session::new(id, user, node.presence.boot());
    session.address = address.to_string().into();
    session.device = cut(device, presence::MAX_TEXT);
    session.attributes = attributes;
    match node.presence.register(session).await {
        Ok(()) => Ok(registration),
        Err(RegisterError::Unavailable(why)) => {
            tracing::debug!(%why, "a session is not in presence yet");
            unsynced(node, latest).await?;
            Ok(registration)
        }
        Err(error) => Err(refused(&error)),
    }
}

/// What a session may be chosen by: those of its claims that are named, and its annotations.
fn attributes(principal: &Principal, claims: &[String], annotations: Attributes) -> Attributes {
    let claim = |name: &String| Some((name.clone(), principal.claims.get(name)?.clone()));
    claims.iter().filter_map(claim).chain(annotations).collect()
}

/// Returns once whoever sends knows that presence may lack sessions of this node.
async fn unsynced(node: &Node, latest: Instant) -> Result<(), Refused> {
    let heard = async {
        while let Err(error) = node.nodes.announce_unsynced().await {
            tracing::debug!(%error, "a session waits");
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::time::timeout_at(latest, heard).await.map_err(|_| {
        Refused::new(
            CloseReason::BrokerUnavailable,
            "neither presence nor the broker is to be had, so no message would find this session: try again \
             later",
        )
    })
}

fn refused(error: &RegisterError) -> Refused {
    let (title, reason) = match error {
        RegisterError::Banned { .. } => (Title::AccessRefused, CloseReason::Forbidden),
        RegisterError::TooMuch(_) => (Title::BadConnect, CloseReason::Limit),
        RegisterError::Left => (Title::ProcessingError, CloseReason::Drain),
        RegisterError::Foreign(_) | RegisterError::Taken(_) | RegisterError::Unavailable(_) => {
            (Title::ProcessingError, CloseReason::Overload)
        }
    };
    Refused::titled(title, reason, error.to_string())
}

/// At most `limit` bytes of a text, whole characters.
fn cut(text: ByteString, limit: usize) -> ByteString {
    match text.len() > limit {
        true => {
            let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text[..end].into()
        }
        false => text,
    }
}

impl Registration {
    pub(crate) fn registered(&self) -> &Arc<Registered> {
        &self.registered
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.node.users.leave(&self.registered);
        self.registered.joined.lock().end();
        // What the store does not take in time is made up for when it is back. A node that stops takes
        // leave for all its sessions at once.
        let (node, registered) = (Arc::clone(&self.node), Arc::clone(&self.registered));
        // There is none when the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        let gone = self.node.tasks.track_future(async move {
            if let Err(error) = node.presence.unregister(registered.id()).await {
                tracing::debug!(%error, "a session that has ended stays in presence for a while");
            }
        });
        runtime.spawn(gone);
    }
}
