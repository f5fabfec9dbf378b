//! A request on its way: from when it came to the broker's word on it.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::metrics::{Call, Outcome};
use crate::node::{Crowded, Node};
use crate::outgoing::Outgoing;
use crate::publisher::{Handed, Publisher, Taken};
use crate::refusal::Refusal;
use crate::whereabouts::Whereabouts;

/// See the module.
pub(crate) struct Sending {
    since: Instant,
    handed: Result<Handed, Refusal>,
    call: Call,
    node: Arc<Node>,
    /// Its share of what may wait; none if it was refused before.
    _room: Option<OwnedSemaphorePermit>,
}

/// What was read of a request.
pub(crate) struct Requested {
    /// What it asks to send, if that can be.
    pub(crate) outgoing: Result<Outgoing, Refusal>,
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
        outgoing: Result<Outgoing, Refusal>,
        deadline: Instant,
    ) -> Result<Taken, Refusal> {
        let since = Instant::now();
        let mut publisher = node.new_publisher();
        let whereabouts = match &outgoing {
            Ok(outgoing) => publisher.ask(&[outgoing], deadline).await,
            Err(_) => Ok(Whereabouts::nowhere()),
        };
        let (outgoing, whereabouts) = match whereabouts {
            Ok(whereabouts) => (outgoing, whereabouts),
            Err(refusal) => (Err(refusal), Whereabouts::nowhere()),
        };
        let requested = Requested { outgoing, since, deadline };
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
        let Requested { outgoing, since, deadline } = requested;
        let taken = match outgoing {
            Ok(outgoing) => {
                node.room(&outgoing, deadline, crowded).await.map(|room| (outgoing, room))
            }
            Err(refusal) => Err(refusal),
        };
        let (handed, room) = match taken {
            Ok((outgoing, room)) => {
                (publisher.hand_over(outgoing, whereabouts, deadline).await, Some(room))
            }
            Err(refusal) => (Err(refusal), None),
        };
        Self { since, handed, call, node: Arc::clone(node), _room: room }
    }

    /// The broker's word, counted.
    pub(crate) async fn confirmed(self) -> Result<Taken, Refusal> {
        let confirmed = match self.handed {
            Ok(handed) => handed.confirmed().await,
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
