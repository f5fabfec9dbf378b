//! `footbridge bench`: measures any server that speaks STOMP over WebSocket.
//!
//! `fan-out`, `idle`, `connect` and `users` each start what they measure, or are given a URL, and end with
//! a table. The generator runs on one thread and is meant to cost less than any server; its own
//! CPU stands in every report.
//!
//! Invariants
//! - The load is bounded and ends by itself; an interrupt ends it too, and a child with it.
//! - Every figure is of a named process over a stretch of known work, never of the whole machine.
//!
//! Linux only: CPU comes from the clock of a process, memory from `/proc`.

mod client;
mod connect;
mod fan_out;
mod floor;
mod frame;
mod idle;
mod message;
mod outflow;
mod pace;
mod process;
mod report;
mod run;
mod sessions;
mod subject;
mod tally;
mod target;
mod users;

use std::path::PathBuf;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use connect::Connect;
use fan_out::FanOut;
use idle::Idle;
use process::Process;
use target::Login;
use users::Users;

/// Measures a server: fan-out, idle sessions, opening sessions, or sends to users
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, clap::Subcommand)]
enum Measurement {
    FanOut(FanOut),
    Idle(Idle),
    Connect(Connect),
    Users(Users),
    #[command(hide = true)]
    FloorServer(floor::Arguments),
}

impl Command {
    /// Measures and reports. Blocks, on a runtime of its own with one thread: not to be called
    /// from inside another.
    ///
    /// # Errors
    /// What was to be measured cannot be reached, refused a session or closed one; a delivery was
    /// lost, duplicated or out of order (the report is written all the same); an interrupt.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if let Measurement::FloorServer(arguments) = self.measurement {
            return floor::run(arguments);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                finished = self.measurement.run() => finished,
                stopped = interrupt() => stopped,
            }
        })
    }
}

impl Measurement {
    async fn run(self) -> anyhow::Result<()> {
        let (report, common) = match &self {
            Self::FanOut(fan_out) => (fan_out.run().await?, &fan_out.common),
            Self::Idle(idle) => (idle.run().await?, &idle.common),
            Self::Connect(connect) => (connect.run().await?, &connect.common),
            Self::Users(users) => (users.run().await?, &users.common),
            Self::FloorServer(_) => return Ok(()),
        };
        report.publish(common.json.as_deref())?;
        match report.faults().as_slice() {
            [] => Ok(()),
            faults => bail!("{}", faults.join("\n")),
        }
    }
}

/// Fails when the user or a supervisor wants this process to end.
async fn interrupt() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}

/// What all measurements share.
#[derive(Debug, clap::Args, serde::Serialize)]
struct Common {
    /// The server, as ws://host:port/path; sessions take turns over the nodes of a cluster, each
    /// given as one more --url [default: start `footbridge dev` and stop it after]
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// A process whose CPU and memory count, e.g. rabbitmq=456; repeatable
    #[arg(long = "process", value_name = "NAME=PID", requires = "urls")]
    processes: Vec<Process>,
    /// Compare with another server, measured in turn; repeatable like --url
    #[arg(long, value_name = "URL", requires = "urls")]
    against: Vec<String>,
    /// A process of that other server whose CPU and memory count; repeatable
    #[arg(long = "against-process", value_name = "NAME=PID", requires = "against")]
    against_processes: Vec<Process>,
    #[command(flatten)]
    #[serde(flatten)]
    login: Login,
    /// What is subscribed to and sent to
    #[arg(long, default_value = "/topic/bench")]
    destination: String,
    /// How many sessions may be connecting at a time
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    concurrency: usize,
    /// How often to measure, each side in turn; medians are shown
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Write parameters, every run and medians as JSON; - for standard output, without the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "not a positive number".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Parser, error::ErrorKind};

    use super::*;

    #[derive(Debug, Parser)]
    struct Bench {
        #[command(flatten)]
        command: Command,
    }

    fn parse(arguments: &str) -> Result<Common, ErrorKind> {
        let words = ["bench"].into_iter().chain(arguments.split(' '));
        let parsed = Bench::try_parse_from(words).map_err(|error| error.kind())?;
        Ok(match parsed.command.measurement {
            Measurement::FanOut(fan_out) => fan_out.common,
            Measurement::Idle(idle) => idle.common,
            Measurement::Connect(connect) => connect.common,
            Measurement::Users(users) => users.common,
            Measurement::FloorServer(_) => panic!("not a measurement"),
        })
    }

    #[test]
    fn the_arguments_agree_with_each_other() {
        Command::augment_args(clap::Command::new("bench")).debug_assert();
    }

    #[test]
    fn a_cluster_is_compared_with_another_server_or_the_floor() {
        for measurement in ["fan-out", "idle", "connect"] {
            let common = parse(&format!(
                "{measurement} --url ws://a/ws --url ws://b/ws --process a=1 --process b=2 \
                 --against ws://c/ws --against-process c=3"
            ))
            .unwrap();
            assert_eq!(common.urls, ["ws://a/ws", "ws://b/ws"]);
            assert_eq!(common.processes.len(), 2);
            assert_eq!((common.against.len(), common.against_processes.len()), (1, 1));
        }
        let both = parse("fan-out --url ws://a/ws --against ws://b/ws --floor");
        assert_eq!(both.unwrap_err(), ErrorKind::ArgumentConflict);
        let lone = parse("users --grpc http://a");
        assert_eq!(lone.unwrap_err(), ErrorKind::MissingRequiredArgument);
        for lone in ["--process a=1", "--against ws://b/ws", "--against-process b=1"] {
            let refused = parse(&format!("connect {lone}"));
            assert_eq!(refused.unwrap_err(), ErrorKind::MissingRequiredArgument, "{lone}");
        }
    }
}
