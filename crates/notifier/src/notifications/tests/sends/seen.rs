//! A store that is seen to be asked, and may be away.

use super::*;

/// A store that counts how often it is asked, and may be away.
pub(super) struct Seen {
    store: Arc<MemoryPresence>,
    pub(super) lookups: std::sync::atomic::AtomicUsize,
    is_away: bool,
    /// Whether it is away when it is asked for a session.
    pub(super) no_sessions: std::sync::atomic::AtomicBool,
}

impl Seen {
    fn answer<T>(&self, answer: T) -> Result<T, ::presence::Unavailable> {
        match self.is_away {
            true => Err(::presence::Unavailable("connection refused".to_owned())),
            false => Ok(answer),
        }
    }
}

macro_rules! seen {
    ($self:ident, $trait:ident :: $method:ident ( $($argument:expr),* )) => {{
        $self.answer(())?;
        $trait::$method(&*$self.store, $($argument),*).await
    }};
}

#[async_trait]
impl Presence for Seen {
    fn boot(&self) -> ::presence::Boot {
        self.store.boot()
    }
    async fn register(
        &self,
        session: ::presence::Session,
    ) -> Result<(), ::presence::RegisterError> {
        seen!(self, Presence::register(session))
    }
    async fn unregister(&self, id: &::presence::SessionId) -> Result<(), ::presence::Unavailable> {
        seen!(self, Presence::unregister(id))
    }
    async fn lookup(
        &self,
        users: &[UserName],
    ) -> Result<::presence::Lookup, ::presence::Unavailable> {
        self.lookups.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // As long as it takes for more to arrive.
        tokio::time::sleep(Duration::from_millis(1)).await;
        seen!(self, Presence::lookup(users))
    }
    async fn session(
        &self,
        id: &::presence::SessionId,
    ) -> Result<Option<::presence::Session>, ::presence::Unavailable> {
        if self.no_sessions.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(::presence::Unavailable("connection refused".to_owned()));
        }
        seen!(self, Presence::session(id))
    }
    async fn count(&self) -> Result<::presence::Count, ::presence::Unavailable> {
        seen!(self, Presence::count())
    }
    async fn users(
        &self,
        page: &::presence::PageRequest,
    ) -> Result<::presence::Page<::presence::OnlineUser>, ::presence::Unavailable> {
        seen!(self, Presence::users(page))
    }
    async fn ban_for(
        &self,
        user: &UserName,
        duration: Duration,
    ) -> Result<(), ::presence::Unavailable> {
        seen!(self, Presence::ban_for(user, duration))
    }
    async fn lift_ban(&self, user: &UserName) -> Result<bool, ::presence::Unavailable> {
        seen!(self, Presence::lift_ban(user))
    }
    async fn ban_of(&self, user: &UserName) -> Result<Option<Duration>, ::presence::Unavailable> {
        seen!(self, Presence::ban_of(user))
    }
    fn events(&self) -> ::presence::Events {
        self.store.events()
    }
    fn state(&self) -> tokio::sync::watch::Receiver<::presence::State> {
        self.store.state()
    }
    async fn leave(&self) -> Result<(), ::presence::Unavailable> {
        seen!(self, Presence::leave())
    }
}

#[async_trait]
impl Groups for Seen {
    async fn add(
        &self,
        group: &GroupName,
        members: &[Member],
        lifetime: Option<Duration>,
    ) -> Result<usize, ::presence::GroupError> {
        seen!(self, Groups::add(group, members, lifetime))
    }
    async fn remove(
        &self,
        group: &GroupName,
        members: &[Member],
    ) -> Result<usize, ::presence::GroupError> {
        seen!(self, Groups::remove(group, members))
    }
    async fn set_lifetime(
        &self,
        group: &GroupName,
        lifetime: Option<Duration>,
    ) -> Result<bool, ::presence::Unavailable> {
        seen!(self, Groups::set_lifetime(group, lifetime))
    }
    async fn delete(&self, group: &GroupName) -> Result<bool, ::presence::Unavailable> {
        seen!(self, Groups::delete(group))
    }
    async fn members(
        &self,
        group: &GroupName,
        page: &::presence::PageRequest,
    ) -> Result<::presence::Page<Member>, ::presence::Unavailable> {
        seen!(self, Groups::members(group, page))
    }
    async fn size(&self, group: &GroupName) -> Result<u64, ::presence::Unavailable> {
        seen!(self, Groups::size(group))
    }
    async fn groups_of(&self, member: &Member) -> Result<Vec<GroupName>, ::presence::Unavailable> {
        seen!(self, Groups::groups_of(member))
    }
    async fn is_member(
        &self,
        user: &UserName,
        session: &::presence::SessionId,
        group: &GroupName,
    ) -> Result<bool, ::presence::Unavailable> {
        seen!(self, Groups::is_member(user, session, group))
    }
}

pub(super) fn seen(is_away: bool) -> (Fixture, Arc<Seen>) {
    let broker: Arc<dyn Broker> =
        Arc::new(broker_embedded::EmbeddedBroker::new(Default::default()));
    let boot = ::presence::Boot::generate();
    let store = Arc::new(MemoryPresence::new(&Default::default(), boot));
    let seen = Arc::new(Seen {
        store: store.clone(),
        lookups: 0.into(),
        is_away,
        no_sessions: false.into(),
    });
    let fixture = Fixture::with_store(broker, store, seen.clone(), Config::default());
    let (nodes, stopping) = (fixture.node.nodes.clone(), fixture.stopping.clone());
    tokio::spawn(async move { nodes.run(stopping).await });
    (fixture, seen)
}
