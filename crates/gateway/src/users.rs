//! The sessions of this node by who they are, and what each hears of its own user's destinations.
//!
//! A message to a user, a session or all of them comes to the node as a letter, once for all whom it is
//! for here; [`Users::deliver`] takes it to those that are subscribed to its destination.
//!
//! Invariants
//! - A session is in here before presence is told of it, and until its [`Registration`] is dropped, which tells
//!   presence that it is gone. So whoever finds a session in presence finds it here.
//! - One session gets one letter once, whatever it is named by.
//! - Delivery never waits for a client (see [`Mailbox`]), and a message is encoded once for each [`Shape`].
//! - Lock order: `here` alone; one session's `heard`, then its mailbox.
//!
//! Not here: which node a message goes to (`cluster::Router`), how letters come in ([`inlet`](crate::inlet)).

mod entering;
mod joined;
mod registration;
mod seen;

use std::collections::HashMap;
use std::sync::Arc;

use broker::destination::UserDestination;
use broker::{Destination, Message};
use bytes::Bytes;
use bytestring::ByteString;
use cluster::{Addressed, Content, Target};
use parking_lot::Mutex;
use presence::{Attributes, GroupName, Groups, SessionId, Unavailable, UserName};
use smallvec::SmallVec;
use tokio::time::Instant;

pub(crate) use self::entering::enter;
use self::joined::Joined;
pub(crate) use self::joined::join_all;
pub(crate) use self::registration::{Newcomer, Registration};
pub(crate) use self::seen::Seen;
use crate::inboxes::Bells;
use crate::mailbox::{Closing, Mailbox, Push};
use crate::message_frame::{Shape, encode};
use crate::metrics::Metrics;

/// How many frames may wait for sessions that are behind before a message goes to no further session: what is on
/// its way to clients is in their mailboxes, and hardly elsewhere, however many shapes they make up.
const BEHIND_AT_ONCE: usize = 64;

/// How many frames of a message are kept in case that another session has the same shape.
const MADE: usize = 64;

/// See the module.
pub(crate) struct Users {
    metrics: Arc<Metrics>,
    /// Held for a lookup or a change.
    here: Mutex<Here>,
}

/// Both hold the same sessions.
#[derive(Default)]
struct Here {
    by_id: HashMap<SessionId, Arc<Registered>>,
    by_user: HashMap<UserName, SmallVec<[Arc<Registered>; 1]>>,
}

/// A session that messages can be addressed to.
pub(crate) struct Registered {
    id: SessionId,
    user: UserName,
    /// What it may be chosen by.
    attributes: Attributes,
    mailbox: Arc<Mailbox>,
    /// What it is subscribed to within `/user`. At most the subscriptions of a session; held while a message
    /// goes to its mailbox.
    heard: Mutex<Vec<Heard>>,
    /// Where it is without asking, because it speaks no STOMP. Held for a change.
    joined: Mutex<Joined>,
    /// What rings when something comes into its inboxes.
    bells: Bells,
    /// What the console shows of it; none where there is no console.
    seen: Option<Box<Seen>>,
}

struct Heard {
    number: u32,
    /// None is all of them.
    path: Option<ByteString>,
    shape: Shape,
}

impl Heard {
    fn is_at(&self, path: &ByteString) -> bool {
        self.path.as_ref().is_none_or(|heard| heard == path)
    }
}

/// A session's subscription to a destination of its own user's. Dropping it ends it.
pub(crate) struct Hearing {
    registered: Arc<Registered>,
    number: u32,
    path: Option<ByteString>,
    metrics: Arc<Metrics>,
}

/// The user has as many sessions on this node as it may have.
pub(crate) struct TooMany;

impl Users {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, here: Mutex::default() }
    }

    /// Takes a session in, unless its user has `limit` of them here already.
    fn enter(&self, registered: &Arc<Registered>, limit: usize) -> Result<(), TooMany> {
        let mut here = self.here.lock();
        let sessions = here.by_user.entry(registered.user.clone()).or_default();
        if sessions.len() >= limit {
            return Err(TooMany);
        }
        sessions.push(Arc::clone(registered));
        here.by_id.insert(registered.id.clone(), Arc::clone(registered));
        Ok(())
    }

    fn leave(&self, registered: &Registered) {
        let mut here = self.here.lock();
        here.by_id.remove(&registered.id);
        let user = &registered.user;
        if let Some(sessions) = here.by_user.get_mut(user) {
            sessions.retain(|session| session.id != registered.id);
            if sessions.is_empty() {
                here.by_user.remove(user);
            }
        }
    }

    /// Subscribes a session to the destination `path` within its user, or to all that comes for it. On return
    /// nothing that comes to this node is missed.
    pub(crate) fn hear(
        &self,
        registered: &Arc<Registered>,
        number: u32,
        path: Option<ByteString>,
        shape: Shape,
    ) -> Hearing {
        registered.heard.lock().push(Heard { number, path: path.clone(), shape });
        self.metrics.subscriptions.inc();
        let (registered, metrics) = (Arc::clone(registered), Arc::clone(&self.metrics));
        Hearing { registered, number, path, metrics }
    }

    /// Takes a message to those of this node whom it is for. Waits for sessions that had no turn to empty their
    /// mailbox, never for a client.
    pub(crate) async fn deliver(&self, addressed: &Addressed, redelivered: bool) {
        let mut sessions = self.named(&addressed.to);
        sessions.retain(|session| cluster::meets(&session.attributes, &addressed.audience));
        let now = Instant::now();
        let mut frames = Frames::new(&addressed.path, &addressed.content, redelivered);
        let (mut count, mut behind) = (0, Vec::new());
        for session in sessions {
            for heard in session.heard.lock().iter().filter(|heard| heard.is_at(&addressed.path)) {
                count += 1;
                let frame = frames.of(&heard.shape);
                if session.mailbox.push(frame.clone(), now) == Push::Behind {
                    behind.push((Arc::clone(&session.mailbox), frame));
                }
            }
            if behind.len() >= BEHIND_AT_ONCE {
                catch_up(&mut behind, now).await;
            }
        }
        self.metrics.addressed(count);
        catch_up(&mut behind, now).await;
    }

    /// The sessions without STOMP that `of` names, which are in a group as soon as they are its members.
    pub(crate) fn joining(&self, of: &[Target]) -> Vec<Arc<Registered>> {
        let mut sessions = self.named(of);
        sessions.retain(|session| session.joined.lock().joins());
        sessions
    }

    /// Closes the sessions of this node that `of` names.
    pub(crate) fn close(&self, of: &[Target], closing: &Closing) {
        for session in self.named(of) {
            session.mailbox.close(closing.clone());
        }
    }

    /// Ends the subscriptions to `destination` of the sessions that `of` names.
    pub(crate) fn end_subscriptions(&self, of: &[Target], destination: &Destination) {
        for session in self.named(of) {
            session.end_subscriptions(destination);
        }
    }

    /// All sessions of this node, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Registered>> {
        self.here.lock().by_id.values().cloned().collect()
    }

    /// The sessions of `user` on this node.
    pub(crate) fn of_user(&self, user: &UserName) -> SmallVec<[Arc<Registered>; 1]> {
        self.here.lock().by_user.get(user).cloned().unwrap_or_default()
    }

    /// Has the sessions of one of `parts` parts look into their inboxes.
    pub(crate) fn look(&self, part: u32, parts: u32) {
        let is_in = |id: &SessionId| {
            let last = id.as_str().bytes().rev().take(4);
            last.fold(0, |sum, byte| sum * 31 + u32::from(byte)) % parts == part
        };
        let sessions: Vec<_> = {
            let here = self.here.lock();
            here.by_id.values().filter(|session| is_in(&session.id)).cloned().collect()
        };
        for session in sessions {
            session.bells.look(&session.mailbox);
        }
    }

    /// The sessions of this node that `targets` name, each once.
    fn named(&self, targets: &[Target]) -> Vec<Arc<Registered>> {
        let here = self.here.lock();
        if targets.contains(&Target::All) {
            return here.by_id.values().cloned().collect();
        }
        let mut found = Vec::with_capacity(targets.len());
        for target in targets {
            match target {
                Target::User(user) => {
                    found.extend(here.by_user.get(user).into_iter().flatten().cloned());
                }
                Target::Session(id) => found.extend(here.by_id.get(id).cloned()),
                Target::All => {}
            }
        }
        drop(here);
        if targets.len() > 1 {
            found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
            found.dedup_by(|one, other| one.id == other.id);
        }
        found
    }
}

impl Registered {
    /// One that no [`Users`] knows.
    #[cfg(test)]
    pub(crate) fn alone(id: SessionId, user: UserName, mailbox: Arc<Mailbox>) -> Arc<Self> {
        let (attributes, heard) = (Attributes::new(), Mutex::default());
        let joined = Mutex::new(Joined::BySubscribing);
        let bells = Bells::default();
        Arc::new(Self { id, user, attributes, mailbox, heard, joined, bells, seen: None })
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(crate) fn user(&self) -> &UserName {
        &self.user
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Whether it is of nobody in particular, who does not come back.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.user.as_str() == self.id.as_str()
    }

    /// What the console shows of it, where there is a console.
    pub(crate) fn seen(&self) -> Option<&Seen> {
        self.seen.as_deref()
    }

    pub(crate) fn bells(&self) -> &Bells {
        &self.bells
    }

    /// Whether it is a member of `group`, itself or by its user.
    pub(crate) async fn is_member(
        &self,
        groups: &dyn Groups,
        group: &GroupName,
    ) -> Result<bool, Unavailable> {
        groups.is_member(&self.user, &self.id, group).await
    }

    /// Whether one of `targets` is this session, or its user.
    pub(crate) fn is_among(&self, targets: &[Target]) -> bool {
        targets.iter().any(|target| match target {
            Target::User(user) => self.user == *user,
            Target::Session(id) => self.id == *id,
            Target::All => true,
        })
    }

    /// Tells the session something at a destination of its user's, if it is subscribed to that.
    pub(crate) fn tell(&self, path: &str, content: &Content) {
        let now = Instant::now();
        let path = ByteString::from(path.to_owned());
        let mut frames = Frames::new(&path, content, false);
        for heard in self.heard.lock().iter().filter(|heard| heard.is_at(&path)) {
            self.mailbox.post(frames.of(&heard.shape), now);
        }
    }
}

impl Hearing {
    /// Whether it is to that destination.
    pub(crate) fn is_to(&self, destination: &Destination) -> bool {
        match destination {
            Destination::User(UserDestination { path, .. }) => self.path.as_ref() == Some(path),
            _ => false,
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.registered.heard.lock().retain(|heard| heard.number != self.number);
        self.metrics.subscriptions.dec();
    }
}

/// Waits until these sessions have taken what they had no room for.
async fn catch_up(behind: &mut Vec<(Arc<Mailbox>, Bytes)>, now: Instant) {
    while !behind.is_empty() {
        tokio::task::yield_now().await;
        behind.retain(|(mailbox, frame)| mailbox.push(frame.clone(), now) == Push::Behind);
    }
}

/// The frames of one message, each made when a subscriber of its shape is found.
struct Frames {
    message: Message,
    redelivered: bool,
    text: bool,
    made: HashMap<Shape, Bytes>,
}

impl Frames {
    fn new(path: &ByteString, content: &Content, redelivered: bool) -> Self {
        let destination = UserDestination { name: None, path: path.clone() };
        let message = message(Destination::User(destination), content);
        let text = str::from_utf8(&message.body).is_ok();
        Self { message, redelivered, text, made: HashMap::new() }
    }

    fn of(&mut self, shape: &Shape) -> Bytes {
        if let Some(frame) = self.made.get(shape) {
            return frame.clone();
        }
        let frame = encode(shape, &self.message, self.redelivered, self.text);
        if self.made.len() == MADE {
            self.made.clear();
        }
        self.made.insert(shape.clone(), frame.clone());
        frame
    }
}

/// The message that subscribers get of what a letter holds.
pub(crate) fn message(destination: Destination, content: &Content) -> Message {
    let mut message = Message::new(destination, content.body.clone());
    message.id = content.id;
    message.headers.clone_from(&content.headers);
    message
}

#[cfg(test)]
mod tests;
