//! What is measured: a server at one or more URLs, a `footbridge dev` of our own, or the floor.
//!
//! Invariants
//! - A child is started afresh for each run and killed when its [`Subject`] is dropped, by its
//!   own id; the floor also ends by itself when this process does.
//!
//! A child reads the environment, so `FOOTBRIDGE_SECTION__KEY` configures a measured
//! `footbridge dev` as it does any other.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Common;
use super::floor::{Floor, PUBLISH_PATH};
use super::process::Process;
use super::report::Named;
use super::target::{Login, Target};

/// How long a child may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long memory is given to settle, and how far apart two readings are taken.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
const SETTLE_STEP: Duration = Duration::from_millis(500);

/// Which of the two things that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The server.
    Server,
    /// Another server that it is compared with.
    Other,
    /// The floor that it is compared with.
    Floor(Floor),
}

impl Side {
    /// The server, and another or the floor if one is asked for.
    pub(super) fn sides(floor: Option<Floor>, common: &Common) -> Vec<Self> {
        let other = (!common.against.is_empty()).then_some(Self::Other);
        [Self::Server].into_iter().chain(other).chain(floor.map(Self::Floor)).collect()
    }
}

impl Named for Side {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Other => "other",
            Self::Floor(floor) => floor.name(),
        }
    }
}

/// A server that is ready to be measured.
#[derive(Debug)]
pub(super) struct Subject {
    /// Where subscribers connect, in turn; at least one.
    pub(super) targets: Vec<Target>,
    /// Where publishers connect, in turn; at least one.
    pub(super) publish: Vec<Target>,
    /// Whose CPU and memory count. Empty for a URL without `--process`.
    pub(super) processes: Vec<Process>,
    /// Where services call it, if it was started here.
    pub(super) grpc: Option<String>,
    _child: Option<Running>,
}

/// A child that is killed when it is dropped.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Subject {
    /// Starts what has to be started and waits until it is ready.
    pub(super) async fn start(side: Side, common: &Common) -> anyhow::Result<Self> {
        match side {
            Side::Floor(floor) => Self::floor(floor, common),
            Side::Server if common.urls.is_empty() => Self::dev(common).await,
            Side::Server => Self::running(&common.urls, &common.processes, &common.login),
            Side::Other => Self::running(&common.against, &common.against_processes, &common.login),
        }
    }

    fn running(urls: &[String], processes: &[Process], login: &Login) -> anyhow::Result<Self> {
        let targets: Vec<_> =
            urls.iter().map(|url| Target::new(url, login)).collect::<Result<_, _>>()?;
        let processes = processes.to_vec();
        Ok(Self { publish: targets.clone(), targets, processes, grpc: None, _child: None })
    }

    async fn dev(common: &Common) -> anyhow::Result<Self> {
        let (listen, admin, grpc) = (free_address()?, free_address()?, free_address()?);
        let mut log = tempfile::tempfile().context("cannot make a file for the server's log")?;
        let mut child = Running(
            Command::new(std::env::current_exe()?)
                .args(["dev", "--listen", &listen.to_string(), "--admin", &admin.to_string()])
                .args(["--grpc", &grpc.to_string()])
                .env("FOOTBRIDGE_INBOX__STORE", "memory")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log.try_clone()?)
                .spawn()
                .context("cannot start `footbridge dev`")?,
        );
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready(admin).await {
            let ended = child.0.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let state = ended.map_or("is not ready".to_owned(), |status| status.to_string());
                bail!("`footbridge dev` {state}; it said:\n{}", last_lines(&mut log)?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let targets = vec![Target::new(&format!("ws://{listen}/ws"), &common.login)?];
        let processes = vec![Process { name: "footbridge".to_owned(), pid: child.0.id() }];
        let grpc = Some(format!("http://{grpc}"));
        Ok(Self { publish: targets.clone(), targets, processes, grpc, _child: Some(child) })
    }

    fn floor(floor: Floor, common: &Common) -> anyhow::Result<Self> {
        let sending = clap::ValueEnum::to_possible_value(&floor).context("a floor has a name")?;
        let mut child = Running(
            Command::new(std::env::current_exe()?)
                .args(["bench", "floor-server", "--destination", &common.destination])
                .args(["--floor", sending.get_name()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start the floor")?,
        );
        let mut line = String::new();
        let output = child.0.stdout.take().context("the floor has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let port: u16 = line.trim().parse().context("the floor names no port")?;
        let address = format!("ws://{}:{port}", Ipv4Addr::LOCALHOST);
        let processes = vec![Process { name: floor.name().to_owned(), pid: child.0.id() }];
        Ok(Self {
            targets: vec![Target::new(&format!("{address}/ws"), &common.login)?],
            publish: vec![Target::new(&format!("{address}{PUBLISH_PATH}"), &common.login)?],
            processes,
            grpc: None,
            _child: Some(child),
        })
    }

    /// Refuses more sessions than there are ports for, and says what the user must do.
    pub(super) fn check_ports(&self, sessions: usize) -> anyhow::Result<()> {
        let each = sessions.div_ceil(self.targets.len().max(1));
        self.targets.iter().try_for_each(|target| target.check_ports(each))
    }

    /// The CPU time of each process.
    pub(super) fn cpu(&self) -> anyhow::Result<Vec<Duration>> {
        self.processes.iter().map(Process::cpu).collect()
    }

    /// The resident memory of all processes, in bytes.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        self.processes.iter().map(Process::resident).sum()
    }

    /// Waits until two readings of the resident memory agree within 1 %, and returns the last
    /// one, however that stands after 10 s.
    pub(super) async fn settled(&self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let mut last = self.resident()?;
        while Instant::now() < deadline {
            tokio::time::sleep(SETTLE_STEP).await;
            let now = self.resident()?;
            if now.abs_diff(last) * 100 <= last {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn is_ready(admin: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(&status == b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}

fn last_lines(log: &mut File) -> anyhow::Result<String> {
    let mut text = Vec::new();
    log.rewind()?;
    log.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
}
