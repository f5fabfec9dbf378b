//! A running server: a child of this process with a name, and its output in a file.
//!
//! It is not reaped while the value lives, so its id cannot become another process's. Who kills it
//! when the test process ends: see `sandbox`.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout_at};

use crate::StartError;

/// How often a condition is looked at that nothing announces.
const POLL: Duration = Duration::from_millis(20);

/// How much of a server's output an error carries, in bytes.
const TAIL: usize = 4 * 1024;

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    /// The file that holds what it writes.
    output: PathBuf,
}

impl Process {
    pub(crate) fn new(name: &'static str, child: Child, output: PathBuf) -> Process {
        Process { name, child, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Physical memory in use, in bytes; `None` when the process has ended.
    pub(crate) fn resident_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Waits until `ready` says yes, at most for `patience`.
    pub(crate) async fn wait_until_ready(
        &mut self,
        patience: Duration,
        mut ready: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<(), StartError> {
        let deadline = Instant::now() + patience;
        let mut reason = String::new();
        loop {
            match timeout_at(deadline, ready()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => reason = error,
                Err(_) => reason.push_str(", then no answer"),
            }
            let server = self.name;
            if self.has_ended() {
                let status = self.child.wait().map_err(StartError::io("wait"))?;
                return Err(StartError::Exited { server, status, output: self.tail() });
            }
            if Instant::now() >= deadline {
                let output = self.tail();
                return Err(StartError::NotReady { server, after: patience, reason, output });
            }
            sleep(POLL).await;
        }
    }

    /// Sends SIGTERM and waits for the end, at most for `patience`.
    pub(crate) async fn terminate(&self, patience: Duration) {
        // A process that has ended already is as good as terminated.
        let _ = kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && !self.has_ended() {
            sleep(POLL).await;
        }
    }

    /// Looks without reaping.
    fn has_ended(&self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid())) else {
            return true;
        };
        // "PID (NAME) STATE ...", where NAME may hold anything.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
    }

    /// The end of what it has written.
    fn tail(&self) -> String {
        let output = fs::read(&self.output).unwrap_or_default();
        let from = output.len().saturating_sub(TAIL);
        String::from_utf8_lossy(&output[from..]).into_owned()
    }
}

impl Drop for Process {
    /// Kills the process, if it still runs, and reaps it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
