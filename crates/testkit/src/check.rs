//! `testkit check`: the checker by hand. It has no faults of its own; whoever runs it makes them.

use std::io::{Write, stdout};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use testkit::checker::{Checker, Plan, Shape, seed};
use tokio::time::{Instant, interval};

/// Which nodes, and how much.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    /// The WebSocket endpoint of a node, such as ws://127.0.0.1:8080/ws; give one for each.
    #[arg(long = "url", required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Sessions, spread over the nodes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Topics, and as many queues.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    destinations: u32,
    /// Begins the name of every topic and queue. The queues stay where they are; another run under
    /// the same name consumes what this one leaves, and must not go on at the same time.
    #[arg(long, default_value = "check")]
    prefix: String,
    /// Milliseconds between two messages of a session, on average.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..))]
    pace: u64,
    /// Stop sending after so many seconds [default: 30]
    #[arg(long, conflicts_with = "messages")]
    seconds: Option<u64>,
    /// Stop sending after so many messages of each session.
    #[arg(long)]
    messages: Option<u32>,
    /// Nodes may close sessions: they connect again, to the next node. For killing and rolling nodes.
    #[arg(long)]
    reconnect: bool,
    /// The seed of an earlier run [default: FOOTBRIDGE_SEED, or a new one]
    #[arg(long)]
    seed: Option<u64>,
}

impl Command {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let seed = self.seed.unwrap_or_else(seed);
        say(format_args!("seed {seed}"))?;
        let plan = Plan::new(seed, &self.shape());
        let opening = Checker::open(plan, self.urls.clone(), &self.prefix);
        let mut checker = opening.await.context("is a node running there?")?;
        say(format_args!("{} sessions subscribed; Ctrl-C stops sending", self.sessions))?;

        checker.allow(self.messages.unwrap_or(u32::MAX));
        let all = self.messages.map(|each| u64::from(each) * u64::from(self.sessions));
        let end = match all {
            Some(_) => None,
            None => Some(Instant::now() + Duration::from_secs(self.seconds.unwrap_or(30))),
        };
        watch(&checker, all, end).await?;
        checker.hold();
        say(format_args!("waiting for what is on its way"))?;
        let verdict = checker.finish().await;
        say(format_args!("seed {seed}\n{verdict}"))?;
        Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn shape(&self) -> Shape {
        let pace = Duration::from_millis(self.pace);
        Shape {
            sessions: self.sessions,
            nodes: self.urls.len(),
            topics: self.destinations,
            queues: self.destinations,
            pace: pace / 2..=pace * 3 / 2,
            closes_allowed: self.reconnect,
            ..Shape::default()
        }
    }
}

/// Shows how far it is, until all is sent, time is up, Ctrl-C, or nothing goes on any more.
async fn watch(checker: &Checker, all: Option<u64>, end: Option<Instant>) -> std::io::Result<()> {
    let mut sent = pin!(checker.wait(|now| all.is_some_and(|all| now.sent >= all)));
    let mut end = pin!(at(end));
    let mut seconds = interval(Duration::from_secs(1));
    let mut hold = [true, true, false, false].into_iter().cycle();
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                // So that there is something in the queues half of the time.
                checker.hold_acks(hold.next() == Some(true));
                show(checker)?;
            }
            going_on = &mut sent => return match going_on {
                true => Ok(()),
                false => say(format_args!("stopped: a session was closed, or nothing happens")),
            },
            () = &mut end => return Ok(()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn show(checker: &Checker) -> std::io::Result<()> {
    let now = *checker.progress().borrow();
    let (unanswered, oldest) = checker.unanswered();
    say(format_args!(
        "{:4.0} s  {} sessions  {} sent  {unanswered} without receipt (oldest {:.1} s)  {} delivered  {} acknowledged",
        checker.elapsed().as_secs_f64(),
        now.sessions,
        now.sent,
        oldest.as_secs_f64(),
        now.received,
        now.acked,
    ))
}

fn say(what: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    writeln!(stdout(), "{what}")
}

/// Returns at `end`, never if there is none.
async fn at(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
