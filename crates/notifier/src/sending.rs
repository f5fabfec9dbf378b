//! A request on its way: from when it came to the last word on it, the broker's or that of the store of inboxes.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::metrics::{Call, Outcome};
use crate::node::{Crowded, Node};
use crate::publisher::{Handed, Publisher, Taken};
use crate::refusal::Refusal;
use crate::storing::Storing;
use crate::wanted::Wanted;
use crate::whereabouts::Whereabouts;

/// See the module.
pub(crate) struct Sending {
    since: Instant,
    on_its_way: Result<OnItsWay, Refusal>,
    call: Call,
    node: Arc<Node>,
    /// Its share of what may wait; none if it was refused before.
    _room: Option<OwnedSemaphorePermit>,
}

/// Who has the word on it.
enum OnItsWay {
    /// The broker.
    Handed(Handed),
    /// The store of inboxes.
    Storing(Storing),
}

/// What was read of a request.
pub(crate) struct Requested {
    /// What it asks for, if that can be.
    pub(crate) wanted: Result<Wanted, Refusal>,
    /// When it came.
    pub(crate) since: Instant,
    /// When it must be answered.
    pub(crate) deadline: Instant,
}

impl Sending {
    /// Sends what a single call asks for.
    pub(crate) async fn single(
        node: &Arc<Node>,
        call: Call,
        wanted: Result<Wanted, Refusal>,
        deadline: Instant,
    ) -> Result<Taken, Refusal> {
        let since = Instant::now();
        let mut publisher = node.new_publisher();
        let whereabouts = match &wanted {
            Ok(Wanted::Live(outgoing)) => publisher.ask(&[outgoing], deadline).await,
            Ok(Wanted::Stored(_)) | Err(_) => Ok(Whereabouts::nowhere()),
        };
        let (wanted, whereabouts) = match whereabouts {
            Ok(whereabouts) => (wanted, whereabouts),
            Err(refusal) => (Err(refusal), Whereabouts::nowhere()),
        };
        let requested = Requested { wanted, since, deadline };
        let whereabouts = Arc::new(whereabouts);
        let sending =
            Self::begin(node, &mut publisher, call, requested, whereabouts, Crowded::Refuse);
        sending.await.confirmed().await
    }

    /// Hands over what was requested, by what is known of its targets.
    pub(crate) async fn begin(
        node: &Arc<Node>,
        publisher: &mut Publisher,
        call: Call,
        requested: Requested,
        whereabouts: Arc<Whereabouts>,
        crowded: Crowded,
    ) -> Self {
        let Requested { wanted, since, deadline } = requested;
        let taken = match wanted {
            Ok(wanted) => {
                let room = node.room(wanted.bytes(), deadline, crowded).await;
                room.map(|room| (wanted, room))
            }
            Err(refusal) => Err(refusal),
        };
        let (on_its_way, room) = match taken {
            Ok((Wanted::Live(outgoing), room)) => {
                let handed = publisher.hand_over(outgoing, whereabouts, deadline).await;
                (handed.map(OnItsWay::Handed), Some(room))
            }
            Ok((Wanted::Stored(keep), room)) => {
                (publisher.store(keep, deadline).await.map(OnItsWay::Storing), Some(room))
            }
            Err(refusal) => (Err(refusal), None),
        };
        Self { since, on_its_way, call, node: Arc::clone(node), _room: room }
    }

    /// The last word, counted.
    pub(crate) async fn confirmed(self) -> Result<Taken, Refusal> {
        let confirmed = match self.on_its_way {
            Ok(OnItsWay::Handed(handed)) => handed.confirmed().await,
            Ok(OnItsWay::Storing(storing)) => storing.stored().await,
            Err(refusal) => Err(refusal),
        };
        let outcome = confirmed.as_ref().map_or_else(Refusal::outcome, |_| Outcome::confirmed);
        self.node.metrics.count(self.call, outcome, self.since.elapsed());
        if let Err(refusal) = &confirmed {
            tracing::debug!(%refusal, "not sent");
        }
        confirmed
    }
}
