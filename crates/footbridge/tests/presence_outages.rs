//! Redis goes away, comes back empty, or is out of one gateway's reach, or a gateway freezes, while messages
//! to users flow at 200 in a second, and sessions come and go: each session gets each of its messages, and
//! presence heals by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use support::cluster::{Cluster, Place, certain};
use support::traffic::{FENCE, Heard, Listener, Traffic, USERS, name};
use testkit::{Persistence, Proxy, Redis};
use tokio::time::Instant;

/// How many messages flow in each phase at least: two seconds.
const PHASE: u64 = 400;

/// A cluster, what flows through it, and who listens.
struct Run {
    cluster: Cluster,
    traffic: Traffic,
    listeners: Vec<Listener>,
    /// Of those who left.
    left: Vec<Heard>,
    /// How long until presence was right again, after each fault.
    healed: Vec<Duration>,
}

impl Run {
    /// Three gateways with two sessions of each user, at two of them.
    async fn start(namespace: &str, redis: &Redis, gateways: Vec<String>) -> Self {
        let lease = [("presence.lease", "3s"), ("presence.refresh", "1s")];
        Self::start_leasing(&lease, namespace, redis, gateways).await
    }

    async fn start_leasing(
        lease: &[(&'static str, &'static str)],
        namespace: &str,
        redis: &Redis,
        gateways: Vec<String>,
    ) -> Self {
        let place = Place {
            namespace: namespace.to_owned(),
            rabbitmq: testkit::rabbitmq().await.uri(),
            notifier_rabbitmq: None,
            redis: redis.uri(),
            gateways,
            settings: [lease, &[("presence.linger", "1s")]].concat(),
        };
        let cluster = Cluster::start(&place).await;
        let traffic = Traffic::start(cluster.service.clone()).await;
        let (listeners, left, healed) = (Vec::new(), Vec::new(), Vec::new());
        let mut run = Self { cluster, traffic, listeners, left, healed };
        for user in 0..USERS {
            run.come(user, user % 3).await;
            run.come(user, (user + 1) % 3).await;
        }
        run.traffic.flows(PHASE).await;
        run
    }

    /// A session of `user` at a gateway.
    async fn come(&mut self, user: u64, gateway: u64) {
        let url = &self.cluster.urls[usize::try_from(gateway).unwrap()];
        self.listeners.push(self.traffic.listen(url, user).await);
    }

    /// Sessions come at these gateways, and some that are there leave.
    async fn come_and_go(&mut self, gateways: &[u64]) {
        for &gateway in gateways {
            for n in 0..4 {
                self.come((gateway * 17 + n * 5) % USERS, gateway).await;
            }
        }
        for n in 0..6 {
            let listener = self.listeners.remove(n * 7);
            self.left.push(listener.leave().await);
        }
    }

    /// Waits until presence holds exactly who is connected, and sends are certain of it.
    async fn heal(&mut self) {
        let began = Instant::now();
        let names: Vec<_> = (0..USERS).map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut connected = vec![Vec::new(); names.len()];
        for listener in &self.listeners {
            connected[usize::try_from(listener.user).unwrap()].push(listener.id.clone());
        }
        connected.iter_mut().for_each(|ids| ids.sort());
        let reached: Vec<_> = connected.iter().map(|ids| ids.len() as u64).collect();
        let healed = self.cluster.wait("presence is right", async |cluster| {
            let sent = cluster.service.send_to_users(&names, "/queue/unheard", "").await;
            let found = cluster.service.sessions_of(&names).await;
            match found {
                Ok(found) if found == connected && sent == certain(&reached, 3) => Ok(()),
                found => {
                    let is_right = found.map(|found| found == connected);
                    Err((is_right.map_err(|error| error.to_string()), sent))
                }
            }
        });
        healed.await;
        self.healed.push(began.elapsed());
        let count = self.cluster.service.count().await;
        assert_eq!(count.sessions, self.listeners.len() as u64);
    }

    /// Sees whether every session got what it was due.
    #[expect(clippy::print_stdout, reason = "figures, for who reads the test")]
    async fn judge(mut self) {
        self.traffic.flows(PHASE).await;
        let answers = self.traffic.stop().await;
        let ids: Vec<_> = self.listeners.iter().map(|listener| &*listener.id).collect();
        let fence = self.cluster.service.send_to_sessions(&ids, "/queue/x", FENCE).await;
        assert_eq!(fence.sessions, ids.len() as u64);
        let mut all = self.left;
        for listener in self.listeners {
            all.push(listener.end().await);
        }
        let heard: usize = all.iter().map(Heard::count).sum();
        println!(
            "{answers}; {} sessions heard {heard}; healed after {:.1?}",
            all.len(),
            self.healed
        );
        let wrong: Vec<_> = all
            .iter()
            .map(|heard| heard.violations(answers.sent))
            .filter(|it| !it.is_empty())
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", self.cluster.logs());
        assert!(answers.failures.is_empty(), "{:?}", answers.failures);
        self.cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stops_and_comes_back_as_it_was() {
    let mut redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let mut run = Run::start("stopped", &redis, vec![redis.uri(); 3]).await;
    redis.stop().await;
    run.come_and_go(&[0, 1, 2]).await;
    run.traffic.flows(PHASE).await;
    redis.start_again().await.unwrap();
    run.heal().await;
    // So soon that no lease ends.
    redis.kill();
    redis.start_again().await.unwrap();
    run.come_and_go(&[0, 1, 2]).await;
    run.heal().await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_back_empty() {
    let mut redis = Redis::start(Persistence::Memory).await.unwrap();
    let mut run = Run::start("emptied", &redis, vec![redis.uri(); 3]).await;
    redis.kill();
    run.come_and_go(&[0, 1, 2]).await;
    run.traffic.flows(PHASE).await;
    redis.start_empty().await.unwrap();
    run.come_and_go(&[2, 1, 0]).await;
    run.heal().await;
    // Emptied at once, while everybody is connected to it.
    redis.cli(&["flushall"]).await.unwrap();
    run.come_and_go(&[0, 1, 2]).await;
    run.heal().await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_out_of_one_gateways_reach() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let mut leg = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    let gateways = vec![redis.uri(), redis.uri(), redis.uri_at(leg.port())];
    let mut run = Run::start("cut", &redis, gateways).await;
    // As by a cable that is pulled: what is on its way arrives later.
    leg.half_open();
    run.come_and_go(&[2, 0]).await;
    run.traffic.flows(PHASE).await;
    leg.heal().await.unwrap();
    run.heal().await;
    leg.cut().await;
    run.come_and_go(&[2, 1]).await;
    run.traffic.flows(PHASE).await;
    leg.heal().await.unwrap();
    run.heal().await;
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_freezes_for_longer_than_its_lease() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    // Far less than the 10 s of silence after which nobody would reckon with it any more.
    let lease = [("presence.lease", "1s"), ("presence.refresh", "300ms")];
    let mut run = Run::start_leasing(&lease, "frozen", &redis, vec![redis.uri(); 3]).await;
    let all = run.cluster.service.count().await.nodes.len();
    run.cluster.gateways[1].freeze();
    let gone = run.cluster.wait("it is taken for dead", async |cluster| {
        let nodes = cluster.service.count().await.nodes.len();
        if nodes < all { Ok(()) } else { Err(nodes) }
    });
    gone.await;
    run.come(7, 0).await;
    run.traffic.flows(PHASE / 2).await;
    run.cluster.gateways[1].thaw();
    run.come_and_go(&[1, 2]).await;
    run.heal().await;
    run.judge().await;
}
