//! Tells the store what became of what was taken from it.
//!
//! Invariants
//! - Saying it never waits. How much may wait to be told is bounded by what subscriptions hold unsettled: each
//!   takes no more from the store before it has settled some, and nothing while the store is away.
//! - It is told until the store has heard it, in the order of each inbox. One of which the store does not hear, as of
//!   a part that is away, keeps no other waiting.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use cluster::Dispatcher;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use inbox::{Address, Settlement};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::metrics::Metrics;

/// How many settlements are told together.
const AT_ONCE: usize = 1024;

/// Of how many inboxes the store is told at once.
const INBOXES: usize = 64;

/// How long until the store is told again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Settling {
    to_settle: ToSettle,
    /// Taken by who runs it. Bounded as the module says.
    queue: Mutex<Option<mpsc::UnboundedReceiver<Settled>>>,
}

/// Where to say what became of entries.
#[derive(Clone)]
pub(super) struct ToSettle {
    sender: mpsc::UnboundedSender<Settled>,
    /// How many are said and not told, and how many may have something to say yet.
    waiting: watch::Sender<usize>,
}

/// Somebody who may have something to say yet.
pub(super) struct Coming(ToSettle);

/// What became of entries, by their number.
type Said = Vec<(u64, Settlement)>;

/// What became of one entry.
struct Settled {
    of: Arc<Address>,
    epoch: u64,
    seq: u64,
    settlement: Settlement,
}

impl Settling {
    pub(super) fn new() -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        let to_settle = ToSettle { sender, waiting: watch::Sender::new(0) };
        Self { to_settle, queue: Mutex::new(Some(queue)) }
    }

    pub(super) fn to_settle(&self) -> &ToSettle {
        &self.to_settle
    }

    /// Returns once nothing waits to be told.
    pub(super) async fn done(&self) {
        // An error cannot be: the sender is here.
        let _ = self.to_settle.waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
    }

    /// Tells the store, for as long as it is awaited.
    pub(super) async fn run(&self, dispatcher: &Dispatcher, metrics: &Metrics) {
        let Some(mut queue) = self.queue.lock().take() else { return };
        let places = Semaphore::new(INBOXES);
        let mut telling = FuturesUnordered::new();
        let mut said = Vec::new();
        // The inboxes of which the store is being told, and what is to be told of each then.
        let mut behind: HashMap<(Arc<Address>, u64), Said> = HashMap::new();
        loop {
            let mut begin = HashMap::<_, Said>::new();
            tokio::select! {
                count = queue.recv_many(&mut said, AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    for Settled { of, epoch, seq, settlement } in said.drain(..) {
                        metrics.settled(settlement);
                        let of = (of, epoch);
                        let said = match behind.get_mut(&of) {
                            Some(said) => said,
                            None => begin.entry(of).or_default(),
                        };
                        said.push((seq, settlement));
                    }
                }
                Some((of, count)) = telling.next() => {
                    self.to_settle.waiting.send_modify(|waiting| *waiting -= count);
                    if let Entry::Occupied(mut said) = behind.entry(of) {
                        match said.get().is_empty() {
                            true => _ = said.remove(),
                            false => {
                                let more = std::mem::take(said.get_mut());
                                begin.insert(said.key().clone(), more);
                            }
                        }
                    }
                }
            }
            for (of, said) in begin {
                behind.entry(of.clone()).or_default();
                telling.push(tell(dispatcher, &places, of, said));
            }
        }
    }
}

/// Tells it until it is heard. Returns of which inbox how many were.
async fn tell(
    dispatcher: &Dispatcher,
    places: &Semaphore,
    of: (Arc<Address>, u64),
    said: Said,
) -> ((Arc<Address>, u64), usize) {
    loop {
        // It is never closed.
        let place = places.acquire().await;
        match dispatcher.inbox().settle(&of.0, of.1, &said).await {
            Ok(settled) => {
                dispatcher.settled(&of.0, settled);
                return (of, said.len());
            }
            Err(error) => tracing::debug!(%error, "what clients have settled is not stored yet"),
        }
        drop(place);
        tokio::time::sleep(RETRY).await;
    }
}

impl ToSettle {
    /// Who may have something to say yet is waited for.
    pub(super) fn expect(&self) -> Coming {
        self.waiting.send_modify(|waiting| *waiting += 1);
        Coming(self.clone())
    }

    pub(super) fn say(&self, of: &Arc<Address>, epoch: u64, seq: u64, settlement: Settlement) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let of = Arc::clone(of);
        // An error means that the node has ended: the store finds out by `ack_wait`.
        let _ = self.sender.send(Settled { of, epoch, seq, settlement });
    }
}

impl Coming {
    pub(super) fn say(&self, of: &Arc<Address>, epoch: u64, seq: u64, settlement: Settlement) {
        self.0.say(of, epoch, seq, settlement);
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}
