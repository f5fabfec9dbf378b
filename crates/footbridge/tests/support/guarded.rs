//! A process whose output is read along, and that does not outlive the test.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{PATIENCE, POLL};

/// Ends with a line of input; kills the process when there is none, which is our end.
const GUARD: &str = r#"trap '' HUP INT TERM; read -r line || kill -s KILL -- "$1""#;

/// See the module.
pub(super) struct Guarded {
    child: Child,
    input: Option<ChildStdin>,
    out: Lines,
    err: Lines,
    guard: std::process::Child,
}

impl Guarded {
    /// Starts the command with these variables alone.
    pub(super) fn start(arguments: &[String], variables: &[(String, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_footbridge"))
            .args(arguments)
            .env_clear()
            .envs(variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let guard = std::process::Command::new("sh")
            .args(["-c", GUARD, "guard", &child.id().unwrap().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            out: Lines::read(child.stdout.take().unwrap()),
            err: Lines::read(child.stderr.take().unwrap()),
            child,
            guard,
        }
    }

    /// The first word behind `name` in the lines that it printed, as soon as it has.
    pub(super) async fn said(&mut self, name: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let out = self.out();
            let mut lines = out.lines().map(str::split_whitespace);
            let found = lines.find_map(|mut words| {
                (words.next() == Some(name)).then(|| words.next().unwrap().to_owned())
            });
            if let Some(found) = found {
                return found;
            }
            assert!(self.is_running(), "ended before it said {name}: {out}\n{}", self.log());
            assert!(Instant::now() < deadline, "did not say {name}: {out}\n{}", self.log());
            sleep(POLL).await;
        }
    }

    pub(super) fn out(&self) -> String {
        self.out.text()
    }

    pub(super) fn log(&self) -> String {
        self.err.text()
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    pub(super) fn signal(&self, signal: Signal) {
        // It is not reaped yet, so its id is its own.
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed());
        kill(pid, signal).unwrap();
    }

    pub(super) async fn ended(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("does not end:\n{}", self.log()),
        }
    }

    /// Waits until all it wrote was read.
    pub(super) async fn wait_output(&mut self) {
        for lines in [&mut self.out, &mut self.err] {
            timeout(PATIENCE, &mut lines.reader).await.unwrap().unwrap();
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Before the child is killed and reaped: the guard must not kill whoever gets the id next.
        if let Some(mut pipe) = self.guard.stdin.take() {
            let _ = std::io::Write::write_all(&mut pipe, b"\n");
        }
        let _ = self.guard.wait();
    }
}

/// What came out of one end of a process so far.
struct Lines {
    /// Grows by a line at a time; held for the growing and for copies.
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Lines {
    fn read(from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let grown = Arc::clone(&text);
        let reader = tokio::spawn(async move {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).await.unwrap() > 0 {
                let more = String::from_utf8_lossy(&line);
                grown.lock().unwrap_or_else(PoisonError::into_inner).push_str(&more);
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
