//! A gateway on free ports, with the embedded broker unless another is given, and clients that see every frame.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

pub(crate) mod client;
pub(crate) mod recorder;
pub(crate) mod sockjs;
pub(crate) mod tcp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::client::Client;
use self::sockjs::Over;
use access::Access;
use access::rules::Config as Rules;
use broker::destination::Verb;
use broker::{Broker, Destinations, PublisherId};
use broker_embedded::EmbeddedBroker;
use bytes::BytesMut;
use cluster::{Dispatcher, DispatcherParts, Nodes, Router};
use gateway::{Config, Gateway, Parts, application, plain};
use inbox::{DiskInbox, Durable, Inbox};
use presence::{Boot, Config as PresenceConfig, Groups, MemoryPresence, Owners, Presence};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use stomp::{Command, Decoder, Frame, Limits, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Longer than anything here takes on a busy machine; reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// As whom a node says how it is, and a service sends.
const ANNOUNCER: PublisherId = PublisherId(u64::MAX);
pub(crate) const SERVICE: PublisherId = PublisherId(1 << 63);
const STORER: PublisherId = PublisherId(u64::MAX - 2);

/// What clients take.
const LIMITS: Limits =
    Limits { frame: 1 << 24, headers: 1000, header_length: 1 << 16, body: 1 << 24 };

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    /// Where STOMP without WebSocket is served, if it is.
    stomp_address: Option<SocketAddr>,
    /// Who is connected, and in which group.
    pub(crate) presence: Arc<MemoryPresence>,
    /// By which services send.
    pub(crate) router: Router,
    /// By which they store.
    pub(crate) dispatcher: Dispatcher,
    metrics: Registry,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<()>,
}

/// The settings of a node.
struct Whole {
    access: access::Config,
    config: Config,
    inboxes: inbox::Config,
    /// In memory if there is none.
    store: Option<Arc<dyn Inbox>>,
    stomp: stomp::Config,
    plain: plain::Config,
    sockjs: ::sockjs::Config,
    /// Those of presence if there are none.
    owners: Option<Arc<dyn Owners>>,
}

impl Default for Whole {
    fn default() -> Self {
        Self {
            access: access::Config::default(),
            config: config(),
            inboxes: inbox::Config::default(),
            store: None,
            stomp: stomp::Config::default(),
            plain: plain::Config::default(),
            sockjs: ::sockjs::Config::default(),
            owners: None,
        }
    }
}

pub(crate) fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        drain_notice: Duration::ZERO,
        ..Config::default()
    }
}

impl Node {
    pub(crate) async fn start(config: Config) -> Self {
        let stomp = stomp::Config { max_frames_per_second: 0, ..stomp::Config::default() };
        Self::start_with(config, stomp).await
    }

    /// A node of which `owners` say which sessions it has.
    pub(crate) async fn start_with_owners(owners: Arc<dyn Owners>) -> Self {
        Self::start_open(Whole { owners: Some(owners), ..Whole::default() }).await
    }

    pub(crate) async fn start_with_sockjs(sockjs: ::sockjs::Config) -> Self {
        Self::start_open(Whole { sockjs, ..Whole::default() }).await
    }

    async fn start_open(whole: Whole) -> Self {
        let groups = |presence: Arc<MemoryPresence>| -> Arc<dyn Groups> { presence };
        let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
        let access = access::Config { rules: Rules::Open, ..access::Config::default() };
        let whole = Whole { access, ..whole };
        Self::start_whole(groups, Arc::new(application::NoApplication), broker, whole).await
    }

    pub(crate) async fn start_with(config: Config, stomp: stomp::Config) -> Self {
        let broker = EmbeddedBroker::new(broker_embedded::Config::default());
        Self::start_over(Arc::new(broker), config, stomp).await
    }

    pub(crate) async fn start_over(
        broker: Arc<dyn Broker>,
        config: Config,
        stomp: stomp::Config,
    ) -> Self {
        Self::start_by(Rules::Open, broker, config, stomp).await
    }

    pub(crate) async fn start_by(
        rules: Rules,
        broker: Arc<dyn Broker>,
        config: Config,
        stomp: stomp::Config,
    ) -> Self {
        let access = access::Config { rules, ..access::Config::default() };
        Self::start_for(access, broker, config, stomp).await
    }

    /// Starts a node with this section `[access]`.
    pub(crate) async fn start_for(
        access: access::Config,
        broker: Arc<dyn Broker>,
        config: Config,
        stomp: stomp::Config,
    ) -> Self {
        let application = Arc::new(application::NoApplication);
        let plain = plain::Config::default();
        Self::start_behind(application, access, broker, config, stomp, plain).await
    }

    /// Starts a node with this application, open to everything.
    pub(crate) async fn start_with_application(
        application: Arc<dyn application::Application>,
        stomp: stomp::Config,
    ) -> Self {
        let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
        let access = access::Config { rules: Rules::Open, ..access::Config::default() };
        let plain = plain::Config::default();
        Self::start_behind(application, access, broker, config(), stomp, plain).await
    }

    /// Starts a node with these sections `[access]` and `[plain]`.
    pub(crate) async fn start_plain(
        application: Arc<dyn application::Application>,
        access: access::Config,
        plain: plain::Config,
    ) -> Self {
        let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
        let stomp = stomp::Config::default();
        Self::start_behind(application, access, broker, config(), stomp, plain).await
    }

    /// Starts a node, open to everything, that asks these groups, which are made of its presence.
    pub(crate) async fn start_among(
        groups: impl FnOnce(Arc<MemoryPresence>) -> Arc<dyn Groups>,
    ) -> Self {
        let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
        let access = access::Config { rules: Rules::Open, ..access::Config::default() };
        let stomp = stomp::Config { max_frames_per_second: 0, ..stomp::Config::default() };
        let application = Arc::new(application::NoApplication);
        let plain = plain::Config::default();
        let whole = Whole { access, stomp, plain, ..Whole::default() };
        Self::start_whole(groups, application, broker, whole).await
    }

    /// Starts a node, open to everything, whose inboxes have these limits.
    pub(crate) async fn start_storing(inboxes: inbox::Config) -> Self {
        let store = Arc::new(DiskInbox::memory(inboxes.clone()).unwrap());
        Self::start_with_store(store, inboxes).await
    }

    /// Starts a node, open to everything, with that store of inboxes.
    pub(crate) async fn start_with_store(store: Arc<dyn Inbox>, inboxes: inbox::Config) -> Self {
        let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
        let access = access::Config { rules: Rules::Open, ..access::Config::default() };
        let stomp = stomp::Config { max_frames_per_second: 0, ..stomp::Config::default() };
        let application = Arc::new(application::NoApplication);
        let groups = |presence: Arc<MemoryPresence>| -> Arc<dyn Groups> { presence };
        let whole = Whole { access, inboxes, store: Some(store), stomp, ..Whole::default() };
        Self::start_whole(groups, application, broker, whole).await
    }

    async fn start_behind(
        application: Arc<dyn application::Application>,
        access: access::Config,
        broker: Arc<dyn Broker>,
        config: Config,
        stomp: stomp::Config,
        plain: plain::Config,
    ) -> Self {
        let groups = |presence: Arc<MemoryPresence>| -> Arc<dyn Groups> { presence };
        let whole = Whole { access, config, stomp, plain, ..Whole::default() };
        Self::start_whole(groups, application, broker, whole).await
    }

    async fn start_whole(
        groups: impl FnOnce(Arc<MemoryPresence>) -> Arc<dyn Groups>,
        application: Arc<dyn application::Application>,
        broker: Arc<dyn Broker>,
        whole: Whole,
    ) -> Self {
        let Whole { access, config, inboxes, store, stomp, plain, sockjs, owners } = whole;
        let destinations = Destinations::default();
        let presence = Arc::new(MemoryPresence::new(&PresenceConfig::default(), Boot::generate()));
        let nodes = Arc::new(Nodes::alone(broker.clone(), presence.clone(), ANNOUNCER));
        let groups = groups(presence.clone());
        let router = Router::new(broker.clone(), presence.clone(), groups.clone(), nodes.clone());
        let dispatcher = Dispatcher::new(DispatcherParts {
            durable: Durable::new(&inboxes.durable).unwrap(),
            dead_letter: (!inboxes.dead_letter.is_empty())
                .then(|| destinations.parse(&inboxes.dead_letter, Verb::Send).unwrap()),
            inbox: store.unwrap_or_else(|| Arc::new(DiskInbox::memory(inboxes).unwrap())),
            router: router.clone(),
            broker: broker.clone(),
            destinations: destinations.clone(),
            boot: presence.boot(),
            publisher: STORER,
        });
        let gateway = Gateway::bind(Parts {
            cluster: gateway::peers::Config::default(),
            owners: owners.unwrap_or_else(|| presence.clone()),
            config,
            stomp,
            websocket: websocket::Config::default(),
            sockjs,
            plain,
            access: Arc::new(Access::start(&access, &destinations).unwrap()),
            destinations,
            broker,
            presence: presence.clone(),
            groups,
            nodes,
            dispatcher: Some(dispatcher.clone()),
            application,
        })
        .await
        .unwrap();
        let address = gateway.address().unwrap();
        let stomp_address = gateway.stomp_address().unwrap();
        let mut metrics = Registry::default();
        gateway.register(&mut metrics);
        let (stop, stopped) = oneshot::channel();
        let run = tokio::spawn(gateway.run(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stomp_address,
            presence,
            router,
            dispatcher,
            metrics,
            stop: Some(stop),
            run,
        }
    }

    pub(crate) fn stomp_address(&self) -> SocketAddr {
        self.stomp_address.expect("STOMP over TCP is on")
    }

    /// Asks the node to stop; [`stopped`](Self::stopped) waits for it.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    pub(crate) async fn stopped(self) {
        timeout(self.run).await.unwrap();
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_as("1.2").await
    }

    /// Connects with one version alone, without heart-beats.
    pub(crate) async fn connect_as(&self, version: &str) -> Client {
        self.connect_with(version, "0,0").await
    }

    /// Connects as the user of that name, which a node where everything is open believes.
    pub(crate) async fn connect_named(&self, name: &str) -> Client {
        self.connect_by(&format!("login:{name}\n")).await
    }

    /// Connects as nobody in particular, and keeps the session's id.
    pub(crate) async fn connect_anonymous(&self) -> Client {
        self.connect_by("").await
    }

    async fn connect_by(&self, headers: &str) -> Client {
        let mut client = self.open(&[]).await.unwrap();
        let connect = format!("CONNECT\naccept-version:1.2\n{headers}heart-beat:0,0\n\n\0");
        client.send_text(&connect).await;
        let connected = client.frame().await;
        assert_eq!(connected.command, Command::Connected, "{connected:?}");
        client.session = connected.headers.get("session").map(ToString::to_string);
        client.decoder.set_version(Version::V1_2);
        client
    }

    pub(crate) async fn connect_with(&self, version: &str, heart_beat: &str) -> Client {
        let mut client = self.open(&[]).await.unwrap();
        client
            .send_text(&format!("CONNECT\naccept-version:{version}\nheart-beat:{heart_beat}\n\n\0"))
            .await;
        let connected = client.frame().await;
        assert_eq!(connected.command, Command::Connected, "{connected:?}");
        client.decoder.set_version(version.parse().unwrap());
        client
    }

    /// Opens a WebSocket without saying CONNECT.
    pub(crate) async fn open(&self, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        self.open_from(Ipv4Addr::LOCALHOST, "/ws", headers).await
    }

    /// Opens a WebSocket at that path from an address of this machine.
    pub(crate) async fn open_from(
        &self,
        address: Ipv4Addr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let node = match Over::of_this_binary() {
            Over::WebSocket => self.address,
            over => sockjs::bridge(self.address, over).await,
        };
        let stream = MaybeTlsStream::Plain(timeout(socket.connect(node)).await.unwrap());
        let (socket, response) = timeout(tokio_tungstenite::client_async(request, stream)).await?;
        let protocol = response
            .headers()
            .get("sec-websocket-protocol")
            .map(|value| value.to_str().unwrap().to_owned());
        Ok(Client {
            socket,
            decoder: Decoder::new(LIMITS),
            input: BytesMut::new(),
            binary: false,
            protocol,
            session: None,
        })
    }

    /// The answer to an HTTP request, whole.
    pub(crate) async fn http(&self, address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> String {
        self.http(address, &format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"))
            .await
    }

    /// All metrics, as they are scraped.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.metrics).unwrap();
        text
    }

    /// The value of a metric, labels included in its name.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line = text
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Waits until a metric has the value.
    pub(crate) async fn wait_for_metric(&self, name: &str, value: f64) {
        timeout(async {
            while self.metric(name) != value {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// A frame of these headers.
pub(crate) fn frame(command: Command, headers: &[(&'static str, &str)]) -> Frame {
    headers.iter().fold(Frame::new(command), |frame, (name, value)| {
        frame.with_header(*name, value.to_string())
    })
}

pub(crate) async fn timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}
