//! What all calls share.
//!
//! Invariant: of all callers together only so many bytes wait for the broker and the store of inboxes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::presence::{Groups, Presence};
use broker::{Broker, Destinations, PublisherId};
use cluster::{Dispatcher, Letter, Nodes, Router};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

use crate::config::Config;
use crate::deadline;
use crate::keeper::{Keeper, KeeperParts};
use crate::metrics::Metrics;
use crate::outgoing::Outgoing;
use crate::publisher::Publisher;
use crate::refusal::Refusal;
use crate::whereabouts::{Asked, Whereabouts};

/// What a publish takes besides its body and headers, in bytes, roughly.
const OVERHEAD: usize = 512;

/// See the module.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) router: Router,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) groups: Arc<dyn Groups>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) destinations: Destinations,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stopping: CancellationToken,
    /// What stores messages for users; none where nothing is stored.
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// The watches that may still be opened.
    pub(crate) watches: Arc<Semaphore>,
    /// Counts from the middle up: sessions of a gateway on the same broker count from 0.
    next_publisher: AtomicU64,
    /// The bytes of publishes that may still wait.
    room: Arc<Semaphore>,
}

/// What a node is made of.
pub(crate) struct Made {
    pub(crate) config: Config,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) groups: Arc<dyn Groups>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) destinations: Destinations,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stopping: CancellationToken,
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(crate) inbox: inbox::Config,
}

/// What to do when no more may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Say so: who calls once may call again.
    Refuse,
    /// Wait until the deadline, while the stream is not read.
    Wait,
}

impl Node {
    pub(crate) fn new(made: Made) -> Arc<Self> {
        let Made {
            config,
            broker,
            presence,
            groups,
            nodes,
            destinations,
            metrics,
            stopping,
            dispatcher,
            inbox,
        } = made;
        let router = Router::new(
            Arc::clone(&broker),
            Arc::clone(&presence),
            Arc::clone(&groups),
            Arc::clone(&nodes),
        );
        let keeper = dispatcher.map(|dispatcher| {
            Arc::new(Keeper::new(KeeperParts {
                dispatcher,
                router: router.clone(),
                groups: Arc::clone(&groups),
                boot: presence.boot(),
                ttl: inbox.ttl,
                metrics: Arc::clone(&metrics),
            }))
        });
        // No more than 4 GiB, which every machine can address.
        let room = Arc::new(Semaphore::new(config.max_waiting_bytes() as usize));
        let watches = Arc::new(Semaphore::new(config.max_watches));
        Arc::new(Self {
            config,
            broker,
            router,
            presence,
            groups,
            nodes,
            destinations,
            metrics,
            stopping,
            keeper,
            watches,
            next_publisher: AtomicU64::new(1 << 63),
            room,
        })
    }

    pub(crate) fn new_publisher(self: &Arc<Self>) -> Publisher {
        let id = PublisherId(self.next_publisher.fetch_add(1, Ordering::Relaxed));
        Publisher::new(id, Arc::clone(self))
    }

    /// What stores messages for users.
    pub(crate) fn keeper(&self) -> Result<&Arc<Keeper>, Refusal> {
        self.keeper.as_ref().ok_or_else(|| {
            Refusal::NotKept("no inbox is configured: nothing is stored (inbox.store)".to_owned())
        })
    }

    /// A place among the watches.
    pub(crate) fn watching(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.watches).try_acquire_owned().map_err(|_| {
            let most = self.config.max_watches;
            Refusal::Refused(format!("{most} watches are open already: try again later"))
        })
    }

    /// Whom to ask where somebody is.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            router: &self.router,
            presence: &*self.presence,
            groups: &*self.groups,
            nodes: &self.nodes,
        }
    }

    /// When a single call must be answered at the latest.
    pub(crate) fn deadline(&self, metadata: &MetadataMap) -> Instant {
        let now = Instant::now();
        deadline::of_call(metadata, now).unwrap_or(now + self.config.publish_timeout)
    }

    /// Tells every node something, and returns once the broker has it.
    pub(crate) async fn tell(
        self: &Arc<Self>,
        letter: Letter,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        self.post(Outgoing::Order(letter), deadline).await
    }

    /// Posts an order, and returns once the broker has it.
    pub(crate) async fn post(
        self: &Arc<Self>,
        order: Outgoing,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let nowhere = Arc::new(Whereabouts::nowhere());
        let handed = self.new_publisher().hand_over(order, nowhere, deadline).await?;
        handed.confirmed().await.map(drop)
    }

    /// Room for that many bytes among those that wait. What is longer than all may be takes all.
    pub(crate) async fn room(
        &self,
        bytes: usize,
        deadline: Instant,
        crowded: Crowded,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let limit = self.config.max_waiting_bytes();
        let bytes = u32::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(u32::MAX).min(limit);
        let room = Arc::clone(&self.room);
        let taken = match crowded {
            Crowded::Refuse => room.try_acquire_many_owned(bytes).ok(),
            Crowded::Wait => {
                let taken = timeout_at(deadline, room.acquire_many_owned(bytes)).await;
                taken.ok().and_then(Result::ok)
            }
        };
        taken.ok_or_else(|| {
            let limit = self.config.max_waiting;
            Refusal::Refused(format!(
                "{limit} of messages wait for the broker or the store already, and the message was not published: \
                 try again later"
            ))
        })
    }
}
