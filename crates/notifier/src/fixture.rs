//! What the tests of the services have in common: a node over some broker, with everything else in memory.

use std::sync::Arc;

use ::inbox::{Durable, Inbox};
use ::presence::{Boot, MemoryPresence, Presence, Session, SessionId, UserName};
use broker::destination::Verb;
use broker::{Broker, Destinations, PublisherId};
use broker_embedded::EmbeddedBroker;
use cluster::{Dispatcher, DispatcherParts, Inlet, Letter, Nodes, Router};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::node::{Made, Node};

/// Presence of one node that holds sessions, the broker it hears by, and a notifier beside it.
pub(crate) struct Fixture {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<MemoryPresence>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) stopping: CancellationToken,
    pub(crate) boot: Boot,
}

impl Fixture {
    /// With the embedded broker, by which nodes hear of each other.
    pub(crate) fn new() -> Self {
        Self::with_config(Config::default())
    }

    pub(crate) fn with_config(config: Config) -> Self {
        let fixture = Self::over(Arc::new(EmbeddedBroker::new(Default::default())), config);
        fixture.announce();
        fixture
    }

    /// Has nodes hear of each other.
    pub(crate) fn announce(&self) {
        let (nodes, stopping) = (self.node.nodes.clone(), self.stopping.clone());
        tokio::spawn(async move { nodes.run(stopping).await });
    }

    /// With a broker by which nobody hears anything.
    pub(crate) fn over(broker: Arc<dyn Broker>, config: Config) -> Self {
        let boot = Boot::generate();
        let store = Arc::new(MemoryPresence::new(&Default::default(), boot));
        Self::with_store(broker, store.clone(), store, config)
    }

    /// With a store that may be another than the one that sessions are registered in.
    pub(crate) fn with_store<S: Presence + ::presence::Groups>(
        broker: Arc<dyn Broker>,
        store: Arc<MemoryPresence>,
        seen: Arc<S>,
        config: Config,
    ) -> Self {
        Self::with_all(broker, store, seen, config, None)
    }

    /// With a store of inboxes, and a broker by which nobody hears anything.
    pub(crate) fn keeping(
        broker: Arc<dyn Broker>,
        inbox: Arc<dyn Inbox>,
        config: ::inbox::Config,
    ) -> Self {
        let boot = Boot::generate();
        let store = Arc::new(MemoryPresence::new(&Default::default(), boot));
        let kept = Some((inbox, config));
        Self::with_all(broker, store.clone(), store, Config::default(), kept)
    }

    fn with_all<S: Presence + ::presence::Groups>(
        broker: Arc<dyn Broker>,
        store: Arc<MemoryPresence>,
        seen: Arc<S>,
        config: Config,
        kept: Option<(Arc<dyn Inbox>, ::inbox::Config)>,
    ) -> Self {
        let (boot, stopping) = (store.boot(), CancellationToken::new());
        // The node's own presence: what it announces is true whatever the notifier sees.
        let nodes = Nodes::of_gateway(broker.clone(), store.clone(), PublisherId(u64::MAX));
        let nodes = Arc::new(nodes);
        let (kept, inbox) = match kept {
            Some((inbox, config)) => (Some(inbox), config),
            None => (None, ::inbox::Config::default()),
        };
        let dispatcher = kept.map(|kept| {
            let groups: Arc<dyn ::presence::Groups> = seen.clone();
            let router = Router::new(broker.clone(), seen.clone(), groups, nodes.clone());
            let grave = Some(&inbox.dead_letter).filter(|grave| !grave.is_empty());
            let parsed = grave.map(|grave| Destinations::default().parse(grave, Verb::Send));
            Dispatcher::new(DispatcherParts {
                inbox: kept,
                router,
                broker: broker.clone(),
                destinations: Destinations::default(),
                boot,
                publisher: PublisherId(u64::MAX - 1),
                durable: Durable::new(&inbox.durable).unwrap(),
                dead_letter: parsed.transpose().unwrap(),
            })
        });
        let node = Node::new(Made {
            config,
            broker: broker.clone(),
            presence: seen.clone(),
            groups: seen,
            nodes,
            destinations: Destinations::default(),
            metrics: Arc::new(Metrics::new()),
            stopping: stopping.clone(),
            dispatcher,
            inbox,
        });
        Self { node, store, broker, stopping, boot }
    }

    /// A session that is open.
    pub(crate) async fn session(&self, user: &str) -> SessionId {
        self.session_with(user, &[]).await
    }

    pub(crate) async fn session_with(
        &self,
        user: &str,
        attributes: &[(&str, serde_json::Value)],
    ) -> SessionId {
        let id = SessionId::generate(self.boot);
        let mut session = Session::new(id.clone(), UserName::new(user).unwrap(), self.boot);
        session.attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.store.register(session).await.unwrap();
        id
    }

    /// What comes for the node from now on.
    pub(crate) async fn inlet(&self) -> Inlet {
        Inlet::open(&self.broker, self.boot).await.unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.node.metrics.register(registry.sub_registry_with_prefix("notifier"));
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

/// The next letter that is for sessions.
pub(crate) async fn letter(inlet: &mut Inlet) -> Letter {
    inlet.next().await.unwrap().letter
}
