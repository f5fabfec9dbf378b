//! Stores messages for users, and answers for it.
//!
//! Invariants
//! - The answer follows the store alone: the broker may be away.
//! - Nothing is stored before it is known for whom. If the store fails in the middle of many, that is told
//!   apart from nothing being done, and what was begun is tried on until the deadline.
//! - Of members that are sessions at most [`LIVE`] messages are on their way; the others do not get theirs.
//!
//! Not here: what a request means (`keep`), what is done with what is stored (`cluster::Dispatcher`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::inbox::{Address, Appended, Draft, Error, Inbox};
use broker::{MessageId, PublisherId};
use bytestring::ByteString;
use cluster::{Content, Dispatcher, Outbound, Router};
use presence::{Boot, GroupName, Groups, Member, PageRequest, SessionId, UserName};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::keep::{Keep, Kept};
use crate::metrics::Metrics;
use crate::names::MAX_TARGETS;
use crate::outcomes::Outcomes;
use crate::refusal::Refusal;
use crate::whereabouts::MAX_MEMBERS;

/// How many messages may be on their way to members that are sessions.
const LIVE: usize = 64;

/// How long one of them may take.
const LIVE_PATIENCE: Duration = Duration::from_secs(10);

/// How long until the store is tried again in the middle of many.
const PAUSE: Duration = Duration::from_millis(250);

/// As whom it sends to members that are sessions.
const PUBLISHER: PublisherId = PublisherId(u64::MAX - 4);

/// See the module.
pub(crate) struct Keeper {
    dispatcher: Dispatcher,
    router: Router,
    groups: Arc<dyn Groups>,
    boot: Boot,
    ttl: Duration,
    metrics: Arc<Metrics>,
    live: Arc<Semaphore>,
}

/// What a keeper is made of.
pub(crate) struct KeeperParts {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) router: Router,
    pub(crate) groups: Arc<dyn Groups>,
    /// Who is told what becomes of messages.
    pub(crate) boot: Boot,
    /// How long messages may wait.
    pub(crate) ttl: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

/// A message on its way into many inboxes.
struct Storing<'a> {
    draft: &'a Draft,
    path: &'a ByteString,
    deadline: Instant,
    outcomes: Outcomes,
    /// Whether the store may have done what it did not answer.
    is_unsure: bool,
}

/// The members of some groups, each once.
#[derive(Default)]
struct Members {
    users: BTreeSet<UserName>,
    sessions: BTreeSet<SessionId>,
}

impl Keeper {
    pub(crate) fn new(parts: KeeperParts) -> Self {
        let KeeperParts { dispatcher, router, groups, boot, ttl, metrics } = parts;
        let live = Arc::new(Semaphore::new(LIVE));
        Self { dispatcher, router, groups, boot, ttl, metrics, live }
    }

    pub(crate) fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    pub(crate) fn inbox(&self) -> &dyn Inbox {
        &**self.dispatcher.inbox()
    }

    /// Whether what is sent to users at `path` is durable whatever its sender says.
    pub(crate) fn keeps(&self, path: &str) -> bool {
        self.dispatcher.keeps(path)
    }

    /// How long messages may wait.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Who is told what becomes of messages.
    pub(crate) fn boot(&self) -> Boot {
        self.boot
    }

    /// Stores it for all whom it is for, until `deadline` at the latest.
    pub(crate) async fn store(&self, keep: &Keep, deadline: Instant) -> Result<Outcomes, Refusal> {
        let Keep { to, path, draft } = keep;
        let outcomes = Outcomes::default();
        let mut storing = Storing { draft, path, deadline, outcomes, is_unsure: false };
        match to {
            Kept::Users(named) => {
                let users: BTreeSet<_> = named.iter().cloned().collect();
                let to = storing.inboxes(users);
                let appended = self.append(&mut storing, &to).await?;
                storing.outcomes.tell(draft.id, named, &to, &appended);
            }
            Kept::Members(groups) => {
                let read = timeout_at(deadline, Members::read(&*self.groups, groups)).await;
                let Members { users, sessions } = read.map_err(|_| {
                    Refusal::StoreAway("the store of groups takes too long".to_owned())
                })??;
                let users: Vec<_> = users.into_iter().collect();
                for users in users.chunks(MAX_TARGETS) {
                    let to = storing.inboxes(users.iter().cloned());
                    self.append(&mut storing, &to).await?;
                }
                self.send_live(keep, users, sessions);
            }
            Kept::All => {
                let mut page = PageRequest::first(MAX_TARGETS);
                loop {
                    let known = self.known(&mut storing, &page).await?;
                    let to = storing.inboxes(known.items);
                    self.append(&mut storing, &to).await?;
                    match known.next {
                        Some(next) => page = PageRequest::after(next, MAX_TARGETS),
                        None => break,
                    }
                }
            }
            Kept::Later => {
                let to = [Address::Outbox { destination: path.clone() }];
                self.append(&mut storing, &to).await?;
            }
        }
        storing.outcomes.unless_full()
    }

    async fn append(
        &self,
        storing: &mut Storing<'_>,
        to: &[Address],
    ) -> Result<Vec<Appended>, Refusal> {
        if to.is_empty() {
            return Ok(Vec::new());
        }
        // Said again, a message with a key is not stored twice.
        let is_exact = storing.draft.key.is_some();
        let appended = loop {
            let append = self.dispatcher.append(to, storing.draft);
            let error = match timeout_at(storing.deadline, append).await {
                Ok(Ok(appended)) => break appended,
                Ok(Err(error)) => error,
                Err(_) => {
                    self.metrics.appends_failed(to.len());
                    return Err(storing.late());
                }
            };
            storing.is_unsure |= matches!(error, Error::Unknown(_));
            let may_try = match &error {
                Error::Unavailable(_) => storing.has_begun(),
                Error::Unknown(_) => is_exact,
                Error::NoSpace(_) | Error::NotDurable(_) | Error::Corrupt(_) => false,
            };
            if !may_try || Instant::now() + PAUSE >= storing.deadline {
                self.metrics.appends_failed(to.len());
                return Err(storing.failed(error));
            }
            sleep(PAUSE).await;
        };
        storing.outcomes.add(storing.draft.id, &appended);
        self.metrics.count_appends(&appended);
        Ok(appended)
    }

    /// A page of the users who are known, tried again once something is stored.
    async fn known(
        &self,
        storing: &mut Storing<'_>,
        page: &PageRequest,
    ) -> Result<presence::Page<UserName>, Refusal> {
        loop {
            let error = match timeout_at(storing.deadline, self.inbox().known(page)).await {
                Ok(Ok(known)) => return Ok(known),
                Ok(Err(error)) => error,
                Err(_) if !storing.has_begun() => {
                    return Err(Refusal::StoreAway(
                        "the store of inboxes takes too long".to_owned(),
                    ));
                }
                Err(_) => return Err(storing.late()),
            };
            // Nothing was changed by asking.
            let error = match error {
                Error::Unknown(why) => Error::Unavailable(why),
                error => error,
            };
            let is_over = Instant::now() + PAUSE >= storing.deadline;
            if !storing.has_begun() || is_over {
                return Err(storing.failed(error));
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends to members that are sessions, and have no inbox, unless their users have theirs.
    fn send_live(&self, keep: &Keep, users: Vec<UserName>, sessions: BTreeSet<SessionId>) {
        // What is scheduled would come too soon.
        if sessions.is_empty() || keep.draft.deliver_at.is_some() {
            return;
        }
        let Ok(place) = Arc::clone(&self.live).try_acquire_owned() else {
            tracing::debug!(
                "a durable message is not sent to the sessions of its group: too many are"
            );
            return;
        };
        let (router, users) = (self.router.clone(), users.into_iter().collect::<BTreeSet<_>>());
        let Draft { id, headers, body, .. } = keep.draft.clone();
        let content = Content { id: MessageId::of(id), headers, body };
        let (path, audience) = (keep.path.clone(), Vec::new());
        let outbound = Outbound { path, audience, content, persistent: true };
        tokio::spawn(async move {
            let _place = place;
            let send = async {
                let sessions: Vec<_> = sessions.into_iter().collect();
                for some in sessions.chunks(MAX_TARGETS) {
                    let known = router.sessions(some).await;
                    let is_apart = |id: &&SessionId| {
                        let session = known.as_ref().and_then(|known| known.get(*id));
                        session.is_none_or(|session| !users.contains(&session.user))
                    };
                    let some: Vec<_> = some.iter().filter(is_apart).cloned().collect();
                    let sent = router.to_known(PUBLISHER, &some, known.as_ref(), &outbound).await;
                    if let Err(error) = sent {
                        tracing::debug!(%error, "sessions of a group did not get what is durable");
                    }
                }
            };
            let _ = timeout(LIVE_PATIENCE, send).await;
        });
    }
}

impl Storing<'_> {
    /// The inboxes of `users`.
    fn inboxes(&self, users: impl IntoIterator<Item = UserName>) -> Vec<Address> {
        users.into_iter().map(|user| Address::of_user(user, self.path.clone())).collect()
    }

    /// What to say when the deadline is over.
    fn late(&self) -> Refusal {
        let why = format!("the store of inboxes did not answer in time{}", self.so_far());
        Refusal::StoreLate { why, id: MessageId::of(self.draft.id) }
    }

    /// Whether an inbox has the message, or may have it.
    fn has_begun(&self) -> bool {
        self.is_unsure || self.outcomes.kept() > 0
    }

    fn failed(&self, error: Error) -> Refusal {
        if !self.has_begun() {
            return error.into();
        }
        let why = format!("{error}{}", self.so_far());
        Refusal::StoreUnconfirmed { why, id: MessageId::of(self.draft.id) }
    }

    /// How far it has come, if it is for many.
    fn so_far(&self) -> String {
        match self.outcomes.kept() {
            0 => String::new(),
            kept => format!(" ({kept} inboxes have the message)"),
        }
    }
}

impl Members {
    async fn read(from: &dyn Groups, groups: &[GroupName]) -> Result<Self, Refusal> {
        let mut members = Self::default();
        for group in groups.iter().collect::<BTreeSet<_>>() {
            let mut page = PageRequest::first(MAX_TARGETS);
            loop {
                let some = from.members(group, &page).await?;
                for member in some.items {
                    match member {
                        Member::User(user) => drop(members.users.insert(user)),
                        Member::Session(id) => drop(members.sessions.insert(id)),
                    }
                }
                if members.users.len() + members.sessions.len() > MAX_MEMBERS {
                    return Err(Refusal::TooManyMembers(format!(
                        "the groups have more than {MAX_MEMBERS} members, for whom one message is not \
                         stored: nothing was"
                    )));
                }
                match some.next {
                    Some(next) => page = PageRequest::after(next, MAX_TARGETS),
                    None => break,
                }
            }
        }
        Ok(members)
    }
}
