//! A `footbridge` process: a gateway on ports of its own, in a directory of its own.
//!
//! What always holds: `start` returns when the node is ready, which it says on its admin port; it
//! reads no configuration but what it is given; it ends with the value, and with the test process
//! (see `sandbox`).
//!
//! The program is the caller's to build and to name: `env!("CARGO_BIN_EXE_footbridge")` in a test of
//! its crate.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::StartError;
use crate::process::Process;
use crate::sandbox::Sandbox;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway.
#[derive(Debug)]
pub struct Node {
    /// Dropped first: it ends the process.
    _sandbox: Sandbox,
    process: Process,
    url: String,
}

impl Node {
    /// Starts `footbridge gateway` with settings such as `("FOOTBRIDGE_RABBITMQ__URIS", uri)`.
    ///
    /// # Errors
    /// When it ends or does not become ready, with what it wrote.
    pub async fn gateway(
        program: impl AsRef<Path>,
        settings: &[(&str, &str)],
    ) -> Result<Node, StartError> {
        let mut sandbox = Sandbox::new("footbridge-")?;
        let mut command = Command::new(program.as_ref());
        command
            .args(["gateway", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .env_clear()
            .envs(settings.iter().copied());
        let mut process = sandbox.start("footbridge", "footbridge", &mut command)?;
        let output = process.output().to_owned();
        let mut url = String::new();
        let ready = async || {
            let said = fs::read_to_string(&output).map_err(|error| error.to_string())?;
            url = after(&said, "WebSocket").ok_or("it does not say where it listens")?.to_owned();
            let admin = after(&said, "http://").ok_or("it does not say where its admin port is")?;
            is_ready(admin.split('/').next().unwrap_or_default()).await
        };
        process.wait_until_ready(PATIENCE, ready).await?;
        Ok(Node { _sandbox: sandbox, process, url })
    }

    /// Where clients connect: `ws://127.0.0.1:PORT/ws`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of what it has printed and logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.tail()
    }
}

/// The word behind `label` in the first line that has it.
fn after<'a>(said: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = said.lines().find_map(|line| line.split_once(label))?;
    rest.split_whitespace().next()
}

/// Asks `/readyz`.
async fn is_ready(admin: &str) -> Result<(), String> {
    let address: SocketAddr = admin.parse().map_err(|_| format!("{admin} is no address"))?;
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = asked.await.map_err(|error| format!("admin port: {error}"))?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(answer.lines().last().unwrap_or_default().to_owned()),
    }
}
