//! The way to Redis: one connection that all share, and whoever opens the next when it ends.
//!
//! Invariants
//! - There is at most one live [`Line`] at a time, and everyone sees it change.
//! - A line on which one answer did not come in time is given up, for nobody knows what became of the
//!   question, and the answers behind it are late as well. The next line is another one, so whoever holds
//!   a state of affairs compares their numbers.
//! - No question waits longer than `command_timeout`; while there is no line it fails at once.
//! - No error ends the supervisor. The same error again is nothing new.
//!
//! The connection has no limit of its own on what is under way: questions come from a batch at a time, or
//! from callers that each wait for their answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::RngExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    ServerErrorKind, TlsCertificates, Value,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Failure, Lua, RedisConfig, Scripts, Url};

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How often an idle line is asked whether it lives.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that was opened.
pub struct Line {
    wire: Wire,
    /// Which one it is, counted over the life of the link.
    pub number: u64,
    /// Names this run of the server; empty where that cannot be known.
    pub run: String,
    broken: CancellationToken,
}

#[derive(Clone)]
enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What shares the connection.
pub struct Link {
    line: watch::Receiver<Result<Arc<Line>, String>>,
    command_timeout: Duration,
    /// How many times something was sent to Redis and waited for.
    round_trips: AtomicU64,
}

/// The answers to a batch of questions, in their order.
pub struct Answers(std::vec::IntoIter<Value>);

impl Link {
    /// Opens the connection and keeps it open until `closing`. Each connection gets `scripts` loaded. It must
    /// be called within a Tokio runtime.
    pub fn start<L: Lua>(
        config: RedisConfig,
        scripts: &Scripts<L>,
        closing: CancellationToken,
    ) -> Self {
        let (lines, line) = watch::channel(Err("not connected yet".to_owned()));
        let command_timeout = config.command_timeout;
        let supervisor =
            Supervisor { config, loads: scripts.load(), lines, told: Mutex::default() };
        tokio::spawn(async move { closing.run_until_cancelled(supervisor.run()).await });
        Self { line, command_timeout, round_trips: AtomicU64::new(0) }
    }

    /// The line of the moment, or why there is none.
    ///
    /// # Errors
    /// [`Failure::Down`].
    pub fn line(&self) -> Result<Arc<Line>, Failure> {
        self.line.borrow().clone().map_err(Failure::Down)
    }

    /// Every change of the line.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Result<Arc<Line>, String>> {
        self.line.clone()
    }

    /// How often something was sent to Redis and waited for.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// How long Redis may take to answer.
    #[must_use]
    pub fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// Asks all of `questions` in one round trip, and returns the answers once all are there. Of one
    /// server they are answered in their order; of a Cluster each slot for itself.
    ///
    /// # Errors
    /// As soon as one question has no answer; others may have been done.
    pub async fn ask(&self, questions: Vec<Cmd>) -> Result<Answers, Failure> {
        self.ask_on(&*self.line()?, questions).await
    }

    /// The answer to one question.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ask_one<T: FromRedisValue>(&self, question: Cmd) -> Result<T, Failure> {
        self.ask(vec![question]).await?.next()
    }

    /// Like [`ask`](Link::ask), on that line and no other.
    ///
    /// # Errors
    /// As of [`ask`](Link::ask).
    pub async fn ask_on(&self, line: &Line, questions: Vec<Cmd>) -> Result<Answers, Failure> {
        let answers = self.ask_each_on(line, questions).await?;
        let answers: Vec<_> = answers.into_iter().collect::<Result<_, _>>()?;
        Ok(Answers(answers.into_iter()))
    }

    /// Like [`ask_on`](Link::ask_on), but each question has its own answer or failure.
    ///
    /// # Errors
    /// When there are no answers at all.
    pub async fn ask_each_on(
        &self,
        line: &Line,
        questions: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let lost = || "the connection to Redis was lost".to_owned();
        if line.broken.is_cancelled() {
            return Err(Failure::Down(lost()));
        }
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let answers = line.wire.clone().send(questions);
        let answers = tokio::select! {
            answers = tokio::time::timeout(self.command_timeout, answers) => answers,
            () = line.broken.cancelled() => return Err(Failure::Lost(lost())),
        };
        match answers {
            Ok(Ok(answers)) => {
                let one = |answer| {
                    let error = match answer {
                        Ok(Value::ServerError(error)) => error.into(),
                        Ok(answer) => return Ok(answer),
                        Err(error) => error,
                    };
                    if !is_about_a_command(&error) {
                        line.broken.cancel();
                    }
                    Err(Failure::of(error))
                };
                Ok(answers.into_iter().map(one).collect())
            }
            Ok(Err(error)) => {
                line.broken.cancel();
                Err(Failure::Lost(error.to_string()))
            }
            Err(_) => {
                line.broken.cancel();
                let limit = self.command_timeout;
                Err(Failure::Lost(format!("Redis did not answer within {limit:?}")))
            }
        }
    }

    /// Asks each of `steps` once all answers to the one before it are there, and returns all answers.
    /// One server answers in order, so there it takes one round trip.
    ///
    /// # Errors
    /// As of [`ask`](Link::ask).
    pub async fn ask_in_order(&self, steps: Vec<Vec<Cmd>>) -> Result<Answers, Failure> {
        self.ask_in_order_on(&*self.line()?, steps).await
    }

    /// Like [`ask_in_order`](Link::ask_in_order), on that line and no other.
    ///
    /// # Errors
    /// As of [`ask`](Link::ask).
    pub async fn ask_in_order_on(
        &self,
        line: &Line,
        steps: Vec<Vec<Cmd>>,
    ) -> Result<Answers, Failure> {
        if let Wire::One(_) = line.wire {
            return self.ask_on(line, steps.into_iter().flatten().collect()).await;
        }
        let mut all = Vec::new();
        for step in steps {
            all.extend(self.ask_on(line, step).await?.0);
        }
        Ok(Answers(all.into_iter()))
    }

    /// Like [`ask_in_order_on`](Link::ask_in_order_on), but each question has its own answer or failure. Of a
    /// Cluster a step is asked also when some of the one before failed.
    ///
    /// # Errors
    /// When a step has no answers at all: [`Failure::Lost`] unless nothing was sent.
    pub async fn ask_each_in_order_on(
        &self,
        line: &Line,
        steps: Vec<Vec<Cmd>>,
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        if let Wire::One(_) = line.wire {
            return self.ask_each_on(line, steps.into_iter().flatten().collect()).await;
        }
        let mut all = Vec::new();
        for step in steps {
            match self.ask_each_on(line, step).await {
                Ok(answers) => all.extend(answers),
                Err(Failure::Down(why)) if !all.is_empty() => return Err(Failure::Lost(why)),
                Err(failure) => return Err(failure),
            }
        }
        Ok(all)
    }

    /// What each server that takes writes answers to `question`.
    ///
    /// # Errors
    /// When one of them does not.
    pub async fn ask_every_primary_on(
        &self,
        line: &Line,
        question: Cmd,
    ) -> Result<Vec<Value>, Failure> {
        let Wire::Cluster(connection) = &line.wire else {
            return Ok(self.ask_on(line, vec![question]).await?.0.collect());
        };
        let mut connection = connection.clone();
        let route = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answers = connection.route_command(question, route);
        match tokio::time::timeout(self.command_timeout, answers).await {
            Ok(Ok(Value::Map(answers))) => Ok(answers.into_iter().map(|(_, one)| one).collect()),
            Ok(Ok(answer)) => Ok(vec![answer]),
            Ok(Err(error)) => Err(Failure::of(error)),
            Err(_) => Err(Failure::Lost("a node of the Cluster did not answer".to_owned())),
        }
    }

    /// Many questions of one kind, so many at a time, and all answers.
    ///
    /// # Errors
    /// As of [`ask`](Link::ask).
    pub async fn ask_many(
        &self,
        questions: Vec<Cmd>,
        at_a_time: usize,
    ) -> Result<Answers, Failure> {
        let mut all = Vec::with_capacity(questions.len());
        let mut questions = questions.into_iter().peekable();
        while questions.peek().is_some() {
            let some = questions.by_ref().take(at_a_time).collect();
            all.extend(self.ask(some).await?.0);
        }
        Ok(Answers(all.into_iter()))
    }
}

impl Answers {
    /// The next answer.
    ///
    /// # Errors
    /// When it is of another kind.
    #[expect(clippy::should_implement_trait, reason = "each answer is of a type of its own")]
    pub fn next<T: FromRedisValue>(&mut self) -> Result<T, Failure> {
        let answer = self.0.next().unwrap_or(Value::Nil);
        T::from_redis_value(answer).map_err(|error| Failure::Lost(error.to_string()))
    }
}

/// Why an answer is none.
fn refusal(answer: &Result<Value, RedisError>) -> Option<RedisError> {
    match answer {
        Ok(Value::ServerError(error)) => Some(error.clone().into()),
        Ok(_) => None,
        Err(error) => Some(error.clone()),
    }
}

/// Whether the server refused one command and will take others. Else the connection is lost, or the
/// server is no primary any more, is loading, or has lost the scripts: the next line finds out.
fn is_about_a_command(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ResponseError
                | ServerErrorKind::ExecAbort
                | ServerErrorKind::CrossSlot
                | ServerErrorKind::NoPerm
        ),
        ErrorKind::Extension => true,
        _ => false,
    }
}

impl Wire {
    async fn send(self, questions: Vec<Cmd>) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        match self {
            Self::One(mut connection) => {
                let mut pipeline = Pipeline::with_capacity(questions.len());
                for question in questions {
                    pipeline.add_command(question);
                }
                let length = pipeline.len();
                let answers = connection.send_packed_commands(&pipeline, 0, length).await?;
                Ok(answers.into_iter().map(Ok).collect())
            }
            // It splits no pipeline among slots.
            Self::Cluster(connection) => {
                let answers = questions.into_iter().map(|question| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(&question).await }
                });
                Ok(join_all(answers).await)
            }
        }
    }
}

struct Supervisor {
    config: RedisConfig,
    /// What loads the scripts.
    loads: Vec<Cmd>,
    lines: watch::Sender<Result<Arc<Line>, String>>,
    /// The reason told last. Held for a comparison.
    told: Mutex<String>,
}

impl Supervisor {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        for number in 1.. {
            match self.open(number).await {
                Ok(line) => {
                    tracing::info!("connected to Redis");
                    self.told.lock().clear();
                    let line = Arc::new(line);
                    let _ = self.lines.send_replace(Ok(line.clone()));
                    let since = tokio::time::Instant::now();
                    let why = self.watch(&line).await;
                    self.down(format!("lost the connection to Redis: {why}"));
                    // One that ended at once is as good as none.
                    if since.elapsed() > self.config.reconnect_pause {
                        pause = FIRST_PAUSE;
                    }
                }
                Err(why) => self.down(why),
            }
            let shortened = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
            tokio::time::sleep(shortened.min(self.config.reconnect_pause)).await;
            pause = (pause * 2).min(self.config.reconnect_pause);
        }
    }

    async fn open(&self, number: u64) -> Result<Line, String> {
        let limit = self.config.connect_timeout;
        let mut why = String::new();
        // The nodes of a Cluster are found by any of them.
        let tries = match self.config.cluster {
            true => vec![&self.config.urls[..]],
            false => self.config.urls.chunks(1).collect(),
        };
        for urls in tries {
            let places: Vec<_> = urls.iter().map(Url::place).collect();
            let places = places.join(", ");
            match tokio::time::timeout(limit, self.connect(urls, number)).await {
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(error)) => why = format!("cannot connect to Redis at {places}: {error}"),
                Err(_) => why = format!("Redis at {places} does not answer"),
            }
        }
        Err(why)
    }

    async fn connect(&self, urls: &[Url], number: u64) -> Result<Line, String> {
        let text = |error: RedisError| error.to_string();
        let tcp = TcpSettings::default().set_nodelay(true);
        let infos = urls.iter().map(|url| Ok(url.parse()?.set_tcp_settings(tcp.clone())));
        let infos: Vec<_> = infos.collect::<Result<_, String>>()?;
        let certificates = self
            .config
            .authorities()?
            .map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        // Where the process has chosen already, that stands.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let timeout = self.config.connect_timeout;
        let mut wire = match self.config.cluster {
            true => {
                let mut builder = ClusterClient::builder(infos)
                    .connection_timeout(timeout)
                    .response_timeout(self.config.command_timeout)
                    .retries(1)
                    .tcp_settings(tcp);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                let client = builder.build().map_err(text)?;
                Wire::Cluster(client.get_async_connection().await.map_err(text)?)
            }
            false => {
                let Some(info) = infos.into_iter().next() else {
                    return Err("no URL".to_owned());
                };
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates),
                    None => Client::open(info),
                };
                // Time is kept by who asks.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(timeout))
                    .set_response_timeout(None)
                    .set_pipeline_buffer_size(2_048);
                let client = client.map_err(text)?;
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                Wire::One(connection.await.map_err(text)?)
            }
        };
        if let Some(refusal) =
            wire.clone().send(self.loads.clone()).await.map_err(text)?.iter().find_map(refusal)
        {
            return Err(refusal.to_string());
        }
        let run = run_of(&mut wire).await.map_err(text)?;
        Ok(Line { wire, number, run, broken: CancellationToken::new() })
    }

    /// Returns why the line ended, once it has.
    async fn watch(&self, line: &Line) -> &'static str {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = line.broken.cancelled() => return "it was given up",
            }
            let ping = line.wire.clone().send(vec![redis::cmd("PING")]);
            let why = match tokio::time::timeout(self.config.command_timeout, ping).await {
                Ok(Ok(answers)) if answers.iter().all(|answer| refusal(answer).is_none()) => {
                    continue;
                }
                Ok(_) => "it was closed",
                Err(_) => "Redis is silent",
            };
            line.broken.cancel();
            return why;
        }
    }

    fn down(&self, why: String) {
        let mut told = self.told.lock();
        match *told == why {
            true => tracing::debug!("{why}"),
            false => tracing::warn!("{why}"),
        }
        told.clone_from(&why);
        let _ = self.lines.send_replace(Err(why));
    }
}

/// Names the run of a single server, which changes with each start. Where `INFO` is refused, as some
/// providers do, and in a Cluster, it is empty.
async fn run_of(wire: &mut Wire) -> Result<String, RedisError> {
    let Wire::One(connection) = wire else { return Ok(String::new()) };
    let mut info = redis::cmd("INFO");
    info.arg("server");
    let answer = match connection.send_packed_command(&info).await {
        Ok(answer) => String::from_redis_value(answer).unwrap_or_default(),
        Err(error) if error.is_unrecoverable_error() => return Err(error),
        Err(_) => String::new(),
    };
    let run = answer.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(run.map(|run| run.trim().chars().take(16).collect()).unwrap_or_default())
}
