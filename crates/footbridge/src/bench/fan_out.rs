//! `bench fan-out`: one destination, many subscribers, and what a delivery costs.
//!
//! Latency runs from the intended time of sending until the subscriber has read the message, so
//! it includes this generator's own share: on a machine that is full, most of it may be that.
//!
//! Invariants
//! - CPU is counted over the measured messages only: the warm-up is complete before, and the
//!   last delivery has come.
//! - The load ends: after the last message, when a session fails, or when nothing has come for
//!   10 s although something should.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::Common;
use super::client::{Client, ClientError, escape};
use super::floor::Floor;
use super::message::{STAMP, Stamp};
use super::pace::{Clock, Pace, Schedule};
use super::process::Process;
use super::report::{Named as _, Report, progress};
use super::run::{Run, Work};
use super::sessions::{Plan, Sessions};
use super::subject::{Side, Subject};
use super::tally::Tally;
use super::target::raise_open_files;

/// Nothing comes for so long although something should: what is missing is lost.
const STALL: Duration = Duration::from_secs(10);

/// Time to notice a message that comes twice after all came once.
const QUIET: Duration = Duration::from_millis(200);

/// One destination, many subscribers: latency, deliveries per second, CPU per delivery
#[derive(Debug, clap::Args, serde::Serialize)]
pub(super) struct FanOut {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: Common,
    /// Sessions with one subscription each
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Sessions that send, taking turns; each --url has its share of them too
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    publishers: u32,
    /// Messages that are measured
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Messages before those, checked but not measured
    #[arg(long, default_value_t = 20, value_name = "MESSAGES")]
    warm_up: u32,
    /// Bytes of each body
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(STAMP as i64..))]
    size: u32,
    /// Open loop: messages per second, on an absolute schedule [default: 20]
    #[arg(long, conflicts_with = "window", value_parser = positive)]
    rate: Option<f64>,
    /// Closed loop: at most so many messages in flight, each until every subscriber has it
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    window: Option<u32>,
    /// Compare with a bare loop of send(2), measured in turn
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "each", conflicts_with = "against")]
    floor: Option<Floor>,
}

fn positive(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "not a positive number".to_owned())
}

/// What publishers and subscribers of one run share.
struct Shared {
    /// Counted under a lock that is never contended: all tasks are on one thread.
    tally: Mutex<Tally>,
    /// One permit per message that may be sent in the closed loop; a done message gives one back.
    window: Arc<Semaphore>,
    /// A message is done.
    message_done: Notify,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FanOut {
    /// Measures.
    pub(super) async fn run(&self) -> anyhow::Result<Report> {
        raise_open_files(self.subscribers as usize + self.publishers as usize)?;
        let sides = Side::sides(self.floor, &self.common);
        Report::measure("fan-out", self, self.common.pairs, &sides, async |side| {
            self.measure(side).await.with_context(|| format!("measuring the {}", side.name()))
        })
        .await
    }

    fn pace(&self) -> Pace {
        self.window.map_or(Pace::Rate(self.rate.unwrap_or(20.0)), Pace::Window)
    }

    async fn measure(&self, side: Side) -> anyhow::Result<Run> {
        let subject = Subject::start(side, &self.common).await?;
        subject.check_ports(self.subscribers as usize)?;
        let resident_before = subject.settled().await?;
        let messages = self.warm_up.checked_add(self.messages).context("too many messages")?;
        let start = Instant::now();
        let run = std::process::id() ^ (start.elapsed().as_nanos() as u32).rotate_left(16);
        let shared = Arc::new(Shared {
            tally: Mutex::new(Tally::new(
                run,
                start,
                self.subscribers as usize,
                self.publishers,
                messages,
            )),
            window: Arc::new(Semaphore::new(self.window.unwrap_or_default() as usize)),
            message_done: Notify::new(),
        });

        let bar = progress(u64::from(self.subscribers), format!("{}: connecting", side.name()));
        let plan = Plan {
            targets: &subject.targets,
            sessions: self.subscribers as usize,
            concurrency: self.common.concurrency,
            destinations: std::slice::from_ref(&self.common.destination),
        };
        let mut sessions = Sessions::open(plan, &bar, |subscriber| {
            let shared = Arc::clone(&shared);
            move |frame| {
                if frame.command == b"MESSAGE"
                    && shared.tally().received(subscriber, frame.body, Instant::now())
                {
                    shared.window.add_permits(1);
                    shared.message_done.notify_one();
                }
            }
        })
        .await?;
        let mut publishers = Vec::new();
        let nodes = subject.publish.iter().cycle().zip(1..=self.publishers);
        for (target, publisher) in nodes {
            let connected = Client::connect(target, 0, 1).await;
            publishers.push(connected.with_context(|| format!("publisher {publisher}"))?);
        }

        let bar = progress(u64::from(messages), format!("{}: sending", side.name()));
        let warm_up = 0..self.warm_up;
        let publishers = self.send(run, warm_up, publishers, &shared, &mut sessions, &bar).await?;
        shared.tally().measure();
        let own = Process::own();
        let (cpu_before, own_before) = (subject.cpu()?, own.cpu()?);
        let begun = Instant::now();
        let measured = self.warm_up..messages;
        let publishers = self.send(run, measured, publishers, &shared, &mut sessions, &bar).await?;
        let (cpu_after, own_after) = (subject.cpu()?, own.cpu()?);
        tokio::time::sleep(QUIET).await;
        let resident_after = subject.resident()?;
        drop((publishers, sessions));

        let tally = shared.tally();
        let elapsed = tally.last.saturating_duration_since(begun);
        let deliveries = tally.deliveries as f64;
        let mut run = Run::default();
        run.figure("deliveries", "", deliveries);
        run.figure("deliveries", "per s", deliveries / elapsed.as_secs_f64());
        run.latencies("latency", &tally.latency);
        if matches!(self.pace(), Pace::Rate(_)) {
            let late = tally.sent_late.value_at_quantile(0.99) as f64 / 1e6;
            run.figure("sent late by the generator p99", "ms", late);
        }
        let work = Work { doing: "sending", unit: "delivery", amount: deliveries, elapsed };
        run.cpu(&subject.processes, &cpu_before, &cpu_after, &work);
        run.generator_cpu(own_after - own_before, &work);
        if !subject.processes.is_empty() {
            let grown = resident_after.saturating_sub(resident_before) as f64 / 1024.0;
            run.figure("resident per session", "KiB", grown / f64::from(self.subscribers));
        }
        let faults = tally.faults();
        run.figure("lost", "", faults.lost as f64);
        run.figure("duplicated", "", faults.duplicated as f64);
        run.figure("out of order", "", faults.out_of_order as f64);
        run.fault = faults.complaint();
        Ok(run)
    }

    /// Sends the messages with those numbers and waits until they are done, or the rest is lost.
    async fn send(
        &self,
        run: u32,
        numbers: Range<u32>,
        clients: Vec<Client>,
        shared: &Arc<Shared>,
        sessions: &mut Sessions,
        bar: &ProgressBar,
    ) -> anyhow::Result<Vec<Client>> {
        let schedule = match self.pace() {
            Pace::Window(_) => None,
            Pace::Rate(rate) => {
                Some(Schedule { start: Instant::now(), first: numbers.start, rate })
            }
        };
        let clock =
            schedule.map(|schedule| Clock::start(schedule, numbers.clone(), self.publishers));
        let mut publishing = JoinSet::new();
        for (index, client) in (0u32..).zip(clients) {
            let window = || Arc::clone(&shared.window);
            let publisher = Publisher {
                client,
                turns: clock.as_ref().map_or_else(window, |clock| clock.turns(index)),
                schedule,
                head: format!(
                    "SEND\ndestination:{}\ncontent-type:text/plain\ncontent-length:{}\n\n",
                    escape(&self.common.destination),
                    self.size
                ),
                size: self.size as usize,
                run,
                shared: Arc::clone(shared),
            };
            let own = numbers.clone().filter(move |number| number % self.publishers == index);
            publishing.spawn(publisher.send(own.collect()));
        }
        let mut clients = Vec::new();
        let mut watch = tokio::time::interval(Duration::from_millis(200));
        let mut last = (0, 0);
        let mut last_change = Instant::now();
        while shared.tally().done < numbers.end || !publishing.is_empty() {
            tokio::select! {
                () = shared.message_done.notified() => {}
                error = sessions.failure() => return Err(error),
                Some(sent) = publishing.join_next() => clients.push(sent?.context("publishing")?),
                _ = watch.tick() => {
                    let tally = shared.tally();
                    bar.set_position(u64::from(tally.done));
                    if (tally.sent, tally.deliveries) != last || tally.sent == tally.done {
                        last = (tally.sent, tally.deliveries);
                        last_change = Instant::now();
                    } else if last_change.elapsed() > STALL {
                        break;
                    }
                }
            }
        }
        let nothing = numbers.end > numbers.start && shared.tally().deliveries == 0;
        ensure!(!nothing, "not one message arrived within {STALL:?}");
        Ok(clients)
    }
}

/// A session that sends.
struct Publisher {
    client: Client,
    /// One permit for each message that may be sent now.
    turns: Arc<Semaphore>,
    /// When messages are due; in the closed loop they are when they may be sent.
    schedule: Option<Schedule>,
    /// The SEND frame up to its body.
    head: String,
    size: usize,
    run: u32,
    shared: Arc<Shared>,
}

impl Publisher {
    async fn send(mut self, numbers: Vec<u32>) -> Result<Client, ClientError> {
        let origin = self.shared.tally().start;
        for number in numbers {
            tokio::select! {
                // Never closed. In the closed loop the permit comes back when the message is done.
                turn = self.turns.acquire() => if let Ok(turn) = turn { turn.forget() },
                error = self.client.read_on(|_| {}) => return Err(error),
            }
            let now = Instant::now();
            let intended = self.schedule.map_or(now, |schedule| schedule.due(number));
            let stamp =
                Stamp { run: self.run, number, intended: (intended - origin).as_nanos() as u64 };
            let body = stamp.body(self.size);
            self.shared.tally().sending(now - intended);
            self.client.send(&[self.head.as_bytes(), body.as_bytes(), b"\0"].concat()).await?;
        }
        Ok(self.client)
    }
}
