//! A subscription's way through its inbox.
//!
//! Invariants
//! - What is in the inbox comes in its order, from the oldest on; what was refused or given back comes again
//!   between.
//! - What came to a session by a doorbell comes to it even if another session of the user has settled it
//!   meanwhile: then it is marked as what may have been delivered before.
//! - It holds no more unsettled than its limit, and takes only what there is room for.
//! - A claim is stored before its message is handed on. What is claimed while its subscription ends is given back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::{Delivery, Outcome, Settle};
use futures_util::future::BoxFuture;
use inbox::{Address, Position, Settlement, State, Take, Taken};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::settling::{Coming, ToSettle};
use super::{Bell, Inboxes, entry_message};
use crate::users::Registered;

/// How many entries are taken at once.
const AT_ONCE: usize = 64;

/// How many bytes of them.
const BYTES: u64 = 256 * 1024;

/// How long until a store that is away is asked again, at least; at most four times that.
const RETRY: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Reader {
    inboxes: Arc<Inboxes>,
    registered: Arc<Registered>,
    of: Arc<Address>,
    bell: Arc<Bell>,
    /// How many deliveries may be unsettled.
    limit: usize,
    /// Up to where everything was handed on or is ready.
    after: Option<Position>,
    /// Whether there was more than was taken.
    more: bool,
    /// Claimed, and to be handed on; at most [`AT_ONCE`] and what came along with rings.
    ready: VecDeque<Delivery>,
    taking: Option<Taking>,
    /// None before anything was taken.
    settler: Option<Arc<Settler>>,
}

/// What is being taken from the store.
struct Taking {
    taken: BoxFuture<'static, Option<Taken>>,
    /// Nobody wants it any more: a store that is away is not asked again.
    is_over: CancellationToken,
}

/// Takes in what became of deliveries of one epoch.
struct Settler {
    of: Arc<Address>,
    epoch: u64,
    to_settle: ToSettle,
    /// What was handed on and is not settled. Held for a lookup.
    held: Mutex<BTreeSet<u64>>,
}

impl Reader {
    /// A reader of what waits for the user of `registered` at `path`; none where that has no inbox.
    pub(crate) fn open(
        inboxes: &Arc<Inboxes>,
        registered: &Arc<Registered>,
        path: &bytestring::ByteString,
        limit: usize,
    ) -> Option<Self> {
        let of = Arc::new(Address::of_user(registered.user().clone(), path.clone()));
        if !of.fits() || registered.is_nobodys() {
            return None;
        }
        Some(Self {
            bell: registered.bells().hang(path.clone()),
            inboxes: Arc::clone(inboxes),
            registered: Arc::clone(registered),
            of,
            limit: limit.max(1),
            after: None,
            more: false,
            ready: VecDeque::new(),
            taking: None,
            settler: None,
        })
    }

    /// The next delivery; `unsettled` of those before are not settled. It never ends.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, unsettled: usize) -> Poll<Delivery> {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.ready = VecDeque::new();
                }
                return Poll::Ready(delivery);
            }
            if let Some(taking) = &mut self.taking {
                match taking.taken.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(taken) => {
                        self.taking = None;
                        if let Some(taken) = taken {
                            self.taken(taken);
                        }
                        continue;
                    }
                }
            }
            let room = self.limit.saturating_sub(unsettled);
            // Asked only with room, for a ring that is heard must be followed.
            if room == 0 || !(self.more || self.bell.has_rung()) {
                return Poll::Pending;
            }
            let limit = room.min(AT_ONCE);
            let (inboxes, of, after) =
                (Arc::clone(&self.inboxes), Arc::clone(&self.of), self.after);
            let is_over = CancellationToken::new();
            let token = is_over.clone();
            let take = async move { take(&inboxes, &of, after, limit, &token).await };
            self.taking = Some(Taking { taken: Box::pin(take), is_over });
        }
    }

    fn taken(&mut self, taken: Taken) {
        let Taken { entries, epoch, upto, more, changes, failed } = taken;
        let settler = match &self.settler {
            Some(settler) if settler.epoch == epoch => Arc::clone(settler),
            _ if entries.is_empty() => Arc::new(self.new_settler(epoch)),
            _ => {
                let settler = Arc::new(self.new_settler(epoch));
                self.settler = Some(Arc::clone(&settler));
                settler
            }
        };
        let before = self.after.filter(|after| after.epoch == epoch).map_or(0, |after| after.seq);
        let path = self.of.path();
        let mut found = BTreeMap::new();
        for entry in entries {
            // One that this subscription holds is tried again by nobody's wish: its client is at it.
            if entry.seq <= before && settler.held.lock().contains(&entry.seq) {
                continue;
            }
            let (seq, redelivered) = (entry.seq, entry.attempts > 0);
            found.insert(seq, (entry_message(path, entry), redelivered));
        }
        let mut early = VecDeque::new();
        for (at, message) in self.bell.carried() {
            if at.epoch == epoch && at.seq > upto.seq {
                early.push_back((at, message));
            } else if at.epoch == epoch && at.seq > before {
                found.entry(at.seq).or_insert((message, true));
            }
        }
        self.bell.put_back(early);
        for (seq, (message, redelivered)) in found {
            settler.held.lock().insert(seq);
            let with = Arc::clone(&settler) as Arc<dyn Settle>;
            self.ready.push_back(Delivery::unsettled(message, redelivered, with, seq));
        }
        if self.settler.is_none() && !self.ready.is_empty() {
            self.settler = Some(settler);
        }
        (self.after, self.more) = (Some(upto), more);
        self.inboxes.dispatcher.settled(&self.of, inbox::Settled { changes, failed });
    }

    fn new_settler(&self, epoch: u64) -> Settler {
        let to_settle = self.inboxes.settling.to_settle().clone();
        Settler { of: Arc::clone(&self.of), epoch, to_settle, held: Mutex::default() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.registered.bells().take_down(&self.bell);
        // The store may have claimed already what it has not answered.
        if let Some(Taking { taken, is_over }) = self.taking.take()
            && let Ok(runtime) = Handle::try_current()
        {
            is_over.cancel();
            let (inboxes, of) = (Arc::clone(&self.inboxes), Arc::clone(&self.of));
            let coming = inboxes.settling.to_settle().expect();
            runtime.spawn(async move {
                if let Some(taken) = taken.await {
                    give_back(&inboxes, &of, taken, &coming);
                }
            });
        }
    }
}

/// Gives back what nobody wants any more, but for what others hold.
fn give_back(inboxes: &Inboxes, of: &Arc<Address>, taken: Taken, coming: &Coming) {
    let Taken { entries, epoch, changes, failed, .. } = taken;
    let delivered = changes.iter().filter(|change| change.status.state == State::Delivered);
    let claimed: BTreeSet<_> = delivered.map(|change| change.id).collect();
    for entry in entries.iter().filter(|entry| claimed.contains(&entry.id)) {
        coming.say(of, epoch, entry.seq, Settlement::Release);
    }
    inboxes.dispatcher.settled(of, inbox::Settled { changes, failed });
}

/// Takes what there is, once the store is there; nothing if it is not when that `is_over`.
async fn take(
    inboxes: &Inboxes,
    of: &Address,
    after: Option<Position>,
    limit: usize,
    is_over: &CancellationToken,
) -> Option<Taken> {
    let take = Take { of, after, limit, max_bytes: BYTES };
    let mut pause = RETRY;
    loop {
        // It is never closed.
        let place = is_over.run_until_cancelled(inboxes.reading.acquire()).await?;
        match inboxes.dispatcher.inbox().take(&take).await {
            Ok(taken) => return Some(taken),
            Err(error) => tracing::debug!(%error, "an inbox is not read yet"),
        }
        drop(place);
        let part = rand::rng().random_range(0.5..1.0);
        is_over.run_until_cancelled(tokio::time::sleep(pause.mul_f64(part))).await?;
        pause = (pause * 2).min(RETRY * 4);
    }
}

impl Settler {
    fn say(&self, seq: u64, settlement: Settlement) {
        self.held.lock().remove(&seq);
        self.to_settle.say(&self.of, self.epoch, seq, settlement);
    }
}

impl Settle for Settler {
    fn settle(&self, tag: u64, outcome: Outcome) {
        let settlement = match outcome {
            Outcome::Ack => Settlement::Ack,
            Outcome::Requeue => Settlement::Nack,
            Outcome::Reject => Settlement::Reject,
        };
        self.say(tag, settlement);
    }

    fn give_back(&self, tag: u64) {
        self.say(tag, Settlement::Release);
    }
}
