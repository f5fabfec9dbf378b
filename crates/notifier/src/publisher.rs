//! Hands things to the broker or the store of inboxes and waits for the word on them, neither longer than until a
//! deadline.
//!
//! Invariant: one publisher hands over one thing after the other, so its order holds.

use std::sync::Arc;

use broker::{BrokerState, Confirm, Link, MessageId, PublishError, PublisherId};
use cluster::SendError;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::keep::Keep;
use crate::node::Node;
use crate::outcomes::Outcomes;
use crate::outgoing::{Outgoing, Reach};
use crate::refusal::Refusal;
use crate::storing::{Storing, UnderWay};
use crate::whereabouts::{NotPosted, Whereabouts};

/// A stream of publishes, or a single one.
pub(crate) struct Publisher {
    id: PublisherId,
    node: Arc<Node>,
    state: watch::Receiver<BrokerState>,
    /// What is being stored.
    storing: UnderWay,
}

/// Something in the broker's hands, until `deadline` at the latest.
pub(crate) struct Handed {
    id: MessageId,
    confirm: Confirm,
    reach: Reach,
    targets: Vec<String>,
    deadline: Instant,
    state: watch::Receiver<BrokerState>,
}

/// Something that the broker has taken responsibility for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Its id.
    pub(crate) id: MessageId,
    /// Whom it reached.
    pub(crate) reach: Reach,
    /// Whom it named.
    pub(crate) targets: Vec<String>,
    /// What became of it in inboxes, if it was stored.
    pub(crate) stored: Option<Outcomes>,
}

impl Publisher {
    pub(crate) fn new(id: PublisherId, node: Arc<Node>) -> Self {
        let state = node.broker.state();
        Self { id, node, state, storing: UnderWay::default() }
    }

    /// Hands `outgoing` over, by what is known of its targets. While the broker is away it is waited for,
    /// and tried again.
    pub(crate) async fn hand_over(
        &mut self,
        outgoing: Outgoing,
        mut whereabouts: Arc<Whereabouts>,
        deadline: Instant,
    ) -> Result<Handed, Refusal> {
        let id = outgoing.id();
        loop {
            if outgoing.targets() > 0 && whereabouts.is_stale() {
                whereabouts = Arc::new(self.ask(&[&outgoing], deadline).await?);
            }
            let broker = &*self.node.broker;
            let post = outgoing.post(self.id, broker, &self.node.router, &whereabouts);
            let unavailable = match timeout_at(deadline, post).await {
                Ok(Ok((confirm, reach))) => {
                    let (targets, state) = (outgoing.into_targets(), self.state.clone());
                    return Ok(Handed { id, confirm, reach, targets, deadline, state });
                }
                Ok(Err(NotPosted::Send(SendError::Publish(
                    error @ PublishError::Unavailable(_),
                )))) => Refusal::of_publish(error),
                Ok(Err(error)) => return Err(Refusal::of_not_posted(error)),
                Err(_) => return Err(unconfirmed(id, &self.state)),
            };
            // Not published. If it is not for the way to the broker, waiting for that does not help.
            if self.state.borrow_and_update().link == Link::Up {
                return Err(unavailable);
            }
            let up = self.state.wait_for(|state| state.link == Link::Up);
            if !matches!(timeout_at(deadline, up).await, Ok(Ok(_))) {
                return Err(unavailable);
            }
        }
    }

    /// Has `keep` stored, behind what was given before for the same inboxes.
    pub(crate) async fn store(
        &mut self,
        keep: Keep,
        deadline: Instant,
    ) -> Result<Storing, Refusal> {
        let keeper = Arc::clone(self.node.keeper()?);
        self.storing.begin(keeper, keep, deadline).await
    }

    /// What the store says of the targets of these. It takes as long as the nodes need to be heard of.
    pub(crate) async fn ask(
        &self,
        of: &[&Outgoing],
        deadline: Instant,
    ) -> Result<Whereabouts, Refusal> {
        if of.iter().all(|outgoing| outgoing.targets() == 0) {
            return Ok(Whereabouts::nowhere());
        }
        let ask = Whereabouts::ask(self.node.asked(), of);
        timeout_at(deadline, ask).await.map_err(|_| match &self.state.borrow().link {
            Link::Down(why) => Refusal::Away(format!("the broker is away: {why}")),
            Link::Up | Link::Blocked(_) => Refusal::Away(
                "not all nodes have been heard of yet, or the store takes too long".to_owned(),
            ),
        })
    }
}

impl Handed {
    /// What became of it, once the broker has taken responsibility.
    pub(crate) async fn confirmed(self) -> Result<Taken, Refusal> {
        let Self { id, confirm, reach, targets, deadline, state } = self;
        match timeout_at(deadline, confirm).await {
            Ok(Ok(())) => Ok(Taken { id, reach, targets, stored: None }),
            Ok(Err(error)) => Err(Refusal::of_confirm(error, id)),
            Err(_) => Err(unconfirmed(id, &state)),
        }
    }
}

/// What to say of a message that the broker was given, or was about to be given, and did not confirm.
fn unconfirmed(id: MessageId, state: &watch::Receiver<BrokerState>) -> Refusal {
    match &state.borrow().link {
        Link::Up => Refusal::Late(id),
        Link::Blocked(why) => {
            Refusal::AwayUnconfirmed { why: format!("the broker takes no messages: {why}"), id }
        }
        Link::Down(why) => {
            Refusal::AwayUnconfirmed { why: format!("the broker is away: {why}"), id }
        }
    }
}
