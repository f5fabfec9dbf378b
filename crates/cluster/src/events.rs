//! Who comes and goes, on all nodes, as one stream: each node publishes what its presence tells, and
//! whoever watches gathers it.
//!
//! An event is a topic message whose key says what happened: `session.opened`, `session.closed`,
//! `user.online` or `user.offline`. In RabbitMQ they are in the exchange `<namespace>.events`, where any
//! AMQP consumer may bind a queue of its own. The body is a JSON object:
//!
//! ```json
//! {"event": "session.closed", "user": "ann", "session": "7XQ0K3ZD...", "node": "01J9...",
//!  "ending": "left", "at": 1767225600000, "from": "01J9...", "number": 42}
//! ```
//!
//! - `event`: the key again. `user`: whose session, or who.
//! - `session`, `node`: the session and where it is; only of sessions.
//! - `ending`: `left`, or `node-died`; only of `session.closed`.
//! - `at`: when it was told, in milliseconds since 1970.
//! - `from`, `number`: which node tells it, which counts what it tells. A number left out is an event
//!   lost on the way, one that comes again a repeat.
//!
//! Readers skip fields that they do not know.
//!
//! Invariants
//! - Nobody waits for who watches. One who is more than [`BACKLOG`] events behind loses the oldest, and
//!   is told how many; so it is told of what a node could not publish, with the next event of that node.
//! - A repeat is not shown.
//! - Events are news, not the truth: they do not survive a restart of the broker. Who needs the truth
//!   lists who is online, and again whenever it is told that it missed something.
//!
//! Not here: what is an event (`presence`), who may watch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker::{Broker, Message, PublisherId, SubscribeError, SubscribeRequest, Subscription};
use futures_util::FutureExt;
use parking_lot::Mutex;
use presence::{BACKLOG, Boot, Ending, Event, Missed, Presence, SessionId, UserName};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::address;

/// How many events may wait between the broker and the backlog.
const ARRIVING: u16 = 1024;

/// How long a node that stops may take to publish what its presence has told already.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Of how many nodes a watcher knows the last number, at most: then it forgets those it has heard
/// nothing of for longest.
const NODES_KNOWN: usize = 4096;

/// Publishes what this node's presence tells from now on, until `stopping`; what it has told by then is
/// published yet.
pub fn publish(
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    publisher: PublisherId,
    stopping: CancellationToken,
) -> impl Future<Output = ()> + Send {
    // Before the first poll, so that nothing is missed between.
    let mut events = presence.events();
    let mut teller = Teller { broker, publisher, from: presence.boot(), number: 0 };
    async move {
        let telling = async {
            loop {
                let event = tokio::select! {
                    () = stopping.cancelled() => break,
                    event = events.next() => event,
                };
                match event {
                    Some(event) => teller.tell(event).await,
                    None => return,
                }
            }
            while let Some(Some(event)) = events.next().now_or_never() {
                teller.tell(event).await;
            }
        };
        let late = async {
            stopping.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = telling => {}
            () = late => tracing::info!("this node's last presence events were not published"),
        }
    }
}

struct Teller {
    broker: Arc<dyn Broker>,
    publisher: PublisherId,
    from: Boot,
    number: u64,
}

impl Teller {
    async fn tell(&mut self, event: Result<Arc<Event>, Missed>) {
        let event = match event {
            Ok(event) => event,
            Err(missed) => {
                // Left out, which tells all who watch.
                self.number = self.number.saturating_add(missed.0);
                tracing::warn!(%missed, "presence events were not published");
                return;
            }
        };
        self.number += 1;
        let what = What::from(&*event);
        let told = Told { at: now(), from: self.from.to_string(), number: self.number };
        let body = match serde_json::to_vec(&Written { what: &what, told: &told }) {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(%error, ?event, "a presence event cannot be written");
                return;
            }
        };
        let message = Message::new(address::event(what.key()), body);
        match self.broker.publish(self.publisher, message).await {
            // What is lost from here on is seen by its number.
            Ok(confirm) => drop(confirm),
            Err(error) => tracing::debug!(%error, ?event, "a presence event was not published"),
        }
    }
}

/// The events of all nodes, as one reader sees them.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    _watching: DropGuard,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held for a few instructions.
    backlog: Mutex<Backlog>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Backlog {
    events: VecDeque<Result<Event, Missed>>,
    /// How many were dropped before the first of them.
    dropped: u64,
    ended: bool,
}

impl Watch {
    /// Watches from now on. Waits as long as the broker is away.
    ///
    /// # Errors
    /// When the broker does not want to.
    pub async fn open(broker: &Arc<dyn Broker>) -> Result<Self, SubscribeError> {
        let request = SubscribeRequest::new(address::every_event(), ARRIVING);
        let subscription = broker.subscribe(request).await?;
        let (shared, closing) = (Arc::<Shared>::default(), CancellationToken::new());
        let gathering = shared.clone().gather(subscription);
        tokio::spawn(closing.clone().run_until_cancelled_owned(gathering));
        Ok(Self { shared, _watching: closing.drop_guard() })
    }

    /// The next event; `None` once the broker has ended the subscription. What was lost is told once, in
    /// its place. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        loop {
            let changed = self.shared.changed.notified();
            {
                let mut backlog = self.shared.backlog.lock();
                if let Some(next) = backlog.take() {
                    return Some(next);
                }
                if backlog.ended {
                    return None;
                }
            }
            changed.await;
        }
    }
}

impl Shared {
    /// Puts what comes into the backlog, so that the broker is never held up by the reader.
    async fn gather(self: Arc<Self>, mut subscription: Subscription) {
        let mut heard = Heard::default();
        while let Some(delivery) = subscription.next().await {
            let Some((from, number, event)) = read(&delivery.message.body) else { continue };
            let missed = match heard.note(from, number) {
                Came::Again => continue,
                Came::Next => None,
                Came::After(missed) => Some(missed),
            };
            let mut backlog = self.backlog.lock();
            if let Some(missed) = missed {
                backlog.put(Err(missed));
            }
            if let Some(event) = event {
                backlog.put(Ok(event));
            }
            drop(backlog);
            self.changed.notify_one();
        }
        self.backlog.lock().ended = true;
        self.changed.notify_one();
    }
}

impl Backlog {
    fn put(&mut self, one: Result<Event, Missed>) {
        if self.events.len() == BACKLOG {
            let dropped = match self.events.pop_front() {
                Some(Err(Missed(count))) => count,
                Some(Ok(_)) => 1,
                None => 0,
            };
            self.dropped = self.dropped.saturating_add(dropped);
        }
        self.events.push_back(one);
    }

    fn take(&mut self) -> Option<Result<Event, Missed>> {
        match std::mem::take(&mut self.dropped) {
            0 => self.events.pop_front(),
            dropped => Some(Err(Missed(dropped))),
        }
    }
}

/// The last event of each node.
#[derive(Debug, Default)]
struct Heard {
    by_node: HashMap<Boot, Last>,
    /// Counts what was heard, as a clock.
    now: u64,
}

#[derive(Debug)]
struct Last {
    number: u64,
    heard: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Came {
    Next,
    Again,
    After(Missed),
}

impl Heard {
    fn note(&mut self, from: Boot, number: u64) -> Came {
        self.now += 1;
        let heard = self.now;
        let Some(last) = self.by_node.get_mut(&from) else {
            if self.by_node.len() >= NODES_KNOWN {
                let oldest = self.by_node.iter().min_by_key(|(_, last)| last.heard);
                if let Some(oldest) = oldest.map(|(boot, _)| *boot) {
                    self.by_node.remove(&oldest);
                }
            }
            self.by_node.insert(from, Last { number, heard });
            return Came::Next;
        };
        last.heard = heard;
        match number.checked_sub(last.number) {
            None | Some(0) => Came::Again,
            Some(further) => {
                last.number = number;
                if further == 1 { Came::Next } else { Came::After(Missed(further - 1)) }
            }
        }
    }
}

/// What stands in a body beside what happened.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    at: u64,
    from: String,
    number: u64,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event")]
enum What {
    #[serde(rename = "session.opened")]
    SessionOpened { user: String, session: String, node: String },
    #[serde(rename = "session.closed")]
    SessionClosed { user: String, session: String, node: String, ending: How },
    #[serde(rename = "user.online")]
    UserOnline { user: String },
    #[serde(rename = "user.offline")]
    UserOffline { user: String },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Left,
    NodeDied,
}

/// A body as it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    what: &'a What,
    #[serde(flatten)]
    told: &'a Told,
}

impl What {
    fn key(&self) -> &'static str {
        match self {
            Self::SessionOpened { .. } => "session.opened",
            Self::SessionClosed { .. } => "session.closed",
            Self::UserOnline { .. } => "user.online",
            Self::UserOffline { .. } => "user.offline",
        }
    }
}

impl From<&Event> for What {
    fn from(event: &Event) -> Self {
        match event {
            Event::SessionOpened { id, user, boot } => Self::SessionOpened {
                user: user.to_string(),
                session: id.to_string(),
                node: boot.to_string(),
            },
            Event::SessionClosed { id, user, boot, ending } => Self::SessionClosed {
                user: user.to_string(),
                session: id.to_string(),
                node: boot.to_string(),
                ending: match ending {
                    Ending::Left => How::Left,
                    Ending::NodeDied => How::NodeDied,
                },
            },
            Event::UserOnline(user) => Self::UserOnline { user: user.to_string() },
            Event::UserOffline(user) => Self::UserOffline { user: user.to_string() },
        }
    }
}

impl What {
    /// The event, unless there can be none of such names.
    fn event(self) -> Option<Event> {
        let user = |name: String| UserName::new(name).ok();
        Some(match self {
            Self::SessionOpened { user: name, session, node } => Event::SessionOpened {
                id: SessionId::new(session).ok()?,
                user: user(name)?,
                boot: node.parse().ok()?,
            },
            Self::SessionClosed { user: name, session, node, ending } => Event::SessionClosed {
                id: SessionId::new(session).ok()?,
                user: user(name)?,
                boot: node.parse().ok()?,
                ending: match ending {
                    How::Left => Ending::Left,
                    How::NodeDied => Ending::NodeDied,
                },
            },
            Self::UserOnline { user: name } => Event::UserOnline(user(name)?),
            Self::UserOffline { user: name } => Event::UserOffline(user(name)?),
        })
    }
}

/// Who tells, its number, and the event, unless it is one of a newer version.
fn read(body: &[u8]) -> Option<(Boot, u64, Option<Event>)> {
    let told: Result<Told, _> = serde_json::from_slice(body);
    let from = told.as_ref().ok().and_then(|told| told.from.parse().ok());
    let (Ok(told), Some(from)) = (told, from) else {
        tracing::warn!("what came among the presence events is none; who else publishes there?");
        return None;
    };
    let event = serde_json::from_slice(body).ok().and_then(What::event);
    if event.is_none() {
        tracing::debug!("a presence event of a newer version is skipped");
    }
    Some((from, told.number, event))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
