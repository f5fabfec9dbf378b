//! A private directory and the processes that live in it, all of which end with their owner.
//!
//! What always holds: when the [`Sandbox`] is dropped, or the test process ends (a static is never
//! dropped, and `kill -9` drops nothing), the processes are killed and the directory removed. One
//! `sh` sees to both: it waits on a pipe whose other end only this process holds, and the kernel
//! closes that end with us. (PR_SET_PDEATHSIG would not do: it fires when the *thread* that started
//! the child ends, and a test has a thread of its own.)
//!
//! Processes are our own children, and a server that was killed or stopped is reaped only after the
//! guard has been told to forget it, so the guard never kills a process that merely got its id.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::StartError;

/// Each line read replaces the process groups to kill; the end of input is the end of the owner.
/// `rm` is repeated because a process killed a moment ago may still have made a file.
const GUARD: &str = r#"
trap '' HUP INT TERM
while read -r line; do groups=$line; done
for group in $groups; do kill -s KILL -- "-$group"; done
for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit; sleep 0.1; done
"#;

/// How often a condition is looked at that nothing announces.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// How much of a server's output an error carries, in bytes.
const TAIL: usize = 4 * 1024;

/// A directory and the processes started for it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    directory: PathBuf,
    /// The ids of the running processes, each the leader of its own group: what the guard knows.
    running: Vec<u32>,
    guard: Child,
    /// The pipe to the guard; closing it ends everything. `None` only while dropping.
    alive: Option<ChildStdin>,
}

/// A running server, child of this process.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    output: PathBuf,
}

impl Sandbox {
    /// Makes the directory, readable by this user alone, and its guard.
    pub(crate) fn new(prefix: &str) -> Result<Sandbox, StartError> {
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .map_err(StartError::io("make a directory"))?;
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Ctrl-C at the terminal is for the test process; the guard acts on its end.
            .process_group(0)
            .spawn()
            .map_err(StartError::io("run sh"))?;
        let alive = guard.stdin.take();
        // From here the guard removes it.
        Ok(Sandbox { directory: directory.keep(), running: Vec::new(), guard, alive })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Starts `command`, found in the Debian package `package`, with its output in `NAME.out`.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        package: &'static str,
        command: &mut Command,
    ) -> Result<Process, StartError> {
        let output = self.directory.join(format!("{name}.out"));
        let file = File::options().create(true).append(true).open(&output);
        let (out, err) = file
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(StartError::io(format!("open {}", output.display())))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .current_dir(&self.directory)
            .process_group(0)
            .spawn()
            .map_err(|source| not_started(command, package, source))?;
        self.running.push(child.id());
        self.tell_guard();
        Ok(Process { name, child, output })
    }

    /// Kills the process (SIGKILL) and returns when it is gone.
    pub(crate) fn kill(&mut self, process: Process) {
        self.running.retain(|&pid| pid != process.pid());
        self.tell_guard();
        drop(process);
    }

    /// Asks the process to end (SIGTERM), kills it when it has not after `patience`.
    pub(crate) async fn stop(&mut self, process: Process, patience: Duration) {
        let pid = Pid::from_raw(process.pid().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && !process.ended() {
            sleep(POLL).await;
        }
        self.kill(process);
    }

    fn tell_guard(&mut self) {
        let groups: Vec<String> = self.running.iter().map(u32::to_string).collect();
        if let Some(pipe) = &mut self.alive {
            // A line is far below PIPE_BUF, so it arrives whole. A guard that was killed by hand
            // leaves the rest to `Drop`.
            let _ = pipe.write_all(format!("{}\n", groups.join(" ")).as_bytes());
        }
    }
}

impl Drop for Sandbox {
    /// Returns when the processes are killed and the directory is gone.
    fn drop(&mut self) {
        self.alive = None;
        let _ = self.guard.wait();
    }
}

impl Drop for Process {
    /// Nothing is left to do, unless it is dropped before its sandbox.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
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
    pub(crate) async fn wait_until_ready<E: ToString>(
        &mut self,
        patience: Duration,
        mut ready: impl AsyncFnMut() -> Result<(), E>,
    ) -> Result<(), StartError> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = tokio::time::timeout_at(deadline, ready()).await;
            if let Ok(Ok(())) = answer {
                return Ok(());
            }
            if self.ended() {
                let status = self.child.wait().map_err(StartError::io("wait"))?;
                return Err(self.exited(status));
            }
            if Instant::now() >= deadline {
                let reason = match answer {
                    Ok(Err(error)) => error.to_string(),
                    _ => "it accepted a connection and did not answer".to_owned(),
                };
                let (server, output) = (self.name, self.tail());
                return Err(StartError::NotReady { server, after: patience, reason, output });
            }
            sleep(POLL).await;
        }
    }

    /// Whether the process has ended; it is left unreaped, so that its id stays taken.
    fn ended(&self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid())) else {
            return true;
        };
        // "PID (NAME) STATE ...", and NAME may hold anything.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
    }

    fn exited(&self, status: ExitStatus) -> StartError {
        StartError::Exited { server: self.name, status, output: self.tail() }
    }

    fn tail(&self) -> String {
        let output = fs::read(&self.output).unwrap_or_default();
        let from = output.len().saturating_sub(TAIL);
        String::from_utf8_lossy(&output[from..]).into_owned()
    }
}

fn not_started(command: &Command, package: &'static str, source: io::Error) -> StartError {
    let program = command.get_program().to_string_lossy().into_owned();
    match source.kind() {
        io::ErrorKind::NotFound => StartError::NotInstalled { program, package },
        _ => StartError::io(format!("run {program}"))(source),
    }
}
