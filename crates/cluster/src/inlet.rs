//! What comes for this node from the others.
//!
//! Invariants
//! - Letters to this node come in the order in which each sender sent them, and so do those to all. However
//!   many there are of the ones, they do not keep the others away.
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

#[cfg(test)]
mod tests {
    use broker::{Message, PublisherId};
    use broker_embedded::EmbeddedBroker;

    use super::*;

    #[tokio::test]
    async fn letters_to_this_node_do_not_keep_those_to_all_away() {
        let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(Default::default()));
        let boot = Boot::generate();
        let mut inlet = Inlet::open(&broker, boot).await.unwrap();
        let send = async |to, letter: &Letter| {
            let sent = broker.publish(PublisherId(1), Message::new(to, letter.write())).await;
            sent.unwrap().await.unwrap();
        };
        let order =
            |reason: &'static str| Letter::Disconnect { of: Vec::new(), reason: reason.into() };
        for _ in 0..BACKLOG {
            send(address::node(boot), &order("own")).await;
        }
        send(address::all(), &order("all")).await;
        let mut before = 0;
        while inlet.next().await.unwrap().letter != order("all") {
            before += 1;
        }
        // Fair lots, of which 64 in a row are the same less often than once in 10^19.
        assert!(before < 64, "{before}");
    }
}
