//! Three gateways and a notifier, each at an address of its own, over servers that tests may kill.

use testkit::{Persistence, RabbitMq, Redis};
use tonic::transport::Channel;

use crate::support::{Node, Settings};

/// See the module.
pub(crate) struct Cluster {
    pub(crate) rabbitmq: RabbitMq,
    pub(crate) redis: Redis,
    gateways: Vec<Node>,
    addresses: Vec<String>,
    notifier: Node,
    grpc: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let rabbitmq = RabbitMq::start().await.unwrap();
        let redis = Redis::start(Persistence::AppendOnly).await.unwrap();
        let (mut gateways, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut gateway = gateway(&rabbitmq, &redis, "127.0.0.1:0").await;
            let url = gateway.websocket().await;
            addresses.push(url.trim_start_matches("ws://").trim_end_matches("/ws").to_owned());
            gateways.push(gateway);
        }
        let mut notifier = notifier(&rabbitmq, &redis, "127.0.0.1:0").await;
        let grpc = notifier.grpc().await;
        Self { rabbitmq, redis, gateways, addresses, notifier, grpc }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.addresses.iter().map(|address| format!("ws://{address}/ws")).collect()
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(self.grpc.clone()).unwrap().connect_lazy()
    }

    pub(crate) async fn kill_gateway(&mut self, n: usize) {
        let gateway = gateway(&self.rabbitmq, &self.redis, &self.addresses[n]);
        // It is not polled before the other is dead.
        self.gateways.remove(n).kill().await;
        let gateway = gateway.await;
        self.gateways.insert(n, gateway);
    }

    pub(crate) async fn kill_notifier(self) -> Self {
        let Self { rabbitmq, redis, gateways, addresses, notifier: killed, grpc } = self;
        killed.kill().await;
        let address = grpc.trim_start_matches("http://");
        let notifier = notifier(&rabbitmq, &redis, address).await;
        Self { rabbitmq, redis, gateways, addresses, notifier, grpc }
    }

    /// One more notifier, and the way to it.
    pub(crate) async fn another_notifier(&self) -> (Node, Channel) {
        let mut notifier = notifier(&self.rabbitmq, &self.redis, "127.0.0.1:0").await;
        let channel = Channel::from_shared(notifier.grpc().await).unwrap().connect_lazy();
        (notifier, channel)
    }

    pub(crate) async fn stop(self) {
        for node in self.gateways.into_iter().chain([self.notifier]) {
            node.stop().await;
        }
    }
}

async fn gateway(rabbitmq: &RabbitMq, redis: &Redis, address: &str) -> Node {
    let settings = Settings::of(&["gateway", "--listen", address, "--admin", "127.0.0.1:0"]);
    node(settings, rabbitmq, redis).await
}

async fn notifier(rabbitmq: &RabbitMq, redis: &Redis, address: &str) -> Node {
    let settings = Settings::of(&["notifier", "--listen", address, "--admin", "127.0.0.1:0"]);
    node(settings, rabbitmq, redis).await
}

async fn node(settings: Settings, rabbitmq: &RabbitMq, redis: &Redis) -> Node {
    let node = settings
        .set("rabbitmq.uris", &rabbitmq.uri())
        .set("rabbitmq.reconnect_pause", "500ms")
        .set("redis.urls", &redis.uri())
        .set("presence.lease", "3s")
        .set("presence.refresh", "1s")
        .set("access.rules", "open")
        .start()
        .await;
    node.wait_ready().await;
    node
}
