//! What can go wrong with a server: it does not start, or a command to it fails.
//!
//! Each error carries the end of the server's own output, because its directory is gone by the time
//! the error is read.

use std::io;
use std::time::Duration;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is not on this machine.
    #[error("{program} is not installed: apt-get install {package}")]
    NotInstalled {
        /// The program that was looked for.
        program: String,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// No block of free ports was found.
    #[error("no free block of ports between {from} and {to} on 127.0.0.1")]
    NoPorts {
        /// The first port that was tried.
        from: u16,
        /// The port after the last one that was tried.
        to: u16,
    },
    /// The server ended before it was ready.
    #[error("{server} ended with {status} before it was ready:\n{output}")]
    Exited {
        /// The server's name.
        server: &'static str,
        /// How the process ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// The server ran and did not become ready in time.
    #[error("{server} was not ready after {after:?}: {reason}\n{output}")]
    NotReady {
        /// The server's name.
        server: &'static str,
        /// How long it was waited for.
        after: Duration,
        /// What the last try to reach it said.
        reason: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The server runs already, so it cannot be started again.
    #[error("{server} is running: stop or kill it first")]
    Running {
        /// The server's name.
        server: &'static str,
    },
    /// The directory, a file in it, or a process could not be made.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
        let what = what.into();
        move |source| StartError::Io { what, source }
    }
}

/// Why a command to a server (`rabbitmqctl`, `redis-cli`) failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command could not be run.
    #[error("cannot run {command}: {source}")]
    Io {
        /// The command with its arguments.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The command ran and failed.
    #[error("{command} ended with {status}: {output}")]
    Failed {
        /// The command with its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote, both streams.
        output: String,
    },
    /// The command did not end in time, and was killed.
    #[error("{command} did not end within {after:?}")]
    TimedOut {
        /// The command with its arguments.
        command: String,
        /// How long it was waited for.
        after: Duration,
    },
}
