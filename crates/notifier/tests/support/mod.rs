//! A notifier on a free port with the embedded broker, and a client.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use broker::destination::Verb;
use broker::{Broker, Destinations, SubscribeRequest, Subscription};
use broker_embedded::EmbeddedBroker;
use cluster::Nodes;
use notifier::{BindError, Config, Notifier, Parts};
use presence::{Boot, MemoryPresence};
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{Header, Message, PublishRequest};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Longer than anything here takes on a busy machine; reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Arc<EmbeddedBroker>,
    /// The one store, and the one node that holds sessions.
    pub(crate) store: Arc<MemoryPresence>,
    /// Connects with the first call.
    pub(crate) channel: Channel,
    pub(crate) client: NotificationsClient<Channel>,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<()>,
}

pub(crate) fn config() -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(config(), broker_embedded::Config::default()).await
    }

    pub(crate) async fn start_with(config: Config, embedded: broker_embedded::Config) -> Self {
        Self::start_all(config, embedded, access::Config::default()).await.unwrap()
    }

    /// With callers that show who they are.
    pub(crate) async fn start_guarded(
        config: Config,
        access: access::Config,
    ) -> Result<Self, BindError> {
        Self::start_all(config, broker_embedded::Config::default(), access).await
    }

    async fn start_all(
        config: Config,
        embedded: broker_embedded::Config,
        access: access::Config,
    ) -> Result<Self, BindError> {
        config.check().unwrap();
        let broker = Arc::new(EmbeddedBroker::new(embedded));
        let destinations = Destinations::default();
        let store = Arc::new(MemoryPresence::new(&presence::Config::default(), Boot::generate()));
        let publisher = broker::PublisherId(u64::MAX);
        let nodes = Arc::new(Nodes::of_gateway(broker.clone(), store.clone(), publisher));
        let parts = Parts {
            config,
            broker: broker.clone(),
            presence: store.clone(),
            groups: store.clone(),
            nodes: nodes.clone(),
            access: Arc::new(Access::start(&access, &destinations).unwrap()),
            destinations,
            dispatcher: None,
            dispatches: false,
            inbox: Default::default(),
        };
        let notifier = Notifier::bind(parts).await?;
        let address = notifier.address().unwrap();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let (stop, stopped) = oneshot::channel();
        let stopping = CancellationToken::new();
        let until = stopping.clone();
        tokio::spawn(async move { nodes.run(until).await });
        let run = tokio::spawn(async move {
            notifier
                .run(async {
                    let _ = stopped.await;
                })
                .await;
            stopping.cancel();
        });
        let client = NotificationsClient::new(channel.clone());
        Ok(Self { address, broker, store, channel, client, stop: Some(stop), run })
    }

    /// A connection of its own, opened with the first call.
    pub(crate) fn another_channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// Closes the connection that the node was started with.
    pub(crate) fn hang_up(&mut self) {
        self.channel = self.another_channel();
        self.client = NotificationsClient::new(self.channel.clone());
    }

    /// Asks the node to stop.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has.
    pub(crate) async fn stopped(&mut self) {
        patiently(&mut self.run).await.unwrap();
    }

    pub(crate) async fn subscribe(&self, destination: &str) -> Subscription {
        let destination = Destinations::default().parse(destination, Verb::Subscribe).unwrap();
        self.broker.subscribe(SubscribeRequest::new(destination, 10_000)).await.unwrap()
    }
}

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("what was waited for did not come")
}

pub(crate) fn request(destination: &str, body: Body) -> PublishRequest {
    let message = Message { body: Some(body), ..Message::default() };
    PublishRequest {
        destination: destination.to_owned(),
        message: Some(message),
        ..Default::default()
    }
}

pub(crate) fn text(destination: &str, text: &str) -> PublishRequest {
    request(destination, Body::Text(text.to_owned()))
}

pub(crate) fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned() }
}
