//! Gateways, notifier, RabbitMQ and Redis are killed one after the other while services send and half of the users
//! are away. In the end each message was acknowledged by its user's client, in order, and every repeat was
//! marked.
//!
//! At full size:
//!
//! ```text
//! FOOTBRIDGE_INBOX_USERS=500 FOOTBRIDGE_INBOX_MESSAGES=20 \
//!     cargo test --release -p footbridge --test inboxes killed -- --nocapture
//! ```

use std::time::Duration;

use proto::v1::inbox_client::InboxClient;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{CountInboxRequest, Durable, SendToUserRequest};
use testkit::checker::{InboxEvent, User};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::cluster::Cluster;
use crate::readers::{Notes, PATH, Readers, name};
use crate::support::cluster::text;
use crate::support::{PATIENCE, POLL};

/// How many send at a time, each to users of its own.
const SENDERS: usize = 16;

/// How long a call may take before it is made again.
const CALL: Duration = Duration::from_secs(5);

/// How long all may take behind the last fault.
const SETTLING: Duration = Duration::from_secs(120);

/// Sends `count` messages to each of `users`, one round after the other, and each message until it is stored.
async fn send(notes: Notes, channel: Channel, users: Vec<User>, count: usize) {
    let mut notifications = NotificationsClient::new(channel);
    for n in 0..count {
        for &user in &users {
            notes.note(InboxEvent::Sent { user, n });
            let request = SendToUserRequest {
                users: vec![name(user)],
                destination: PATH.to_owned(),
                message: Some(text(&n.to_string())),
                audience: None,
                durable: Some(Durable { idempotency_key: n.to_string(), ..Durable::default() }),
            };
            let begun = Instant::now();
            loop {
                let mut request = Request::new(request.clone());
                request.set_timeout(CALL);
                match notifications.send_to_user(request).await {
                    Ok(_) => break,
                    Err(status) => {
                        let later = [
                            Code::Unavailable,
                            Code::DeadlineExceeded,
                            Code::Cancelled,
                            Code::Unknown,
                        ];
                        assert!(later.contains(&status.code()), "{status:?}");
                        assert!(begun.elapsed() < PATIENCE, "{status:?}");
                        sleep(POLL).await;
                    }
                }
            }
            notes.note(InboxEvent::Stored { user, n });
        }
    }
}

/// What the environment says, or else `default`.
fn wanted(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_each_message_is_acknowledged_by_its_user_in_order_and_repeats_are_marked()
 {
    let users = wanted("FOOTBRIDGE_INBOX_USERS", 60);
    let each = wanted("FOOTBRIDGE_INBOX_MESSAGES", 20);
    let all = users * each;
    let mut cluster = Cluster::start().await;
    let notes = Notes::default();
    let mut readers = Readers::new(notes.clone(), &cluster.urls());
    // Every other user is away.
    (0..users).step_by(2).for_each(|user| readers.join(user));
    let begun = Instant::now();
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let users = (0..users).filter(|user| user % SENDERS == sender).collect();
        senders.spawn(send(notes.clone(), cluster.channel(), users, each));
    }
    let online = users.div_ceil(2) * each;
    for n in 0..3 {
        readers.wait_for(online * (n + 1) / 10, PATIENCE).await;
        cluster.kill_gateway(n).await;
    }
    readers.wait_for(online * 4 / 10, PATIENCE).await;
    cluster = cluster.kill_notifier().await;
    readers.wait_for(online * 5 / 10, PATIENCE).await;
    cluster.rabbitmq.kill();
    cluster.rabbitmq.start_again().await.unwrap();
    readers.wait_for(online * 6 / 10, PATIENCE).await;
    cluster.redis.kill();
    cluster.redis.start_again().await.unwrap();
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    let stored = begun.elapsed();
    // The others come.
    (1..users).step_by(2).for_each(|user| readers.join(user));
    readers.wait_for(all, SETTLING).await;
    let mut inbox = InboxClient::new(cluster.channel());
    let deadline = Instant::now() + SETTLING;
    for user in 0..users {
        let left = loop {
            let request = CountInboxRequest { user: name(user), destination: PATH.to_owned() };
            let count = inbox.count(request).await.unwrap().into_inner();
            let left = count.scheduled + count.pending + count.delivered + count.failed;
            if left == 0 || Instant::now() > deadline {
                break left;
            }
            sleep(POLL).await;
        };
        notes.note(InboxEvent::Left { user, messages: left });
    }
    readers.leave().await;
    let verdict = notes.history().judge();
    println!("stored after {stored:.1?}, all settled after {:.1?}: {verdict}", begun.elapsed());
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.stored, all);
    cluster.stop().await;
}
