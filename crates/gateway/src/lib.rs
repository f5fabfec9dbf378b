//! The service that clients connect to.
//!
//! [`Gateway::bind`] takes the node's parts, [`Gateway::run`] serves until it is told to stop.
//! Inside, a connection becomes a [`session`], a task with a transport below and a relay above:
//!
//! ```text
//! listener -> http, tcp -> session -- transport (WebSocket on the bare socket, or nothing)
//!                          |  ^
//!                          |  mailbox <- hub <- broker (topics, exchanges, groups)
//!                          |     ^------ users <- inlet <- other nodes, services
//!                          relay -> broker (SEND, queues), router (users, groups), application (/app)
//! ```
//!
//! At CONNECT a session passes the [`door`], which asks [`Access`] who it is, and the [`hook`], by which the
//! application has its say; the relay asks what it may. Its calls of the application go by a [`lane`] that outlives it.
//!
//! Invariants
//! - Nothing a client sends stops the node or another session.
//! - Nobody is served before [`Access`] said who they are, nor what it does not allow them.
//! - Every queue is bounded; what happens when it is full stands beside it.
//!
//! Not here: which broker and which application; the port for operators; the command that runs it.

pub mod application;
mod arrival;
mod clock;
mod close;
mod config;
mod console;
mod door;
mod drain;
mod handshake;
mod hook;
mod http;
mod hub;
mod inboxes;
mod inlet;
mod lane;
mod listener;
mod mailbox;
mod message_frame;
mod metrics;
mod node;
mod outgoing;
pub mod peers;
mod place;
pub mod plain;
mod relay;
mod session;
mod sockjs_endpoint;
mod tcp;
mod transport;
mod users;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use access::Access;
use broker::{Broker, Destinations, PublisherId};
use bytestring::ByteString;
use cluster::{Dispatcher, Nodes, Router, events};
use futures_util::FutureExt;
use presence::{Groups, Owners, Presence};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::close::CloseReason;
pub use self::config::{AckScope, Config, Invalid};
use self::http::Site;
use self::inboxes::Inboxes;
use self::listener::Listeners;
use self::node::{Node, Sessions};
use self::peers::Peers;

/// How long taking leave of the other nodes may take: they notice by themselves, if later.
pub const LEAVE: Duration = Duration::from_secs(4);

/// How long the store of inboxes may take to hear what clients have settled: it hears of the rest by `ack_wait`.
const STORED: Duration = Duration::from_secs(2);

/// As whom a node tells who comes and goes. Sessions are numbered from 0.
const TELLER: PublisherId = PublisherId(u64::MAX - 1);

/// What a gateway is made of.
pub struct Parts {
    /// The gateway's own settings.
    pub config: Config,
    /// Limits and heart-beats of STOMP sessions; its manners are the gateway's.
    pub stomp: stomp::Config,
    /// Limits of WebSockets.
    pub websocket: websocket::Config,
    /// SockJS at the endpoints, where it is on.
    pub sockjs: sockjs::Config,
    /// Sessions without STOMP.
    pub plain: plain::Config,
    /// The port for other nodes.
    pub cluster: peers::Config,
    /// The table of prefixes.
    pub destinations: Destinations,
    /// Where messages go.
    pub broker: Arc<dyn Broker>,
    /// Who is who, and who may do what.
    pub access: Arc<Access>,
    /// Who is online. Its boot is that of the broker.
    pub presence: Arc<dyn Presence>,
    /// Who is in which group.
    pub groups: Arc<dyn Groups>,
    /// Which node holds a session that its client named.
    pub owners: Arc<dyn Owners>,
    /// What is stored for users; none where nothing is. [`Gateway::run`] runs it.
    pub dispatcher: Option<Dispatcher>,
    /// Which nodes there are; [`Gateway::run`] runs it.
    pub nodes: Arc<Nodes>,
    /// What answers application destinations.
    pub application: Arc<dyn application::Application>,
}

/// A gateway that is bound to its ports.
pub struct Gateway {
    node: Arc<Node>,
    listeners: Listeners,
    /// For other nodes, where that is on.
    forwarding: Option<TcpListener>,
}

impl Gateway {
    /// Binds the ports, so that clients can connect (and wait) from here on.
    pub async fn bind(parts: Parts) -> Result<Self, BindError> {
        let Parts { config, stomp, websocket, sockjs, plain, destinations, .. } = parts;
        let listeners = Listeners {
            web: listener::bind(config.listen)?,
            stomp: config.stomp_listen.map(listener::bind).transpose()?,
        };
        let forwarding = parts.cluster.listen.map(listener::bind).transpose()?;
        if let Some(listener) = &forwarding {
            parts.nodes.forward_at(advertised(&parts.cluster, listener)?);
        }
        let stomp = stomp::Config { compat: config.compat, ..stomp };
        let metrics = Arc::new(metrics::Metrics::new());
        let hub = hub::Hub::new(
            Arc::clone(&parts.broker),
            Arc::clone(&parts.groups),
            config.linger,
            Arc::clone(&metrics),
        );
        let router = Router::new(
            Arc::clone(&parts.broker),
            Arc::clone(&parts.presence),
            Arc::clone(&parts.groups),
            Arc::clone(&parts.nodes),
        );
        let inboxes = parts.dispatcher.map(|dispatcher| Arc::new(Inboxes::new(dispatcher)));
        let peers = Peers::new(
            &parts.cluster,
            parts.presence.boot(),
            parts.owners,
            Arc::clone(&parts.nodes),
            // Of each of two endpoints.
            2 * sockjs.max_sessions,
            Arc::clone(&metrics),
        );
        let node = Arc::new(Node {
            inboxes,
            peers: Arc::new(peers),
            sessions: Sessions::new(config.max_sessions, parts.presence.boot()),
            users: users::Users::new(Arc::clone(&metrics)),
            inlet: inlet::Inlet::new(),
            router,
            presence: parts.presence,
            groups: parts.groups,
            nodes: parts.nodes,
            config,
            stomp: Arc::new(stomp),
            websocket,
            sockjs,
            plain,
            destinations,
            broker: parts.broker,
            door: door::Door::new(Arc::clone(&parts.access)),
            access: parts.access,
            application: parts.application,
            hub: Arc::new(hub),
            clock: clock::Clock::new(),
            drain: OnceLock::new(),
            metrics,
            tasks: TaskTracker::new(),
        });
        Ok(Self { node, listeners, forwarding })
    }

    /// The address that WebSocket clients connect to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listeners.web.local_addr()
    }

    /// The address that clients connect to who speak STOMP without WebSocket, where that is on.
    pub fn stomp_address(&self) -> io::Result<Option<SocketAddr>> {
        self.listeners.stomp.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// The address that other nodes connect to, where that is on.
    pub fn forward_address(&self) -> io::Result<Option<SocketAddr>> {
        self.forwarding.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Adds what it counts to `registry`, which keeps its own hold of it.
    pub fn register(&self, registry: &mut Registry) {
        self.node.metrics.register(registry);
    }

    /// Serves until `shutdown` resolves, then drains: closes every session, and goes on when all are gone
    /// or the configured time is over. Takes leave of the other nodes and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { node, listeners, forwarding } = self;
        let site = Arc::new(Site::new(Arc::clone(&node)));
        let clock = tokio::spawn(Arc::clone(&node.clock).run());
        let left = CancellationToken::new();
        let nodes = tokio::spawn({
            let (nodes, left) = (Arc::clone(&node.nodes), left.clone());
            async move { nodes.run(left).await }
        });
        let inlet = tokio::spawn({
            let node = Arc::clone(&node);
            async move { inlet::Inlet::run(&node).await }
        });
        let inboxes = tokio::spawn({
            let node = Arc::clone(&node);
            async move { inboxes::run(&node).await }
        });
        let dispatched = CancellationToken::new();
        let dispatching = tokio::spawn({
            let (inboxes, until) = (node.inboxes.clone(), dispatched.clone());
            async move {
                if let Some(inboxes) = inboxes {
                    inboxes.dispatch(until).await;
                }
            }
        });
        let keeping = tokio::spawn({
            let (peers, site) = (Arc::clone(&node.peers), Arc::clone(&site));
            async move { peers.keep(|name| site.has(name), |name| site.lose(name)).await }
        });
        // Sessions that drain are reached by way of other nodes, too.
        let drained = CancellationToken::new();
        let forwarding = tokio::spawn({
            let (peers, drained) = (Arc::clone(&node.peers), drained.clone());
            let (site, max_body) = (Arc::clone(&site), node.sockjs.request_bytes());
            async move {
                let Some(listener) = forwarding else { return };
                let handler = move |request| {
                    let site = Arc::clone(&site);
                    async move { site.answer_peer(request).await }
                };
                peers::port::serve(listener, peers, max_body, handler, drained).await;
            }
        });
        let told = CancellationToken::new();
        let (broker, presence) = (Arc::clone(&node.broker), Arc::clone(&node.presence));
        let events = tokio::spawn(events::publish(broker, presence, TELLER, told.clone()));
        let mut accepting = Box::pin(listener::accept(listeners, Arc::clone(&node), site).fuse());
        tokio::select! {
            () = &mut accepting => {}
            () = shutdown => {}
        }
        drain::drain(&node, accepting).await;
        drained.cancel();
        // It takes a moment at most.
        let _ = forwarding.await;
        keeping.abort();
        let stored = async {
            if let Some(inboxes) = &node.inboxes {
                inboxes.settled().await;
            }
            dispatched.cancel();
            let _ = dispatching.await;
        };
        if tokio::time::timeout(STORED, stored).await.is_err() {
            tracing::warn!(
                "stopping although the store of inboxes does not know yet what clients have settled"
            );
        }
        left.cancel();
        // No announcement may come behind the good-bye.
        let _ = nodes.await;
        let leave = async {
            if let Err(error) = node.nodes.good_bye().await {
                tracing::debug!(%error, "the other nodes will notice");
            }
            // Last: whoever sends to these sessions until then sends to this node, which knows that they
            // are gone.
            if let Err(error) = node.presence.leave().await {
                tracing::warn!(%error, "the other nodes will clear away this node's sessions");
            }
            node.peers.leave().await;
            told.cancel();
            let _ = events.await;
        };
        if tokio::time::timeout(LEAVE, leave).await.is_err() {
            tracing::warn!("stopping without a good-bye to the other nodes: they will notice");
        }
        inlet.abort();
        inboxes.abort();
        clock.abort();
    }
}

/// Where the others reach the port for them.
fn advertised(config: &peers::Config, listener: &TcpListener) -> Result<ByteString, BindError> {
    if !config.advertise.is_empty() {
        return Ok(config.advertise.as_str().into());
    }
    let address = listener.local_addr();
    let address = address.map_err(|source| {
        let asked = config.listen.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
        BindError { address: asked, source }
    })?;
    Ok(address.to_string().into())
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}
