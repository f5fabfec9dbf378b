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

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::StartError;
use crate::process::Process;

/// Each line read replaces the process groups to kill; the end of input is the end of the owner.
/// `rm` is repeated because a process killed a moment ago may still have made a file.
const GUARD: &str = r#"
trap '' HUP INT TERM
while read -r line; do groups=$line; done
for group in $groups; do kill -s KILL -- "-$group"; done
for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit; sleep 0.1; done
"#;

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
        Ok(Process::new(name, child, output))
    }

    /// Kills the process (SIGKILL) and returns when it is gone.
    pub(crate) fn kill(&mut self, process: Process) {
        self.running.retain(|&pid| pid != process.pid());
        self.tell_guard();
        drop(process);
    }

    /// Asks the process to end (SIGTERM), kills it when it has not after `patience`.
    pub(crate) async fn stop(&mut self, process: Process, patience: Duration) {
        process.terminate(patience).await;
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
    /// Returns when the processes have been sent SIGKILL and the directory is gone; dropping each
    /// [`Process`] then waits for its end.
    fn drop(&mut self) {
        self.alive = None;
        let _ = self.guard.wait();
    }
}

fn not_started(command: &Command, package: &'static str, source: io::Error) -> StartError {
    let program = command.get_program().to_string_lossy().into_owned();
    match source.kind() {
        io::ErrorKind::NotFound => StartError::NotInstalled { program, package },
        _ => StartError::io(format!("run {program}"))(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_missing_program_names_its_debian_package() {
        let mut sandbox = Sandbox::new("testkit-").unwrap();
        let mut command = Command::new("/no/such/server");
        let error = sandbox.start("server", "some-package", &mut command).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/no/such/server is not installed: apt-get install some-package"
        );
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_quoted() {
        let mut sandbox = Sandbox::new("testkit-").unwrap();
        let mut command = shell("echo no room here; exit 3");
        let mut process = sandbox.start("server", "dash", &mut command).unwrap();
        let never = async || Err("not yet".to_owned());
        let error = process.wait_until_ready(Duration::from_secs(60), never).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "server ended with exit status: 3 before it was ready:\nno room here\n"
        );
    }

    #[tokio::test]
    async fn a_process_that_never_gets_ready_is_given_up() {
        let mut sandbox = Sandbox::new("testkit-").unwrap();
        let mut process = sandbox.start("server", "dash", &mut shell("sleep 1000")).unwrap();
        let never = async || Err("port 1: refused".to_owned());
        let error = process.wait_until_ready(Duration::from_millis(50), never).await.unwrap_err();
        assert!(error.to_string().contains("after 50ms: port 1: refused"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        let mut sandbox = Sandbox::new("testkit-").unwrap();
        let deaf = "trap '' TERM; while :; do sleep 0.1; done";
        let process = sandbox.start("server", "dash", &mut shell(deaf)).unwrap();
        let pid = process.pid();
        sandbox.stop(process, Duration::from_millis(50)).await;
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn the_end_of_a_sandbox_is_the_end_of_its_processes_and_its_directory() {
        let mut sandbox = Sandbox::new("testkit-").unwrap();
        let directory = sandbox.path().to_owned();
        let processes: Vec<Process> = (0..3)
            .map(|_| sandbox.start("server", "dash", &mut shell("sleep 1000")).unwrap())
            .collect();
        drop(sandbox);
        assert!(!directory.exists());
        for process in processes {
            // Killed by the guard, and not yet by its own `drop`: a zombie, in a moment.
            let stat = || std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            while !stat().contains(") Z ") {
                assert!(std::time::Instant::now() < deadline, "{}", stat());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
