//! Connections come to their end without harm to the calls of their callers.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use futures_util::stream;
use notifier::Config;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::publish_stream_response::Outcome;
use support::{Node, config, patiently, text};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// However its connections age, a caller is refused nothing: each next call goes by a connection that
/// has time left. What the client has in its hands just when its connection is told to end it may give
/// back unsent, as cancelled, once for each connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_channel_outlives_its_connections() {
    const AGES: u32 = 4;
    let age = Duration::from_secs(1);
    let config = Config { max_connection_age: age, ..config() };
    let node = Node::start_with(config, broker_embedded::Config::default()).await;
    let mut client = node.client.clone();
    let (start, mut unsent) = (Instant::now(), 0);
    while start.elapsed() < AGES * age {
        let alone = patiently(client.publish(text("/topic/a", "alone"))).await.map(drop);
        let streamed = patiently(streamed(&mut client)).await;
        for failed in [alone, streamed].into_iter().filter_map(Result::err) {
            assert!(is_unsent(&failed), "{:?}: {failed:?}", start.elapsed());
            unsent += 1;
        }
    }
    assert!(unsent <= AGES, "{unsent} calls failed");
}

/// Whether the client gave the call back because its connection was told to end: as cancelled or, where it
/// had begun to write it, as an end without an error.
fn is_unsent(failed: &Status) -> bool {
    let told_to_end = || format!("{failed:?}").contains("GoAway(b\"\", NO_ERROR, Remote)");
    failed.code() == Code::Cancelled || (failed.code() == Code::Internal && told_to_end())
}

/// Publishes by a stream of its own.
async fn streamed(client: &mut NotificationsClient<Channel>) -> Result<(), Status> {
    let requests = stream::iter([text("/topic/a", "streamed")]);
    let mut answers = client.publish_stream(requests).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.outcome);
    assert!(matches!(answer, Some(Outcome::Published(_))), "{answer:?}");
    Ok(())
}

/// Callers behind it wait no longer than a caller has to begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_makes_way_for_others() {
    let config = Config { max_connections: 1, ..config() };
    let node = Node::start_with(config, broker_embedded::Config::default()).await;
    let mut silent = TcpStream::connect(node.address).await.unwrap();
    let mut client = node.client.clone();
    // Waits for the only place.
    patiently(client.publish(text("/topic/a", "at last"))).await.unwrap();
    // What the server says first, and then its end.
    let _ = patiently(silent.read_to_end(&mut Vec::new())).await;
}
