//! `bench connect`: how fast sessions open, as after a deploy when all clients return.

use anyhow::Context as _;

use super::Common;
use super::process::Process;
use super::report::{Named as _, Report, progress};
use super::run::{Run, Work};
use super::sessions::{Plan, Sessions};
use super::subject::{Side, Subject};
use super::target::raise_open_files;

/// Sessions that open at once: sessions per second, latency, CPU per session
///
/// A session counts from TCP connect through CONNECTED to the RECEIPT of its SUBSCRIBE, and stays
/// open until the last one is.
#[derive(Debug, clap::Args, serde::Serialize)]
pub(super) struct Connect {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: Common,
    /// Sessions to open
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
}

impl Connect {
    /// Measures.
    pub(super) async fn run(&self) -> anyhow::Result<Report> {
        raise_open_files(self.sessions as usize)?;
        let sides = Side::sides(None, &self.common);
        Report::measure("connect", self, self.common.pairs, &sides, async |side| {
            self.measure(side).await.with_context(|| format!("measuring the {}", side.name()))
        })
        .await
    }

    async fn measure(&self, side: Side) -> anyhow::Result<Run> {
        let subject = Subject::start(side, &self.common).await?;
        subject.check_ports(self.sessions as usize)?;
        subject.settled().await?;
        let bar = progress(u64::from(self.sessions), format!("{}: connecting", side.name()));
        let plan = Plan {
            targets: &subject.targets,
            sessions: self.sessions as usize,
            concurrency: self.common.concurrency,
            destinations: std::slice::from_ref(&self.common.destination),
        };
        let own = Process::own();
        let (cpu_before, own_before) = (subject.cpu()?, own.cpu()?);
        let sessions = Sessions::open(plan, &bar, |_| |_: &_| {}).await?;
        let (cpu_after, own_after) = (subject.cpu()?, own.cpu()?);

        let count = f64::from(self.sessions);
        let elapsed = sessions.elapsed;
        let mut run = Run::default();
        run.figure("sessions", "", count);
        run.figure("sessions", "per s", count / elapsed.as_secs_f64());
        run.latencies("connect to RECEIPT", &sessions.opening);
        let work = Work { doing: "opening", unit: "session", amount: count, elapsed };
        run.cpu(&subject.processes, &cpu_before, &cpu_after, &work);
        run.generator_cpu(own_after - own_before, &work);
        Ok(run)
    }
}
