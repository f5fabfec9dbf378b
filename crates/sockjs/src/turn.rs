//! Turns of the requests that send for one session: each waits until those before it are done, so that what they
//! bring stays in order and one body is held at a time.
//!
//! Invariant: at most [`MOST`] of them wait or have their turn; one more is refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many requests may send for one session at the same time. Clients make one after another.
const MOST: usize = 4;

/// See the module.
pub(crate) struct Turns {
    /// Of one permit, given in the order it was asked for.
    entry: Semaphore,
    /// How many wait or have their turn; at most [`MOST`].
    taken: AtomicUsize,
}

/// A request's turn. Dropping it gives it to the next.
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    _place: Place<'a>,
}

/// A place among the requests that send.
struct Place<'a>(&'a AtomicUsize);

impl Turns {
    pub(crate) fn new() -> Self {
        Self { entry: Semaphore::new(1), taken: AtomicUsize::new(0) }
    }

    /// A turn, once those before it are over; none if there are too many.
    pub(crate) async fn take(&self) -> Option<Turn<'_>> {
        let place = Place::take(&self.taken)?;
        // Never closed.
        let permit = self.entry.acquire().await.ok()?;
        Some(Turn { _permit: permit, _place: place })
    }
}

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize) -> Option<Self> {
        let place = Self(taken);
        let before = taken.fetch_add(1, Ordering::Relaxed);
        (before < MOST).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
