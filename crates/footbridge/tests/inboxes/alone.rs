//! One node, which stores on disk, is killed while services send: what was answered is there.
//!
//! At full size:
//!
//! ```text
//! FOOTBRIDGE_INBOX_SENDS=10000 cargo test --release -p footbridge --test inboxes alone -- --nocapture
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{Durable, SendToUserRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::support::cluster::{owned, text};
use crate::support::session::Session;
use crate::support::{Node, POLL, Settings};

/// How many send at a time.
const SENDERS: usize = 32;

/// How often the node is killed.
const KILLS: usize = 3;

async fn node(directory: &Path) -> Node {
    let directory = directory.to_str().unwrap();
    let ports = ["--listen", "--admin", "--grpc"].map(|port| [port, "127.0.0.1:0"]).concat();
    let arguments = [&["dev", "--data", directory], &ports[..]].concat();
    let node = Settings::of(&arguments).set("inbox.max_messages", "100000").start().await;
    node.wait_ready().await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_alone_has_answered_is_there_after_it_was_killed() {
    let all = std::env::var("FOOTBRIDGE_INBOX_SENDS").map_or(1_500, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    let mut answered = BTreeSet::new();
    for kill in 0..KILLS {
        let mut node = node(directory.path()).await;
        let channel = Channel::from_shared(node.grpc().await).unwrap().connect_lazy();
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send(NotificationsClient::new(channel.clone()), Arc::clone(&next)));
        }
        while next.load(Ordering::Relaxed) < all * (kill + 1) / KILLS {
            tokio::time::sleep(POLL).await;
        }
        node.kill().await;
        while let Some(sent) = senders.join_next().await {
            answered.extend(sent.unwrap());
        }
    }
    let mut node = node(directory.path()).await;
    let mut ann = Session::subscribed(&node.websocket().await, "ann").await;
    let mut service =
        NotificationsClient::new(Channel::from_shared(node.grpc().await).unwrap().connect_lazy());
    service.send_to_user(durable("last")).await.unwrap();
    let mut came = BTreeSet::new();
    loop {
        let (_, body) = ann.next().await;
        if body == "last" {
            break;
        }
        assert!(came.insert(body.parse::<usize>().unwrap()), "{body} came twice");
    }
    let lost: Vec<_> = answered.difference(&came).collect();
    assert!(lost.is_empty(), "{lost:?}");
    println!("{} answered, {} came, killed {KILLS} times", answered.len(), came.len());
    node.stop().await;
}

fn durable(body: &str) -> SendToUserRequest {
    SendToUserRequest {
        users: owned(&["ann"]),
        destination: "/queue/x".to_owned(),
        message: Some(text(body)),
        durable: Some(Durable::default()),
        ..SendToUserRequest::default()
    }
}

/// Sends until the node is gone: what was answered.
async fn send(mut service: NotificationsClient<Channel>, next: Arc<AtomicUsize>) -> Vec<usize> {
    let mut answered = Vec::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        match service.send_to_user(durable(&n.to_string())).await {
            Ok(_) => answered.push(n),
            Err(_) => return answered,
        }
    }
}
