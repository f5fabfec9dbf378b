//! What a request asks to send, checked, and how it goes out.
//!
//! Invariant: what is in here names nothing that cannot be; only the broker, or the store for members one
//! by one, can refuse it yet.
//!
//! Not here: reading requests (`sends`, `publishes`), waiting for a broker that is away (`publisher`), what is
//! stored (`keep`).

use std::collections::BTreeSet;

use broker::{Broker, Confirm, Message, MessageId, PublisherId};
use bytestring::ByteString;
use cluster::{Content, Letter, Outbound, Router, SendError, Sent, Target};
use presence::{Boot, GroupName, SessionId, UserName};

use crate::names;
use crate::whereabouts::{NotPosted, Whereabouts};

/// What a target takes of the room, in bytes, roughly.
const TARGET: usize = 64;

/// Something to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// To a destination of the broker's.
    Message(Message),
    /// To all sessions of users.
    Users(Vec<UserName>, Outbound),
    /// To all sessions of a user, or to the one that has this id in place of the name.
    UserOrSession(UserName, SessionId, Outbound),
    /// To sessions.
    Sessions(Vec<SessionId>, Outbound),
    /// To those who are subscribed to groups.
    Subscribers {
        /// The groups.
        groups: Vec<GroupName>,
        /// What they get.
        content: Content,
        /// Whether it persists.
        persistent: bool,
        /// Whether the sender wants to know how many there are.
        counted: bool,
    },
    /// To the members of groups, one by one.
    Members(Vec<GroupName>, Outbound),
    /// To every session.
    All(Outbound),
    /// An order to every node.
    Order(Letter),
    /// The word to those who fan out a group's messages that members are none any more.
    Revoke(GroupName, Vec<Target>),
}

/// Whom something reached, as far as anybody knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// How many sessions, each counted once.
    pub(crate) sessions: u64,
    /// On how many nodes.
    pub(crate) nodes: usize,
    /// How many sessions of each target, in the order of the targets.
    pub(crate) reached: Vec<u64>,
    /// How many nodes got it besides.
    pub(crate) uncertain: usize,
    /// Whether nobody could count.
    pub(crate) uncounted: bool,
}

impl Outgoing {
    /// The id that clients see; one of no message for an order.
    pub(crate) fn id(&self) -> MessageId {
        match self {
            Self::Message(message) => message.id,
            Self::Users(_, outbound)
            | Self::UserOrSession(_, _, outbound)
            | Self::Sessions(_, outbound)
            | Self::Members(_, outbound)
            | Self::All(outbound) => outbound.content.id,
            Self::Subscribers { content, .. } => content.id,
            Self::Order(_) | Self::Revoke(..) => MessageId::new(),
        }
    }

    /// About how many bytes it takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        let of = |headers: &[(ByteString, ByteString)], body: usize| {
            headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + body
        };
        let content = match self {
            Self::Message(message) => of(&message.headers, message.body.len()),
            Self::Users(_, outbound)
            | Self::UserOrSession(_, _, outbound)
            | Self::Sessions(_, outbound)
            | Self::Members(_, outbound)
            | Self::All(outbound) => of(&outbound.content.headers, outbound.content.body.len()),
            Self::Subscribers { content, .. } => of(&content.headers, content.body.len()),
            Self::Order(_) | Self::Revoke(..) => 0,
        };
        content + self.targets() * TARGET
    }

    /// How many targets it names; none where the store is not asked.
    pub(crate) fn targets(&self) -> usize {
        match self {
            Self::Message(_)
            | Self::Order(_)
            | Self::Revoke(..)
            | Self::Subscribers { counted: false, .. } => 0,
            Self::Users(users, _) => users.len(),
            Self::Sessions(sessions, _) => sessions.len(),
            Self::Subscribers { groups, .. } | Self::Members(groups, _) => groups.len(),
            Self::All(_) | Self::UserOrSession(..) => 1,
        }
    }

    /// What it named, in its order.
    pub(crate) fn into_targets(self) -> Vec<String> {
        fn texts<T: ToString>(targets: Vec<T>) -> Vec<String> {
            targets.iter().map(T::to_string).collect()
        }
        match self {
            Self::Users(users, _) => texts(users),
            Self::Sessions(sessions, _) => texts(sessions),
            Self::Subscribers { groups, .. } | Self::Members(groups, _) => texts(groups),
            Self::UserOrSession(user, ..) => vec![user.to_string()],
            Self::Message(_) | Self::All(_) | Self::Order(_) | Self::Revoke(..) => Vec::new(),
        }
    }

    /// Hands it to the broker. An error means that nothing of it was taken.
    pub(crate) async fn post(
        &self,
        publisher: PublisherId,
        broker: &dyn Broker,
        router: &Router,
        whereabouts: &Whereabouts,
    ) -> Result<(Confirm, Reach), NotPosted> {
        match self {
            Self::Message(message) => {
                let confirm = broker.publish(publisher, message.clone()).await;
                Ok((confirm.map_err(SendError::from)?, Reach::default()))
            }
            Self::Users(users, outbound) => {
                let found = whereabouts.users.as_ref();
                let sent = router.to_found(publisher, users, found, outbound).await?;
                Ok(counted(sent, found.is_some()))
            }
            // Known only once all nodes have been heard of, as they have been when somebody was asked.
            Self::UserOrSession(user, session, outbound) => {
                let sent = match router.is_of_a_node(session) {
                    true => {
                        let (known, session) = (whereabouts.sessions.as_ref(), session.clone());
                        router.to_known(publisher, &[session], known, outbound).await?
                    }
                    false => {
                        let (found, user) = (whereabouts.users.as_ref(), user.clone());
                        router.to_found(publisher, &[user], found, outbound).await?
                    }
                };
                Ok(counted(sent, whereabouts.users.is_some()))
            }
            Self::Sessions(sessions, outbound) => {
                let known = whereabouts.sessions.as_ref();
                let sent = router.to_known(publisher, sessions, known, outbound).await?;
                Ok(counted(sent, known.is_some()))
            }
            Self::Subscribers { groups, content, persistent, .. } => {
                let mut confirms = Vec::with_capacity(groups.len());
                for group in distinct(groups) {
                    let confirm = router.to_group(publisher, group, content.clone(), *persistent);
                    confirms.push(taken(confirm.await, confirms.is_empty())?);
                }
                Ok((Confirm::all(confirms), whereabouts.of_subscribers(groups)))
            }
            Self::Members(groups, outbound) => {
                let members = whereabouts.members(groups)?;
                let mut confirms = Vec::new();
                let mut reach = members.reach(groups, &outbound.audience);
                for (users, found) in &members.users {
                    let sent = router.to_found(publisher, users, found.as_ref(), outbound).await;
                    if let Some(sent) = part(sent, &mut confirms)? {
                        reach.uncertain = reach.uncertain.max(sent);
                    }
                }
                for sessions in members.sessions.chunks(names::MAX_TARGETS) {
                    let known = members.known.as_ref();
                    let sent = router.to_known(publisher, sessions, known, outbound).await;
                    if let Some(sent) = part(sent, &mut confirms)? {
                        reach.uncertain = reach.uncertain.max(sent);
                    }
                }
                Ok((Confirm::all(confirms), reach))
            }
            Self::All(outbound) => {
                let confirm = router.to_all(publisher, outbound).await?;
                Ok((confirm, whereabouts.of_all(&outbound.audience)))
            }
            Self::Order(letter) => {
                Ok((router.tell_all(publisher, letter).await?, Reach::default()))
            }
            Self::Revoke(group, members) => {
                let confirm = router.revoke(publisher, group, members.clone()).await?;
                Ok((confirm, Reach::default()))
            }
        }
    }
}

impl Reach {
    /// Of sessions on nodes, with how many of them each target has.
    pub(crate) fn of(
        sessions: &BTreeSet<SessionId>,
        nodes: &BTreeSet<Boot>,
        reached: Vec<u64>,
    ) -> Self {
        let sessions = sessions.len() as u64;
        Self { sessions, nodes: nodes.len(), reached, ..Self::default() }
    }

    /// Of `targets` that nobody could count.
    pub(crate) fn unknown(targets: usize) -> Self {
        Self { reached: vec![0; targets], uncounted: true, ..Self::default() }
    }
}

fn counted(sent: Sent, counted: bool) -> (Confirm, Reach) {
    let reach = Reach {
        sessions: sent.sessions as u64,
        nodes: sent.nodes,
        reached: sent.reached.into_iter().map(|count| count as u64).collect(),
        uncertain: sent.uncertain,
        uncounted: !counted,
    };
    (sent.confirm, reach)
}

/// Each once, in order.
fn distinct(groups: &[GroupName]) -> impl Iterator<Item = &GroupName> {
    groups.iter().enumerate().filter(|(n, group)| !groups[..*n].contains(group)).map(|(_, g)| g)
}

/// What became of one of several: an error if nothing was taken before.
fn taken(confirm: Result<Confirm, SendError>, is_first: bool) -> Result<Confirm, SendError> {
    match confirm {
        Err(error) if !is_first => {
            Ok(Confirm::known(Err(broker::ConfirmError::Lost(error.to_string()))))
        }
        confirm => confirm,
    }
}

/// As [`taken`], of a part that says how many nodes were uncertain.
fn part(
    sent: Result<Sent, SendError>,
    confirms: &mut Vec<Confirm>,
) -> Result<Option<usize>, SendError> {
    let (sent, uncertain) = match sent {
        Ok(sent) => (Ok(sent.confirm), Some(sent.uncertain)),
        Err(error) => (Err(error), None),
    };
    confirms.push(taken(sent, confirms.is_empty())?);
    Ok(uncertain)
}
