//! The gRPC services that other services call: `footbridge.v1.Notifications`, `Presence` and `Groups`, with
//! the standard health service and reflection.
//!
//! [`Notifier::bind`] takes its parts, [`Notifier::run`] serves until it is told to stop.
//!
//! ```text
//! connection (tls) -> door -> notifications -- outgoing, sends (is the request right?)
//!                          |               \- pipeline -> whereabouts (who is where?)
//!                          |                           \- publisher -> broker, and its confirm or a refusal
//!                          |- presence -- the store, and orders to the nodes
//!                          \- groups   -/
//! ```
//!
//! [`Entrance`] does the same for services that have only AMQP.
//!
//! Invariants
//! - An answer with an id follows the broker's confirm; a refusal says whether the message may have
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
mod fixture;
mod groups;
mod health;
mod message;
mod metrics;
mod names;
mod node;
mod notifications;
mod outgoing;
mod pipeline;
mod presence;
mod publisher;
mod refusal;
mod sending;
mod sends;
#[cfg(test)]
mod tests;
mod tls;
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
use cluster::Nodes;
use prometheus_client::registry::Registry;
use proto::v1::groups_server::GroupsServer;
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
const ENTRANCE: PublisherId = PublisherId(u64::MAX - 2);

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
    metrics: Arc<Metrics>,
    /// Cancelled when streams and connections shall come to an end.
    stopping: CancellationToken,
}

impl Notifier {
    /// Binds the port, so that callers can connect (and wait) from here on.
    ///
    /// `config` is taken as it is; see [`Config::check`].
    pub async fn bind(parts: Parts) -> Result<Self, BindError> {
        let Parts { config, broker, destinations, presence, groups, nodes, access } = parts;
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
        });
        let entrance = Entrance::new(
            Arc::clone(&broker),
            node.router.clone(),
            node.destinations.clone(),
            ENTRANCE,
        );
        let limit = config.max_request_bytes();
        let notifications = NotificationsServer::new(Notifications::new(Arc::clone(&node)));
        let presence = PresenceServer::new(Presence::new(Arc::clone(&node)));
        let groups = GroupsServer::new(Groups::new(node));
        let health = HealthReporter::new();
        let mut routes = Routes::builder();
        routes
            .add_service(notifications.max_decoding_message_size(limit))
            .add_service(presence)
            .add_service(groups)
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
            config, listener, routes, door, tls, health, broker, entrance, stopping, ..
        } = self;
        let entrance = tokio::spawn(entrance.run(stopping.clone()));
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
