//! STAND-IN, to be replaced: the subscriptions of this node's sessions to what is theirs alone.
//!
//! It knows this node only, and delivers to sessions and users by name.

use std::sync::Arc;

use access::Principal;
use broker::destination::UserDestination;
use broker::{Confirm, Delivery, Destination, Message, MessageId};
use bytestring::ByteString;
use cluster::{Addressed, Content, Target};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::mailbox::Mailbox;
use crate::message_frame::{Shape, encode};
use crate::relay::Refused;

/// See the module.
#[derive(Default)]
pub(crate) struct Users {
    /// Bounded by the subscriptions that sessions may have.
    subscriptions: Mutex<Vec<Arc<Subscription>>>,
}

struct Subscription {
    user: ByteString,
    session: ByteString,
    path: ByteString,
    shape: Shape,
    mailbox: Arc<Mailbox>,
}

/// A subscription's place. Dropping it unsubscribes.
pub(crate) struct UserSeat {
    users: Arc<Users>,
    subscription: Arc<Subscription>,
}

impl Users {
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        principal: &Principal,
        session: &ByteString,
        path: ByteString,
        shape: Shape,
        mailbox: Arc<Mailbox>,
    ) -> UserSeat {
        let (user, session) = (principal.name.clone(), session.clone());
        let subscription = Arc::new(Subscription { user, session, path, shape, mailbox });
        self.subscriptions.lock().push(Arc::clone(&subscription));
        UserSeat { users: Arc::clone(self), subscription }
    }

    /// Delivers to the sessions of this node that `addressed` names, at their subscriptions to
    /// `/user<path>`.
    pub(crate) async fn deliver(&self, addressed: &Addressed, redelivered: bool) {
        let Addressed { to, path, content, .. } = addressed;
        let destination =
            Destination::User(UserDestination { name: None, path: addressed.path.clone() });
        let mut message = Message::new(destination, content.body.clone());
        (message.id, message.headers) = (content.id, content.headers.clone());
        let mut delivery = Delivery::settled(Arc::new(message));
        delivery.redelivered = redelivered;
        let text = str::from_utf8(&content.body).is_ok();
        for subscription in &*self.subscriptions.lock() {
            let meant = to.iter().any(|target| match target {
                Target::User(name) => *name.as_str() == *subscription.user,
                Target::Session(id) => *id.as_str() == *subscription.session,
                Target::All => true,
            });
            if meant && subscription.path == *path {
                let frame = encode(&subscription.shape, &delivery, text);
                subscription.mailbox.push(frame, Instant::now());
            }
        }
    }

    /// Sends to all sessions of a user, or to one session, by name.
    pub(crate) async fn send(
        &self,
        name: &str,
        path: ByteString,
        headers: Vec<(ByteString, ByteString)>,
        body: bytes::Bytes,
    ) -> Result<Confirm, Refused> {
        let user = presence::UserName::new(name).map(Target::User);
        let session = presence::SessionId::new(name).map(Target::Session);
        let to = user.into_iter().chain(session).collect();
        let content = Content { id: MessageId::new(), headers, body };
        self.deliver(&Addressed { to, path, audience: Vec::new(), content }, false).await;
        Ok(Confirm::known(Ok(())))
    }
}

impl Drop for UserSeat {
    fn drop(&mut self) {
        let mut subscriptions = self.users.subscriptions.lock();
        subscriptions.retain(|other| !Arc::ptr_eq(other, &self.subscription));
    }
}
