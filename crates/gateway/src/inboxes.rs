//! What this node does for what is stored for its users.
//!
//! A subscription to a destination of one's own user's has a [`Bell`], which a doorbell from wherever something
//! was stored rings, and a [`Reader`], which takes from the store what the subscription has not had. What clients
//! say of it goes by the [`Settling`].
//!
//! Invariants
//! - The store says what there is: a lost doorbell delays a message until the next look, at most [`LOOK_EVERY`].
//! - At most [`READING`] readers ask the store at once.
//! - What a client has settled is told to the store until it has heard it.
//!
//! Not here: appends from services, what time moves on (`cluster::Dispatcher`).

mod bell;
mod known;
mod reader;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use broker::{Confirm, Link, MessageId};
use bytestring::ByteString;
use cluster::{Content, Dispatcher, Doorbell, Told};
use inbox::{Address, Appended, Draft, Error, Inbox, Purge};
use presence::UserName;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::bell::{Bell, Bells};
use self::known::Known;
pub(crate) use self::reader::Reader;
use self::settling::Settling;
use crate::close::CloseReason;
use crate::node::Node;
use crate::relay::Refused;

/// How often each subscription looks whether something came of which nobody told.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Into how many parts the sessions are divided, so that they do not all look at once.
const PARTS: u32 = 60;

/// How long a part has, after doorbells may have been lost.
const HURRY: Duration = Duration::from_millis(50);

/// How many readers may ask the store at once.
const READING: usize = 64;

/// See the module.
pub(crate) struct Inboxes {
    dispatcher: Dispatcher,
    settling: Settling,
    /// The readers that may ask the store yet.
    reading: Semaphore,
    known: Known,
}

impl Inboxes {
    pub(crate) fn new(dispatcher: Dispatcher) -> Self {
        Self {
            settling: Settling::new(),
            dispatcher,
            reading: Semaphore::new(READING),
            known: Known::default(),
        }
    }

    /// Sees to it that what is sent to all users is for `user`, too.
    pub(crate) async fn know(&self, user: &UserName) {
        let now = Instant::now();
        if self.known.has(user, now) {
            return;
        }
        match self.dispatcher.inbox().know(std::slice::from_ref(user)).await {
            Ok(()) => self.known.add(user.clone(), now),
            // With its next session.
            Err(error) => tracing::debug!(%error, "the store of inboxes does not know a user yet"),
        }
    }

    /// Whether what is sent to users at `path` is stored for them, said or not.
    pub(crate) fn keeps(&self, path: &ByteString) -> bool {
        self.dispatcher.keeps(path)
    }

    /// Stores a message for `user`, at `path` within it.
    pub(crate) async fn append(
        &self,
        user: UserName,
        path: ByteString,
        content: Content,
    ) -> Result<Confirm, Refused> {
        let Content { id, headers, body } = content;
        let of = Address::of_user(user, path);
        if !of.fits() {
            let why = format!("a destination of more than {} bytes has no inbox", inbox::MAX_PATH);
            return Err(Refused::new(CloseReason::Protocol, why));
        }
        let draft = Draft { id: id.ulid(), headers, ..Draft::new(cluster::NOBODY, body) };
        let appended = self.dispatcher.append(std::slice::from_ref(&of), &draft).await?;
        match appended.first() {
            Some(Appended::Full { count }) => Err(Refused::new(
                CloseReason::Limit,
                format!(
                    "the inbox {} of {} is full: {} messages of {} bytes wait in it",
                    of.path(),
                    of.user().map_or("", UserName::as_str),
                    count.messages(),
                    count.bytes
                ),
            )),
            _ => Ok(Confirm::known(Ok(()))),
        }
    }

    /// The destinations at which `user` has something waiting.
    pub(crate) async fn paths(&self, user: &UserName) -> Result<Vec<ByteString>, Error> {
        self.dispatcher.inbox().paths(user).await
    }

    /// The store.
    pub(crate) fn store(&self) -> &dyn Inbox {
        &**self.dispatcher.inbox()
    }

    /// Drops entries of an inbox, and has their senders told. Says how many.
    pub(crate) async fn purge(&self, of: &Address, which: &Purge) -> Result<usize, Error> {
        let purged = self.dispatcher.inbox().purge(of, which).await?;
        let dropped = purged.changes.len();
        self.dispatcher.settled(of, purged);
        Ok(dropped)
    }

    /// Takes in what this process is told of messages that it has stored for services.
    pub(crate) fn hear(&self, told: Vec<Told>) {
        self.dispatcher.hear(told);
    }

    /// Moves on what is due, until `stopping`.
    pub(crate) async fn dispatch(&self, stopping: CancellationToken) {
        self.dispatcher.run(stopping).await;
    }

    /// Returns once the store has heard of all that was settled.
    pub(crate) async fn settled(&self) {
        self.settling.done().await;
    }
}

/// Settles what clients settle, and has every subscription look now and then, for as long as it is awaited.
pub(crate) async fn run(node: &Node) {
    if let Some(inboxes) = &node.inboxes {
        tokio::join!(inboxes.settling.run(&inboxes.dispatcher, &node.metrics), look_around(node));
    }
}

/// Has the subscriptions of a part of the sessions look, one part after the other; of all of them soon after the
/// broker was away, and doorbells with it.
async fn look_around(node: &Node) {
    let mut state = node.broker.state();
    let mut was_up = true;
    let mut hurried = 0;
    for part in (0..PARTS).cycle() {
        let pause = if hurried > 0 { HURRY } else { LOOK_EVERY / PARTS };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = state.changed() => {
                let is_up = matches!(state.borrow_and_update().link, Link::Up);
                if is_up && !was_up {
                    hurried = PARTS + 1;
                }
                was_up = is_up;
            }
        }
        hurried = hurried.saturating_sub(1);
        node.users.look(part, PARTS);
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let (reason, text) = match &error {
            Error::Unavailable(_) | Error::Unknown(_) => (
                CloseReason::BrokerUnavailable,
                "the store of inboxes is away, so nothing can be stored for a user: try again later",
            ),
            Error::NoSpace(_) => {
                (CloseReason::Overload, "the store of inboxes has no room: try again later")
            }
            Error::NotDurable(_) | Error::Corrupt(_) => (
                CloseReason::BrokerUnavailable,
                "the store of inboxes takes nothing: its operator has to see to it",
            ),
        };
        tracing::warn!(%error, "a message was not stored");
        Self::new(reason, text)
    }
}

/// The message that a doorbell carries.
fn message(path: &ByteString, content: &Content) -> Arc<broker::Message> {
    let user = broker::destination::UserDestination { name: None, path: path.clone() };
    let mut message = crate::users::message(broker::Destination::User(user), content);
    message.persistent = true;
    Arc::new(message)
}

/// The message that an entry is.
fn entry_message(path: &ByteString, entry: inbox::Entry) -> Arc<broker::Message> {
    let inbox::Entry { id, headers, body, .. } = entry;
    message(path, &Content { id: MessageId::of(id), headers, body })
}

impl crate::users::Users {
    /// Rings for the users of this node.
    pub(crate) fn ring(&self, doorbell: &Doorbell) {
        let message = doorbell.content.as_ref().map(|content| message(&doorbell.path, content));
        for ring in &doorbell.rings {
            for session in self.of_user(&ring.user) {
                session.bells().ring(&doorbell.path, ring.at, message.as_ref(), session.mailbox());
            }
        }
    }
}
