//! Where services reply that consume a queue: one queue of this node's own.
//!
//! Invariants
//! - A reply belongs to the call whose correlation id it has, while that waits; all else is dropped.
//! - The queue is there again after an outage, if need be under another name: calls ask for its name each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{
    Broker, Destination, Message, MessageId, Outcome, PublisherId, SubscribeRequest, Subscription,
};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The header that a call and its reply have in common.
pub(crate) const CORRELATION: &str = "correlation-id";

/// How long after a failure the queue is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Replies that may be on their way here; the broker keeps more.
const PREFETCH: u16 = 1000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Replies {
    /// The queue's name, while it is there.
    queue: watch::Receiver<Option<ByteString>>,
    waiting: Arc<Waiting>,
    _task: AbortOnDropHandle<()>,
}

/// By correlation id who waits; as many as calls may be in flight.
type Waiting = Mutex<HashMap<ByteString, oneshot::Sender<Arc<Message>>>>;

/// A call that waits for its reply. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Awaited {
    /// What the reply is known by.
    pub(crate) id: ByteString,
    /// Where it is to be sent.
    pub(crate) queue: ByteString,
    reply: oneshot::Receiver<Arc<Message>>,
    waiting: Arc<Waiting>,
}

impl Replies {
    /// Asks for the queue, and takes what comes. Must be called within the runtime.
    pub(crate) fn start(broker: Arc<dyn Broker>, subscriber: PublisherId) -> Self {
        let (name, queue) = watch::channel(None);
        let waiting = Arc::<Waiting>::default();
        let task = tokio::spawn(run(broker, subscriber, name, Arc::clone(&waiting)));
        Self { queue, waiting, _task: AbortOnDropHandle::new(task) }
    }

    /// A place for one reply; none if there is no queue before `deadline`.
    pub(crate) async fn expect(&self, deadline: Instant) -> Option<Awaited> {
        let mut queue = self.queue.clone();
        let there = tokio::time::timeout_at(deadline, queue.wait_for(Option::is_some)).await;
        let queue = there.ok()?.ok()?.clone()?;
        // 80 random bits: who sees one reply can answer no other call.
        let id = ByteString::from(MessageId::new().to_string());
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().insert(id.clone(), sender);
        Some(Awaited { id, queue, reply, waiting: Arc::clone(&self.waiting) })
    }
}

impl Awaited {
    /// The reply; none if it does not come before `deadline`.
    pub(crate) async fn reply(mut self, deadline: Instant) -> Option<Arc<Message>> {
        tokio::time::timeout_at(deadline, &mut self.reply).await.ok()?.ok()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

async fn run(
    broker: Arc<dyn Broker>,
    subscriber: PublisherId,
    name: watch::Sender<Option<ByteString>>,
    waiting: Arc<Waiting>,
) {
    loop {
        let destination = Destination::TempQueue(ByteString::from_static("application"));
        let request =
            SubscribeRequest { subscriber, ..SubscribeRequest::new(destination, PREFETCH) };
        match broker.subscribe(request).await {
            Ok(subscription) if subscription.queue().is_some() => {
                name.send_replace(subscription.queue().cloned());
                take(subscription, &waiting).await;
                name.send_replace(None);
                tracing::warn!("the queue for the replies of applications has ended");
            }
            Ok(_) => tracing::error!("the broker has no queue for the replies of applications"),
            Err(error) => {
                tracing::warn!(%error, "there is no queue for the replies of applications")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hands each reply to who waits for it, until the broker ends the subscription.
async fn take(mut subscription: Subscription, waiting: &Waiting) {
    while let Some(delivery) = subscription.next().await {
        let mut headers = delivery.message.headers.iter();
        let id = headers.find(|(name, _)| **name == *CORRELATION).map(|(_, id)| id);
        match id.and_then(|id| waiting.lock().remove(id)) {
            Some(sender) => {
                // An error means that its time has just run out.
                let _ = sender.send(Arc::clone(&delivery.message));
            }
            None => tracing::debug!(correlation = id.map(|id| &**id), "nobody waits for a reply"),
        }
        delivery.settle(Outcome::Ack);
    }
}
