//! Sends a message to users, sessions and groups, wherever they are.
//!
//! Invariants
//! - A message goes to every node that may hold one of its targets, and to no other: those that the
//!   store names, and those that cannot be trusted to stand in it (`presence::targets`).
//! - Each node gets one letter, however many targets it holds.
//! - The confirm speaks of all letters together.
//!
//! Not here: who may send what, what a node does with a letter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use broker::{
    Broker, Confirm, ConfirmError, Destination, Message, MessageId, PublishError, PublisherId,
};
use bytestring::ByteString;
use futures_util::{StreamExt, TryStreamExt, stream};
use presence::{
    Boot, Count, GroupName, Groups, Lookup, Member, PageRequest, Presence, Session, SessionId,
    Unavailable, UserName,
};

use crate::address::{self, NameTooLong};
use crate::letter::{Addressed, Content, Doorbell, Letter, Ring, Target};
use crate::nodes::Nodes;

/// The most pages of a group that are counted: a group of more members is counted up to there.
const COUNTED_PAGES: usize = 10;

/// How many sessions are asked for at once.
const ASKED_AT_ONCE: usize = 64;

/// What sends.
#[derive(Clone)]
pub struct Router {
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    groups: Arc<dyn Groups>,
    nodes: Arc<Nodes>,
}

/// Something to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbound {
    /// The destination within the user, such as `/queue/x`.
    pub path: ByteString,
    /// Only sessions with all of these attributes; none means all sessions.
    pub audience: Vec<(ByteString, ByteString)>,
    /// What they get.
    pub content: Content,
    /// Whether it survives a restart of the broker on its way.
    pub persistent: bool,
}

/// A message on its way.
#[derive(Debug)]
pub struct Sent {
    /// How many sessions each target had, in their order.
    pub reached: Vec<usize>,
    /// How many different sessions there were in all.
    pub sessions: usize,
    /// On how many nodes they were.
    pub nodes: usize,
    /// How many nodes got it besides, for want of certainty.
    pub uncertain: usize,
    /// The broker's word on all of it.
    pub confirm: Confirm,
}

/// Why nothing was sent, or not all.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The broker did not take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A group of that name cannot be.
    #[error(transparent)]
    Group(#[from] NameTooLong),
}

/// The letters to write: for each node whom it is to reach there.
type Letters = BTreeMap<Boot, Vec<Target>>;

/// What the store says of sessions: those that it knows.
pub type Known = HashMap<SessionId, Session>;

impl Router {
    /// A router over these.
    pub fn new(
        broker: Arc<dyn Broker>,
        presence: Arc<dyn Presence>,
        groups: Arc<dyn Groups>,
        nodes: Arc<Nodes>,
    ) -> Self {
        Self { broker, presence, groups, nodes }
    }

    /// Sends to all sessions of each of `users`. Without an answer of the store it goes to every node,
    /// and nobody is counted.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn to_users(
        &self,
        publisher: PublisherId,
        users: &[UserName],
        outbound: &Outbound,
    ) -> Result<Sent, SendError> {
        let answer = self.lookup(users).await;
        self.to_found(publisher, users, answer.as_ref(), outbound).await
    }

    /// Where `users` are; none if the store does not say. The store vouches only for nodes that were in it
    /// completely when it was asked: one that has come to be since may hold a session that it did not have
    /// yet.
    pub async fn lookup(&self, users: &[UserName]) -> Option<Lookup> {
        self.nodes.heard().await;
        let announced = self.nodes.announcements();
        match self.presence.lookup(users).await {
            Ok(mut answer) => {
                let complete = announced.into_iter().filter(|node| node.registered == answer.epoch);
                let complete: HashSet<_> = complete.map(|node| node.boot).collect();
                answer.leased.retain(|boot| complete.contains(boot));
                Some(answer)
            }
            Err(error) => {
                tracing::debug!(%error, "sent to every node");
                None
            }
        }
    }

    /// As [`to_users`](Self::to_users), where an answer is at hand.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn to_found(
        &self,
        publisher: PublisherId,
        users: &[UserName],
        answer: Option<&Lookup>,
        outbound: &Outbound,
    ) -> Result<Sent, SendError> {
        let announcements = self.nodes.announcements();
        let mut letters = Letters::new();
        let (mut holding, mut reached) = (BTreeSet::new(), Vec::with_capacity(users.len()));
        let (mut sessions, mut seen) = (BTreeSet::new(), HashSet::with_capacity(users.len()));
        for user in users {
            let found = answer.map_or(&[][..], |answer| answer.sessions_of(user));
            let meant =
                found.iter().filter(|session| meets(&session.attributes, &outbound.audience));
            let mut count = 0;
            for session in meant {
                count += 1;
                sessions.insert(session.id.clone());
                holding.insert(session.boot);
            }
            reached.push(count);
            if !seen.insert(user) {
                continue;
            }
            for boot in presence::targets(user, answer, &announcements) {
                letters.entry(boot).or_default().push(Target::User(user.clone()));
            }
        }
        let uncertain = letters.keys().filter(|boot| !holding.contains(boot)).count();
        let confirm = self.post(publisher, letters, outbound).await?;
        Ok(Sent { reached, sessions: sessions.len(), nodes: holding.len(), uncertain, confirm })
    }

    /// Sends to each of `sessions`. An id names its node, so this needs no store; the store is asked
    /// only to count, and a session that it does not know is not counted.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn to_sessions(
        &self,
        publisher: PublisherId,
        sessions: &[SessionId],
        outbound: &Outbound,
    ) -> Result<Sent, SendError> {
        let known = self.sessions(sessions).await;
        self.to_known(publisher, sessions, known.as_ref(), outbound).await
    }

    /// What is known of `sessions`; none if the store does not say.
    pub async fn sessions(&self, sessions: &[SessionId]) -> Option<Known> {
        self.nodes.heard().await;
        match self.known(sessions).await {
            Ok(known) => Some(known),
            Err(error) => {
                tracing::debug!(%error, "sent without counting");
                None
            }
        }
    }

    /// What the store knows of `sessions`, now.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn known(&self, sessions: &[SessionId]) -> Result<Known, Unavailable> {
        let ask = |id: SessionId| async move { self.presence.session(&id).await };
        let answers = stream::iter(sessions.to_vec()).map(ask).buffer_unordered(ASKED_AT_ONCE);
        let known = answers.try_filter_map(|session| async move { Ok(session) });
        known.map_ok(|session| (session.id.clone(), session)).try_collect().await
    }

    /// As [`to_sessions`](Self::to_sessions), where an answer is at hand.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn to_known(
        &self,
        publisher: PublisherId,
        sessions: &[SessionId],
        known: Option<&Known>,
        outbound: &Outbound,
    ) -> Result<Sent, SendError> {
        let mut letters = Letters::new();
        let (mut holding, mut reached) = (BTreeSet::new(), Vec::with_capacity(sessions.len()));
        let (mut count, mut seen) = (0, HashSet::with_capacity(sessions.len()));
        for id in sessions {
            let session = known.and_then(|known| known.get(id));
            let is_meant =
                session.is_none_or(|session| meets(&session.attributes, &outbound.audience));
            let reaches = usize::from(session.is_some() && is_meant);
            reached.push(reaches);
            if !seen.insert(id) {
                continue;
            }
            count += reaches;
            let boot = match session {
                Some(session) => Some(session.boot),
                None => self.nodes.by_name(id.node_name()),
            };
            if let Some(boot) = boot.filter(|_| is_meant) {
                holding.extend(session.map(|session| session.boot));
                letters.entry(boot).or_default().push(Target::Session(id.clone()));
            }
        }
        let uncertain = letters.keys().filter(|boot| !holding.contains(boot)).count();
        let confirm = self.post(publisher, letters, outbound).await?;
        Ok(Sent { reached, sessions: count, nodes: holding.len(), uncertain, confirm })
    }

    /// Whether that id is of a node that has been heard of, and so a session and not a user of that name.
    pub fn is_of_a_node(&self, id: &SessionId) -> bool {
        self.nodes.by_name(id.node_name()).is_some()
    }

    /// Tells the nodes that may hold the users whose inboxes something came into.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn ring(
        &self,
        publisher: PublisherId,
        doorbell: &Doorbell,
    ) -> Result<Confirm, PublishError> {
        let users: Vec<_> = doorbell.rings.iter().map(|ring| ring.user.clone()).collect();
        let answer = self.lookup(&users).await;
        let announcements = self.nodes.announcements();
        let mut rung: BTreeMap<Boot, Vec<Ring>> = BTreeMap::new();
        for ring in &doorbell.rings {
            for boot in presence::targets(&ring.user, answer.as_ref(), &announcements) {
                rung.entry(boot).or_default().push(ring.clone());
            }
        }
        let mut confirms = Vec::with_capacity(rung.len());
        for (boot, rings) in rung {
            let letter = Letter::Doorbell(Doorbell { rings, ..doorbell.clone() });
            let (node, id) = (address::node(boot), MessageId::new());
            confirms.push(self.publish(publisher, node, id, &letter, false).await?);
        }
        Ok(Confirm::all(confirms))
    }

    /// Tells one process something.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn tell(
        &self,
        publisher: PublisherId,
        boot: Boot,
        letter: &Letter,
    ) -> Result<Confirm, PublishError> {
        self.publish(publisher, address::node(boot), MessageId::new(), letter, false).await
    }

    /// Sends to those who are subscribed to `group`.
    ///
    /// # Errors
    /// When the broker does not take it, or there can be no such group.
    pub async fn to_group(
        &self,
        publisher: PublisherId,
        group: &GroupName,
        content: Content,
        persistent: bool,
    ) -> Result<Confirm, SendError> {
        let topic = address::group(group)?;
        let addressed =
            Addressed { to: Vec::new(), path: ByteString::new(), audience: Vec::new(), content };
        let id = addressed.content.id;
        let letter = Letter::Message(addressed);
        Ok(self.publish(publisher, Destination::Topic(topic), id, &letter, persistent).await?)
    }

    /// The sessions of the members of `group`, and on how many nodes they are.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn count_group(
        &self,
        group: &GroupName,
    ) -> Result<(BTreeSet<SessionId>, BTreeSet<Boot>), Unavailable> {
        let (mut sessions, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        let mut page = PageRequest::first(presence::MAX_MEMBERS);
        for _ in 0..COUNTED_PAGES {
            let members = self.groups.members(group, &page).await?;
            let (mut users, mut ids) = (Vec::new(), Vec::new());
            for member in members.items {
                match member {
                    Member::User(user) => users.push(user),
                    Member::Session(id) => ids.push(id),
                }
            }
            let mut found: Vec<Session> = self.known(&ids).await?.into_values().collect();
            if !users.is_empty() {
                found.extend(self.presence.lookup(&users).await?.sessions.into_values().flatten());
            }
            for session in found {
                nodes.insert(session.boot);
                sessions.insert(session.id);
            }
            match members.next {
                Some(next) => page = PageRequest::after(next, presence::MAX_MEMBERS),
                None => break,
            }
        }
        Ok((sessions, nodes))
    }

    /// How many are online.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn count_all(&self) -> Result<Count, Unavailable> {
        self.presence.count().await
    }

    /// Sends to every session there is.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn to_all(
        &self,
        publisher: PublisherId,
        outbound: &Outbound,
    ) -> Result<Confirm, SendError> {
        let letter = letter(vec![Target::All], outbound);
        let (id, persistent) = (outbound.content.id, outbound.persistent);
        Ok(self.publish(publisher, address::all(), id, &letter, persistent).await?)
    }

    /// Tells every node to end sessions or subscriptions.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn tell_all(
        &self,
        publisher: PublisherId,
        letter: &Letter,
    ) -> Result<Confirm, SendError> {
        Ok(self.publish(publisher, address::all(), MessageId::new(), letter, true).await?)
    }

    /// Tells those who fan out the messages of `group` that `members` are in it no more; nobody in
    /// particular means everybody. Once it is confirmed, nothing that is sent to the group later reaches
    /// them.
    ///
    /// # Errors
    /// When the broker does not take it, or there can be no such group.
    pub async fn revoke(
        &self,
        publisher: PublisherId,
        group: &GroupName,
        members: Vec<Target>,
    ) -> Result<Confirm, SendError> {
        let topic = address::group(group)?;
        let letter = Letter::Revoke { group: group.clone(), members };
        let to = Destination::Topic(topic);
        Ok(self.publish(publisher, to, MessageId::new(), &letter, true).await?)
    }

    /// What the broker does not take after it took a part is told by the confirm, for the part is on its
    /// way.
    async fn post(
        &self,
        publisher: PublisherId,
        letters: Letters,
        outbound: &Outbound,
    ) -> Result<Confirm, PublishError> {
        let mut confirms = Vec::with_capacity(letters.len());
        for (boot, to) in letters {
            // An id of the letter's own: a long list is more letters than one to a node, and a message
            // that comes to a topic twice under one id may be taken for a repeat.
            let (letter, id) = (letter(to, outbound), MessageId::new());
            let node = address::node(boot);
            match self.publish(publisher, node, id, &letter, outbound.persistent).await {
                Ok(confirm) => confirms.push(confirm),
                Err(error) if confirms.is_empty() => return Err(error),
                Err(error) => {
                    let lost = ConfirmError::Lost(error.to_string());
                    confirms.push(Confirm::known(Err(lost)));
                    break;
                }
            }
        }
        Ok(Confirm::all(confirms))
    }

    async fn publish(
        &self,
        publisher: PublisherId,
        to: Destination,
        id: MessageId,
        letter: &Letter,
        persistent: bool,
    ) -> Result<Confirm, PublishError> {
        let mut message = Message::new(to, letter.write());
        (message.id, message.persistent) = (id, persistent);
        self.broker.publish(publisher, message).await
    }
}

fn letter(to: Vec<Target>, outbound: &Outbound) -> Letter {
    Letter::Message(Addressed {
        to,
        path: outbound.path.clone(),
        audience: outbound.audience.clone(),
        content: outbound.content.clone(),
    })
}

/// Whether a session with these attributes is among an audience: each attribute it asks for is there and
/// is equal as text, or is a list that holds the value.
pub fn meets(attributes: &presence::Attributes, audience: &[(ByteString, ByteString)]) -> bool {
    let is = |value: &serde_json::Value, wanted: &str| match value {
        serde_json::Value::String(text) => text == wanted,
        serde_json::Value::Bool(is) => is.to_string() == wanted,
        serde_json::Value::Number(number) => number.to_string() == wanted,
        _ => false,
    };
    audience.iter().all(|(name, wanted)| match attributes.get(&**name) {
        Some(serde_json::Value::Array(values)) => values.iter().any(|value| is(value, wanted)),
        Some(value) => is(value, wanted),
        None => false,
    })
}
