//! How a session comes to be known: on its node, and in presence.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Authentication, Principal};
use bytestring::ByteString;
use parking_lot::Mutex;
use presence::{
    Attributes, GroupError, Groups, Member, RegisterError, Session, SessionId, Unavailable,
    UserName,
};
use stomp::Title;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Registered, TooMany};
use crate::close::CloseReason;
use crate::mailbox::Mailbox;
use crate::node::Node;
use crate::relay::Refused;

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
    /// What is known of it besides its claims; of one name the annotation counts.
    pub(crate) annotations: Attributes,
}

/// Makes a session known, so that on return every message to it or its user comes here. One of nobody in
/// particular is known on this node alone: its id says which node that is.
///
/// # Errors
/// What its client is told, at `latest`.
pub(super) async fn register(
    node: &Arc<Node>,
    principal: &Principal,
    newcomer: Newcomer,
    latest: Instant,
) -> Result<Registration, Refused> {
    let Newcomer { id, mailbox, address, device, annotations } = newcomer;
    let user = match principal.authentication {
        Authentication::Token | Authentication::Passcode | Authentication::Unproven => {
            let name = UserName::new(principal.name.clone());
            Some(name.map_err(|why| Refused::new(CloseReason::Protocol, why.to_string()))?)
        }
        Authentication::Anonymous => None,
    };
    let attributes = attributes(principal, &node.config.attribute_claims, annotations);
    let registered = Arc::new(Registered {
        id: id.clone(),
        user: user.clone(),
        attributes: attributes.clone(),
        mailbox,
        heard: Mutex::default(),
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
    let Some(user) = user else { return Ok(registration) };
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
            let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= limit;
            let end = text.char_indices().take_while(fits).last();
            text[..end.map_or(0, |(at, letter)| at + letter.len_utf8())].into()
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
        // What the store does not take in time is made up for when it is back. A node that stops takes
        // leave for all its sessions at once.
        let (node, registered) = (Arc::clone(&self.node), Arc::clone(&self.registered));
        // There is none when the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        let gone = self.node.tasks.track_future(async move {
            let told = match registered.user() {
                Some(_) => node.presence.unregister(registered.id()).await,
                None => leave_groups(&*node.groups, registered.id()).await,
            };
            if let Err(error) = told {
                tracing::debug!(%error, "a session that has ended stays in the store for a while");
            }
        });
        runtime.spawn(gone);
    }
}

/// Ends the memberships of a session that presence does not know, and so does not do that for.
async fn leave_groups(groups: &dyn Groups, id: &SessionId) -> Result<(), Unavailable> {
    let itself = [Member::Session(id.clone())];
    for group in groups.groups_of(&itself[0]).await? {
        // One member is never too many.
        if let Err(GroupError::Unavailable(why)) = groups.remove(&group, &itself).await {
            return Err(why);
        }
    }
    Ok(())
}
