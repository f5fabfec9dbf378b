//! Where the messages of one topic subscription go in: waits for a subscription that is full, and, where
//! it may lose messages, gives up on one that does not move.
//!
//! Invariants
//! - A subscription that is full is waited for, and RabbitMQ keeps what comes meanwhile: that is how
//!   a burst is slowed down to what its readers take, and nothing of it is lost.
//! - The wait is bounded. One that has taken nothing for [`PATIENCE`] lags: it is waited for no more,
//!   and what it has no room for is shed, until half of it is free again. It alone loses messages.
//!   But one for letters is waited for as long as it takes: none of them is shed.
//! - Deliveries go in in the order they are offered.

use std::time::Duration;

use broker::Delivery;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Permit, Sender};
use tokio::time::Instant;

/// How long a full subscription is waited for. Its reader is the fan-out of this node, which waits
/// for no client: one that does not move for so long will not move soon, and holds up all topics.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What each delivery that is taken gives back of a patience that was used. So a subscription may be
/// behind for as long as it likes, if only it takes ten deliveries a second; the slowest fan-out, to
/// every session of a full node, does better.
const REGAINED: Duration = Duration::from_millis(100);

/// What becomes of what a subscription has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// It waits for a while, and then is shed.
    Sheds,
    /// It waits.
    Waits,
}

/// The way into one subscription.
#[derive(Debug)]
pub(crate) struct Outlet {
    overflow: Overflow,
    /// As long as the subscription's prefetch.
    deliveries: Sender<Delivery>,
    /// Changed by the one who dispatches; held for a few instructions.
    patience: Mutex<Patience>,
}

#[derive(Debug, Clone, Copy)]
struct Patience {
    left: Duration,
    /// How many were shed since it was given up on; none while it is not.
    lagging: Option<u64>,
}

/// What became of a delivery that was offered.
#[derive(Debug)]
pub(crate) enum Offer {
    /// It is in, or the subscription is over.
    Done,
    /// There is no room for it; wait for some with [`Outlet::room`].
    Full(Delivery),
}

/// What came of waiting for room.
pub(crate) enum Room<'a> {
    /// Here it is.
    Free(Permit<'a, Delivery>),
    /// The subscription is over.
    Over,
    /// There was none in time: from now on it lags.
    None,
}

impl Outlet {
    pub(crate) fn new(deliveries: Sender<Delivery>, overflow: Overflow) -> Self {
        let patience = Mutex::new(Patience { left: PATIENCE, lagging: None });
        Self { overflow, deliveries, patience }
    }

    /// Puts `delivery` in, if there is room; sheds it, if there is none and the subscription lags.
    pub(crate) fn offer(&self, delivery: Delivery) -> Offer {
        let mut patience = self.patience.lock();
        if let Some(shed) = &mut patience.lagging {
            if self.deliveries.capacity() < self.deliveries.max_capacity().div_ceil(2) {
                *shed += 1;
                return Offer::Done;
            }
            tracing::warn!(shed, "a topic subscription keeps up again");
            *patience = Patience { left: PATIENCE, lagging: None };
        }
        match self.deliveries.try_send(delivery) {
            Ok(()) => patience.regain(),
            Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(delivery)) => return Offer::Full(delivery),
        }
        Offer::Done
    }

    /// Waits for room, for as long after `since` as there is patience left. Dropped before its end,
    /// it has done nothing.
    pub(crate) async fn room(&self, since: Instant) -> Room<'_> {
        match self.overflow {
            Overflow::Sheds => self.room_in_time(since).await,
            Overflow::Waits => self.room_at_last(since).await,
        }
    }

    async fn room_at_last(&self, since: Instant) -> Room<'_> {
        let reserving = tokio::time::timeout_at(since + PATIENCE, self.deliveries.reserve());
        let reserved = match reserving.await {
            Ok(reserved) => reserved,
            Err(_) => {
                tracing::warn!("what comes for this node is not read; RabbitMQ keeps it meanwhile");
                self.deliveries.reserve().await
            }
        };
        reserved.map_or(Room::Over, Room::Free)
    }

    async fn room_in_time(&self, since: Instant) -> Room<'_> {
        let (began, left) = (Instant::now(), self.patience.lock().left);
        let reserved = tokio::time::timeout_at(since + left, self.deliveries.reserve()).await;
        let mut patience = self.patience.lock();
        match reserved {
            Ok(Ok(permit)) => {
                patience.left = left.saturating_sub(began.elapsed());
                patience.regain();
                Room::Free(permit)
            }
            Ok(Err(_)) => Room::Over,
            Err(_) => {
                *patience = Patience { left: Duration::ZERO, lagging: Some(1) };
                Room::None
            }
        }
    }
}

impl Patience {
    fn regain(&mut self) {
        self.left = PATIENCE.min(self.left + REGAINED);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use broker::{Destination, Message};
    use tokio::sync::mpsc;

    use super::*;

    fn delivery(n: usize) -> Delivery {
        let to = Destination::Queue("test".into());
        Delivery::settled(Arc::new(Message::new(to, n.to_string())))
    }

    /// Offers it, and waits if need be; whether it is in.
    async fn put(outlet: &Outlet, n: usize) -> bool {
        match outlet.offer(delivery(n)) {
            Offer::Done => outlet.patience.lock().lagging.is_none(),
            Offer::Full(delivery) => match outlet.room(Instant::now()).await {
                Room::Free(permit) => {
                    permit.send(delivery);
                    true
                }
                Room::Over | Room::None => false,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_never_read_is_waited_for_once() {
        let (sender, _receiver) = mpsc::channel(2);
        let outlet = Outlet::new(sender, Overflow::Sheds);
        assert!(put(&outlet, 0).await && put(&outlet, 1).await);
        let since = Instant::now();
        assert!(!put(&outlet, 2).await);
        assert_eq!(since.elapsed(), PATIENCE);
        for n in 3..1_000 {
            assert!(!put(&outlet, n).await);
        }
        assert_eq!(since.elapsed(), PATIENCE);
        assert_eq!(outlet.patience.lock().lagging, Some(998));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_loses_nothing() {
        let (sender, mut receiver) = mpsc::channel(2);
        let outlet = Outlet::new(sender, Overflow::Sheds);
        let reading = tokio::spawn(async move {
            for n in 0..1_000 {
                tokio::time::sleep(REGAINED).await;
                assert_eq!(receiver.recv().await.unwrap().message.body, n.to_string());
            }
        });
        for n in 0..1_000 {
            assert!(put(&outlet, n).await, "{n}");
        }
        reading.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_far_too_slow_is_given_up_on_in_the_end() {
        let (sender, mut receiver) = mpsc::channel(2);
        let outlet = Outlet::new(sender, Overflow::Sheds);
        tokio::spawn(async move {
            while receiver.recv().await.is_some() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let since = Instant::now();
        let mut n = 0;
        while put(&outlet, n).await {
            n += 1;
        }
        assert!(since.elapsed() < 2 * PATIENCE, "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_lagged_gets_messages_again_once_half_of_it_is_free() {
        let (sender, mut receiver) = mpsc::channel(4);
        let outlet = Outlet::new(sender, Overflow::Sheds);
        for n in 0..5 {
            put(&outlet, n).await;
        }
        receiver.recv().await;
        assert!(!put(&outlet, 5).await);
        receiver.recv().await;
        assert!(put(&outlet, 6).await);
        let mut got = Vec::new();
        while let Ok(delivery) = receiver.try_recv() {
            got.push(delivery.message.body.clone());
        }
        assert_eq!(got, ["2", "3", "6"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_waited_for_together_with_another_has_lost_no_time_of_its_own() {
        let (sender, mut receiver) = mpsc::channel(1);
        let outlet = Outlet::new(sender, Overflow::Sheds);
        put(&outlet, 0).await;
        let Offer::Full(_) = outlet.offer(delivery(1)) else { panic!("it is full") };
        let since = Instant::now();
        tokio::time::sleep(PATIENCE).await;
        receiver.recv().await;
        assert!(matches!(outlet.room(since).await, Room::Free(_)));
        assert_eq!(outlet.patience.lock().left, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_for_letters_is_waited_for_as_long_as_it_takes() {
        let (sender, mut receiver) = mpsc::channel(1);
        let outlet = Outlet::new(sender, Overflow::Waits);
        tokio::spawn(async move {
            tokio::time::sleep(100 * PATIENCE).await;
            while receiver.recv().await.is_some() {
                tokio::time::sleep(10 * PATIENCE).await;
            }
        });
        for n in 0..20 {
            assert!(put(&outlet, n).await, "{n}");
        }
    }

    #[tokio::test]
    async fn one_that_is_over_is_not_waited_for() {
        let (sender, receiver) = mpsc::channel(1);
        let outlet = Outlet::new(sender, Overflow::Sheds);
        put(&outlet, 0).await;
        drop(receiver);
        assert!(matches!(outlet.offer(delivery(1)), Offer::Done));
        assert!(matches!(outlet.room(Instant::now()).await, Room::Over));
    }
}
