//! Presence and groups of one process, in memory.
//!
//! Invariants
//! - It vouches for itself: its epoch never changes, its one node is always leased.
//! - `sessions` and `by_user` hold the same sessions; a user in `by_user` has at least one.
//! - A user is in `online` from the first session until it is told offline, with the time of that while it
//!   has no session.
//!
//! What it holds is bounded by how many sessions the node admits, and by what its own services put into
//! groups; all of it is gone with the process.

mod groups;
mod owners;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::groups::MemoryGroups;
use self::owners::MemoryOwners;
use crate::event::Source;
use crate::group::{self, GroupError, Groups, Member};
use crate::{
    Boot, Config, Count, Ending, Epoch, Event, Events, GroupName, Link, Lookup, OnlineUser, Page,
    PageRequest, Presence, RegisterError, Session, SessionId, State, Unavailable, UserName,
};

/// Presence and groups of one process. It must be made within a Tokio runtime.
#[derive(Debug)]
pub struct MemoryPresence {
    boot: Boot,
    epoch: Epoch,
    shared: Arc<Shared>,
    state: watch::Sender<State>,
    /// Ends the task that tells who is offline.
    _lingering: DropGuard,
}

#[derive(Debug)]
struct Shared {
    linger: Duration,
    /// Held for a lookup or a change, never across a wait.
    here: Mutex<Here>,
    /// Held alike, never together with `here` but by who takes `here` first.
    groups: Mutex<MemoryGroups>,
    /// Held alike, with none of the others.
    owners: Mutex<MemoryOwners>,
    events: Source,
    /// Told when `Here::leaving` is not empty any more.
    left: Notify,
}

#[derive(Debug, Default)]
struct Here {
    sessions: HashMap<SessionId, Arc<Session>>,
    by_user: HashMap<UserName, BTreeMap<SessionId, Arc<Session>>>,
    online: BTreeMap<UserName, Option<Instant>>,
    /// The times in `online`, in their order, and those that are out of date.
    leaving: VecDeque<(Instant, UserName)>,
    bans: HashMap<UserName, Instant>,
    /// How many bans there may be before those that are over are cleared away.
    bans_swept_at: usize,
    gone: bool,
}

impl MemoryPresence {
    /// Presence of the process `boot`, with nobody in it.
    #[must_use]
    pub fn new(config: &Config, boot: Boot) -> Self {
        let epoch = Epoch::new(&boot.to_string());
        let shared = Arc::new(Shared {
            linger: config.linger,
            here: Mutex::default(),
            groups: Mutex::default(),
            owners: Mutex::default(),
            events: Source::new(),
            left: Notify::new(),
        });
        let closing = CancellationToken::new();
        tokio::spawn(closing.clone().run_until_cancelled_owned(shared.clone().tell_offline()));
        let state = State { link: Link::Up, registered: Some(epoch.clone()) };
        let state = watch::Sender::new(state);
        Self { boot, epoch, shared, state, _lingering: closing.drop_guard() }
    }
}

impl Shared {
    /// Tells each user offline whose linger has passed without another session.
    async fn tell_offline(self: Arc<Self>) {
        loop {
            let due = self.here.lock().leaving.front().map(|(due, _)| *due);
            match due {
                None => self.left.notified().await,
                Some(due) => {
                    tokio::time::sleep_until(due).await;
                    self.strike(due);
                }
            }
        }
    }

    fn strike(&self, due: Instant) {
        let mut here = self.here.lock();
        while here.leaving.front().is_some_and(|(at, _)| *at <= due) {
            let Some((at, user)) = here.leaving.pop_front() else { return };
            if here.online.get(&user) == Some(&Some(at)) {
                here.online.remove(&user);
                self.events.tell(Event::UserOffline(user));
            }
        }
    }

    fn end(&self, here: &mut Here, id: &SessionId) {
        let Some(session) = here.sessions.remove(id) else { return };
        let user = session.user.clone();
        if let Some(of_user) = here.by_user.get_mut(&user) {
            of_user.remove(id);
            if of_user.is_empty() {
                here.by_user.remove(&user);
                let due = Instant::now() + self.linger;
                here.online.insert(user.clone(), Some(due));
                here.leaving.push_back((due, user.clone()));
                self.left.notify_one();
            }
        }
        self.groups.lock().forget(&Member::Session(id.clone()));
        let (boot, ending) = (session.boot, Ending::Left);
        self.events.tell(Event::SessionClosed { id: id.clone(), user, boot, ending });
    }
}

impl Here {
    fn ban_of(&self, user: &UserName) -> Option<Duration> {
        let until = self.bans.get(user)?;
        let remaining = until.saturating_duration_since(Instant::now());
        (!remaining.is_zero()).then_some(remaining)
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    fn boot(&self) -> Boot {
        self.boot
    }

    async fn register(&self, session: Session) -> Result<(), RegisterError> {
        session.check()?;
        if session.boot != self.boot || session.id.node_name() != self.boot.node_name() {
            return Err(RegisterError::Foreign(session.id));
        }
        let mut here = self.shared.here.lock();
        if here.gone {
            return Err(RegisterError::Left);
        }
        if here.sessions.contains_key(&session.id) {
            return Err(RegisterError::Taken(session.id));
        }
        if let Some(remaining) = here.ban_of(&session.user) {
            return Err(RegisterError::Banned { remaining });
        }
        let (id, user) = (session.id.clone(), session.user.clone());
        let session = Arc::new(session);
        here.sessions.insert(id.clone(), session.clone());
        here.by_user.entry(user.clone()).or_default().insert(id.clone(), session);
        let is_new = here.online.insert(user.clone(), None).is_none();
        self.shared.events.tell(Event::SessionOpened { id, user: user.clone(), boot: self.boot });
        if is_new {
            self.shared.events.tell(Event::UserOnline(user));
        }
        Ok(())
    }

    async fn unregister(&self, id: &SessionId) -> Result<(), Unavailable> {
        self.shared.end(&mut self.shared.here.lock(), id);
        Ok(())
    }

    async fn lookup(&self, users: &[UserName]) -> Result<Lookup, Unavailable> {
        let here = self.shared.here.lock();
        let sessions = |user: &UserName| {
            let of_user = here.by_user.get(user)?;
            Some((user.clone(), of_user.values().map(|session| Session::clone(session)).collect()))
        };
        Ok(Lookup {
            epoch: Some(self.epoch.clone()),
            leased: HashSet::from([self.boot]),
            sessions: users.iter().filter_map(sessions).collect(),
        })
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Unavailable> {
        Ok(self.shared.here.lock().sessions.get(id).map(|session| Session::clone(session)))
    }

    async fn count(&self) -> Result<Count, Unavailable> {
        let here = self.shared.here.lock();
        let nodes = vec![(self.boot, here.sessions.len() as u64)];
        Ok(Count { users: here.online.len() as u64, nodes })
    }

    async fn users(&self, page: &PageRequest) -> Result<Page<OnlineUser>, Unavailable> {
        let here = self.shared.here.lock();
        // A cursor that is no name was made up; it is taken for the beginning.
        let after = page.after_text().and_then(|text| UserName::new(text.to_owned()).ok());
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = here.online.range::<UserName, _>((from, Bound::Unbounded));
        let texts = range.take(page.limit() + 1).map(|(user, _)| user.to_string()).collect();
        Ok(Page::cut(texts, page, |text| {
            let user = UserName::new(text.clone()).ok()?;
            let sessions = here.by_user.get(&user)?.len() as u64;
            Some(OnlineUser { user, sessions })
        }))
    }

    async fn ban_for(&self, user: &UserName, duration: Duration) -> Result<(), Unavailable> {
        let now = Instant::now();
        let mut here = self.shared.here.lock();
        if here.bans.len() >= here.bans_swept_at {
            here.bans.retain(|_, until| *until > now);
            here.bans_swept_at = (here.bans.len() * 2).max(1_024);
        }
        here.bans.insert(user.clone(), until(now, duration));
        Ok(())
    }

    async fn lift_ban(&self, user: &UserName) -> Result<bool, Unavailable> {
        let mut here = self.shared.here.lock();
        let was_banned = here.ban_of(user).is_some();
        here.bans.remove(user);
        Ok(was_banned)
    }

    async fn ban_of(&self, user: &UserName) -> Result<Option<Duration>, Unavailable> {
        Ok(self.shared.here.lock().ban_of(user))
    }

    fn events(&self) -> Events {
        self.shared.events.subscribe()
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    async fn leave(&self) -> Result<(), Unavailable> {
        let mut here = self.shared.here.lock();
        here.gone = true;
        let ids: Vec<_> = here.sessions.keys().cloned().collect();
        for id in &ids {
            self.shared.end(&mut here, id);
        }
        Ok(())
    }
}

#[async_trait]
impl Groups for MemoryPresence {
    async fn add(
        &self,
        group: &GroupName,
        members: &[Member],
        lifetime: Option<Duration>,
    ) -> Result<usize, GroupError> {
        group::check_count(members)?;
        let now = Instant::now();
        let end = lifetime.map(|lifetime| until(now, lifetime));
        Ok(self.shared.groups.lock().add(group, members, end, now))
    }

    async fn remove(&self, group: &GroupName, members: &[Member]) -> Result<usize, GroupError> {
        group::check_count(members)?;
        Ok(self.shared.groups.lock().remove(group, members, Instant::now()))
    }

    async fn set_lifetime(
        &self,
        group: &GroupName,
        lifetime: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        let now = Instant::now();
        let end = lifetime.map(|lifetime| until(now, lifetime));
        Ok(self.shared.groups.lock().set_end(group, end, now))
    }

    async fn delete(&self, group: &GroupName) -> Result<bool, Unavailable> {
        Ok(self.shared.groups.lock().delete(group, Instant::now()))
    }

    async fn members(
        &self,
        group: &GroupName,
        page: &PageRequest,
    ) -> Result<Page<Member>, Unavailable> {
        Ok(self.shared.groups.lock().members(group, page, Instant::now()))
    }

    async fn size(&self, group: &GroupName) -> Result<u64, Unavailable> {
        Ok(self.shared.groups.lock().size(group, Instant::now()))
    }

    async fn groups_of(&self, member: &Member) -> Result<Vec<GroupName>, Unavailable> {
        Ok(self.shared.groups.lock().groups_of(member, Instant::now()))
    }

    async fn is_member(
        &self,
        user: &UserName,
        session: &SessionId,
        group: &GroupName,
    ) -> Result<bool, Unavailable> {
        let (groups, now) = (self.shared.groups.lock(), Instant::now());
        Ok(groups.contains(group, &Member::User(user.clone()), now)
            || groups.contains(group, &Member::Session(session.clone()), now))
    }
}

/// A time so far away that the clock has none for it is as good as never.
fn until(now: Instant, duration: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + duration.min(NEVER)
}
