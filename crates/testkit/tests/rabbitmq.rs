//! A RabbitMQ of one's own: it starts, dies, comes back with what was durable, and leaves nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use testkit::{Plugin, RabbitMq, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connect(broker: &RabbitMq) -> Connection {
    Connection::connect(&broker.uri(), ConnectionProperties::default()).await.unwrap()
}

/// Declares a durable queue and puts one persistent, confirmed message into it.
async fn store_one(broker: &RabbitMq, queue: &str) {
    let connection = connect(broker).await;
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirm =
        channel.basic_publish("".into(), queue.into(), options, b"kept", persistent).await.unwrap();
    assert!(confirm.await.unwrap().is_ack());
}

/// Waits until the broker lists this queue alone, with one message: under load the first answer of
/// a node that has just recovered was once another.
async fn has_one(broker: &RabbitMq, queue: &str) {
    let (expected, deadline) = (format!("{queue}\t1\n"), Instant::now() + Duration::from_secs(30));
    let list = ["list_queues", "--no-table-headers", "name", "messages"];
    let mut listed = broker.ctl(&list).await.unwrap();
    while listed != expected && Instant::now() < deadline {
        listed = broker.ctl(&list).await.unwrap();
    }
    assert_eq!(listed, expected);
}

/// Sends `request` and returns the first bytes of the answer.
async fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// The private directory of a running node: the home in its environment.
fn directory(pid: u32) -> PathBuf {
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    environment.split('\0').find_map(|line| line.strip_prefix("HOME=")).unwrap().into()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

#[tokio::test]
async fn what_is_durable_survives_a_kill_and_a_stop() {
    let mut broker = RabbitMq::start().await.unwrap();
    let uri = broker.uri();
    assert!(matches!(broker.start_again().await, Err(StartError::Running { .. })));
    store_one(&broker, "kept").await;
    let first = broker.pid().unwrap();

    broker.kill();
    assert_eq!(broker.pid(), None);
    assert_eq!(broker.resident_memory(), None);
    assert!(!Path::new(&format!("/proc/{first}")).exists());
    assert!(TcpStream::connect(("127.0.0.1", broker.port())).await.is_err());

    broker.start_again().await.unwrap();
    assert_ne!(broker.pid().unwrap(), first);
    assert_eq!(broker.uri(), uri);
    has_one(&broker, "kept").await;

    broker.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", broker.port())).await.is_err());
    broker.start_again().await.unwrap();
    has_one(&broker, "kept").await;
}

#[tokio::test]
async fn plugins_and_configuration_are_in_force() {
    let broker = RabbitMq::options()
        .plugin(Plugin::Stomp)
        .plugin(Plugin::WebStomp)
        .plugin(Plugin::Management)
        .config("channel_max = 77")
        .start()
        .await
        .unwrap();

    let connect_frame = "CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0";
    let answer = ask(broker.plugin_port(Plugin::Stomp), connect_frame).await;
    assert!(answer.starts_with("CONNECTED\n"), "{answer}");

    let upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v12.stomp\r\n\r\n";
    let answer = ask(broker.plugin_port(Plugin::WebStomp), upgrade).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");

    let overview = "GET /api/overview HTTP/1.1\r\nHost: localhost\r\n\
        Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n";
    let answer = ask(broker.plugin_port(Plugin::Management), overview).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    assert_eq!(connect(&broker).await.configuration().channel_max(), 77);
}

#[tokio::test]
async fn an_alarm_blocks_publishers_until_it_is_cleared() {
    let mut broker = RabbitMq::start().await.unwrap();
    let connection = connect(&broker).await;
    let channel = connection.create_channel().await.unwrap();
    let publish = async || {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("amq.topic".into(), "k".into(), options, b"m", properties).await
    };

    broker.alarm(true).await.unwrap();
    // The broker tells a connection when it next publishes.
    publish().await.unwrap();
    until("the connection is blocked", || connection.status().blocked()).await;

    broker.alarm(false).await.unwrap();
    until("the connection is unblocked", || !connection.status().blocked()).await;
    assert_eq!(broker.ctl(&["eval", "rabbit_alarm:get_alarms()."]).await.unwrap(), "[]\n");
}

#[tokio::test]
async fn a_dropped_broker_leaves_nothing_behind() {
    let broker = RabbitMq::start().await.unwrap();
    let pid = broker.pid().unwrap();
    let directory = directory(pid);
    assert!(directory.join("mnesia").is_dir());

    drop(broker);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_broker_ends_with_a_process_that_is_killed() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_testkit"))
        .arg("rabbitmq")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: u32 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let directory = directory(pid);

    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the directory is gone", || !directory.exists()).await;
    // Gone, or a zombie whose new parent has not yet looked: it has no command line either way.
    let command_line = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    until("the node is gone", || command_line().is_empty()).await;
}

#[tokio::test]
async fn a_node_that_refuses_its_configuration_says_why() {
    let error = RabbitMq::options().config("no_such_key = 1").start().await.unwrap_err();
    assert!(matches!(error, StartError::Exited { server: "rabbitmq", .. }), "{error}");
    assert!(error.to_string().contains("no_such_key"), "{error}");
}

#[tokio::test]
async fn a_failed_command_says_what_it_printed() {
    let error = testkit::rabbitmq().await.ctl(&["delete_queue", "absent"]).await.unwrap_err();
    assert!(error.to_string().contains("rabbitmqctl --quiet delete_queue absent"), "{error}");
    assert!(error.to_string().to_lowercase().contains("not found"), "{error}");
}

#[test]
fn all_runtimes_of_a_process_share_one_broker() {
    let on_its_own_runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let broker = testkit::rabbitmq().await;
            connect(broker).await;
            broker.pid().unwrap()
        })
    };
    assert_eq!(on_its_own_runtime(), on_its_own_runtime());
}
