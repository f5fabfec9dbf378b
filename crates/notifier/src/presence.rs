//! The service `footbridge.v1.Presence`.
//!
//! Invariants
//! - An order to nodes is answered once the broker has it, or refused at the deadline at the latest.
//! - A ban is in the store before the sessions are ended, so that nobody slips in between.
//! - At most `max_watches` watches are open; each is behind by so many events at most as `cluster::events`
//!   keeps for it.
//!
//! Not here: who may call (`door`).

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ::presence::{Ending as Ended, Event, Missed, UserName};
use async_trait::async_trait;
use cluster::{Letter, Target, events};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use prost_types::{Struct, Value, value};
use proto::v1::online_event::{Ending as Why, Kind};
use proto::v1::{
    CountOnlineRequest, CountOnlineResponse, DisconnectSessionsRequest, DisconnectSessionsResponse,
    GetSessionRequest, GetSessionResponse, GetUsersRequest, GetUsersResponse, LiftBanRequest,
    LiftBanResponse, ListUsersRequest, ListUsersResponse, OnlineEvent, OnlineSession, Targets,
    UnsubscribeSessionsRequest, UnsubscribeSessionsResponse, WatchOnlineRequest,
    count_online_response, get_users_response, list_users_response, presence_server,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use crate::ending::Ending;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::{message, names};

/// How many users are asked about at once.
const ASKED_AT_ONCE: usize = 64;

/// What clients are told if nobody says why.
const NO_REASON: &str = "the server ended this session";

/// What a watch ends with.
const UNWATCHED: &str = "what happens from now on is not told here";

/// See the module.
#[derive(Clone)]
pub(crate) struct Presence(Arc<Node>);

impl Presence {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    /// How many different sessions `targets` have; none if the store does not say.
    async fn sessions_of(&self, targets: &[Target]) -> Option<u64> {
        let (mut users, mut sessions) = (Vec::new(), Vec::new());
        for target in targets {
            match target {
                Target::All => return Some(self.0.presence.count().await.ok()?.sessions()),
                Target::User(user) => users.push(user.clone()),
                Target::Session(id) => sessions.push(id.clone()),
            }
        }
        let found = self.0.presence.lookup(&users).await.ok()?;
        let mut ids: HashSet<_> = self.0.router.known(&sessions).await.ok()?.into_keys().collect();
        ids.extend(found.sessions.into_values().flatten().map(|session| session.id));
        Some(ids.len() as u64)
    }

    /// Tells the nodes; `so` says what the caller has to reckon with if that fails.
    async fn order(&self, letter: Letter, deadline: Instant, so: &str) -> Result<(), Refusal> {
        self.0.tell(letter, deadline).await.map_err(|refusal| refusal.of_order(so))
    }

    async fn ban(&self, users: &[UserName], duration: Duration) -> Result<(), Refusal> {
        let ban = |user: UserName| async move { self.0.presence.ban_for(&user, duration).await };
        let bans = stream::iter(users.to_vec()).map(ban).buffer_unordered(ASKED_AT_ONCE);
        bans.try_collect::<()>().await.map_err(|error| {
            Refusal::StoreAway(format!(
                "{error}: not everybody is banned, and nobody was disconnected"
            ))
        })
    }
}

#[async_trait]
impl presence_server::Presence for Presence {
    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let users = names::users("users", &request.into_inner().users)?;
        let presence = &self.0.presence;
        let found = presence.lookup(&users).await.map_err(Refusal::from)?;
        let ban = |user: UserName| async move { presence.ban_of(&user).await };
        let bans = stream::iter(users.clone()).map(ban).buffered(ASKED_AT_ONCE);
        let bans: Vec<_> = bans.try_collect().await.map_err(Refusal::from)?;
        let users = users.iter().zip(bans).map(|(user, ban)| get_users_response::User {
            user: user.to_string(),
            sessions: found.sessions_of(user).iter().cloned().map(session).collect(),
            banned_for: ban.and_then(|ban| ban.try_into().ok()),
        });
        Ok(Response::new(GetUsersResponse { users: users.collect() }))
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let id = names::session("session", &request.into_inner().session)?;
        let found = self.0.presence.session(&id).await.map_err(Refusal::from)?;
        let found = found.ok_or_else(|| Refusal::Unknown(format!("there is no session {id}")))?;
        Ok(Response::new(GetSessionResponse { session: Some(session(found)) }))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let ListUsersRequest { page_size, page_token } = request.into_inner();
        let page = names::page(page_size, page_token)?;
        let page = self.0.presence.users(&page).await.map_err(Refusal::from)?;
        let users = page.items.into_iter().map(|online| list_users_response::User {
            user: online.user.to_string(),
            sessions: online.sessions,
        });
        let next_page_token = page.next.map(|next| next.as_str().to_owned()).unwrap_or_default();
        Ok(Response::new(ListUsersResponse { users: users.collect(), next_page_token }))
    }

    async fn count(
        &self,
        _: Request<CountOnlineRequest>,
    ) -> Result<Response<CountOnlineResponse>, Status> {
        let count = self.0.presence.count().await.map_err(Refusal::from)?;
        let sessions = count.sessions();
        let nodes = count.nodes.into_iter().map(|(boot, sessions)| count_online_response::Node {
            node: boot.to_string(),
            sessions,
        });
        let nodes = nodes.collect();
        Ok(Response::new(CountOnlineResponse { users: count.users, sessions, nodes }))
    }

    type WatchStream = BoxStream<'static, Result<OnlineEvent, Status>>;

    async fn watch(
        &self,
        request: Request<WatchOnlineRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (ending, deadline) =
            (Ending::of(&request, &self.0), self.0.deadline(request.metadata()));
        let WatchOnlineRequest { users, kinds } = request.into_inner();
        let users = names::any_users("users", &users)?;
        for (n, kind) in kinds.iter().enumerate() {
            if !matches!(Kind::try_from(*kind), Ok(known) if known != Kind::Unspecified) {
                let problem = format!("is no kind of event that this version knows: {kind}");
                return Err(Refusal::invalid(format!("kinds[{n}]"), problem).into());
            }
        }
        let permit = self.0.watching()?;
        let open = timeout_at(deadline, events::Watch::open(&self.0.broker)).await;
        let events = match open {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return Err(Refusal::Untold(error.to_string()).into()),
            Err(_) => {
                let why = "the broker is away: nothing can be watched";
                return Err(Refusal::Untold(why.to_owned()).into());
            }
        };
        let watching = Watching {
            events,
            users: users.into_iter().collect(),
            kinds: kinds.into_iter().collect(),
            _counted: Counted::new(&self.0, permit),
        };
        let ending = ending.come(UNWATCHED).boxed();
        let told = stream::unfold(Some((watching, ending)), |open| async {
            let (mut watching, mut ending) = open?;
            tokio::select! {
                biased;
                status = &mut ending => Some((Err(status), None)),
                event = watching.next() => match event {
                    Some(event) => Some((Ok(event), Some((watching, ending)))),
                    None => {
                        let why = format!("the broker has ended the watch: {UNWATCHED}");
                        Some((Err(Refusal::Untold(why).into()), None))
                    }
                },
            }
        });
        Ok(Response::new(told.boxed()))
    }

    async fn disconnect(
        &self,
        request: Request<DisconnectSessionsRequest>,
    ) -> Result<Response<DisconnectSessionsResponse>, Status> {
        let deadline = self.0.deadline(request.metadata());
        let DisconnectSessionsRequest { targets, reason, ban_for } = request.into_inner();
        let of = whom(targets)?;
        message::printable("reason", &reason)?;
        message::short("reason", &reason)?;
        let reason = if reason.is_empty() { NO_REASON.to_owned() } else { reason };
        if let Some(duration) = names::time("ban_for", ban_for)? {
            let users = of.iter().map(|target| match target {
                Target::User(user) => Ok(user.clone()),
                Target::Session(_) | Target::All => {
                    let problem = "is for users: name them, and no sessions";
                    Err(Refusal::invalid("ban_for", problem))
                }
            });
            self.ban(&users.collect::<Result<Vec<_>, _>>()?, duration).await?;
        }
        let sessions = self.sessions_of(&of).await;
        let letter = Letter::Disconnect { of, reason: reason.into() };
        let so = "the sessions may or may not have ended, and a ban is in force: try again";
        self.order(letter, deadline, so).await?;
        let (sessions, uncounted) = (sessions.unwrap_or_default(), sessions.is_none());
        Ok(Response::new(DisconnectSessionsResponse { sessions, uncounted }))
    }

    async fn unsubscribe(
        &self,
        request: Request<UnsubscribeSessionsRequest>,
    ) -> Result<Response<UnsubscribeSessionsResponse>, Status> {
        let deadline = self.0.deadline(request.metadata());
        let UnsubscribeSessionsRequest { targets, destination } = request.into_inner();
        let of = whom(targets)?;
        if destination.is_empty() {
            return Err(Refusal::invalid("destination", "is missing").into());
        }
        let verb = broker::destination::Verb::Subscribe;
        if let Err(error) = self.0.destinations.parse(&destination, verb) {
            return Err(Refusal::invalid("destination", error.to_string()).into());
        }
        let letter = Letter::Unsubscribe { of, destination: destination.into() };
        let so = "the subscriptions may or may not have ended: try again";
        self.order(letter, deadline, so).await?;
        Ok(Response::new(UnsubscribeSessionsResponse {}))
    }

    async fn lift_ban(
        &self,
        request: Request<LiftBanRequest>,
    ) -> Result<Response<LiftBanResponse>, Status> {
        let users: HashSet<_> =
            names::users("users", &request.into_inner().users)?.into_iter().collect();
        let lift = |user: UserName| async move { self.0.presence.lift_ban(&user).await };
        let lifted = stream::iter(users).map(lift).buffer_unordered(ASKED_AT_ONCE);
        let lifted = lifted.try_fold(0, |sum, was| async move { Ok(sum + u64::from(was)) });
        let lifted = lifted.await.map_err(Refusal::from)?;
        Ok(Response::new(LiftBanResponse { lifted }))
    }
}

/// A watch, and what it wants to see.
struct Watching {
    events: events::Watch,
    /// Empty: all.
    users: HashSet<UserName>,
    /// Empty: all.
    kinds: HashSet<i32>,
    _counted: Counted,
}

/// A watch among those there are now.
struct Counted {
    node: Arc<Node>,
    _permit: OwnedSemaphorePermit,
}

impl Watching {
    /// The next event that it wants to see.
    async fn next(&mut self) -> Option<OnlineEvent> {
        loop {
            match self.events.next().await? {
                Ok(event) => {
                    let (user, told) = event_told(&event);
                    let wants_user = self.users.is_empty() || self.users.contains(user);
                    let wants_kind = self.kinds.is_empty() || self.kinds.contains(&told.kind);
                    if wants_user && wants_kind {
                        return Some(told);
                    }
                }
                Err(Missed(missed)) => {
                    let kind = Kind::Missed.into();
                    return Some(OnlineEvent { kind, missed, ..OnlineEvent::default() });
                }
            }
        }
    }
}

impl Counted {
    fn new(node: &Arc<Node>, permit: OwnedSemaphorePermit) -> Self {
        node.metrics.watches.inc();
        Self { node: Arc::clone(node), _permit: permit }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.node.metrics.watches.dec();
    }
}

/// Whose event it is, and the event as it is told.
fn event_told(event: &Event) -> (&UserName, OnlineEvent) {
    let told = |kind: Kind, user: &UserName| OnlineEvent {
        kind: kind.into(),
        user: user.to_string(),
        ..OnlineEvent::default()
    };
    match event {
        Event::SessionOpened { id, user, boot } => {
            let (session, node) = (id.to_string(), boot.to_string());
            (user, OnlineEvent { session, node, ..told(Kind::SessionOpened, user) })
        }
        Event::SessionClosed { id, user, boot, ending } => {
            let (session, node) = (id.to_string(), boot.to_string());
            let ending = match ending {
                Ended::Left => Why::Left,
                Ended::NodeDied => Why::NodeDied,
            };
            let ending = ending.into();
            (user, OnlineEvent { session, node, ending, ..told(Kind::SessionClosed, user) })
        }
        Event::UserOnline(user) => (user, told(Kind::UserOnline, user)),
        Event::UserOffline(user) => (user, told(Kind::UserOffline, user)),
    }
}

/// The targets of a request, each once.
fn whom(targets: Option<Targets>) -> Result<Vec<Target>, Refusal> {
    let Targets { users, sessions, all } = targets.unwrap_or_default();
    match (all, users.is_empty() && sessions.is_empty()) {
        (true, true) => return Ok(vec![Target::All]),
        (true, false) => {
            return Err(Refusal::invalid("targets.all", "is set, and somebody is named besides"));
        }
        (false, true) => {
            let problem = "names nobody: name users or sessions, or set all";
            return Err(Refusal::invalid("targets", problem));
        }
        (false, false) => {}
    }
    let users = names::any_users("targets.users", &users)?;
    let sessions = names::any_sessions("targets.sessions", &sessions)?;
    let mut seen = HashSet::new();
    let targets = users.into_iter().map(Target::User);
    let targets = targets.chain(sessions.into_iter().map(Target::Session));
    Ok(targets.filter(|target| seen.insert(target.clone())).collect())
}

fn session(session: ::presence::Session) -> OnlineSession {
    OnlineSession {
        id: session.id.to_string(),
        user: session.user.to_string(),
        node: session.boot.to_string(),
        address: session.address.to_string(),
        device: session.device.to_string(),
        since: Some(session.since.into()),
        attributes: Some(attributes(session.attributes)),
    }
}

fn attributes(attributes: ::presence::Attributes) -> Struct {
    Struct { fields: attributes.into_iter().map(|(name, of)| (name, attribute(of))).collect() }
}

/// Its depth was bounded when the session was registered.
fn attribute(of: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match of {
        Json::Null => value::Kind::NullValue(0),
        Json::Bool(is) => value::Kind::BoolValue(is),
        Json::Number(number) => value::Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => value::Kind::StringValue(text),
        Json::Array(values) => {
            let values = values.into_iter().map(attribute).collect();
            value::Kind::ListValue(prost_types::ListValue { values })
        }
        Json::Object(of) => value::Kind::StructValue(attributes(of)),
    };
    Value { kind: Some(kind) }
}
