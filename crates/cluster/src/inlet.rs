//! What comes for this node from the others.
//!
//! Invariants
//! - Letters to this node come in the order in which each sender sent them, and so do those to all.
//! - What cannot be read is told of once for each, and skipped.

use std::sync::Arc;

use broker::{Broker, Delivery, SubscribeError, SubscribeRequest, Subscription};
use presence::Boot;

use crate::address;
use crate::letter::{Letter, Unreadable};

/// Letters that may wait for this node before the broker keeps them.
const BACKLOG: u16 = 1024;

/// The letters of one node.
#[derive(Debug)]
pub struct Inlet {
    own: Subscription,
    all: Subscription,
}

/// One letter, and whether it may have come before.
#[derive(Debug)]
pub struct Received {
    /// The letter.
    pub letter: Letter,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

impl Inlet {
    /// What comes for `boot`, and for all. Waits as long as the broker is away.
    ///
    /// # Errors
    /// When the broker does not want to.
    pub async fn open(broker: &Arc<dyn Broker>, boot: Boot) -> Result<Self, SubscribeError> {
        let own = subscribe(broker, address::node(boot)).await?;
        let all = subscribe(broker, address::all()).await?;
        Ok(Self { own, all })
    }

    /// The next letter; none once the broker has ended a subscription.
    pub async fn next(&mut self) -> Option<Received> {
        loop {
            let delivery = tokio::select! {
                biased;
                delivery = self.own.next() => delivery?,
                delivery = self.all.next() => delivery?,
            };
            if let Some(received) = read(&delivery) {
                return Some(received);
            }
        }
    }
}

async fn subscribe(
    broker: &Arc<dyn Broker>,
    to: broker::Destination,
) -> Result<Subscription, SubscribeError> {
    broker.subscribe(SubscribeRequest::new(to, BACKLOG)).await
}

/// The letter that a delivery is, such as one of a group's.
pub fn read(delivery: &Delivery) -> Option<Received> {
    match Letter::read(delivery.message.body.clone()) {
        Ok(letter) => Some(Received { letter, redelivered: delivery.redelivered }),
        Err(Unreadable::Unknown) => {
            tracing::debug!("a letter of a newer version is skipped");
            None
        }
        Err(Unreadable::Malformed(why)) => {
            tracing::warn!(why, "what came for this node is no letter; who else publishes there?");
            None
        }
    }
}
