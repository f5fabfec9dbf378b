//! How a node that stops takes leave of its clients.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use access::rules::Config as Rules;
use async_trait::async_trait;
use broker::Outcome;
use futures_util::StreamExt;
use gateway::Config;
use gateway::application::{Answer, Application, Call, CallError, Content, To};
use stomp::{Command, header};
use support::tcp::{TcpClient, tcp_config};
use support::{Client, Node, config, recorder, timeout};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

const CLOSED: &str = "gateway_sessions_closed_total{reason=\"drain\"}";

/// Several SENDs at once, with the receipts 0, 1, ...
fn sends(count: usize) -> String {
    let send = |n| format!("SEND\ndestination:/queue/q\nreceipt:{n}\n\nbody\0");
    (0..count).map(send).collect()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn is_sent_away(client: &mut Client) {
    let close = client.frame_or_close().await.expect_err("a close, and no frame before it");
    assert_eq!(close, Some(1001));
}

#[tokio::test]
async fn what_was_read_is_published_confirmed_and_receipted_before_the_close() {
    let (mut node, recorder) = recorder::start(Config { max_unconfirmed: 2, ..config() }).await;
    recorder.hold_confirms();
    let (mut busy, mut idle) = (node.connect().await, node.connect().await);
    busy.send_text(&sends(5)).await;
    until("two are published", || recorder.published() == 2).await;
    node.stop();
    is_sent_away(&mut idle).await;
    assert_eq!(node.metric("gateway_draining"), 1.0);
    assert_eq!(node.metric("gateway_sessions"), 2.0);
    // Nothing more is read of it.
    busy.publish("/queue/q", "too late").await;
    for published in [2, 4, 5] {
        until("the next are published", || recorder.published() == published).await;
        recorder.confirm();
    }
    for n in 0..5 {
        let receipt = busy.frame().await;
        assert_eq!(receipt.command, Command::Receipt);
        assert_eq!(receipt.header(header::RECEIPT_ID).unwrap(), &n.to_string());
    }
    is_sent_away(&mut busy).await;
    assert_eq!(node.metric(CLOSED), 2.0);
    drop((busy, idle));
    node.stopped().await;
    assert_eq!(recorder.published(), 5);
}

#[tokio::test]
async fn without_websocket_it_is_the_same() {
    let (mut node, recorder) = recorder::start(tcp_config()).await;
    recorder.hold_confirms();
    let mut busy = TcpClient::connect(&node).await;
    let mut idle = TcpClient::connect(&node).await;
    busy.send(sends(2)).await;
    until("both are published", || recorder.published() == 2).await;
    node.stop();
    assert_eq!(idle.rest().await.unwrap(), b"");
    recorder.confirm();
    busy.receipt("0").await;
    busy.receipt("1").await;
    assert_eq!(busy.rest().await.unwrap(), b"");
    drop((busy, idle));
    node.stopped().await;
}

#[tokio::test]
async fn a_transaction_that_was_committed_is_whole() {
    let (mut node, recorder) = recorder::start(Config { max_unconfirmed: 1, ..config() }).await;
    recorder.hold_confirms();
    let mut client = node.connect().await;
    let send = "SEND\ndestination:/queue/q\ntransaction:t\n\nbody\0";
    client
        .send_text(&format!(
            "BEGIN\ntransaction:t\n\n\0{}COMMIT\ntransaction:t\nreceipt:c\n\n\0",
            send.repeat(3)
        ))
        .await;
    until("the first is published", || recorder.published() == 1).await;
    node.stop();
    for published in 1..=3 {
        until("the next is published", || recorder.published() == published).await;
        recorder.confirm();
    }
    assert_eq!(client.frame().await.header(header::RECEIPT_ID).unwrap(), "c");
    is_sent_away(&mut client).await;
    drop(client);
    node.stopped().await;
}

#[tokio::test]
async fn a_confirm_that_does_not_come_is_waited_for_until_the_last_call() {
    let drain = Duration::from_secs(4);
    let (mut node, recorder) = recorder::start(Config { drain, ..config() }).await;
    recorder.hold_confirms();
    let mut client = node.connect().await;
    client.send_text(&sends(1)).await;
    until("it is published", || recorder.published() == 1).await;
    let begun = Instant::now();
    node.stop();
    is_sent_away(&mut client).await;
    assert!(begun.elapsed() >= drain * 3 / 4, "{:?}", begun.elapsed());
    drop(client);
    node.stopped().await;
}

#[tokio::test]
async fn deliveries_that_are_written_are_settled_and_what_waits_for_an_ack_goes_back() {
    let (mut node, recorder) = recorder::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe_with("a", "/queue/a", &[("ack", "auto")]).await;
    client.subscribe_with("c", "/queue/c", &[("ack", "client")]).await;
    for index in recorder.live() {
        recorder.deliver(index, recorder::to("/queue/any", "body"));
        assert_eq!(client.body().await, "body");
    }
    client.send_text(&sends(1)).await;
    assert_eq!(client.frame().await.command, Command::Receipt);
    assert_eq!(recorder.settled(), [(0, Outcome::Ack)]);
    node.stop();
    is_sent_away(&mut client).await;
    drop(client);
    node.stopped().await;
    assert_eq!(recorder.settled(), [(1, Outcome::Requeue)]);
}

#[tokio::test]
async fn a_queue_gives_nothing_to_a_session_that_waits_for_a_confirm_and_a_topic_does() {
    let (mut node, recorder) = recorder::start(config()).await;
    let mut client = node.connect().await;
    client.subscribe("q", "/queue/q").await;
    client.subscribe("t", "/topic/t").await;
    let [queue, topic] = recorder.live().collect::<Vec<_>>()[..] else { panic!("two") };
    recorder.hold_confirms();
    let mut idle = node.connect().await;
    client.send_text(&sends(1)).await;
    until("it is published", || recorder.published() == 1).await;
    node.stop();
    is_sent_away(&mut idle).await;
    recorder.deliver(queue, recorder::to("/queue/q", "for another"));
    recorder.deliver(topic, recorder::to("/topic/t", "still here"));
    assert_eq!(client.body().await, "still here");
    recorder.confirm();
    assert_eq!(client.frame().await.command, Command::Receipt);
    is_sent_away(&mut client).await;
    drop((client, idle));
    node.stopped().await;
    assert!(recorder.settled().contains(&(0, Outcome::Requeue)));
}

#[tokio::test]
async fn clients_are_let_in_until_notice_was_given() {
    let drain_notice = Duration::from_secs(3);
    let mut node = Node::start(Config { drain_notice, ..config() }).await;
    let mut resident = node.connect().await;
    let begun = Instant::now();
    node.stop();
    node.wait_for_metric("gateway_draining", 1.0).await;
    let mut newcomer = node.connect().await;
    newcomer.publish_confirmed("/queue/q", "as ever").await;
    assert!(begun.elapsed() < drain_notice, "too slow a machine for this test");
    for client in [&mut resident, &mut newcomer] {
        is_sent_away(client).await;
        assert!(begun.elapsed() >= drain_notice);
    }
    assert!(tokio::net::TcpStream::connect(node.address).await.is_err());
    drop((resident, newcomer));
    node.stopped().await;
}

#[tokio::test]
async fn many_are_closed_in_batches() {
    let mut node = Node::start(config()).await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(node.connect().await);
    }
    let begun = Instant::now();
    node.stop();
    let mut ends = Vec::new();
    for client in &mut clients {
        is_sent_away(client).await;
        ends.push(begun.elapsed());
    }
    let last = ends.iter().max().unwrap();
    // Three batches, 100 ms apart.
    assert!(*last >= Duration::from_millis(200), "{last:?}");
    drop(clients);
    node.stopped().await;
}

/// Answers once there is a permit.
struct Slow(Semaphore);

#[async_trait]
impl Application for Slow {
    async fn message(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        self.0.acquire().await.unwrap().forget();
        let content = Content::new(Vec::new(), call.body);
        Ok(vec![Answer { to: To::Session("/queue/any".into()), content }])
    }

    async fn subscribe(&self, call: Call) -> Result<Vec<Content>, CallError> {
        Err(CallError::NoHandler { destination: call.destination, hint: "" })
    }
}

#[tokio::test]
async fn what_the_application_was_asked_is_answered_to_sessions_of_both_kinds() {
    let slow = Arc::new(Slow(Semaphore::new(0)));
    let access = access::Config { rules: Rules::Open, ..access::Config::default() };
    let application: Arc<dyn Application> = Arc::<Slow>::clone(&slow);
    let mut node = Node::start_plain(application, access, gateway::plain::Config::default()).await;
    let at = std::net::Ipv4Addr::LOCALHOST;
    let mut plain = node.open_from(at, "/plain", &[]).await.unwrap();
    let mut stomp = node.connect().await;
    let mut idle = node.connect().await;
    stomp.subscribe("u", "/user/queue/any").await;
    stomp.send_text("SEND\ndestination:/app/x\nreceipt:r\n\nstomp\0").await;
    plain.send_text("plain").await;
    node.wait_for_metric("gateway_frames_received_total{command=\"SEND\"}", 1.0).await;
    node.wait_for_metric("gateway_sessions", 3.0).await;
    // The call of the session without STOMP is not counted; its bytes are.
    let received = "gateway_received_bytes_total";
    until("it is read", || node.metric(received) >= 100.0).await;
    node.stop();
    is_sent_away(&mut idle).await;
    slow.0.add_permits(2);
    assert_eq!(stomp.body().await, "stomp");
    assert_eq!(stomp.frame().await.command, Command::Receipt);
    is_sent_away(&mut stomp).await;
    let text = timeout(plain.socket.next()).await.unwrap().unwrap();
    assert_eq!(text, Message::text("plain"));
    let close = timeout(plain.socket.next()).await.unwrap().unwrap();
    assert!(matches!(&close, Message::Close(Some(frame)) if u16::from(frame.code) == 1001));
    drop((plain, stomp, idle));
    node.stopped().await;
}
