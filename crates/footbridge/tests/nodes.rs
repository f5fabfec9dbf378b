//! `footbridge gateway` and `footbridge notifier` with a real RabbitMQ: what operators see of it
//! coming and going, and messages from node to node.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use support::{Command, Outcome, Settings};
use testkit::{RabbitMq, rabbitmq};
use tokio::time::Instant;

/// A namespace of a test's own, lest nodes of other tests at the same RabbitMQ hear its messages; and
/// exchanges of its own.
fn cluster(settings: Settings, uri: &str, name: &str) -> Settings {
    settings
        .set("rabbitmq.uris", uri)
        .set("rabbitmq.namespace", name)
        .set("rabbitmq.topic_exchange", &format!("{name}.topic"))
}

fn send(url: &str, destination: &str, body: &str) -> Settings {
    Settings::of(&["send", "--url", url, destination, body])
}

fn publish(url: &str, destination: &str, body: &str) -> Settings {
    Settings::of(&["send", "--grpc", url, destination, body])
}

/// Sends again and again until `listener`, whose SUBSCRIBE may not be in force yet, has heard it.
async fn send_until_heard(message: &Settings, mut listener: Command) -> Outcome {
    while listener.is_running() {
        let sent = message.clone().run().await;
        assert_eq!(sent.code, 0, "{}", sent.err);
    }
    listener.ended().await
}

#[tokio::test]
async fn a_gateway_outlives_rabbitmq_and_says_how_it_is() {
    let mut rabbitmq = RabbitMq::start().await.unwrap();
    rabbitmq.stop().await;
    let uri = rabbitmq.uri();
    let mut gateway = Settings::gateway()
        .set("rabbitmq.uris", &uri)
        .set("access.rules", "open")
        .set("gateway.drain", "2s")
        .start()
        .await;

    // None at the start: live, not ready, and says so wherever one looks.
    assert_eq!(gateway.get("/livez").await, (200, "live".to_owned()));
    let place = format!("cannot connect to RabbitMQ at 127.0.0.1:{}", rabbitmq.port());
    gateway.wait_readyz(503, &format!("not ready: broker: {place}")).await;
    gateway.wait_log(&place).await;
    assert_eq!(gateway.metric("broker_connected").await, 0.0);

    // Who connects meanwhile is served: its message waits.
    let url = gateway.websocket().await;
    let mut waiting = send(&url, "/queue/outage", "patience").spawn();
    gateway.wait_metric("gateway_frames_received_total{command=\"SEND\"}", 1.0).await;
    assert!(waiting.is_running());

    // It comes.
    rabbitmq.start_again().await.unwrap();
    gateway.wait_ready().await;
    gateway.wait_log("ready: the broker is there").await;
    let sent = waiting.ended().await;
    assert_eq!(sent.code, 0, "{}", sent.err);
    let heard = Settings::of(&["listen", "--url", &url, "-n", "1", "/queue/outage"]).run().await;
    assert_eq!(heard.out, "patience\n");
    assert_eq!(gateway.metric("broker_connected").await, 1.0);

    // It goes: degraded, which load balancers take for ready.
    rabbitmq.kill();
    gateway.wait_readyz(200, "degraded: broker: ").await;
    assert_eq!(gateway.metric("broker_connected").await, 0.0);

    // SIGTERM while a client waits for RabbitMQ: unready at once, and over within its bounds.
    let cut_off = send(&url, "/queue/outage", "in vain").spawn();
    gateway.wait_metric("gateway_frames_received_total{command=\"SEND\"}", 2.0).await;
    let told = Instant::now();
    gateway.terminate();
    gateway.wait_readyz(503, "draining").await;
    gateway.stop().await;
    // 2 s for sessions and 3 s for RabbitMQ, and some for a busy machine.
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    assert_eq!(cut_off.ended().await.code, 1);
}

#[tokio::test]
async fn what_rabbitmq_refuses_is_named_without_the_password() {
    let port = rabbitmq().await.port();
    for (uri, reason) in [
        (format!("amqp://guest:se%2fcret@127.0.0.1:{port}/%2f"), "ACCESS_REFUSED"),
        (format!("amqp://guest:guest@127.0.0.1:{port}/nowhere"), "nowhere"),
    ] {
        for settings in [Settings::gateway(), Settings::notifier()] {
            let node = settings.set("rabbitmq.uris", &uri).start().await;
            let place =
                format!("not ready: broker: cannot connect to RabbitMQ at 127.0.0.1:{port}");
            let body = node.wait_readyz(503, &place).await;
            assert!(body.contains(reason), "{body}");
            node.wait_log(reason).await;
            assert!(!node.log().contains("cret"), "{}", node.log());
            node.stop().await;
        }
    }
}

#[tokio::test]
async fn messages_reach_clients_of_every_node() {
    let uri = rabbitmq().await.uri();
    let of = |settings| cluster(settings, &uri, "everywhere");
    let mut a = of(Settings::gateway()).set("access.rules", "open").start().await;
    let mut b = of(Settings::gateway()).start().await;
    let mut notifier = of(Settings::notifier()).start().await;
    for node in [&a, &b, &notifier] {
        node.wait_ready().await;
    }
    let (a_url, b_url) = (a.websocket().await, b.websocket().await);
    let grpc = notifier.grpc().await;
    for (topic, message) in [
        ("/topic/grpc", publish(&grpc, "/topic/grpc", "hello")),
        ("/topic/stomp", send(&a_url, "/topic/stomp", "hello")),
    ] {
        let listener = Settings::of(&["listen", "--url", &b_url, "-n", "1", topic]).spawn();
        let heard = send_until_heard(&message, listener).await;
        assert_eq!((heard.code, &*heard.out), (0, "hello\n"), "{topic}: {}", heard.err);
    }
    assert!(notifier.metric("notifier_publishes_total{outcome=\"confirmed\"}").await >= 1.0);
    for node in [a, b, notifier] {
        node.stop().await;
    }
}

#[tokio::test]
async fn the_port_for_other_gateways_is_for_nobody_else() {
    let uri = rabbitmq().await.uri();
    let of = |settings: Settings| {
        cluster(settings, &uri, "forwarding")
            .set("cluster.secret", "a secret that is long enough: 32 bytes")
    };
    let settings = of(Settings::gateway()).set("cluster.listen", "127.0.0.1:0");
    let mut gateway = settings.start().await;
    let forwarding = gateway.forwarding().await;
    let refused = "gateway_forwarded_requests_refused_total{reason=\"unsigned\"}";
    for count in 1..3 {
        assert_eq!(support::get(forwarding, "/ws").await.0, 403);
        gateway.wait_metric(refused, count.into()).await;
    }
    gateway.wait_log("is refused").await;
    let other = of(Settings::gateway()).set("cluster.listen", &forwarding.to_string());
    let other = other.run().await;
    assert_eq!(other.code, 1, "{}", other.err);
    assert!(other.err.contains("cluster.listen"), "{}", other.err);
    // Nobody who says nothing there holds it up.
    let _idle = tokio::net::TcpStream::connect(forwarding).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_node_that_is_killed_leaves_the_others_alone() {
    let uri = rabbitmq().await.uri();
    let of = |settings| cluster(settings, &uri, "killed");
    let a = of(Settings::gateway()).start().await;
    let mut b = of(Settings::gateway()).start().await;
    let mut notifier = of(Settings::notifier()).start().await;
    for node in [&a, &b, &notifier] {
        node.wait_ready().await;
    }
    a.kill().await;
    let (url, grpc) = (b.websocket().await, notifier.grpc().await);
    let listener = Settings::of(&["listen", "--url", &url, "-n", "1", "/topic/news"]).spawn();
    let heard = send_until_heard(&publish(&grpc, "/topic/news", "still here"), listener).await;
    assert_eq!(heard.out, "still here\n");
    b.stop().await;
    notifier.stop().await;
}

#[tokio::test]
async fn by_default_clients_may_listen_to_topics_only() {
    let uri = rabbitmq().await.uri();
    let mut gateway = cluster(Settings::gateway(), &uri, "rules").start().await;
    let url = gateway.websocket().await;
    for (refused, what) in [
        (send(&url, "/topic/news", "x"), "SEND to /topic/news"),
        (send(&url, "/queue/q", "x"), "SEND to /queue/q"),
        (Settings::of(&["listen", "--url", &url, "/queue/q"]), "SUBSCRIBE to /queue/q"),
    ] {
        let refused = refused.run().await;
        assert_eq!(refused.code, 1);
        let text = format!("the server says: {what} is not allowed");
        assert!(refused.err.contains(&text), "{}", refused.err);
        assert!(refused.err.contains("access.rules = \"open\""), "{}", refused.err);
    }
    gateway.wait_ready().await;
    assert!(gateway.metric("gateway_sessions_closed_total{reason=\"forbidden\"}").await >= 3.0);
    gateway.stop().await;
}
