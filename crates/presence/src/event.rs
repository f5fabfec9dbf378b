//! Who comes and goes, as a stream.
//!
//! Invariants
//! - A node tells what it brought about itself: its own sessions, and what it cleared away of nodes
//!   that died. Whoever wants all of it gathers the streams of all nodes.
//! - Nobody waits for a reader. One that is more than [`BACKLOG`] events behind loses the oldest, and is
//!   told how many.
//! - A user is online from the first session's registration until `linger` after the last one's end;
//!   between, sessions may change without a word about the user.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::{Boot, SessionId, UserName};

/// How many events a reader may be behind.
pub const BACKLOG: usize = 65_536;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session was registered.
    SessionOpened {
        /// The session.
        id: SessionId,
        /// Whose it is.
        user: UserName,
        /// Where it is.
        boot: Boot,
    },
    /// A session ended, or its node died.
    SessionClosed {
        /// The session.
        id: SessionId,
        /// Whose it was.
        user: UserName,
        /// Where it was.
        boot: Boot,
        /// Why.
        ending: Ending,
    },
    /// A user has a session, after having had none for a while.
    UserOnline(UserName),
    /// A user has had no session for a while.
    UserOffline(UserName),
}

/// Why a session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its node said so.
    Left,
    /// Its node was not heard of for the length of its lease.
    NodeDied,
}

/// A reader of events.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Arc<Event>>);

/// How many events a reader that was too slow has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were lost, the reader was too slow")]
pub struct Missed(pub u64);

impl Events {
    /// The next event; `None` when there will be none any more. What is lost is told once, in its place.
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Missed>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Err(Missed(count))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Where events come from.
#[derive(Debug)]
pub(crate) struct Source(broadcast::Sender<Arc<Event>>);

impl Source {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn tell(&self, event: Event) {
        // An error means that nobody reads.
        let _ = self.0.send(Arc::new(event));
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_lost() {
        let source = Source::new();
        let mut events = source.subscribe();
        let user = |n: usize| UserName::new(n.to_string()).unwrap();
        for n in 0..BACKLOG + 3 {
            source.tell(Event::UserOnline(user(n)));
        }
        assert_eq!(events.next().await, Some(Err(Missed(3))));
        assert_eq!(events.next().await, Some(Ok(Arc::new(Event::UserOnline(user(3))))));
    }
}
