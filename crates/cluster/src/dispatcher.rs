//! Brings what is stored for users on its way: appends and rings, moves on what time moves on, and tells senders
//! what became of their messages.
//!
//! ```text
//! append ──► Inbox ──► doorbell ──► nodes that hold the users ──► their sessions take it from the Inbox
//!               ▲
//!               └── every half second: what is due, what expired, what is to be published now
//! ```
//!
//! Invariants
//! - What is appended is stored before anybody is told, and an append does not wait for the broker.
//! - A doorbell may be lost: whoever subscribes reads the store besides, now and then. So rings are given up
//!   while too many are under way.
//! - What has failed stays in the store until it is published, and is told again: so it is left there while that of
//!   too many inboxes is under way, as when the broker is away.
//! - What is published from an outbox, or for want of a taker, leaves the store once the broker has confirmed
//!   it. It may be published twice, under one id.
//! - Statuses are news: the store is the truth.
//!
//! Not here: the store (crate `inbox`), what a node does when its bell rings.

mod outbox;
mod sweep;
mod telling;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Destination, Destinations, MessageId, PublisherId};
use bytestring::ByteString;
use inbox::{Address, Appended, Draft, Durable, Entry, Error, Inbox, Position, Settled};
use parking_lot::Mutex;
use presence::Boot;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::telling::NOBODY;

use crate::letter::{Content, Doorbell, Ring, Told};
use crate::router::Router;

/// How many doorbells may be under way; any more are not rung.
const RINGING: usize = 256;

/// How long a doorbell may take.
const RING_PATIENCE: Duration = Duration::from_secs(10);

/// Of how many inboxes what has failed may be on its way to where that goes; of any more it is told again.
const BURYING: usize = 64;

/// The longest body that a doorbell carries along; a longer one is read from the store by those who get it.
const CARRIED: usize = 32 * 1024;

/// How many statuses may wait to be told; any more are not.
const TELLING: usize = 4096;

/// How many users' bells one letter rings.
const RINGS: usize = 1000;

/// See the module. Cloning it gives another hold of the same.
#[derive(Clone)]
pub struct Dispatcher(Arc<Shared>);

struct Shared {
    inbox: Arc<dyn Inbox>,
    router: Router,
    broker: Arc<dyn Broker>,
    destinations: Destinations,
    boot: Boot,
    publisher: PublisherId,
    /// What is stored without being asked.
    durable: Durable,
    /// Where what has failed goes, if anywhere.
    dead_letter: Option<Destination>,
    /// The doorbells that may still get under way.
    ringing: Arc<Semaphore>,
    /// The inboxes of which what has failed may still be published.
    burying: Arc<Semaphore>,
    /// The outboxes that are being published, so that each keeps its order, and whether something became due there
    /// since that began. Held for a lookup.
    publishing: Mutex<HashMap<ByteString, bool>>,
    /// What is to be told, bounded by [`TELLING`]; none once it runs.
    telling: Mutex<Option<mpsc::Receiver<(Boot, Told)>>>,
    to_tell: mpsc::Sender<(Boot, Told)>,
    /// What this process is told. Who is too slow misses some.
    told: broadcast::Sender<Told>,
    tasks: TaskTracker,
}

/// What a dispatcher is made of.
pub struct DispatcherParts {
    /// The store. Its `keeps_failed` is whether there is a `dead_letter`.
    pub inbox: Arc<dyn Inbox>,
    /// The way to nodes.
    pub router: Router,
    /// Where what is due is published.
    pub broker: Arc<dyn Broker>,
    /// The table of prefixes, by which outboxes name where they go.
    pub destinations: Destinations,
    /// This process.
    pub boot: Boot,
    /// As whom it publishes; nobody else's.
    pub publisher: PublisherId,
    /// The destinations within users that are durable whatever their senders say.
    pub durable: Durable,
    /// Where what has failed is published.
    pub dead_letter: Option<Destination>,
}

impl Dispatcher {
    /// A dispatcher of these, which moves nothing on before it [runs](Self::run).
    #[must_use]
    pub fn new(parts: DispatcherParts) -> Self {
        let DispatcherParts {
            inbox,
            router,
            broker,
            destinations,
            boot,
            publisher,
            durable,
            dead_letter,
        } = parts;
        let (to_tell, telling) = mpsc::channel(TELLING);
        Self(Arc::new(Shared {
            inbox,
            router,
            broker,
            destinations,
            boot,
            publisher,
            durable,
            dead_letter,
            ringing: Arc::new(Semaphore::new(RINGING)),
            burying: Arc::new(Semaphore::new(BURYING)),
            publishing: Mutex::default(),
            telling: Mutex::new(Some(telling)),
            to_tell,
            told: broadcast::Sender::new(TELLING),
            tasks: TaskTracker::new(),
        }))
    }

    /// The store.
    #[must_use]
    pub fn inbox(&self) -> &Arc<dyn Inbox> {
        &self.0.inbox
    }

    /// Whether what is sent to users at `path` is stored for them, whatever its sender says.
    #[must_use]
    pub fn keeps(&self, path: &str) -> bool {
        self.0.durable.is(path)
    }

    /// Stores a message for each of `to`, at most 1,000 and none twice, and has their nodes told.
    ///
    /// # Errors
    /// As [`Inbox::append`].
    pub async fn append(&self, to: &[Address], draft: &Draft) -> Result<Vec<Appended>, Error> {
        let appended = self.0.inbox.append(to, draft).await?;
        let mut rings: BTreeMap<ByteString, Vec<Ring>> = BTreeMap::new();
        for (address, appended) in to.iter().zip(&appended) {
            match (address, appended) {
                (Address::User { user, path }, Appended::Stored { at, dropped }) => {
                    self.changed(address, dropped);
                    let ring = Ring { user: user.clone(), at: *at };
                    rings.entry(path.clone()).or_default().push(ring);
                }
                (Address::Outbox { destination }, Appended::Stored { dropped, .. }) => {
                    self.changed(address, dropped);
                    self.publish_due(destination.clone());
                }
                (_, Appended::Scheduled { dropped }) => self.changed(address, dropped),
                (_, Appended::Known { .. } | Appended::Full { .. }) => {}
            }
        }
        let content = (draft.body.len() <= CARRIED).then(|| Content {
            id: MessageId::of(draft.id),
            headers: draft.headers.clone(),
            body: draft.body.clone(),
        });
        for (path, rings) in rings {
            self.ring(Doorbell { path, rings, content: content.clone() });
        }
        Ok(appended)
    }

    /// Takes in what came of settling, purging or taking: senders are told, and what has failed is published
    /// where that is to go.
    pub fn settled(&self, of: &Address, settled: Settled) {
        self.changed(of, &settled.changes);
        self.failed(of, settled.failed);
    }

    /// What became of messages that this process has appended, from now on. Who falls behind misses some.
    #[must_use]
    pub fn told(&self) -> broadcast::Receiver<Told> {
        self.0.told.subscribe()
    }

    /// Takes in what another process tells this one.
    pub fn hear(&self, told: Vec<Told>) {
        for told in told {
            // An error means that nobody listens.
            let _ = self.0.told.send(told);
        }
    }

    /// Moves on what time moves on and tells senders, until `stopping`; then waits for what is under way.
    pub async fn run(&self, stopping: CancellationToken) {
        let telling = self.0.telling.lock().take();
        let tell = async {
            match telling {
                Some(telling) => self.tell(telling).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.sweep() => {}
            () = tell => {}
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Rings without waiting for it.
    fn ring(&self, doorbell: Doorbell) {
        let Ok(place) = Arc::clone(&self.0.ringing).try_acquire_owned() else {
            tracing::debug!("a doorbell is not rung: too many are under way");
            return;
        };
        let shared = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            let _place = place;
            let ring = shared.router.ring(shared.publisher, &doorbell);
            match timeout(RING_PATIENCE, ring).await {
                // Its confirm changes nothing: the store is read besides.
                Ok(Ok(_confirm)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a doorbell was not rung"),
                Err(_) => tracing::debug!("a doorbell was not rung in time"),
            }
        });
    }

    /// Rings for what can be taken of these inboxes now.
    fn ring_due(&self, due: impl IntoIterator<Item = (ByteString, Ring)>) {
        let mut rings: BTreeMap<ByteString, Vec<Ring>> = BTreeMap::new();
        for (path, ring) in due {
            rings.entry(path).or_default().push(ring);
        }
        for (path, rings) in rings {
            for some in rings.chunks(RINGS) {
                let (path, rings) = (path.clone(), some.to_vec());
                self.ring(Doorbell { path, rings, content: None });
            }
        }
    }

    /// Publishes what has failed, if that goes anywhere.
    fn failed(&self, of: &Address, failed: Vec<Entry>) {
        if failed.is_empty() {
            return;
        }
        let Ok(place) = Arc::clone(&self.0.burying).try_acquire_owned() else {
            tracing::debug!("what has failed is dead-lettered later: too many are under way");
            return;
        };
        let (dispatcher, of) = (self.clone(), of.clone());
        self.0.tasks.spawn(async move {
            let _place = place;
            dispatcher.bury(&of, failed).await;
        });
    }
}

/// A ring for whatever is there.
fn look(user: presence::UserName) -> Ring {
    Ring { user, at: Position { epoch: 0, seq: 0 } }
}
