//! The `footbridge` command as processes: nodes that serve, and commands that end by themselves.
//!
//! What always holds: a process sees no variable of the test's environment but what it is given; it
//! listens on free ports of 127.0.0.1; it is gone when its value is dropped, and also when the test
//! process ends in any other way, `kill -9` included.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

pub(crate) mod cluster;
mod guarded;
pub(crate) mod session;
pub(crate) mod traffic;

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use guarded::Guarded;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Longer than anything here takes on a busy machine; reached only when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is looked at that nothing announces.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Says where Redis is.
const REDIS: &str = "FOOTBRIDGE_REDIS__URLS";

/// What a process is started with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Settings {
    /// `footbridge gateway` on free ports.
    pub(crate) fn gateway() -> Self {
        let gateway = Self::of(&["gateway", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        // No load balancer has to notice that it stops.
        gateway.set("gateway.drain_notice", "0s")
    }

    /// `footbridge notifier` on free ports.
    pub(crate) fn notifier() -> Self {
        Self::of(&["notifier", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
    }

    /// `footbridge dev` on free ports, which keeps what waits for users in memory.
    pub(crate) fn dev() -> Self {
        let ports = ["--listen", "--admin", "--grpc"].map(|port| [port, "127.0.0.1:0"]);
        let dev = Self::of(&[&["dev"], ports.concat().as_slice()].concat());
        dev.set("inbox.store", "memory")
    }

    /// Any command, such as `&["send", "/topic/a", "hello"]`.
    pub(crate) fn of(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { arguments, variables: Vec::new() }
    }

    /// Gives a key of the configuration a value: `set("rabbitmq.uris", uri)`.
    #[must_use]
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        let (section, key) = key.split_once('.').unwrap();
        self.variable(&format!("FOOTBRIDGE_{section}__{key}").to_uppercase(), value)
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a node and returns when it has said where it listens. It need not be ready by then. One of a
    /// cluster that was given no Redis gets the one that all tests of the process share.
    pub(crate) async fn start(mut self) -> Node {
        let is_given = self.variables.iter().any(|(name, _)| name == REDIS);
        if !is_given && matches!(&*self.arguments[0], "gateway" | "notifier") {
            self = self.variable(REDIS, &testkit::redis().await.uri());
        }
        let mut process = Guarded::start(&self.arguments, &self.variables);
        let admin = process.said("Admin").await;
        let admin = admin.strip_prefix("http://").and_then(|url| url.split('/').next());
        Node { admin: admin.unwrap().parse().unwrap(), process }
    }

    /// Starts a command that ends by itself.
    pub(crate) fn spawn(self) -> Command {
        Command { process: Guarded::start(&self.arguments, &self.variables) }
    }

    /// Runs a command to its end.
    pub(crate) async fn run(self) -> Outcome {
        self.spawn().ended().await
    }
}

/// A process that serves until it is told to stop.
pub(crate) struct Node {
    pub(crate) admin: SocketAddr,
    process: Guarded,
}

impl Node {
    /// Where clients connect: `ws://127.0.0.1:PORT/ws`.
    pub(crate) async fn websocket(&mut self) -> String {
        self.process.said("WebSocket").await
    }

    /// Where clients connect without WebSocket: `127.0.0.1:PORT`.
    pub(crate) async fn stomp(&mut self) -> String {
        let url = self.process.said("STOMP").await;
        url.strip_prefix("tcp://").unwrap().to_owned()
    }

    /// Where other gateways hand requests over: `127.0.0.1:PORT`.
    pub(crate) async fn forwarding(&mut self) -> SocketAddr {
        let url = self.process.said("Forwarding").await;
        url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Where services connect: `http://127.0.0.1:PORT`.
    pub(crate) async fn grpc(&mut self) -> String {
        self.process.said("gRPC").await
    }

    /// Status and body of a page of the admin port, such as `/readyz`.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await
    }

    /// Waits until it is ready.
    pub(crate) async fn wait_ready(&self) {
        self.wait_readyz(200, "ready").await;
    }

    /// Waits until `/readyz` answers `status` with a body that begins with `text`; returns the body.
    pub(crate) async fn wait_readyz(&self, status: u16, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (now, body) = self.get("/readyz").await;
            if now == status && body.starts_with(text) {
                return body;
            }
            let log = || self.process.log();
            assert!(Instant::now() < deadline, "not {status} {text}: {now} {body}\n{}", log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// The value of a metric, labels included in its name.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        metric(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until a metric is at least `value`. A counter may not be there before it counts.
    pub(crate) async fn wait_metric(&self, name: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, text) = self.get("/metrics").await;
            if metric(&text, name).is_some_and(|now| now >= value) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is not {value}: {text}\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until its log holds `text`.
    pub(crate) async fn wait_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.process.log().contains(text) {
            assert!(Instant::now() < deadline, "no \"{text}\" in:\n{}", self.process.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Sends SIGTERM; [`ended`](Self::ended) waits for the end.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Stops it where it stands, until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Kills it with SIGKILL and returns when it is gone.
    pub(crate) async fn kill(self) {
        self.process.signal(Signal::SIGKILL);
        assert_eq!(self.ended().await.signal(), Some(Signal::SIGKILL as i32));
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Stops it as an operator does; it must end well, and no thread of it by a panic.
    pub(crate) async fn stop(self) {
        self.terminate();
        let mut process = self.process;
        let status = process.ended().await;
        process.wait_output().await;
        let log = process.log();
        assert_eq!(status.code(), Some(0), "{status}\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Status and body of what an address answers for a path.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.trim_end().to_owned())
}

fn metric(text: &str, name: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

/// A process that ends by itself.
pub(crate) struct Command {
    process: Guarded,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit code.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) out: String,
    /// What it said on standard error.
    pub(crate) err: String,
}

impl Command {
    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Writes a line to its standard input.
    pub(crate) async fn line(&mut self, text: &str) {
        self.process.write(format!("{text}\n").as_bytes()).await;
    }

    /// Ends its standard input and waits for its end.
    pub(crate) async fn ended(mut self) -> Outcome {
        self.process.end_input();
        let status = self.process.ended().await;
        let code = status.code().unwrap_or_else(|| panic!("{status}"));
        self.process.wait_output().await;
        Outcome { code, out: self.process.out(), err: self.process.log() }
    }
}
