//! The gRPC services that other services call: `footbridge.v1.Notifications`, `Presence`, `Groups` and `Inbox`,
//! with the standard health service and reflection.
//!
//! [`Notifier::bind`] takes its parts, [`Notifier::run`] serves until it is told to stop.
//!
//! ```text
//! connection (tls) -> door -> notifications -- publishes, sends (is the request right?)
//!                          |               |- pipeline -> whereabouts (who is where?)
//!                          |               |           |- publisher -> broker, and its confirm or a refusal
//!                          |               |           \- keeper -> inboxes, for what is durable
//!                          |               \- watch -- what becomes of that
//!                          |- presence -- the store, and orders to the nodes
//!                          |- groups   -/
//!                          \- inboxes  -- the store of inboxes
//! ```
//!
//! [`Entrance`] does the same for services that have only AMQP.
//!
//! Invariants
//! - An answer with an id follows the broker's confirm, or the store's that it keeps the message; a refusal says whether the message may have
//!   been taken nonetheless.
//! - Publishes of one stream keep their order, and so do their answers.
//! - Everything that waits has a deadline, and what may wait at once is bounded by the [`Config`].
//!
//! - Whoever calls has passed the door, but to ask for health or reflection.
//!
//! Not here: which broker and store; what nodes do with what they are told; the command that runs it.

mod config;
mod connection;
mod deadline;
mod door;
mod ending;
mod entrance;
#[cfg(test)]
mod fake_broker;
#[cfg(test)]
mod fake_inbox;
#[cfg(test)]
mod fixture;
mod groups;
mod health;
mod inboxes;
mod keep;
mod keeper;
mod message;
mod metrics;
mod names;
mod node;
mod notifications;
mod outcomes;
mod outgoing;
mod pipeline;
mod presence;
mod publisher;
mod publishes;
mod refusal;
mod sending;
mod sends;
mod storing;
#[cfg(test)]
mod tests;
mod tls;
mod wanted;
mod watch;
mod whereabouts;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::presence::Presence as Store;
use access::Access;
use broker::{Broker, Destinations, PublisherId};
use cluster::{Dispatcher, Nodes};
use prometheus_client::registry::Registry;
use proto::v1::groups_server::GroupsServer;
use proto::v1::inbox_server::InboxServer;
use proto::v1::notifications_server::NotificationsServer;
use proto::v1::presence_server::PresenceServer;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

pub use self::config::{Asked, Callers, Config, Invalid};
use self::connection::Terms;
use self::door::{Door, Guard};
pub use self::entrance::{Entrance, EntranceMetrics};
use self::groups::Groups;
use self::inboxes::Inboxes;
pub use self::metrics::Metrics;
use self::node::{Made, Node};
use self::notifications::Notifications;
use self::presence::Presence;

/// How often a connection that says nothing is asked whether it is there, and how long it has to
/// answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How many bytes may come on one stream, and on one connection, before they are read. HTTP/2's library
/// takes many small frames that are not read for an attack, and ends the connection; its measure is
/// half the connection's window. That must hold several streams of the smallest messages that wait
/// for their turn: each costs up to ten times its bytes.
const WINDOWS: (u32, u32) = (64 * 1024, 8 * 1024 * 1024);

/// As whom it sends what comes by the entrance; callers are numbered from the middle up.
const ENTRANCE: PublisherId = PublisherId(u64::MAX - 5);

/// What a notifier is made of.
pub struct Parts {
    /// The notifier's own settings.
    pub config: Config,
    /// Where messages go.
    pub broker: Arc<dyn Broker>,
    /// The table of prefixes.
    pub destinations: Destinations,
    /// Who is online.
    pub presence: Arc<dyn Store>,
    /// Who is in which group.
    pub groups: Arc<dyn ::presence::Groups>,
    /// Which nodes there are; whoever makes the notifier runs it.
    pub nodes: Arc<Nodes>,
    /// Who callers are.
    pub access: Arc<Access>,
    /// What is stored for users; none where nothing is.
    pub dispatcher: Option<Dispatcher>,
    /// Whether it runs the dispatcher, and hears what other processes tell it. Not where a gateway of the same
    /// process does.
    pub dispatches: bool,
    /// The limits of inboxes.
    pub inbox: inbox::Config,
}

/// A notifier that is bound to its port.
pub struct Notifier {
    config: Config,
    listener: TcpListener,
    routes: Routes,
    door: Arc<Door>,
    tls: Option<Arc<ServerConfig>>,
    health: HealthReporter,
    broker: Arc<dyn Broker>,
    entrance: Entrance,
    /// What is to be run besides.
    dispatcher: Option<Dispatcher>,
    metrics: Arc<Metrics>,
    /// Cancelled when streams and connections shall come to an end.
    stopping: CancellationToken,
}

impl Notifier {
    /// Binds the port, so that callers can connect (and wait) from here on.
    ///
    /// `config` is taken as it is; see [`Config::check`].
    pub async fn bind(parts: Parts) -> Result<Self, BindError> {
        let Parts {
            config,
            broker,
            destinations,
            presence,
            groups,
            nodes,
            access,
            dispatcher,
            dispatches,
            inbox,
        } = parts;
        let run = dispatcher.clone().filter(|_| dispatches);
        let asked = config.asked(access.checks_tokens(), access.has_grpc_roles())?;
        let tls = tls::server(&config)?;
        let listener = connection::bind(config.listen)
            .map_err(|source| BindError::Listen { address: config.listen, source })?;
        let metrics = Arc::new(Metrics::new());
        let stopping = CancellationToken::new();
        let node = Node::new(Made {
            config: config.clone(),
            broker: Arc::clone(&broker),
            presence,
            groups,
            nodes,
            destinations,
            metrics: Arc::clone(&metrics),
            stopping: stopping.clone(),
            dispatcher,
            inbox,
        });
        let entrance = Entrance::new(
            Arc::clone(&broker),
            node.router.clone(),
            node.destinations.clone(),
            ENTRANCE,
        )
        .with_keeper(node.keeper.clone());
        let limit = config.max_request_bytes();
        let notifications = NotificationsServer::new(Notifications::new(Arc::clone(&node)));
        let presence = PresenceServer::new(Presence::new(Arc::clone(&node)));
        let groups = GroupsServer::new(Groups::new(Arc::clone(&node)));
        let inboxes = InboxServer::new(Inboxes::new(node));
        let health = HealthReporter::new();
        let mut routes = Routes::builder();
        routes
            .add_service(notifications.max_decoding_message_size(limit))
            .add_service(presence)
            .add_service(groups)
            .add_service(inboxes)
            .add_service(HealthServer::new(HealthService::from_health_reporter(health.clone())))
            .add_service(descriptors().build_v1()?)
            .add_service(descriptors().build_v1alpha()?);
        let routes = routes.routes();
        let door = Arc::new(Door::new(access, asked, config.certificate_roles.clone()));
        Ok(Self {
            config,
            listener,
            routes,
            door,
            tls,
            health,
            broker,
            entrance,
            dispatcher: run,
            metrics,
            stopping,
        })
    }

    /// The address that callers connect to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Adds what it counts to `registry`, which keeps its own hold of it.
    pub fn register(&self, registry: &mut Registry) {
        let notifier = registry.sub_registry_with_prefix("notifier");
        self.metrics.register(notifier);
        self.entrance.metrics().register(notifier);
    }

    /// Serves until `shutdown` resolves, then answers what it has read and returns when every call
    /// has ended or the configured time is over; what is left then ends with the process.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            config,
            listener,
            routes,
            door,
            tls,
            health,
            broker,
            entrance,
            dispatcher,
            stopping,
            ..
        } = self;
        let entrance = tokio::spawn(entrance.run(stopping.clone()));
        let dispatching = dispatcher.map(|dispatcher| {
            let until = stopping.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = dispatcher.run(until) => {}
                    () = dispatcher.listen() => {}
                }
            })
        });
        health::start(&health).await;
        let health = tokio::spawn(health::follow(health, broker.state(), stopping.clone()));
        let (keep_alive, keep_alive_timeout) = KEEP_ALIVE;
        let longest = config.max_connection_age + connection::NOTICE + config.connection_grace;
        let terms = Terms { max_connections: config.max_connections, longest, tls };
        let mut serve = pin!(
            Server::builder()
                .layer(Guard(door))
                // Without a grace of its own the server tells callers when it is time, and waits.
                .max_connection_age(config.max_connection_age)
                .max_concurrent_streams(config.max_calls)
                .initial_stream_window_size(WINDOWS.0)
                .initial_connection_window_size(WINDOWS.1)
                .http2_keepalive_interval(Some(keep_alive))
                .http2_keepalive_timeout(Some(keep_alive_timeout))
                .add_routes(routes)
                .serve_with_incoming_shutdown(
                    connection::accept(listener, terms),
                    stopping.clone().cancelled_owned(),
                )
        );
        tokio::select! {
            ended = &mut serve => {
                // Accepting goes on whatever happens, so there is no way to get here.
                tracing::error!(?ended, "stopped serving");
            }
            () = shutdown => {
                stopping.cancel();
                if tokio::time::timeout(config.drain, serve).await.is_err() {
                    tracing::warn!("stopping although calls are left");
                }
            }
        }
        stopping.cancel();
        let _ = entrance.await;
        if let Some(Err(error)) = match dispatching {
            Some(dispatching) => Some(dispatching.await),
            None => None,
        } {
            tracing::error!(%error, "what was stored last may be on its way yet");
        }
        if let Err(error) = health.await {
            tracing::error!(%error, "cannot say that this node is stopping");
        }
    }
}

/// The services that reflection shows.
fn descriptors() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Why a notifier cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A setting cannot work, alone or with what `[access]` says.
    #[error("notifier.{0}")]
    Invalid(#[from] Invalid),
    /// The services cannot be described to those who ask by reflection.
    #[error("cannot describe the services")]
    Reflection(#[from] tonic_reflection::server::Error),
}
