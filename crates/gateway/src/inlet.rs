//! What comes for this node from the other nodes and from services: messages to users, and orders.
//!
//! Invariants
//! - Letters are done one after the other, in the order in which each sender sent them.
//! - Whoever subscribes to a destination of its own user's is told so once letters reach this node
//!   ([`Inlet::open`]); from then on the broker keeps them while it, or the way to it, is away.
//!
//! Not here: letters to groups, which come by the way of their topics ([`hub`](crate::hub)).

use std::sync::Arc;
use std::time::Duration;

use broker::destination::Verb;
use cluster::{Letter, Received};
use tokio::sync::watch;

use crate::close::CloseReason;
use crate::mailbox::Closing;
use crate::node::Node;

/// How long until an inlet that the broker has ended is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Inlet {
    /// Whether letters reach this node.
    is_open: watch::Sender<bool>,
}

impl Inlet {
    pub(crate) fn new() -> Self {
        Self { is_open: watch::Sender::new(false) }
    }

    /// Returns once letters reach this node.
    pub(crate) async fn open(&self) {
        // An error cannot be: the sender is here.
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }

    /// Takes letters in, for as long as it is awaited.
    pub(crate) async fn run(node: &Arc<Node>) {
        loop {
            match cluster::Inlet::open(&node.broker, node.presence.boot()).await {
                Ok(mut inlet) => {
                    node.inlet.is_open.send_replace(true);
                    while let Some(received) = inlet.next().await {
                        take(node, received).await;
                    }
                    node.inlet.is_open.send_replace(false);
                    tracing::warn!("the broker has ended what brings this node its letters");
                }
                Err(error) => tracing::warn!(%error, "letters do not reach this node"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn take(node: &Arc<Node>, received: Received) {
    match received.letter {
        Letter::Message(addressed) => node.users.deliver(&addressed, received.redelivered).await,
        Letter::Disconnect { of, reason } => {
            let detail = (!reason.is_empty()).then_some(reason);
            node.users.close(&of, &Closing { reason: CloseReason::Removed, detail });
        }
        Letter::Unsubscribe { of, destination } => {
            match node.destinations.parse(&destination, Verb::Subscribe) {
                Ok(destination) => node.users.end_subscriptions(&of, &destination),
                Err(error) => tracing::warn!(%error, "an order to end subscriptions to nothing"),
            }
        }
        Letter::Grant { group, members } => {
            // Not awaited: a subscription may take its time, and letters shall not wait for it.
            for session in node.users.joining(&members) {
                let (hub, group) = (Arc::clone(&node.hub), group.clone());
                tokio::spawn(async move { session.join(&hub, group).await });
            }
        }
        Letter::Doorbell(doorbell) => node.users.ring(&doorbell),
        Letter::Told(told) => {
            if let Some(inboxes) = &node.inboxes {
                inboxes.hear(told);
            }
        }
        Letter::Revoke { .. } | Letter::Announcement(_) | Letter::GoodBye(_) => {
            tracing::debug!("a letter that has come the wrong way");
        }
    }
}
