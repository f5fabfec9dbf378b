//! Hands messages to the broker and waits for its word, neither longer than until a deadline.
//!
//! Invariant: one publisher hands over one message after the other, so its order holds.

use std::sync::Arc;

use broker::{Broker, BrokerState, Confirm, Link, Message, MessageId, PublishError, PublisherId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::refusal::Refusal;

/// A stream of publishes, or a single one.
pub(crate) struct Publisher {
    id: PublisherId,
    broker: Arc<dyn Broker>,
    state: watch::Receiver<BrokerState>,
}

/// A message in the broker's hands, until `deadline` at the latest.
pub(crate) struct Handed {
    id: MessageId,
    confirm: Confirm,
    deadline: Instant,
    state: watch::Receiver<BrokerState>,
}

impl Publisher {
    pub(crate) fn new(id: PublisherId, broker: Arc<dyn Broker>) -> Self {
        let state = broker.state();
        Self { id, broker, state }
    }

    /// Hands `message` over. While the broker is away it is waited for, and tried again.
    pub(crate) async fn hand_over(
        &mut self,
        message: Message,
        deadline: Instant,
    ) -> Result<Handed, Refusal> {
        let id = message.id;
        loop {
            let publish = self.broker.publish(self.id, message.clone());
            let unavailable = match timeout_at(deadline, publish).await {
                Ok(Ok(confirm)) => {
                    return Ok(Handed { id, confirm, deadline, state: self.state.clone() });
                }
                Ok(Err(error @ PublishError::Unavailable(_))) => Refusal::of_publish(error),
                Ok(Err(error)) => return Err(Refusal::of_publish(error)),
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
}

impl Handed {
    /// The message's id, once the broker has taken responsibility.
    pub(crate) async fn confirmed(self) -> Result<MessageId, Refusal> {
        match timeout_at(self.deadline, self.confirm).await {
            Ok(Ok(())) => Ok(self.id),
            Ok(Err(error)) => Err(Refusal::of_confirm(error, self.id)),
            Err(_) => Err(unconfirmed(self.id, &self.state)),
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
