//! Tells the store what became of what was taken from it.
//!
//! Invariants
//! - Saying it never waits. How much may wait to be told is bounded by what subscriptions hold unsettled: each
//!   takes no more from the store before it has settled some, and nothing while the store is away.
//! - It is told until the store has heard it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::Dispatcher;
use futures_util::StreamExt;
use futures_util::stream;
use inbox::{Address, Settlement};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

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
        let mut said = Vec::new();
        while queue.recv_many(&mut said, AT_ONCE).await > 0 {
            let count = said.len();
            let mut inboxes: HashMap<(Arc<Address>, u64), Said> = HashMap::new();
            for Settled { of, epoch, seq, settlement } in said.drain(..) {
                metrics.settled(settlement);
                inboxes.entry((of, epoch)).or_default().push((seq, settlement));
            }
            let tell = |((of, epoch), settlements): ((Arc<Address>, u64), Said)| async move {
                tell(dispatcher, &of, epoch, &settlements).await;
            };
            stream::iter(inboxes).for_each_concurrent(INBOXES, tell).await;
            self.to_settle.waiting.send_modify(|waiting| *waiting -= count);
        }
    }
}

async fn tell(
    dispatcher: &Dispatcher,
    of: &Address,
    epoch: u64,
    settlements: &[(u64, Settlement)],
) {
    loop {
        match dispatcher.inbox().settle(of, epoch, settlements).await {
            Ok(settled) => return dispatcher.settled(of, settled),
            Err(error) => tracing::debug!(%error, "what clients have settled is not stored yet"),
        }
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
