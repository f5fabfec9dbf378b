//! Two nodes that hand requests over to each other.

mod claims;
mod hostile;
mod requests;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use broker::PublisherId;
use broker_embedded::EmbeddedBroker;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use presence::{MemoryPresence, Presence, RedisConfig, RedisPresence, Url};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

/// How long anything may take before a test counts as failed: long, for a starved machine.
const PATIENCE: Duration = Duration::from_secs(120);

const SECRET: &str = "a secret that is long enough: 32 bytes";

/// The longest body that the port takes.
const MAX_BODY: usize = 1_000;

/// Nodes by one broker.
struct Network {
    broker: Arc<EmbeddedBroker>,
    namespace: String,
    /// Ends what runs for its nodes.
    stopping: CancellationToken,
    _stop: DropGuard,
}

/// One of them.
struct Node {
    peers: Arc<Peers>,
    nodes: Arc<Nodes>,
    presence: Boot,
    /// Where others hand requests over to it.
    port: Option<SocketAddr>,
    metrics: Arc<Metrics>,
}

/// What its sessions are kept in.
enum Store {
    /// Its own, which no other node sees.
    Memory,
    /// That Redis.
    Redis(String),
}

impl Network {
    fn new() -> Self {
        let stopping = CancellationToken::new();
        Self {
            broker: Arc::new(EmbeddedBroker::new(Default::default())),
            namespace: format!("test-{}", Boot::generate()),
            _stop: stopping.clone().drop_guard(),
            stopping,
        }
    }

    /// A node that hands over and takes nothing before it serves.
    async fn node(&self, store: Store) -> (Node, TcpListener) {
        let boot = Boot::generate();
        let (presence, owners): (Arc<dyn Presence>, Arc<dyn Owners>) = match store {
            Store::Memory => {
                let memory = Arc::new(MemoryPresence::new(&Default::default(), boot));
                (memory.clone(), memory)
            }
            Store::Redis(uri) => {
                let redis = RedisConfig {
                    urls: vec![Url::from(&*uri)],
                    namespace: self.namespace.clone(),
                    command_timeout: Duration::from_secs(5),
                    ..RedisConfig::default()
                };
                let redis = Arc::new(RedisPresence::start(Default::default(), redis, boot));
                (redis.clone(), redis)
            }
        };
        let nodes = Nodes::of_gateway(self.broker.clone(), presence, PublisherId(1));
        let nodes = Arc::new(nodes);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let metrics = Arc::new(Metrics::new());
        let config = Config { secret: SECRET.into(), ..listening(&listener) };
        let peers = Peers::new(&config, boot, owners, nodes.clone(), 10, metrics.clone());
        let peers = Arc::new(peers);
        let port = listener.local_addr().ok();
        (Node { peers, nodes, presence: boot, port, metrics }, listener)
    }

    /// Has it take requests, and tell the others where.
    fn serve<F>(
        &self,
        node: &Node,
        listener: TcpListener,
        handler: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Response<BoxBody>> + Send + 'static,
    {
        let address = listener.local_addr().unwrap().to_string();
        let (peers, stopping) = (node.peers.clone(), self.stopping.clone());
        tokio::spawn(port::serve(listener, peers, MAX_BODY, handler, stopping.clone()));
        self.announce(node, &address);
    }

    /// Has it tell the others that it takes requests there.
    fn announce(&self, node: &Node, address: &str) {
        node.nodes.forward_at(address.into());
        self.run(node);
    }

    /// Has it hear of others.
    fn run(&self, node: &Node) {
        let (nodes, stopping) = (node.nodes.clone(), self.stopping.clone());
        tokio::spawn(async move { nodes.run(stopping).await });
    }
}

fn listening(listener: &TcpListener) -> Config {
    Config { listen: listener.local_addr().ok(), ..Config::default() }
}

/// Waits until one node knows where the other takes requests.
async fn acquainted(one: &Node, other: &Node) -> Peer {
    until(async || one.nodes.forward_address(other.presence).is_some()).await;
    Peer(other.presence)
}

/// A node that only asks and one that answers by `handler`, acquainted; the latter as it is called by the first.
async fn pair<F>(
    network: &Network,
    handler: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
) -> (Node, Node, Peer)
where
    F: Future<Output = Response<BoxBody>> + Send + 'static,
{
    let (asking, _) = network.node(Store::Memory).await;
    let (answering, listener) = network.node(Store::Memory).await;
    network.run(&asking);
    network.serve(&answering, listener, handler);
    let peer = acquainted(&asking, &answering).await;
    (asking, answering, peer)
}

/// What `future` gives, in time.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Asks again and again until it is so.
async fn until(mut question: impl AsyncFnMut() -> bool) {
    soon(async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// An answer whose body is what comes in.
fn streaming(pieces: mpsc::Receiver<Result<Bytes, &'static str>>) -> Response<BoxBody> {
    let pieces = stream::unfold(pieces, async |mut pieces| {
        let piece: Result<Bytes, _> = pieces.recv().await?;
        Some((piece.map(Frame::data).map_err(Into::into), pieces))
    });
    Response::new(StreamBody::new(Box::pin(pieces)).boxed_unsync())
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(path).body(body.into()).unwrap()
}

fn client() -> IpAddr {
    "192.0.2.7".parse().unwrap()
}

/// The next piece of an answer's body.
async fn piece(answer: &mut Response<BoxBody>) -> Option<Bytes> {
    let frame = soon(answer.body_mut().frame()).await?;
    Some(frame.expect("more of it").into_data().expect("no trailers"))
}
