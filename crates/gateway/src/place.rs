//! A connection's place among those that have not become sessions, while HTTP is spoken on it.
//!
//! Most connections ask once and end, or become a WebSocket. Those of SockJS go on: they ask again and again,
//! and wait for what a session has. A connection that waits for a session takes no place, for the session is
//! counted itself. Afterwards it needs one again, or ends.
//!
//! Invariants
//! - A connection holds a place, or waits for a session, or is about to end.
//! - One that waits for no session ends when its time is over, however it asks.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// See the module.
pub(crate) struct Place {
    places: Arc<Semaphore>,
    /// How many there are in all.
    limit: usize,
    /// How long a connection may take to ask, and to take the answer.
    patience: Duration,
    /// Held for a few instructions.
    state: Mutex<State>,
    /// Tells the connection that the state has changed.
    changed: Notify,
}

struct State {
    permit: Option<OwnedSemaphorePermit>,
    /// Requests that wait for a session.
    waiting: usize,
    /// When it is over unless one waits.
    until: Instant,
    /// There was no place left.
    is_over: bool,
}

/// A request that waits for a session. Dropping it takes a place again.
pub(crate) struct Waiting(Arc<Place>);

impl Place {
    /// The place that `permit` is, of `limit`.
    pub(crate) fn new(
        places: &Arc<Semaphore>,
        limit: usize,
        permit: OwnedSemaphorePermit,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::clone(places),
            limit,
            patience,
            state: Mutex::new(State {
                permit: Some(permit),
                waiting: 0,
                until: Instant::now() + patience,
                is_over: false,
            }),
            changed: Notify::new(),
        })
    }

    /// Whether so many places are taken that connections had better end than wait to be asked again.
    pub(crate) fn is_crowded(&self) -> bool {
        self.places.available_permits() * 2 < self.limit
    }

    /// It is asked again for a session that is here, and may take its time once more.
    pub(crate) fn is_asked(&self) {
        self.state.lock().until = Instant::now() + self.patience;
        self.changed.notify_one();
    }

    /// A request waits for a session from now on.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        let mut state = self.state.lock();
        state.waiting += 1;
        let permit = state.permit.take();
        drop(state);
        drop(permit);
        self.changed.notify_one();
        Waiting(Arc::clone(self))
    }

    /// Returns when the connection shall end.
    pub(crate) async fn over(&self) {
        loop {
            let until = {
                let state = self.state.lock();
                if state.is_over {
                    return;
                }
                (state.waiting == 0).then_some(state.until)
            };
            let Some(until) = until else {
                self.changed.notified().await;
                continue;
            };
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let place = &self.0;
        let permit = Arc::clone(&place.places).try_acquire_owned();
        let mut state = place.state.lock();
        state.waiting -= 1;
        state.until = Instant::now() + place.patience;
        if state.waiting == 0 {
            state.is_over = permit.is_err();
            state.permit = permit.ok();
        }
        drop(state);
        place.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn one_of(limit: usize) -> (Arc<Semaphore>, Arc<Place>) {
        let places = Arc::new(Semaphore::new(limit));
        let permit = Arc::clone(&places).try_acquire_owned().unwrap();
        let place = Place::new(&places, limit, permit, PATIENCE);
        (places, place)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_its_time_is_over_and_not_while_it_waits_for_a_session() {
        let (places, place) = one_of(2);
        assert_eq!(places.available_permits(), 1);
        tokio::time::sleep(PATIENCE / 2).await;
        place.is_asked();
        assert!(tokio::time::timeout(PATIENCE * 3 / 4, place.over()).await.is_err());
        let waiting = place.wait();
        assert_eq!(places.available_permits(), 2);
        assert!(tokio::time::timeout(PATIENCE * 10, place.over()).await.is_err());
        drop(waiting);
        assert_eq!(places.available_permits(), 1);
        tokio::time::timeout(PATIENCE + Duration::from_secs(1), place.over()).await.unwrap();
        drop(place);
        assert_eq!(places.available_permits(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_finds_its_place_taken_ends_once_nothing_waits() {
        let (places, place) = one_of(1);
        let (one, other) = (place.wait(), place.wait());
        let taken = Arc::clone(&places).try_acquire_owned().unwrap();
        drop(one);
        assert!(place.over().now_or_never().is_none());
        drop(other);
        place.over().await;
        drop(taken);
    }

    #[tokio::test]
    async fn half_of_the_places_taken_is_a_crowd() {
        let (places, place) = one_of(4);
        assert!(!place.is_crowded());
        let _two = Arc::clone(&places).try_acquire_many_owned(2).unwrap();
        assert!(place.is_crowded());
    }
}
