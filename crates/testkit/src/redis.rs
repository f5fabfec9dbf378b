//! Redis as a child process.
//!
//! What always holds: `start` returns when the server answers PING, which it does only after it has
//! loaded its data; ports and directory stay the same until the value is dropped. Faults take
//! `&mut self`: the shared server of [`redis`] has none.
//!
//! The shared server of a process ends with the process (see `sandbox`).

use std::fs;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::ports::Ports;
use crate::process::Process;
use crate::sandbox::Sandbox;
use crate::{CommandError, StartError, command};

const PACKAGE: &str = "redis-server";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a Redis keeps when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing.
    Memory,
    /// Every write it has answered (`appendonly`, synchronised each time).
    AppendOnly,
}

/// A Redis server without password.
#[derive(Debug)]
pub struct Redis {
    sandbox: Sandbox,
    persistence: Persistence,
    /// What the server is started with besides.
    arguments: Vec<String>,
    /// `None` while killed or stopped.
    server: Option<Process>,
    /// Dropped last: the server must be gone before its port is free.
    ports: Ports,
}

/// The Redis all tests of this process share, in memory, started by the first that asks.
///
/// Use key names of your own: other tests are on it at the same time.
///
/// # Panics
/// When Redis cannot be started, with what [`StartError`] says.
pub async fn redis() -> &'static Redis {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    let started = SHARED.get_or_try_init(|| Redis::start(Persistence::Memory)).await;
    started.unwrap_or_else(|error| panic!("{error}"))
}

impl Redis {
    /// Starts an empty server.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without the Debian package; otherwise what the server said.
    pub async fn start(persistence: Persistence) -> Result<Redis, StartError> {
        Redis::start_with(persistence, |_| Vec::new()).await
    }

    /// Starts an empty server with more arguments, which may name one more port: it is given, and is the
    /// server's own.
    ///
    /// # Errors
    /// As [`start`](Redis::start).
    pub async fn start_with(
        persistence: Persistence,
        arguments: impl FnOnce(u16) -> Vec<String>,
    ) -> Result<Redis, StartError> {
        let (sandbox, ports) = (Sandbox::new("redis-")?, Ports::reserve()?);
        let arguments = arguments(ports.get(1));
        let mut redis = Redis { sandbox, ports, persistence, arguments, server: None };
        redis.start_again().await?;
        Ok(redis)
    }

    /// Starts an empty Redis Cluster of one node, which refuses what no Cluster can do.
    ///
    /// # Errors
    /// As [`start`](Redis::start).
    ///
    /// # Panics
    /// When the server does not take its slots.
    pub async fn start_cluster() -> Result<Redis, StartError> {
        let cluster = |port: u16| {
            ["--cluster-enabled", "yes", "--cluster-port"]
                .map(str::to_owned)
                .into_iter()
                .chain([port.to_string()])
                .collect()
        };
        let redis = Redis::start_with(Persistence::Memory, cluster).await?;
        let slots = redis.cli(&["cluster", "addslotsrange", "0", "16383"]).await;
        slots.unwrap_or_else(|error| panic!("{error}"));
        // It takes a moment to believe that it is complete.
        let complete = async {
            while !redis.cli(&["cluster", "info"]).await.is_ok_and(|info| info.contains("state:ok"))
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, complete).await.expect("the Cluster gets complete");
        Ok(redis)
    }

    /// The server's second port, see [`start_with`](Redis::start_with).
    #[must_use]
    pub fn second_port(&self) -> u16 {
        self.ports.get(1)
    }

    /// Where clients connect: `redis://127.0.0.1:PORT/`.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri_at(self.port())
    }

    /// The same through something else that listens on 127.0.0.1, such as a [`Proxy`](crate::Proxy).
    #[must_use]
    pub fn uri_at(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}/")
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.get(0)
    }

    /// The process id; `None` while it is down.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::pid)
    }

    /// The server's physical memory, in bytes; `None` while it is down.
    #[must_use]
    pub fn resident_memory(&self) -> Option<u64> {
        self.server.as_ref().and_then(Process::resident_memory)
    }

    /// Kills the server with SIGKILL and returns when it is gone. Nothing happens if it is down.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            self.sandbox.kill(server);
        }
    }

    /// Stops the server as an operator would. Nothing happens if it is down.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            self.sandbox.stop(server, PATIENCE).await;
        }
    }

    /// Starts the server after [`kill`](Redis::kill) or [`stop`](Redis::stop), on the same port,
    /// with what its [`Persistence`] kept.
    ///
    /// # Errors
    /// [`StartError::Running`] when it is not down; otherwise what the server said.
    pub async fn start_again(&mut self) -> Result<(), StartError> {
        if self.server.is_some() {
            return Err(StartError::Running { server: "redis" });
        }
        let stored = self.sandbox.path().join("stored");
        fs::create_dir_all(&stored).map_err(StartError::io("make a directory"))?;
        let append_only = match self.persistence {
            Persistence::Memory => "no",
            Persistence::AppendOnly => "yes",
        };
        let port = self.port();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", append_only, "--appendfsync", "always"])
            .arg("--dir")
            .arg(stored)
            .args(&self.arguments);
        let server = self.server.insert(self.sandbox.start("redis", PACKAGE, &mut command)?);
        let started = server.wait_until_ready(PATIENCE, async || ping(port).await).await;
        if started.is_err() {
            self.kill();
        }
        started
    }

    /// Like [`start_again`](Redis::start_again), but empty, as after the loss of its disk.
    ///
    /// # Errors
    /// As [`start_again`](Redis::start_again).
    pub async fn start_empty(&mut self) -> Result<(), StartError> {
        if self.server.is_some() {
            return Err(StartError::Running { server: "redis" });
        }
        let stored = self.sandbox.path().join("stored");
        fs::remove_dir_all(&stored).map_err(StartError::io("remove what is stored"))?;
        self.start_again().await
    }

    /// Runs `redis-cli` on the server and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it printed; when it takes longer than a minute.
    pub async fn cli(&self, arguments: &[&str]) -> Result<String, CommandError> {
        let mut command = tokio::process::Command::new("redis-cli");
        command.args(["-e", "-p", &self.port().to_string()]).args(arguments);
        command::run(&mut command).await
    }
}

/// While it loads its data it answers `-LOADING`.
async fn ping(port: u16) -> Result<(), String> {
    let answer = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.map(|_| answer)
    };
    match answer.await {
        Ok(answer) if &answer == b"+PONG\r\n" => Ok(()),
        Ok(answer) => Err(String::from_utf8_lossy(&answer).into_owned()),
        Err(error) => Err(format!("port {port}: {error}")),
    }
}
