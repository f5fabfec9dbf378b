//! `bench idle`: what a session costs that only waits.
//!
//! Resident memory is the process's own; the kernel's socket buffers (some 4 KiB per idle socket)
//! come on top for every server alike.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Common;
use super::floor::Floor;
use super::process::Process;
use super::report::{Named as _, Report, progress};
use super::run::{Run, Work};
use super::sessions::{Plan, Sessions};
use super::subject::{Side, Subject};
use super::target::raise_open_files;

/// Sessions that only wait: resident memory per session, CPU while idle
#[derive(Debug, clap::Args, serde::Serialize)]
pub(super) struct Idle {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: Common,
    /// Sessions to hold open
    #[arg(long, default_value_t = 8000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Subscriptions of each: to the destination, and to it with .1, .2, ... appended
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    subscriptions: u32,
    /// How long CPU is measured once all are open and memory has settled
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Compare with bare accepted sockets, measured in turn
    #[arg(long, conflicts_with = "against")]
    floor: bool,
}

impl Idle {
    /// Measures.
    pub(super) async fn run(&self) -> anyhow::Result<Report> {
        raise_open_files(self.sessions as usize)?;
        let sides = Side::sides(self.floor.then_some(Floor::Each), &self.common);
        Report::measure("idle", self, self.common.pairs, &sides, async |side| {
            self.measure(side).await.with_context(|| format!("measuring the {}", side.name()))
        })
        .await
    }

    async fn measure(&self, side: Side) -> anyhow::Result<Run> {
        let subject = Subject::start(side, &self.common).await?;
        subject.check_ports(self.sessions as usize)?;
        let before = subject.settled().await?;
        let cpu_connecting = subject.cpu()?;
        let destination = &self.common.destination;
        let others = (1..self.subscriptions).map(|index| format!("{destination}.{index}"));
        let destinations: Vec<_> = [destination.clone()].into_iter().chain(others).collect();
        let bar = progress(u64::from(self.sessions), format!("{}: connecting", side.name()));
        let plan = Plan {
            targets: &subject.targets,
            sessions: self.sessions as usize,
            concurrency: self.common.concurrency,
            destinations: &destinations,
        };
        let mut sessions = Sessions::open(plan, &bar, |_| |_: &_| {}).await?;
        let after = subject.settled().await?;

        let seconds = u64::from(self.seconds);
        let bar = progress(seconds, format!("{}: idle for {seconds} s", side.name()));
        let own = Process::own();
        let (cpu_before, own_before) = (subject.cpu()?, own.cpu()?);
        let begun = Instant::now();
        for _ in 0..seconds {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => bar.inc(1),
                error = sessions.failure() => return Err(error),
            }
        }
        let elapsed = begun.elapsed();
        let (cpu_after, own_after) = (subject.cpu()?, own.cpu()?);

        let count = f64::from(self.sessions);
        let mut run = Run::default();
        run.figure("sessions", "", count);
        run.figure("sessions", "per s", count / sessions.elapsed.as_secs_f64());
        if !subject.processes.is_empty() {
            let mebibyte = 1024.0 * 1024.0;
            run.figure("resident before", "MiB", before as f64 / mebibyte);
            run.figure("resident with all sessions", "MiB", after as f64 / mebibyte);
            let grown = after.saturating_sub(before) as f64 / 1024.0;
            run.figure("resident per session", "KiB", grown / count);
        }
        let opening = Work {
            doing: "opening",
            unit: "session opened",
            amount: count,
            elapsed: sessions.elapsed,
        };
        run.cpu(&subject.processes, &cpu_connecting, &cpu_before, &opening);
        let idling = Work {
            doing: "idle",
            unit: "idle session and second",
            amount: count * elapsed.as_secs_f64(),
            elapsed,
        };
        run.cpu(&subject.processes, &cpu_before, &cpu_after, &idling);
        run.generator_cpu(own_after - own_before, &idling);
        Ok(run)
    }
}
