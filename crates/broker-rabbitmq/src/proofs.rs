//! Finds out whether an exchange that others declared may be published to, before a message goes
//! there: RabbitMQ closes the channel of whoever is wrong about that, with all who publish on it.
//!
//! The question is a publish that RabbitMQ refuses in any case, for an expiration that is no number. It
//! looks at the right to write first, then whether the exchange is there, whether it is internal, and
//! only then at the expiration: the reason of the refusal is the answer. Nothing is ever routed.
//!
//! Invariants
//! - Questions go over a connection of their own. It is opened with the first and closed when nobody
//!   has asked for a while. Each question costs it a channel number, and an alarm blocks it: neither
//!   reaches those who publish or consume.
//! - One question at a time. Its answer serves all who asked before it was put.
//! - A refusal is remembered for [`REMEMBERED`], so that a client that repeats itself costs RabbitMQ
//!   nothing. An exchange that comes into being meanwhile is had that much later.
//!
//! Not here: how long an exchange that was there is believed to be (`declarations`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use lapin::options::BasicPublishOptions;
use lapin::protocol::AMQPSoftError;
use lapin::{BasicProperties, ErrorKind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::link::{Failure, Link, News};
use crate::metrics::Metrics;
use crate::operation::short;
use crate::supervisor::Pauses;

/// How long a refusal is remembered.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How many answers are remembered. With more, those that are not refusals of late are forgotten, and
/// if that is not enough, all.
const MEMORY: usize = 1_000;

/// How many may wait to ask. More wait for a place among them.
const ASKING: usize = 64;

/// How long the connection is kept for the next question.
const IDLE: Duration = Duration::from_secs(60);

/// The key of a question that is about any. Who may publish with some keys only may hardly with this.
const ANY_KEY: &str = "footbridge asks";

/// No number, so that RabbitMQ refuses it as an expiration.
const NO_EXPIRATION: &str = "footbridge asks";

/// Where to ask.
#[derive(Debug, Clone)]
pub(crate) struct Proofs {
    /// Bounded by [`ASKING`].
    asks: mpsc::Sender<Ask>,
}

/// Who asks RabbitMQ.
pub(crate) struct Prover {
    pub(crate) config: Arc<Config>,
    /// What RabbitMQ shows as the connection's name.
    pub(crate) name: String,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) closing: CancellationToken,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    exchange: ByteString,
    /// None asks for the exchange as such.
    key: Option<ByteString>,
}

/// A question.
#[derive(Debug)]
struct Ask {
    subject: Subject,
    since: Instant,
    /// Closed once nobody waits for it any more.
    answer: oneshot::Sender<Answer>,
}

/// An error is RabbitMQ's reason.
type Answer = Result<Proof, String>;

/// That an exchange may be published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// With the key that was asked for, or any if none was.
    Given,
    /// With some keys only: it must be asked for with each. RabbitMQ calls that topic permissions.
    ByKey,
}

/// What is asked, and what was answered.
struct Asked {
    asks: mpsc::Receiver<Ask>,
    /// Not answered yet.
    open: Option<Ask>,
    memory: Memory,
}

/// The answers of late.
#[derive(Debug, Default)]
struct Memory(HashMap<Subject, Told>);

#[derive(Debug)]
struct Told {
    /// When the question was put.
    since: Instant,
    answer: Answer,
}

impl Proofs {
    /// Returns once `exchange` may be published to with `key`, or with any if that is none. Waits for
    /// RabbitMQ as long as it is away. An error is its reason, or that nobody is asked any more.
    pub(crate) async fn prove(
        &self,
        exchange: &ByteString,
        key: Option<&ByteString>,
    ) -> Result<Proof, Failure> {
        let (answer, answered) = oneshot::channel();
        let subject = Subject { exchange: exchange.clone(), key: key.cloned() };
        let ask = Ask { subject, since: Instant::now(), answer };
        let closing = || Failure::Lost("it is closing".to_owned());
        self.asks.send(ask).await.map_err(|_| closing())?;
        answered.await.map_err(|_| closing())?.map_err(Failure::Refused)
    }
}

impl Prover {
    /// Where to ask, and what answers: it ends with `closing`, after its good-bye, or when nobody can
    /// ask any more.
    pub(crate) fn start(self) -> (Proofs, impl Future<Output = ()> + Send) {
        let (asks, asked) = mpsc::channel(ASKING);
        let asked = Asked { asks: asked, open: None, memory: Memory::default() };
        (Proofs { asks }, self.run(asked))
    }

    async fn run(self, mut asked: Asked) {
        let mut pauses = Pauses::new(self.config.reconnect_pause);
        let (mut generation, mut pause) = (0, Duration::ZERO);
        loop {
            generation += 1;
            let link = tokio::select! {
                link = self.open(generation, pause, &mut asked, &mut pauses) => link,
                () = self.closing.cancelled() => return,
            };
            let Some(link) = link else { return };
            tokio::select! {
                () = link.watch(|news| self.tell(news)) => pause = pauses.next(),
                () = self.serve(&link, &mut asked, &mut pauses) => {
                    link.close().await;
                    pause = Duration::ZERO;
                }
                () = self.closing.cancelled() => {
                    link.close().await;
                    return;
                }
            }
        }
    }

    /// A connection, once there is a question for it, after a pause. None once nobody can ask any more.
    async fn open(
        &self,
        generation: u64,
        mut pause: Duration,
        asked: &mut Asked,
        pauses: &mut Pauses,
    ) -> Option<Link> {
        loop {
            asked.next().await?;
            tokio::time::sleep(pause).await;
            let missed = |why| tracing::debug!(why, "exchanges cannot be asked for");
            let opened = Link::open_any(&self.config, &self.name, generation, missed).await;
            if let Some((link, place)) = opened {
                tracing::debug!(rabbitmq = place, connection = self.name, "connected");
                return Some(link);
            }
            pause = pauses.next();
        }
    }

    /// Answers until nobody asks for a while, or the connection goes.
    async fn serve(&self, link: &Link, asked: &mut Asked, pauses: &mut Pauses) {
        while let Ok(Some(subject)) = tokio::time::timeout(IDLE, asked.next()).await {
            let since = Instant::now();
            let answer = match prove(link, &subject).await {
                Ok(proof) => Ok(proof),
                Err(Failure::Refused(why)) => Err(why),
                Err(lost) => {
                    tracing::debug!(?subject, %lost, "an exchange is asked for again");
                    tokio::time::sleep(pauses.next()).await;
                    return;
                }
            };
            pauses.reset();
            self.metrics.proved(answer.is_ok());
            asked.memory.keep(subject, Told { since, answer });
        }
    }

    fn tell(&self, news: News) {
        match news {
            News::Blocked(why) => tracing::debug!(why, "exchanges are not asked for"),
            News::Unblocked => tracing::debug!("exchanges are asked for again"),
            News::Ended(why) => tracing::debug!(connection = self.name, why, "disconnected"),
        }
    }
}

impl Asked {
    /// The next question that RabbitMQ must be asked, the same until there is an answer to it. None once
    /// nobody can ask any more.
    async fn next(&mut self) -> Option<Subject> {
        loop {
            if let Some(ask) = self.open.take_if(|ask| !ask.answer.is_closed()) {
                match self.memory.answer(&ask) {
                    // An error means that nobody waits for it any more.
                    Some(answer) => drop(ask.answer.send(answer)),
                    None => return Some(self.open.insert(ask).subject.clone()),
                }
            }
            self.open = Some(self.asks.recv().await?);
        }
    }
}

impl Memory {
    /// The answer, if the question was put after `ask`, or not long before and in vain.
    fn answer(&self, ask: &Ask) -> Option<Answer> {
        let told = self.0.get(&ask.subject)?;
        (told.since >= ask.since || told.is_recent_refusal()).then(|| told.answer.clone())
    }

    fn keep(&mut self, subject: Subject, told: Told) {
        if self.0.len() >= MEMORY {
            self.0.retain(|_, told| told.is_recent_refusal());
        }
        if self.0.len() >= MEMORY {
            self.0.clear();
        }
        self.0.insert(subject, told);
    }
}

impl Told {
    fn is_recent_refusal(&self) -> bool {
        self.answer.is_err() && self.since.elapsed() < REMEMBERED
    }
}

/// Puts the question to RabbitMQ. The channel is closed with its answer.
async fn prove(link: &Link, subject: &Subject) -> Result<Proof, Failure> {
    let channel = link.confirm_channel().await?;
    let exchange = short(&subject.exchange)?;
    let key = short(subject.key.as_deref().unwrap_or(ANY_KEY))?;
    let properties = BasicProperties::default().with_expiration(NO_EXPIRATION.into());
    let options = BasicPublishOptions::default();
    let question = async {
        let written = channel.basic_publish(exchange, key, options, &[], properties).await;
        Ok(match written {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        })
    };
    match link.answer(question).await? {
        Ok(_) => {
            // It went where a message would have gone.
            tracing::warn!(?subject, "RabbitMQ took an expiration that is none");
            Ok(Proof::Given)
        }
        Err(error) if is_about_the_message(&error) => Ok(Proof::Given),
        Err(error) => match link.failure(&error) {
            Failure::Refused(why) if subject.key.is_none() && is_about_the_key(&why) => {
                Ok(Proof::ByKey)
            }
            failure => Err(failure),
        },
    }
}

/// Whether RabbitMQ refused a publish for its key, and may take one with another.
pub(crate) fn is_about_the_key(why: &str) -> bool {
    why.starts_with("ACCESS_REFUSED - access to topic '")
}

/// Whether RabbitMQ refused the message, and not the exchange.
fn is_about_the_message(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            error.kind().get_id() == AMQPSoftError::PRECONDITIONFAILED.get_id()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(exchange: &str) -> Subject {
        Subject { exchange: exchange.into(), key: None }
    }

    fn memory(answer: Answer) -> Memory {
        let mut memory = Memory::default();
        memory.keep(subject("x"), Told { since: Instant::now(), answer });
        memory
    }

    fn ask() -> Ask {
        let (answer, _) = oneshot::channel();
        Ask { subject: subject("x"), since: Instant::now(), answer }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_serves_those_who_asked_before_the_question_was_put() {
        let before = ask();
        tokio::time::advance(Duration::from_millis(1)).await;
        let memory = memory(Ok(Proof::Given));
        assert_eq!(memory.answer(&before), Some(Ok(Proof::Given)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(memory.answer(&ask()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_serves_those_who_ask_soon_after_it() {
        let memory = memory(Err("no".to_owned()));
        tokio::time::advance(REMEMBERED - Duration::from_millis(1)).await;
        assert_eq!(memory.answer(&ask()), Some(Err("no".to_owned())));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(memory.answer(&ask()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let mut memory = memory(Ok(Proof::Given));
        for n in 0..3 * MEMORY {
            let told = Told { since: Instant::now(), answer: Err("no".to_owned()) };
            memory.keep(subject(&n.to_string()), told);
            assert!(memory.0.len() <= MEMORY);
        }
    }

    #[tokio::test]
    async fn one_that_nobody_waits_for_is_not_asked() {
        let (asks, receiver) = mpsc::channel(ASKING);
        let mut asked = Asked { asks: receiver, open: None, memory: Memory::default() };
        asks.send(ask()).await.unwrap();
        let (answer, _waiting) = oneshot::channel();
        let ask = Ask { subject: subject("y"), since: Instant::now(), answer };
        asks.send(ask).await.unwrap();
        assert_eq!(asked.next().await, Some(subject("y")));
        assert_eq!(asked.next().await, Some(subject("y")), "until it is answered");
    }
}
