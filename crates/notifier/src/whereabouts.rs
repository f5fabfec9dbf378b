//! What the store says of the targets of some sends, asked for together.
//!
//! Many requests of a stream wait for one answer of the store, and go out by it in their order. An answer
//! is of the moment in which it was asked for: whoever waited longer asks again.
//!
//! Invariants
//! - Where the store does not say, that is told from a target that has no sessions.
//! - Who is a member both by user and by session is sent to once: where the store does not say whose a
//!   session is, nobody is.
//! - How much is read for one answer is bounded: [`MAX_MEMBERS`] of the groups that are sent to one by one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytestring::ByteString;
use cluster::{Known, Nodes, Router, SendError, meets};
use futures_util::future::join_all;
use presence::{
    Count, GroupName, Groups, Lookup, Member, PageRequest, Presence, SessionId, Unavailable,
    UserName,
};
use tokio::time::Instant;

use crate::names::MAX_TARGETS;
use crate::outgoing::{Outgoing, Reach};

/// The most members, of all groups of a send together, that are sent to one by one.
pub(crate) const MAX_MEMBERS: usize = 100_000;

/// How old an answer may get.
const FRESH: Duration = Duration::from_secs(1);

/// Whom to ask.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) router: &'a Router,
    pub(crate) presence: &'a dyn Presence,
    pub(crate) groups: &'a dyn Groups,
    pub(crate) nodes: &'a Nodes,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    /// Where the users are; none if the store does not say.
    pub(crate) users: Option<Lookup>,
    /// The sessions; none if the store does not say.
    pub(crate) sessions: Option<Known>,
    /// The sessions of each group's members, with their nodes; none where the store does not say.
    counts: HashMap<GroupName, Option<Counted>>,
    /// The members of each list of groups, or why there are none.
    members: HashMap<Vec<GroupName>, Result<Members, NoMembers>>,
    /// How many there are in all; none if the store does not say.
    all: Option<All>,
    answered: Instant,
}

type Counted = (BTreeSet<SessionId>, BTreeSet<presence::Boot>);

/// All sessions, and how many nodes are not among those that they were counted on.
#[derive(Debug)]
struct All {
    count: Count,
    uncertain: usize,
}

/// The members of some groups, each once.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The users, with where they are, as many together as one call takes.
    pub(crate) users: Vec<(Vec<UserName>, Option<Lookup>)>,
    /// The sessions that are members themselves and whose users are none.
    pub(crate) sessions: Vec<SessionId>,
    /// What is known of all sessions that are members themselves; none if the store does not say.
    pub(crate) known: Option<Known>,
    /// Who is in which group.
    by_group: HashMap<GroupName, Vec<Member>>,
}

/// Why members are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoMembers {
    /// The store does not say.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// There are more than are sent to one by one.
    #[error(
        "the groups have more than {MAX_MEMBERS} members, who are not sent to one by one: leave \
         destination and audience out, and it goes to those who are subscribed"
    )]
    TooMany,
}

/// Why something did not go out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPosted {
    /// The broker or the store did not want to.
    #[error(transparent)]
    Send(#[from] SendError),
    /// There is nobody known to send it to.
    #[error(transparent)]
    Members(#[from] NoMembers),
}

impl Whereabouts {
    /// Nobody's, for what asks for none.
    pub(crate) fn nowhere() -> Self {
        Self {
            users: None,
            sessions: None,
            counts: HashMap::new(),
            members: HashMap::new(),
            all: None,
            answered: Instant::now(),
        }
    }

    /// Asks for all targets of these, as much as possible at once.
    pub(crate) async fn ask(from: Asked<'_>, of: &[&Outgoing]) -> Self {
        let (mut users, mut sessions) = (HashSet::new(), HashSet::new());
        let (mut subscribers, mut members) = (HashSet::new(), HashSet::new());
        let mut all = false;
        for outgoing in of {
            match outgoing {
                Outgoing::Users(of, _) => users.extend(of.iter().cloned()),
                Outgoing::UserOrSession(user, session, _) => {
                    users.insert(user.clone());
                    sessions.insert(session.clone());
                }
                Outgoing::Sessions(of, _) => sessions.extend(of.iter().cloned()),
                Outgoing::Subscribers { groups, counted: true, .. } => {
                    subscribers.extend(groups.iter().cloned());
                }
                Outgoing::Members(of, _) => {
                    members.insert(of.clone());
                }
                Outgoing::All(_) => all = true,
                Outgoing::Message(_)
                | Outgoing::Subscribers { counted: false, .. }
                | Outgoing::Order(_)
                | Outgoing::Revoke(..) => {}
            }
        }
        let (users, sessions): (Vec<_>, Vec<_>) =
            (users.into_iter().collect(), sessions.into_iter().collect());
        let count = async |group: GroupName| {
            let counted = from.router.count_group(&group).await;
            (group, counted.inspect_err(|error| tracing::debug!(%error, "not counted")).ok())
        };
        let read = async |groups: Vec<GroupName>| {
            let members = Members::read(from, &groups).await;
            (groups, members)
        };
        let (users, sessions, counts, members, all) = tokio::join!(
            async { if users.is_empty() { None } else { from.router.lookup(&users).await } },
            async {
                if sessions.is_empty() { None } else { from.router.sessions(&sessions).await }
            },
            join_all(subscribers.into_iter().map(count)),
            join_all(members.into_iter().map(read)),
            async { if all { All::ask(from).await } else { None } },
        );
        Self {
            users,
            sessions,
            counts: counts.into_iter().collect(),
            members: members.into_iter().collect(),
            all,
            answered: Instant::now(),
        }
    }

    /// Whether it is too old to send by.
    pub(crate) fn is_stale(&self) -> bool {
        self.answered.elapsed() > FRESH
    }

    /// Whom a message to those who are subscribed to `groups` may reach.
    pub(crate) fn of_subscribers(&self, groups: &[GroupName]) -> Reach {
        let counts: Option<Vec<&Counted>> =
            groups.iter().map(|group| self.counts.get(group)?.as_ref()).collect();
        let Some(counts) = counts else { return Reach::unknown(groups.len()) };
        let (mut sessions, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        for (some, on) in &counts {
            sessions.extend(some.iter().cloned());
            nodes.extend(on);
        }
        let reached = counts.iter().map(|(some, _)| some.len() as u64).collect();
        Reach::of(&sessions, &nodes, reached)
    }

    /// Whom a message to all of an audience may reach.
    pub(crate) fn of_all(&self, audience: &[(ByteString, ByteString)]) -> Reach {
        match &self.all {
            Some(all) if audience.is_empty() => Reach {
                sessions: all.count.sessions(),
                nodes: all.count.nodes.iter().filter(|(_, sessions)| *sessions > 0).count(),
                uncertain: all.uncertain,
                ..Reach::default()
            },
            _ => Reach::unknown(0),
        }
    }

    /// The members of `groups`.
    pub(crate) fn members(&self, groups: &[GroupName]) -> Result<&Members, NoMembers> {
        match self.members.get(groups) {
            Some(Ok(members)) => Ok(members),
            Some(Err(why)) => Err(why.clone()),
            None => Err(Unavailable("nobody was asked".to_owned()).into()),
        }
    }
}

impl All {
    async fn ask(from: Asked<'_>) -> Option<Self> {
        from.nodes.heard().await;
        let count = match from.presence.count().await {
            Ok(count) => count,
            Err(error) => {
                tracing::debug!(%error, "not counted");
                return None;
            }
        };
        let counted: HashSet<_> = count.nodes.iter().map(|(boot, _)| *boot).collect();
        let announced = from.nodes.announcements();
        let uncertain = announced.iter().filter(|node| !counted.contains(&node.boot)).count();
        Some(Self { count, uncertain })
    }
}

impl Members {
    async fn read(from: Asked<'_>, groups: &[GroupName]) -> Result<Self, NoMembers> {
        from.nodes.heard().await;
        let mut by_group: HashMap<GroupName, Vec<Member>> = HashMap::new();
        let mut count = 0;
        for group in groups {
            if by_group.contains_key(group) {
                continue;
            }
            let (mut members, mut page) = (Vec::new(), PageRequest::first(MAX_TARGETS));
            loop {
                let some = from.groups.members(group, &page).await?;
                count += some.items.len();
                if count > MAX_MEMBERS {
                    return Err(NoMembers::TooMany);
                }
                members.extend(some.items);
                match some.next {
                    Some(next) => page = PageRequest::after(next, MAX_TARGETS),
                    None => break,
                }
            }
            by_group.insert(group.clone(), members);
        }
        let (mut users, mut sessions) = (BTreeSet::new(), BTreeSet::new());
        for member in by_group.values().flatten() {
            match member {
                Member::User(user) => drop(users.insert(user.clone())),
                Member::Session(id) => drop(sessions.insert(id.clone())),
            }
        }
        let ids: Vec<_> = sessions.into_iter().collect();
        let known = match (ids.is_empty(), users.is_empty()) {
            (true, _) => Some(Known::new()),
            (false, true) => from.router.sessions(&ids).await,
            (false, false) => Some(from.router.known(&ids).await?),
        };
        // A session whose user is a member as well gets the message as the user's.
        let is_apart = |id: &SessionId| {
            let session = known.as_ref().and_then(|known| known.get(id));
            session.is_none_or(|session| !users.contains(&session.user))
        };
        let sessions = ids.into_iter().filter(is_apart).collect();
        let users: Vec<_> = users.into_iter().collect();
        let mut found = Vec::new();
        for some in users.chunks(MAX_TARGETS) {
            found.push((some.to_vec(), from.router.lookup(some).await));
        }
        Ok(Self { users: found, sessions, known, by_group })
    }

    /// Whom a message to an audience among the members of `groups` reaches.
    pub(crate) fn reach(
        &self,
        groups: &[GroupName],
        audience: &[(ByteString, ByteString)],
    ) -> Reach {
        let Some(known) = &self.known else { return Reach::unknown(groups.len()) };
        let mut by_user: HashMap<&UserName, &[presence::Session]> = HashMap::new();
        for (users, found) in &self.users {
            let Some(found) = found else { return Reach::unknown(groups.len()) };
            by_user.extend(users.iter().map(|user| (user, found.sessions_of(user))));
        }
        let (mut sessions, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        let mut reached = Vec::with_capacity(groups.len());
        for group in groups {
            let mut of_group = BTreeSet::new();
            for member in self.by_group.get(group).into_iter().flatten() {
                let found = match member {
                    Member::User(user) => by_user.get(user).copied().unwrap_or_default(),
                    Member::Session(id) => {
                        known.get(id).map(std::slice::from_ref).unwrap_or_default()
                    }
                };
                for session in found.iter().filter(|session| meets(&session.attributes, audience)) {
                    nodes.insert(session.boot);
                    of_group.insert(session.id.clone());
                }
            }
            reached.push(of_group.len() as u64);
            sessions.append(&mut of_group);
        }
        Reach::of(&sessions, &nodes, reached)
    }
}
