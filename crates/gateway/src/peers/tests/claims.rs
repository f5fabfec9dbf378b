//! Tests whose a session is.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use testkit::{Persistence, Redis};
use tokio::sync::Notify;

use super::*;

const SHORT: Times = Times { lifetime: Duration::from_secs(4), every: Duration::from_millis(100) };

/// With other times.
fn hasty(node: Node) -> Node {
    let peers = Arc::into_inner(node.peers).expect("nobody else has it");
    Node { peers: Arc::new(Peers { times: SHORT, ..peers }), ..node }
}

async fn owner(node: &Node, session: &str, opens: bool) -> Owner {
    soon(node.peers.owner(session, opens)).await.expect("an answer")
}

/// Two nodes that have the Redis of all tests in common.
async fn two(network: &Network) -> (Node, Node) {
    let uri = testkit::redis().await.uri();
    let (one, _) = network.node(Store::Redis(uri.clone())).await;
    let (other, _) = network.node(Store::Redis(uri)).await;
    for node in [&one, &other] {
        until(async || node.peers.owner("x", false).await.is_ok()).await;
    }
    (hasty(one), hasty(other))
}

#[tokio::test]
async fn who_opens_a_session_has_it_and_the_others_know() {
    let network = Network::new();
    let (one, other) = two(&network).await;
    assert_eq!(owner(&one, "a", false).await, Owner::Nobody);
    assert_eq!(owner(&one, "a", true).await, Owner::Us);
    assert_eq!(owner(&one, "a", true).await, Owner::Us);
    for opens in [false, true] {
        assert_eq!(owner(&other, "a", opens).await, Owner::Peer(Peer(one.presence)));
    }
    assert_eq!(owner(&other, "b", true).await, Owner::Us);
    // What the other has is not held here.
    assert_eq!(other.peers.held.lock().len(), 1);
    one.peers.release("a").await;
    assert_eq!(owner(&other, "a", false).await, Owner::Nobody);
    assert_eq!(owner(&other, "a", true).await, Owner::Us);
}

#[tokio::test]
async fn a_request_finds_the_node_that_has_its_session() {
    let network = Network::new();
    let uri = testkit::redis().await.uri();
    let (one, listener) = network.node(Store::Redis(uri.clone())).await;
    let (other, _) = network.node(Store::Redis(uri)).await;
    network.serve(&one, listener, async |request: Request<Bytes>| {
        assert_eq!(request.uri(), "/echo/0/a/xhr");
        port::empty(http::StatusCode::ACCEPTED)
    });
    network.run(&other);
    until(async || matches!(one.peers.owner("a", true).await, Ok(Owner::Us))).await;
    acquainted(&other, &one).await;
    until(async || other.peers.owner("a", true).await.is_ok()).await;
    let Owner::Peer(peer) = owner(&other, "a", true).await else { panic!("the other has it") };
    let request = post("/echo/0/a/xhr", "");
    let answer = soon(other.peers.forward(&peer, request, client())).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_session_is_kept_while_it_is_there_and_its_node_is_alive() {
    let network = Network::new();
    let (one, other) = two(&network).await;
    for session in ["stays", "ends"] {
        assert_eq!(owner(&one, session, true).await, Owner::Us);
    }
    let peers = one.peers.clone();
    let keeping =
        tokio::spawn(async move { peers.keep(|session| session == "stays", |_| {}).await });
    until(async || owner(&other, "ends", false).await == Owner::Nobody).await;
    // Claimed later, and over before.
    assert_eq!(owner(&other, "mark", true).await, Owner::Us);
    until(async || owner(&one, "mark", false).await == Owner::Nobody).await;
    assert_eq!(owner(&other, "stays", false).await, Owner::Peer(Peer(one.presence)));
    // The node dies.
    keeping.abort();
    until(async || owner(&other, "stays", false).await == Owner::Nobody).await;
    assert_eq!(owner(&other, "stays", true).await, Owner::Us);
    assert_eq!(owner(&one, "stays", false).await, Owner::Peer(Peer(other.presence)));
}

#[tokio::test]
async fn a_node_that_leaves_leaves_nothing() {
    let network = Network::new();
    let (one, other) = two(&network).await;
    for session in ["a", "b"] {
        assert_eq!(owner(&one, session, true).await, Owner::Us);
    }
    one.peers.leave().await;
    for session in ["a", "b"] {
        assert_eq!(owner(&other, session, true).await, Owner::Us);
    }
    // Nothing of the other's either.
    one.peers.leave().await;
    assert_eq!(owner(&other, "a", false).await, Owner::Us);
}

#[tokio::test]
async fn a_node_is_told_of_what_another_has_taken() {
    let network = Network::new();
    let (one, other) = two(&network).await;
    assert_eq!(owner(&one, "a", true).await, Owner::Us);
    // It was out of touch for too long.
    until(async || owner(&other, "a", true).await == Owner::Us).await;
    let (lost, mut told) = mpsc::channel(1);
    let peers = one.peers.clone();
    tokio::spawn(async move {
        peers.keep(|_| true, |session| lost.try_send(session.to_owned()).unwrap()).await;
    });
    assert_eq!(soon(told.recv()).await.unwrap(), "a");
    assert!(one.peers.held.lock().is_empty());
    assert_eq!(owner(&one, "a", false).await, Owner::Peer(Peer(other.presence)));
}

#[tokio::test]
async fn no_more_is_claimed_than_a_node_may_hold() {
    let network = Network::new();
    let (node, _) = network.node(Store::Memory).await;
    for n in 0..10 {
        assert_eq!(owner(&node, &format!("{n}"), true).await, Owner::Us);
    }
    node.peers.owner("one more", true).await.expect_err("there is no room");
    assert_eq!(owner(&node, "one more", false).await, Owner::Nobody);
    assert_eq!(owner(&node, "9", true).await, Owner::Us);
    node.peers.release("9").await;
    assert_eq!(owner(&node, "one more", true).await, Owner::Us);
}

#[tokio::test]
async fn what_is_no_name_is_nobodys() {
    let network = Network::new();
    let (node, _) = network.node(Store::Memory).await;
    for name in [String::new(), "x".repeat(presence::MAX_NAME + 1)] {
        assert_eq!(owner(&node, &name, true).await, Owner::Nobody);
    }
}

#[tokio::test]
async fn without_redis_nobody_knows_and_nothing_is_held() {
    let network = Network::new();
    let redis = Redis::start(Persistence::Memory).await.expect("a Redis");
    let (node, _) = network.node(Store::Redis(redis.uri())).await;
    until(async || matches!(node.peers.owner("a", true).await, Ok(Owner::Us))).await;
    drop(redis);
    until(async || node.peers.owner("b", true).await.is_err()).await;
    node.peers.owner("b", false).await.expect_err("nobody says");
    // What was there goes on being there.
    let held: Vec<_> = node.peers.held.lock().keys().cloned().collect();
    assert!(held.iter().any(|it| it.as_str() == "a") && held.iter().all(|it| it.as_str() != "b"));
}

/// Lets the first claim wait until it fails, and grants the others.
struct Fickle {
    /// Told that the first claim waits.
    waits: Notify,
    /// Makes it fail.
    fail: Notify,
    is_asked: AtomicBool,
}

#[async_trait]
impl Owners for Fickle {
    async fn claim(&self, _: &SessionName, _: Boot, _: Duration) -> Result<Claim, Unavailable> {
        if self.is_asked.swap(true, Ordering::Relaxed) {
            return Ok(Claim::Ours);
        }
        self.waits.notify_one();
        self.fail.notified().await;
        Err(Unavailable("it does not answer".to_owned()))
    }

    async fn owner(&self, _: &SessionName) -> Result<Option<Boot>, Unavailable> {
        Ok(None)
    }

    async fn keep(
        &self,
        _: &[SessionName],
        _: Boot,
        _: Duration,
    ) -> Result<Vec<SessionName>, Unavailable> {
        Ok(Vec::new())
    }

    async fn release(&self, _: &[SessionName], _: Boot) -> Result<(), Unavailable> {
        Ok(())
    }
}

#[tokio::test]
async fn a_claim_that_fails_takes_nothing_from_a_later_one_that_does_not() {
    let network = Network::new();
    let (node, _) = network.node(Store::Memory).await;
    let peers = Arc::into_inner(node.peers).expect("nobody else has it");
    let owners = Arc::new(Fickle {
        waits: Notify::new(),
        fail: Notify::new(),
        is_asked: AtomicBool::new(false),
    });
    let peers = Arc::new(Peers { owners: owners.clone(), ..peers });
    let failing = Arc::clone(&peers);
    let failing = tokio::spawn(async move { failing.owner("a", true).await });
    soon(owners.waits.notified()).await;
    assert_eq!(soon(peers.owner("a", true)).await, Ok(Owner::Us));
    owners.fail.notify_one();
    assert!(soon(failing).await.unwrap().is_err());
    assert_eq!(peers.held.lock().len(), 1, "the session that began is not kept");
}
