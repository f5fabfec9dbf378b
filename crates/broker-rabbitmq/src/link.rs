//! One live connection to RabbitMQ, from its opening to its end.
//!
//! Invariants
//! - lapin's recovery is off: a connection that ended never comes back, nor do its channels and
//!   delivery tags. Who holds any of them asks the [`Supervisor`](crate::supervisor) for the next.
//! - `ended` fires once the connection is not usable any more, whoever ended it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use rand::seq::SliceRandom;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Config, opening};

/// A connection that was opened. It closes when the last holder lets go.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    /// Which one it is, counted over the life of its supervisor.
    pub(crate) generation: u64,
    ended: CancellationToken,
    /// Whether it ended at something that lapin could not parse.
    unreadable: AtomicBool,
}

/// The link of the moment, if there is one.
pub(crate) type Links = watch::Receiver<Option<Arc<Link>>>;

/// What RabbitMQ said to an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It refused this one. The channel is gone, the connection is not.
    #[error("{0}")]
    Refused(String),
    /// The connection went away; the operation may or may not have happened.
    #[error("the connection to RabbitMQ went away: {0}")]
    Lost(String),
}

/// What a connection tells while it lives.
#[derive(Debug)]
pub(crate) enum News {
    /// RabbitMQ reads no more from it, for the reason given.
    Blocked(String),
    /// RabbitMQ reads again.
    Unblocked,
    /// It has ended, for the reason given.
    Ended(String),
}

/// Where a connection goes, without the password.
fn place(uri: &AMQPUri) -> String {
    format!("{}:{} vhost {}", uri.authority.host, uri.authority.port, uri.vhost)
}

/// How often the connection is looked at besides its own events, of which lapin has none for some
/// ends.
const LOOK: Duration = Duration::from_millis(500);

/// How long RabbitMQ may take to answer a good-bye.
const GOOD_BYE: Duration = Duration::from_secs(2);

impl Link {
    /// Opens a connection to one of the RabbitMQs that `config` names, tried in random order, and says
    /// to which. `missed` hears why those that were tried before are not to be had.
    pub(crate) async fn open_any(
        config: &Config,
        name: &str,
        generation: u64,
        missed: impl Fn(String),
    ) -> Option<(Self, String)> {
        let mut uris: Vec<_> = config.uris.iter().collect();
        uris.shuffle(&mut rand::rng());
        for uri in uris {
            let uri = match uri.parse() {
                Ok(uri) => uri,
                Err(why) => {
                    missed(format!("{uri} is no AMQP URI: {why}"));
                    continue;
                }
            };
            let authorities = match config.authorities() {
                Ok(authorities) => authorities,
                Err(why) => {
                    missed(format!("ca_file {why}"));
                    continue;
                }
            };
            let place = place(&uri);
            let opening =
                Self::open(uri, authorities, name.to_owned(), config.heart_beat, generation);
            match tokio::time::timeout(config.connect_timeout, opening).await {
                Ok(Ok(link)) => return Some((link, place)),
                Ok(Err(why)) => missed(format!("cannot connect to RabbitMQ at {place}: {why}")),
                Err(_) => missed(format!("RabbitMQ at {place} does not answer")),
            }
        }
        None
    }

    /// Connects and logs in. `authorities` are certificates in PEM that are trusted besides the
    /// system's. The text of an error says what RabbitMQ said.
    async fn open(
        mut uri: AMQPUri,
        authorities: Option<String>,
        name: String,
        heart_beat: Duration,
        generation: u64,
    ) -> Result<Self, String> {
        // `Config::check` keeps it within.
        uri.query.heartbeat = Some(u16::try_from(heart_beat.as_secs()).unwrap_or(u16::MAX));
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "Footbridge".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connection = opening::open(uri, authorities, properties).await.map_err(|e| said(&e))?;
        let ended = CancellationToken::new();
        Ok(Self { connection, generation, ended, unreadable: AtomicBool::new(false) })
    }

    /// Tells `news` until the connection has ended.
    pub(crate) async fn watch(&self, mut news: impl FnMut(News)) {
        let mut events = std::pin::pin!(self.connection.events_listener());
        let mut reason = "it was closed".to_owned();
        let mut refusals = 0;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => news(News::Blocked(why)),
                    Some(Event::ConnectionUnblocked) => news(News::Unblocked),
                    // A channel's error is told as an event of the connection too.
                    Some(Event::Error(error)) => {
                        self.note(&error);
                        reason = said(&error);
                        refusals += 1;
                    }
                    Some(_) => {}
                    None => break,
                },
                _ = look.tick() => {}
            }
            if !self.connection.status().connected() {
                break;
            }
            // lapin never uses the number of a channel again that RabbitMQ closed: it answers for it
            // with the error of then. While there are numbers left for all the rest, the next
            // connection takes over.
            if refusals >= self.channel_max() / 2 {
                self.ended.cancel();
                news(News::Ended(format!(
                    "{refusals} of its channels were closed, the last: {reason}"
                )));
                let _ = tokio::time::timeout(GOOD_BYE, self.close()).await;
                return;
            }
        }
        self.ended.cancel();
        news(News::Ended(reason));
    }

    /// Returns once the connection has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// How many channels RabbitMQ allows on this connection.
    pub(crate) fn channel_max(&self) -> u16 {
        self.connection.configuration().channel_max()
    }

    /// How many bytes the longest frame may have on this connection.
    pub(crate) fn frame_max(&self) -> usize {
        usize::try_from(self.connection.configuration().frame_max()).unwrap_or(usize::MAX)
    }

    pub(crate) async fn channel(&self) -> Result<Channel, Failure> {
        self.answer(self.connection.create_channel()).await
    }

    /// A channel whose publishes are confirmed.
    pub(crate) async fn confirm_channel(&self) -> Result<Channel, Failure> {
        let channel = self.channel().await?;
        self.answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// RabbitMQ's answer to `operation`, as long as the connection is there to bring it.
    pub(crate) async fn answer<T>(
        &self,
        operation: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            answer = operation => answer.map_err(|error| self.failure(&error)),
            () = self.ended() => Err(Failure::Lost("it ended".to_owned())),
        }
    }

    /// Whether it ended because RabbitMQ sent what cannot be read. It would send it again.
    pub(crate) fn unreadable(&self) -> bool {
        self.unreadable.load(Ordering::Relaxed)
    }

    fn note(&self, error: &lapin::Error) {
        if let ErrorKind::ParsingError(_) = error.kind() {
            self.unreadable.store(true, Ordering::Relaxed);
        }
    }

    /// Whether `error` speaks of the operation or of the connection.
    pub(crate) fn failure(&self, error: &lapin::Error) -> Failure {
        self.note(error);
        if self.connection.status().connected() && error.is_amqp_soft_error() {
            Failure::Refused(said(error))
        } else {
            Failure::Lost(said(error))
        }
    }

    /// Says good-bye to RabbitMQ.
    pub(crate) async fn close(&self) {
        // An error means that it has gone already.
        let _ = self.connection.close(200, "closed by Footbridge".into()).await;
    }
}

/// Waits for a link to be there. None once there will be none any more.
pub(crate) async fn current(links: &mut Links) -> Option<Arc<Link>> {
    links.wait_for(Option::is_some).await.ok()?.clone()
}

/// What RabbitMQ said, where it said anything.
pub(crate) fn said(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::ParsingError(error) => format!(
            "RabbitMQ sent what cannot be read ({error}); a message with malformed properties in a \
             queue that this node consumes is the likely cause: find it and remove it"
        ),
        _ => error.to_string(),
    }
}
