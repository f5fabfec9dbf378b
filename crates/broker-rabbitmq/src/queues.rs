//! What is consumed from queues, each subscription by an AMQP consumer of its own.
//!
//! Invariants
//! - On return a subscription is live: its queue is declared and bound, and RabbitMQ has taken the
//!   consumer.
//! - What RabbitMQ will refuse again is refused with its own words; what it may take later is tried
//!   for as long as `subscribe_timeout`.
//! - What only one session may use is checked here before RabbitMQ is asked ([`ExclusiveQueues`]).
//!
//! Not here: which queue a request means (`source`); the consumers themselves (`queue_consumer`).

use std::sync::Arc;
use std::time::Duration;

use broker::{
    DeleteError, Destination, PublisherId, QueueOptions, SubscribeError, SubscribeRequest,
    Subscription,
};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arguments;
use crate::cancelling::Cancelling;
use crate::consumer_channels::ConsumerChannels;
use crate::declarations::{Declarations, Target, passes};
use crate::direct_replies::DirectReplies;
use crate::exclusive_queues::{ExclusiveQueues, Hold, Locked};
use crate::link::{Failure, Link, Links, current};
use crate::metrics::Metrics;
use crate::names::Names;
use crate::operation::Operation;
use crate::outsize::Outsize;
use crate::queue_consumer::QueueConsumer;
use crate::queue_spec::QueueSpec;
use crate::recent::Recent;
use crate::settled::Settled;
use crate::source::{Origin, Sources};
use crate::status::Status;
use crate::supervisor::Pauses;

/// What RabbitMQ says of a queue that another connection has for itself.
const LOCKED: &str = "RESOURCE_LOCKED";

/// The queues of RabbitMQ.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) links: Links,
    pub(crate) status: Arc<Status>,
    pub(crate) names: Arc<Names>,
    pub(crate) sources: Sources,
    pub(crate) declarations: Arc<Declarations>,
    pub(crate) channels: Arc<ConsumerChannels>,
    pub(crate) exclusive: Arc<ExclusiveQueues>,
    pub(crate) settled: Arc<Settled>,
    /// What was handed over to subscribers who settle nothing. Held for a lookup.
    pub(crate) recent: Mutex<Recent>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) outsize: Arc<Outsize>,
    pub(crate) replies: Arc<DirectReplies>,
    pub(crate) timeout: Duration,
    pub(crate) reconnect_pause: Duration,
    pub(crate) closing: CancellationToken,
    /// The consumers whose subscription was dropped and that have not ended yet.
    pub(crate) ending: TaskTracker,
}

impl Queues {
    /// Subscribes, and returns once RabbitMQ has taken the consumer.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        request: SubscribeRequest,
    ) -> Result<Subscription, SubscribeError> {
        arguments::check_consumer(&request.consumer)?;
        let source = self.sources.source(&request)?;
        let queue = source.queue.clone();
        let exclusive = matches!(request.destination, Destination::TempQueue(_))
            || matches!(&source.origin, Origin::Declared(spec) if spec.exclusive);
        let deadline = tokio::time::Instant::now() + self.timeout;
        let holding = self.hold(&queue, request.subscriber, exclusive);
        let Ok(hold) = tokio::time::timeout_at(deadline, holding).await else {
            return Err(SubscribeError::Unavailable(self.status.reason()));
        };
        let prefetch = request.prefetch.max(1);
        let (deliveries, receiver) = mpsc::channel(prefetch.into());
        let (sender, ready) = oneshot::channel();
        let cancelling = Arc::new(Cancelling::new(self.ending.clone()));
        let consumer = QueueConsumer {
            queues: self.clone(),
            source,
            prefetch,
            arguments: request.consumer,
            hold: hold?,
            links: self.links.clone(),
            deliveries,
            cancelling: cancelling.clone(),
            ready: Some(sender),
            pauses: Pauses::new(self.reconnect_pause),
            position: <_>::default(),
            refused: false,
            tried_again: false,
            declared: false,
            missed_on: None,
        };
        tokio::spawn(consumer.run());
        // Made before the wait, so that who gives up waiting leaves nothing behind.
        let subscription = Subscription::new(receiver, move || cancelling.cancel()).of_queue(queue);
        match tokio::time::timeout_at(deadline, ready).await {
            Ok(Ok(Ok(()))) => Ok(subscription),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(SubscribeError::Unavailable(self.status.reason())),
        }
    }

    /// Whether `publisher` may use the queue: RabbitMQ cannot tell the sessions of a node apart.
    pub(crate) fn check(&self, publisher: PublisherId, queue: &ByteString) -> Result<(), Locked> {
        self.exclusive.check(queue, publisher)
    }

    /// Sees to it that the queue is there and is as `options` say.
    pub(crate) async fn declare(
        &self,
        publisher: PublisherId,
        queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        let spec = self.sources.spec(queue, options)?;
        let declaring = async {
            match spec {
                None => {
                    self.check(publisher, queue).map_err(refused)?;
                    let target = Target::Queue(queue.clone());
                    self.declarations.ensure(&target).await.map_err(advised)
                }
                Some(spec) => {
                    let hold = self.hold(queue, publisher, spec.exclusive).await?;
                    let link = self.links.borrow().clone();
                    let has = |link: Arc<Link>| self.declarations.has_queue(&link, queue, &spec);
                    // Asked again, an exclusive queue lives on without a consumer.
                    if spec.exclusive || !link.is_some_and(has) {
                        self.declare_as(queue, &spec).await?;
                    }
                    if let Some(hold) = hold {
                        hold.grant();
                        hold.leave(spec.expiry());
                    }
                    Ok(())
                }
            }
        };
        match tokio::time::timeout(self.timeout, declaring).await {
            Ok(declared) => declared,
            Err(_) => Err(SubscribeError::Unavailable(self.status.reason())),
        }
    }

    /// Deletes the queue; RabbitMQ then ends its consumers, here and elsewhere.
    pub(crate) async fn delete(&self, name: &ByteString) -> Result<(), DeleteError> {
        if self.names.is_nodes_queue(name) {
            return Err(DeleteError::Unsupported { kind: "node" });
        }
        let deleting = async {
            let mut links = self.links.clone();
            loop {
                let Some(link) = current(&mut links).await else {
                    return Err("it is closing".to_owned());
                };
                let delete = || Operation::DeleteQueue { name };
                let mut deleted = self.declarations.attempt(&link, false, delete()).await;
                // It may be this node's own.
                if matches!(&deleted, Err(Failure::Refused(why)) if why.starts_with(LOCKED)) {
                    deleted = self.declarations.perform(&link, delete()).await;
                }
                match deleted {
                    Ok(_) => return Ok(()),
                    Err(Failure::Refused(why)) => return Err(why),
                    Err(Failure::Lost(_)) => link.ended().await,
                }
            }
        };
        let deleted = tokio::time::timeout(self.timeout, deleting).await;
        self.declarations.forget_queue(name);
        match deleted {
            Ok(deleted) => deleted.map_err(DeleteError::Unavailable),
            Err(_) => Err(DeleteError::Unavailable(self.status.reason())),
        }
    }

    /// Returns once the consumers have ended whose subscriptions were dropped up to now, and their
    /// queues are deleted that do not stay.
    pub(crate) async fn ended(&self) {
        self.ending.close();
        self.ending.wait().await;
    }

    async fn hold(
        &self,
        queue: &ByteString,
        by: PublisherId,
        exclusive: bool,
    ) -> Result<Option<Hold>, SubscribeError> {
        self.exclusive.hold(queue, by, exclusive).await.map_err(refused)
    }

    /// Declares the queue, waiting for RabbitMQ as long as it is away, or cannot have it just now.
    async fn declare_as(&self, queue: &ByteString, spec: &QueueSpec) -> Result<(), SubscribeError> {
        let mut links = self.links.clone();
        let mut pauses = Pauses::new(self.reconnect_pause);
        loop {
            let Some(link) = current(&mut links).await else {
                return Err(SubscribeError::Unavailable("it is closing".to_owned()));
            };
            match self.declare_on(&link, queue, spec).await {
                Ok(()) => return Ok(()),
                Err(Failure::Refused(why)) if !passes(&why) => return Err(advised(why)),
                Err(_) => tokio::time::sleep(pauses.next()).await,
            }
        }
    }

    async fn declare_on(
        &self,
        link: &Link,
        queue: &ByteString,
        spec: &QueueSpec,
    ) -> Result<(), Failure> {
        self.declarations.declare_queue(link, queue, spec).await?;
        self.declarations.seal(link).await?;
        self.declarations.note_queue(link, queue, spec);
        Ok(())
    }
}

fn refused(locked: Locked) -> SubscribeError {
    SubscribeError::Refused(locked.to_string())
}

/// RabbitMQ's refusal, with what to do about it where that is known.
pub(crate) fn advised(why: String) -> SubscribeError {
    SubscribeError::Refused(with_advice(why))
}

/// What RabbitMQ says, and what to do about it.
pub(crate) fn with_advice(why: String) -> String {
    match why.contains("inequivalent arg") {
        true => format!(
            "{why}: the queue was declared otherwise; say the same of it as whoever declared it, or use \
             /amq/queue/<name>, which takes it as it is"
        ),
        false => why,
    }
}
