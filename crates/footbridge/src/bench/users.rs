//! `bench users`: what a service sends to single users through one stream, beside what it publishes to a topic.
//!
//! Every user has one session, which stays open for all runs. A message to a user reaches that session
//! alone; a message to the topic reaches one subscriber per node. Both go out by gRPC, from one caller, and
//! count from when they were handed to the stream.
//!
//! Invariants
//! - The load is closed: at most `window` messages are on their way, each until all whom it is for have it.
//!   The notifier has a limit of its own on what is unconfirmed in a stream (notifier.max_in_flight).
//! - A user that gets what is for another is a fault, and so is an answer that counts other than it reached.
//! - CPU is counted over the measured messages only.
//!
//! Not here: the stream ([`outflow`](super::outflow)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use proto::v1::PublishRequest;
use proto::v1::SendRequest;
use proto::v1::SendToUserRequest;
use proto::v1::send_request::To;

use super::Common;
use super::message::STAMP;
use super::outflow::{Flowing, Outflow, Progress};
use super::process::Process;
use super::report::{Named, Report, progress};
use super::run::{Run, Work};
use super::sessions::{Plan, Sessions};
use super::subject::{Side, Subject};
use super::target::{Login, Target, raise_open_files};
use crate::grpc::Notifier;

/// What users are sent to, as a service and as they themselves name it.
const WITHIN_USER: &str = "/queue/bench";
const OWN: &str = "/user/queue/bench";

/// Nothing comes for so long although something should: what is missing is lost.
const STALL: Duration = Duration::from_secs(10);

/// Time to notice a message that comes twice after all came once.
const QUIET: Duration = Duration::from_millis(200);

/// Sends to single users by gRPC, beside publishes to a topic with one subscriber per node
///
/// Users are called NAME-0, NAME-1, ... where NAME is --login [default: bench].
#[derive(Debug, clap::Args, serde::Serialize)]
pub(super) struct Users {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) common: Common,
    /// The notifier of that cluster, as http://host:port; needed with --url
    #[arg(long, value_name = "URL", requires = "urls")]
    grpc: Option<String>,
    /// The token that says who calls, where the notifier asks for one
    #[arg(long, env = "FOOTBRIDGE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[serde(skip)]
    token: Option<String>,
    /// Users with one session each, spread over the nodes
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Messages that are measured, of each side
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Messages before those, checked but not measured
    #[arg(long, default_value_t = 2_000, value_name = "MESSAGES")]
    warm_up: u32,
    /// Bytes of each body
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(STAMP as i64..))]
    size: u32,
    /// At most so many messages on their way
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    window: u32,
    /// Let the broker forget the messages in a restart; as services send, it keeps them
    #[arg(long)]
    transient: bool,
}

/// Whom the messages of a side are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// One user each, all in turn.
    Users,
    /// The subscribers of the topic, one per node.
    Topic,
}

impl Named for Whom {
    fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Topic => "topic",
        }
    }
}

impl Users {
    /// Measures.
    pub(super) async fn run(&self) -> anyhow::Result<Report> {
        if !self.common.against.is_empty() {
            bail!(
                "leave --against out: sends to users are compared with a topic of the same server"
            );
        }
        raise_open_files(self.users as usize)?;
        let subject = Subject::start(Side::Server, &self.common).await?;
        let mut crowd = Crowd::gather(self, &subject).await?;
        let sides = [Whom::Users, Whom::Topic];
        Report::measure("users", self, self.common.pairs, &sides, async |whom| {
            crowd.measure(whom).await.with_context(|| format!("sending to the {}", whom.name()))
        })
        .await
    }

    /// One target per user, the nodes in turn.
    fn targets(&self, subject: &Subject) -> anyhow::Result<Vec<Target>> {
        let Login { login, passcode, host, heart_beat } = &self.common.login;
        let prefix = login.as_deref().unwrap_or("bench");
        let urls = subject.targets.iter().map(|target| &target.url).cycle();
        let targets = urls.zip(0..self.users).map(|(url, user)| {
            let login = Login {
                login: Some(format!("{prefix}-{user}")),
                passcode: passcode.clone(),
                host: host.clone(),
                heart_beat: *heart_beat,
            };
            Target::new(url, &login)
        });
        targets.collect()
    }
}

/// The users, connected and subscribed.
struct Crowd<'a> {
    plan: &'a Users,
    subject: &'a Subject,
    notifier: Notifier,
    /// As the server knows them.
    names: Arc<[String]>,
    nodes: u32,
    /// One per node, which hears the topic, too; and the others.
    sessions: [Sessions; 2],
    outflow: Arc<Outflow>,
    runs: u32,
}

impl<'a> Crowd<'a> {
    async fn gather(plan: &'a Users, subject: &'a Subject) -> anyhow::Result<Self> {
        let url = match (&subject.grpc, &plan.grpc) {
            (Some(url), _) | (None, Some(url)) => url,
            (None, None) => bail!("where is the notifier? Give --grpc http://host:port with --url"),
        };
        let notifier = Notifier::connect(url, plan.token.as_deref()).await?;
        subject.check_ports(plan.users as usize)?;
        let nodes = u32::try_from(subject.targets.len()).context("too many nodes")?;
        ensure!(plan.users >= nodes, "{nodes} nodes need at least as many --users");
        let targets = plan.targets(subject)?;
        let prefix = plan.common.login.login.as_deref().unwrap_or("bench");
        let names = (0..plan.users).map(|user| format!("{prefix}-{user}")).collect();
        let outflow = Arc::new(Outflow::new(plan.window));
        let bar = progress(u64::from(plan.users), "connecting".to_owned());
        let (with_topic, others) = targets.split_at(nodes as usize);
        let open = async |targets: &[Target], first: usize, destinations: &[&str]| {
            let destinations: Vec<_> = destinations.iter().map(|&name| name.to_owned()).collect();
            let sessions = Plan {
                targets,
                sessions: targets.len(),
                concurrency: plan.common.concurrency,
                destinations: &destinations,
            };
            let show = |index: usize| {
                let (outflow, session) = (Arc::clone(&outflow), first + index);
                move |frame: &super::frame::StompFrame<'_>| {
                    if frame.command == b"MESSAGE" {
                        outflow.arrived(session as u32, frame.body, Instant::now());
                    }
                }
            };
            Sessions::open(sessions, &bar, show).await
        };
        let topic = &*plan.common.destination;
        let sessions = [
            open(with_topic, 0, &[OWN, topic]).await?,
            open(others, with_topic.len(), &[OWN]).await?,
        ];
        Ok(Self { plan, subject, notifier, names, nodes, sessions, outflow, runs: 0 })
    }

    async fn measure(&mut self, whom: Whom) -> anyhow::Result<Run> {
        let plan = self.plan;
        let messages = plan.warm_up.checked_add(plan.messages).context("too many messages")?;
        self.runs += 1;
        let run = std::process::id().rotate_left(8).wrapping_add(self.runs);
        match whom {
            Whom::Users => self.outflow.begin_singles(run, plan.users, messages),
            Whom::Topic => self.outflow.begin_shared(run, self.nodes, messages),
        }
        self.send(whom, plan.warm_up).await?;
        self.outflow.measure();
        let own = Process::own();
        let (cpu_before, own_before) = (self.subject.cpu()?, own.cpu()?);
        let begun = Instant::now();
        self.send(whom, messages).await?;
        let (cpu_after, own_after) = (self.subject.cpu()?, own.cpu()?);
        tokio::time::sleep(QUIET).await;

        let measured = f64::from(plan.messages);
        let found = self.outflow.found();
        let elapsed = found.last.saturating_duration_since(begun);
        let mut run = Run::default();
        run.figure("messages", "", measured);
        run.figure("messages", "per s", measured / elapsed.as_secs_f64());
        run.figure("deliveries", "per s", found.deliveries as f64 / elapsed.as_secs_f64());
        run.latencies("latency", &found.latency);
        run.latencies("answered", &found.answering);
        let work = Work { doing: "sending", unit: "message", amount: measured, elapsed };
        run.cpu(&self.subject.processes, &cpu_before, &cpu_after, &work);
        run.generator_cpu(own_after - own_before, &work);
        run.figure("lost", "", found.faults.lost as f64);
        run.figure("duplicated", "", found.faults.duplicated as f64);
        run.figure("out of order", "", found.faults.out_of_order as f64);
        run.figure("at the wrong user", "", found.astray as f64);
        run.figure("miscounted", "", found.miscounted as f64);
        run.fault = found.complaint();
        Ok(run)
    }

    /// Sends what is to be sent before message `end`, and waits until it is done or the rest is lost.
    async fn send(&mut self, whom: Whom, end: u32) -> anyhow::Result<()> {
        let (plan, names) = (self.plan, Arc::clone(&self.names));
        let persistent = Some(!plan.transient);
        let (size, topic) = (plan.size as usize, plan.common.destination.clone());
        let flowing = Flowing { size, persistent, end };
        let (notifier, outflow) = (&self.notifier, &self.outflow);
        let mut sending: std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + '_>> =
            match whom {
                Whom::Users => Box::pin(outflow.send(notifier, flowing, move |user, message| {
                    let users = names.get(user as usize).cloned().into_iter().collect();
                    let (destination, message) = (WITHIN_USER.to_owned(), Some(message));
                    let to = SendToUserRequest {
                        users,
                        destination,
                        message,
                        ..SendToUserRequest::default()
                    };
                    SendRequest { to: Some(To::Users(to)) }
                })),
                Whom::Topic => {
                    Box::pin(outflow.publish(notifier, flowing, move |_, message| PublishRequest {
                        destination: topic.clone(),
                        message: Some(message),
                        ..PublishRequest::default()
                    }))
                }
            };
        let mut watch = tokio::time::interval(Duration::from_millis(200));
        let (mut last, mut last_change) = (Progress::default(), Instant::now());
        let mut is_answered = false;
        let [some, others] = &mut self.sessions;
        while !is_answered || outflow.done() < end {
            tokio::select! {
                answered = &mut sending, if !is_answered => {
                    answered?;
                    is_answered = true;
                }
                () = outflow.message_done(), if is_answered => {}
                error = some.failure() => return Err(error),
                error = others.failure() => return Err(error),
                _ = watch.tick() => {
                    let now = outflow.progress();
                    if now != last {
                        (last, last_change) = (now, Instant::now());
                    } else if last_change.elapsed() > STALL {
                        ensure!(now.delivered > 0, "not one message arrived within {STALL:?}");
                        ensure!(is_answered, "no answer came within {STALL:?}");
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
