//! Gateways and a notifier over one RabbitMQ and one Redis, and a service that calls the notifier.

use std::fmt::Debug;

use proto::v1::groups_client::GroupsClient;
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::presence_client::PresenceClient;
use proto::v1::{
    CountOnlineRequest, CountOnlineResponse, GetUsersRequest, Message, OnlineEvent, SendResponse,
    SendToGroupRequest, SendToSessionRequest, SendToUserRequest,
};
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

use super::session::Session;
use super::{Node, PATIENCE, POLL, Settings};

/// Where the servers are, and what is said to every node besides.
pub(crate) struct Place {
    /// Sets this cluster apart from others at the same servers.
    pub(crate) namespace: String,
    pub(crate) rabbitmq: String,
    /// The notifier's way to RabbitMQ, where it is another.
    pub(crate) notifier_rabbitmq: Option<String>,
    /// The way to Redis of the notifier, and of each gateway.
    pub(crate) redis: String,
    pub(crate) gateways: Vec<String>,
    /// Keys and values.
    pub(crate) settings: Vec<(&'static str, &'static str)>,
}

/// See the module.
pub(crate) struct Cluster {
    pub(crate) gateways: Vec<Node>,
    /// Where clients connect to each gateway.
    pub(crate) urls: Vec<String>,
    pub(crate) notifier: Node,
    pub(crate) service: Service,
}

/// What a service calls.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) notifications: NotificationsClient<Channel>,
    pub(crate) presence: PresenceClient<Channel>,
    pub(crate) groups: GroupsClient<Channel>,
}

/// What a send says of whom it reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) sessions: u64,
    pub(crate) nodes: u32,
    /// For each target.
    pub(crate) reached: Vec<u64>,
    pub(crate) uncertain: u32,
    pub(crate) uncounted: bool,
}

impl Place {
    /// Three gateways at the servers that all tests of the process share.
    pub(crate) async fn shared(namespace: &str) -> Self {
        let redis = testkit::redis().await.uri();
        Self {
            namespace: namespace.to_owned(),
            rabbitmq: testkit::rabbitmq().await.uri(),
            notifier_rabbitmq: None,
            gateways: vec![redis.clone(); 3],
            redis,
            settings: Vec::new(),
        }
    }

    fn node(&self, settings: Settings, redis: &str) -> Settings {
        let settings = settings
            .set("rabbitmq.uris", &self.rabbitmq)
            .set("rabbitmq.namespace", &self.namespace)
            .set("rabbitmq.topic_exchange", &format!("{}.topic", self.namespace))
            .set("redis.urls", redis)
            .set("redis.namespace", &self.namespace)
            .set("access.rules", "open");
        self.settings.iter().fold(settings, |settings, (key, value)| settings.set(key, value))
    }
}

impl Cluster {
    /// Starts all nodes and returns when they are ready and know each other.
    pub(crate) async fn start(place: &Place) -> Self {
        let notifier = place.node(Settings::notifier(), &place.redis);
        let notifier = match &place.notifier_rabbitmq {
            Some(uri) => notifier.set("rabbitmq.uris", uri),
            None => notifier,
        };
        let mut notifier = notifier.start().await;
        let (mut gateways, mut urls) = (Vec::new(), Vec::new());
        for redis in &place.gateways {
            let mut gateway = place.node(Settings::gateway(), redis).start().await;
            urls.push(gateway.websocket().await);
            gateways.push(gateway);
        }
        for node in gateways.iter().chain([&notifier]) {
            node.wait_ready().await;
        }
        let channel = Channel::from_shared(notifier.grpc().await).unwrap().connect_lazy();
        let service = Service {
            notifications: NotificationsClient::new(channel.clone()),
            presence: PresenceClient::new(channel.clone()),
            groups: GroupsClient::new(channel),
        };
        let mut cluster = Self { gateways, urls, notifier, service };
        let count = cluster.gateways.len();
        let known = cluster.wait("the nodes know each other", async |cluster| {
            let nodes = cluster.service.count().await.nodes.len();
            let request = to_users(&["nobody"], "/queue/x", "");
            let sent = cluster.service.notifications.send_to_user(request).await;
            match sent.map(|sent| reach(sent.into_inner())) {
                Ok(sent) if sent == certain(&[0], 0) && nodes == count => Ok(()),
                other => Err((nodes, other)),
            }
        });
        known.await;
        cluster
    }

    /// A session of `user` at each gateway, subscribed to `/user/queue/x` as `x`.
    pub(crate) async fn everywhere(&self, user: &str) -> Vec<Session> {
        let mut sessions = Vec::new();
        for url in &self.urls {
            sessions.push(Session::subscribed(url, user).await);
        }
        sessions
    }

    /// Waits until `holds` says so, and returns what it says.
    pub(crate) async fn wait<T, E: Debug>(
        &mut self,
        what: &str,
        mut holds: impl AsyncFnMut(&mut Self) -> Result<T, E>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let why = match holds(self).await {
                Ok(held) => return held,
                Err(why) => why,
            };
            assert!(Instant::now() < deadline, "not so: {what}: {why:?}\n{}", self.logs());
            tokio::time::sleep(POLL).await;
        }
    }

    /// What all nodes have logged.
    pub(crate) fn logs(&self) -> String {
        let nodes = self.gateways.iter().chain([&self.notifier]).enumerate();
        nodes.map(|(n, node)| format!("node {n}:\n{}", node.log())).collect::<Vec<_>>().join("\n")
    }

    /// Stops all nodes.
    pub(crate) async fn stop(self) {
        for node in self.gateways.into_iter().chain([self.notifier]) {
            node.stop().await;
        }
    }
}

impl Service {
    /// Sends a text to users.
    pub(crate) async fn send_to_users(&mut self, users: &[&str], path: &str, body: &str) -> Reach {
        let request = to_users(users, path, body);
        reach(self.notifications.send_to_user(request).await.unwrap().into_inner())
    }

    /// Sends a text to sessions.
    pub(crate) async fn send_to_sessions(&mut self, ids: &[&str], path: &str, body: &str) -> Reach {
        let request = SendToSessionRequest {
            sessions: owned(ids),
            destination: path.to_owned(),
            message: Some(text(body)),
            ..SendToSessionRequest::default()
        };
        reach(self.notifications.send_to_session(request).await.unwrap().into_inner())
    }

    /// Sends a text to a group, or to its members where there is a path.
    pub(crate) async fn send_to_group(&mut self, group: &str, path: &str, body: &str) -> Reach {
        let request = SendToGroupRequest {
            groups: owned(&[group]),
            destination: path.to_owned(),
            message: Some(text(body)),
            ..SendToGroupRequest::default()
        };
        reach(self.notifications.send_to_group(request).await.unwrap().into_inner())
    }

    /// How many are online.
    pub(crate) async fn count(&mut self) -> CountOnlineResponse {
        self.presence.count(CountOnlineRequest {}).await.unwrap().into_inner()
    }

    /// The ids of the sessions of users, in order, as presence knows them.
    pub(crate) async fn sessions_of(
        &mut self,
        users: &[&str],
    ) -> Result<Vec<Vec<String>>, tonic::Status> {
        let request = GetUsersRequest { users: owned(users) };
        let found = self.presence.get_users(request).await?.into_inner();
        let ids = found.users.into_iter().map(|user| {
            let mut ids: Vec<_> = user.sessions.into_iter().map(|session| session.id).collect();
            ids.sort();
            ids
        });
        Ok(ids.collect())
    }
}

/// A text for users.
pub(crate) fn to_users(users: &[&str], path: &str, body: &str) -> SendToUserRequest {
    SendToUserRequest {
        users: owned(users),
        destination: path.to_owned(),
        message: Some(text(body)),
        ..SendToUserRequest::default()
    }
}

/// A text as a message.
pub(crate) fn text(body: &str) -> Message {
    Message { body: Some(Body::Text(body.to_owned())), ..Message::default() }
}

/// What an answer says of whom it reached.
pub(crate) fn reach(answer: SendResponse) -> Reach {
    Reach {
        sessions: answer.sessions,
        nodes: answer.nodes,
        reached: answer.reached.iter().map(|target| target.sessions).collect(),
        uncertain: answer.uncertain_nodes,
        uncounted: answer.uncounted,
    }
}

/// That many sessions of each target, on so many nodes, and nothing is uncertain.
pub(crate) fn certain(reached: &[u64], nodes: u32) -> Reach {
    let sessions = reached.iter().sum();
    Reach { sessions, nodes, reached: reached.to_vec(), uncertain: 0, uncounted: false }
}

/// The same as owned texts.
pub(crate) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The ids of sessions, in order.
pub(crate) fn sorted_ids(sessions: &[Session]) -> Vec<String> {
    let mut ids: Vec<_> = sessions.iter().map(Session::id).collect();
    ids.sort();
    ids
}

/// How many sessions each node has, in order of the numbers.
pub(crate) fn sessions_on(count: &CountOnlineResponse) -> Vec<u64> {
    let mut on: Vec<_> = count.nodes.iter().map(|node| node.sessions).collect();
    on.sort_unstable();
    on
}

/// The next events, so many.
pub(crate) async fn told(events: &mut Streaming<OnlineEvent>, count: usize) -> Vec<OnlineEvent> {
    told_of(events, count, |_| true).await
}

/// The next events that are wanted, so many. What came before the watch may be told yet: nodes tell it when
/// they come to it.
pub(crate) async fn told_of(
    events: &mut Streaming<OnlineEvent>,
    count: usize,
    wanted: impl Fn(&OnlineEvent) -> bool,
) -> Vec<OnlineEvent> {
    let mut told = Vec::new();
    while told.len() < count {
        let event = timeout(PATIENCE, events.message()).await;
        let event = event.unwrap_or_else(|_| panic!("{count} events, not {told:?}"));
        told.extend(Some(event.unwrap().expect("no end")).filter(&wanted));
    }
    told
}

/// The ids of the sessions that events are about, in order.
pub(crate) fn ids_of(events: &[OnlineEvent]) -> Vec<String> {
    let mut ids: Vec<_> = events.iter().map(|event| event.session.clone()).collect();
    ids.sort();
    ids
}
