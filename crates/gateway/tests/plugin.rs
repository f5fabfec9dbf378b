//! `compat = "rabbitmq"` against RabbitMQ's own STOMP plugin: both are told the same, and what they say
//! is compared where it is said to be the same.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use stomp::Compat;
use support::{Node, timeout};
use testkit::{Plugin, RabbitMq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that reads frames as text.
struct Client(TcpStream);

struct Said {
    command: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Client {
    async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn connect(address: SocketAddr, version: &str, heart_beat: &str) -> (Self, Said) {
        let mut client = Self::open(address).await;
        let frame = format!(
            "CONNECT\naccept-version:{version}\nheart-beat:{heart_beat}\nlogin:guest\n\
             passcode:guest\n\n\0"
        );
        client.send(&frame).await;
        let connected = client.frame().await;
        assert_eq!(connected.command, "CONNECTED");
        (client, connected)
    }

    async fn send(&mut self, frames: &str) {
        self.0.write_all(frames.as_bytes()).await.unwrap();
    }

    async fn frame(&mut self) -> Said {
        let mut frame = Vec::new();
        loop {
            match timeout(self.0.read_u8()).await.unwrap() {
                0 => break,
                b'\n' if frame.is_empty() => {}
                byte => frame.push(byte),
            }
        }
        let text = String::from_utf8(frame).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let command = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| line.split_once(':').unwrap());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Said { command, headers, body: body.to_owned() }
    }

    /// The next frame of that command, whatever comes before.
    async fn wait_for(&mut self, command: &str) -> Said {
        loop {
            let said = self.frame().await;
            if said.command == command {
                return said;
            }
            assert_ne!(said.command, "ERROR", "{:?} {}", said.headers, said.body);
        }
    }
}

/// The plugin's address, and that of a node with its manners.
async fn both() -> (RabbitMq, Node, [SocketAddr; 2]) {
    let rabbitmq = RabbitMq::options().plugin(Plugin::Stomp).start().await.unwrap();
    let config = gateway::Config { compat: Compat::RabbitMq, ..support::tcp::tcp_config() };
    let node = Node::start(config).await;
    let plugin = SocketAddr::from(([127, 0, 0, 1], rabbitmq.plugin_port(Plugin::Stomp)));
    let ours = node.stomp_address();
    (rabbitmq, node, [plugin, ours])
}

#[tokio::test]
async fn errors_heart_beats_and_messages_have_the_plugins_form() {
    let (_rabbitmq, _node, addresses) = both().await;

    for heart_beat in ["0,0", "4500,900", "1,60000", "10000,10000"] {
        let mut offered = Vec::new();
        for address in addresses {
            let (_, connected) = Client::connect(address, "1.2", heart_beat).await;
            offered.push(connected.headers["heart-beat"].clone());
        }
        assert_eq!(offered[0], offered[1], "{heart_beat}");
    }

    let send = |headers: &str| format!("SEND\n{headers}\n\nx\0");
    let subscribe = |headers: &str| format!("SUBSCRIBE\n{headers}\n\n\0");
    let twice = format!(
        "{}{}",
        subscribe("id:1\ndestination:/topic/a"),
        subscribe("id:1\ndestination:/topic/b")
    );
    let locked = subscribe("id:1\ndestination:/queue/locked");
    // Holds an exclusive queue meanwhile.
    let mut holders = Vec::new();
    for address in addresses {
        let (mut holder, _) = Client::connect(address, "1.2", "0,0").await;
        let queue = "id:1\ndestination:/queue/locked\ndurable:false\nexclusive:true\n\
                     auto-delete:true\nreceipt:r";
        holder.send(&subscribe(queue)).await;
        holder.wait_for("RECEIPT").await;
        holders.push(holder);
    }
    let mut differences = Vec::new();
    for (frames, title) in [
        (send("destination:/nope/a"), "Unknown destination"),
        (send("destination:/queue/a/b"), "Invalid destination"),
        (send("destination:/temp-queue/a"), "Invalid destination"),
        (send("x:y"), "Missing destination"),
        (subscribe("id:1"), "Missing destination"),
        (subscribe("id:1\ndestination:/nope/a"), "Unknown destination"),
        (subscribe("id:1\ndestination:/temp-queue/a"), "Invalid destination"),
        (subscribe("id:1\ndestination:/queue/a\nack:maybe"), "Processing error"),
        (subscribe("id:1\ndestination:/topic/a\ndurable:maybe"), "Processing error"),
        (subscribe("destination:/topic/a\ndurable:true"), "Missing Header"),
        (twice, "Duplicated subscription identifier"),
        ("COMMIT\ntransaction:t\n\n\0".to_owned(), "Bad transaction"),
        ("ABORT\ntransaction:t\n\n\0".to_owned(), "Bad transaction"),
        (send("destination:/queue/a\ntransaction:t"), "Bad transaction"),
        ("COMMIT\n\n\0".to_owned(), "Missing transaction"),
        ("BEGIN\n\n\0".to_owned(), "Missing transaction"),
        ("ACK\nx:y\n\n\0".to_owned(), "Missing header"),
        ("NACK\nx:y\n\n\0".to_owned(), "Missing header"),
        ("ACK\nmessage-id:T_1@@session-x@@1\n\n\0".to_owned(), "Subscription not found"),
        ("UNSUBSCRIBE\nx:y\n\n\0".to_owned(), "Missing destination or id"),
        (subscribe("id:/temp-queue/t\ndestination:/topic/a"), "Processing error"),
        (subscribe("id:1\ndestination:/queue/a\nprefetch-count:x"), "Processing error"),
        (subscribe("id:1\ndestination:/queue/a\nx-message-ttl:x"), "Processing error"),
        ("MESSAGE\n\n\0".to_owned(), "Bad command"),
        (subscribe("id:1\ndestination:/amq/queue/missing"), "not_found"),
        (locked, "resource_locked"),
    ] {
        // What names its subscription by `id` cannot go without one but in 1.0.
        let version = if frames.contains("\nid:") { "1.2" } else { "1.0" };
        let mut said = Vec::new();
        for address in addresses {
            let (mut client, _) = Client::connect(address, version, "0,0").await;
            client.send(&frames).await;
            let Said { command, headers, body } = client.frame().await;
            assert_eq!(command, "ERROR", "{frames:?} {headers:?} {body:?}");
            let header = |name: &str| headers.get(name).cloned();
            said.push((
                header("message"),
                header("version"),
                header("content-type"),
                body.ends_with('\n'),
            ));
        }
        if said[0] != said[1] || said[1].0.as_deref() != Some(title) {
            differences.push((frames, said));
        }
    }
    assert!(differences.is_empty(), "the plugin first: {differences:#?}");

    let mut refused = Vec::new();
    for (frame, title) in [
        ("SEND\ndestination:/queue/a\n\nx\0", "Illegal command"),
        ("CONNECT\naccept-version:3.0\n\n\0", "Version mismatch"),
    ] {
        for address in addresses {
            let mut client = Client::open(address).await;
            client.send(frame).await;
            let error = client.frame().await;
            refused.push((error.headers["message"].clone(), error.body.ends_with('\n')));
        }
        let (ours, plugins) = (refused.pop().unwrap(), refused.pop().unwrap());
        assert_eq!(plugins, ours, "{frame:?}");
        assert_eq!(ours.0, title);
    }

    for (subscribed, sent) in [
        ("/topic/a.*", "/topic/a.b"),
        ("/topic/c%2Fd", "/topic/c%2Fd"),
        ("/topic/gr\u{fc}n", "/topic/gr\u{fc}n"),
        ("/topic/100%", "/topic/100%"),
        ("/exchange/amq.topic/e.#", "/topic/e"),
        ("/queue/f", "/queue/f"),
        ("g", "/queue/g"),
        ("/queue/h%2Fi", "/queue/h%2Fi"),
    ] {
        let mut shown = Vec::new();
        for address in addresses {
            let (mut client, _) = Client::connect(address, "1.2", "0,0").await;
            let subscribe = subscribe(&format!("id:1\ndestination:{subscribed}\nreceipt:r"));
            client.send(&subscribe).await;
            client.wait_for("RECEIPT").await;
            client.send(&send(&format!("destination:{sent}"))).await;
            let mut message = client.wait_for("MESSAGE").await;
            let mut header = |name: &str| message.headers.remove(name);
            shown.push((header("destination"), header("redelivered"), header("subscription")));
        }
        assert_eq!(shown[0], shown[1], "the plugin first: {subscribed} {sent}");
    }
}

#[tokio::test]
async fn an_ack_covers_what_the_plugins_does_and_answers_come_as_from_it() {
    let (_rabbitmq, _node, addresses) = both().await;
    let mut left = Vec::new();
    for address in addresses {
        let (mut client, _) = Client::connect(address, "1.2", "0,0").await;
        for queue in ["a", "b"] {
            client
                .send(&format!(
                    "SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}\nack:client\nreceipt:r\n\n\0"
                ))
                .await;
            client.wait_for("RECEIPT").await;
        }
        let mut last = String::new();
        for (queue, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
            client.send(&format!("SEND\ndestination:/queue/{queue}\n\n{body}\0")).await;
            let mut message = client.wait_for("MESSAGE").await;
            if body == "2" {
                last = message.headers.remove("ack").unwrap();
            }
        }
        client.send(&format!("ACK\nid:{last}\n\n\0DISCONNECT\nreceipt:bye\n\n\0")).await;
        client.wait_for("RECEIPT").await;
        let (mut next, _) = Client::connect(address, "1.2", "0,0").await;
        next.send("SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0").await;
        let message = next.wait_for("MESSAGE").await;
        left.push((message.body, message.headers["redelivered"].clone()));
    }
    assert_eq!(left[0], left[1], "the plugin first");
    assert_eq!(left[0], ("3".to_owned(), "true".to_owned()));

    let mut answers = Vec::new();
    for address in addresses {
        let (mut asking, _) = Client::connect(address, "1.2", "0,0").await;
        let (mut worker, _) = Client::connect(address, "1.2", "0,0").await;
        asking.send("SEND\ndestination:/queue/work\nreply-to:/temp-queue/t\n\nq\0").await;
        worker.send("SUBSCRIBE\nid:1\ndestination:/queue/work\n\n\0").await;
        let mut question = worker.wait_for("MESSAGE").await;
        let reply_to = question.headers.remove("reply-to").unwrap();
        worker.send(&format!("SEND\ndestination:{reply_to}\n\nanswer\0")).await;
        let answer = asking.wait_for("MESSAGE").await;
        let queue = reply_to.strip_prefix("/reply-queue/").unwrap();
        assert_eq!(answer.headers["destination"], format!("/queue/{queue}"));
        answers.push((answer.headers["subscription"].clone(), answer.body));
    }
    assert_eq!(answers[0], answers[1], "the plugin first");
}
