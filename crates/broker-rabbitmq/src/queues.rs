//! Queues: one AMQP consumer per subscription, on a channel shared with others.
//!
//! Invariants
//! - A subscription outlives its connection and its channel: its task consumes again on the next.
//!   It ends when its queue was deleted, and when it is dropped.
//! - A delivery is settled on the channel it came by, by its own tag. Once that channel is gone,
//!   settling it does nothing, and RabbitMQ delivers the message again.
//! - Cancelled first, given back then: what a dropped subscription was sent does not come back to it.

use std::sync::Arc;
use std::time::Duration;

use broker::{DeleteError, Delivery, Destination, Outcome, Settle, SubscribeError, Subscription};
use bytestring::ByteString;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions};
use lapin::types::ShortString;
use lapin::{Channel, Consumer};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::consumer_channels::{ConsumerChannels, NoPlace};
use crate::declarations::{Declarations, Target, passes};
use crate::direct_replies::DirectReplies;
use crate::headers;
use crate::link::{Failure, Link, Links, current};
use crate::metrics::Metrics;
use crate::operation::{Operation, short};
use crate::outsize::{Fate, Outsize};
use crate::status::Status;
use crate::supervisor::Pauses;

/// The queues of RabbitMQ.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) links: Links,
    pub(crate) status: Arc<Status>,
    pub(crate) declarations: Arc<Declarations>,
    pub(crate) channels: Arc<ConsumerChannels>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) outsize: Arc<Outsize>,
    pub(crate) replies: Arc<DirectReplies>,
    pub(crate) timeout: Duration,
    pub(crate) reconnect_pause: Duration,
    pub(crate) closing: CancellationToken,
}

/// The consumer of one subscription, over all its connections.
struct QueueConsumer {
    name: ByteString,
    prefetch: u16,
    links: Links,
    declarations: Arc<Declarations>,
    channels: Arc<ConsumerChannels>,
    metrics: Arc<Metrics>,
    outsize: Arc<Outsize>,
    replies: Arc<DirectReplies>,
    /// As long as the prefetch. It is full only of deliveries from a connection that is gone.
    deliveries: mpsc::Sender<Delivery>,
    cancelling: Arc<Cancelling>,
    closing: CancellationToken,
    /// Hears once whether the first attempt worked.
    ready: Option<oneshot::Sender<Result<(), SubscribeError>>>,
    pauses: Pauses,
}

/// How a dropped subscription reaches its consumer.
#[derive(Debug, Default)]
struct Cancelling {
    asked: CancellationToken,
    /// Where the consumer is, while it is. Held while a cancel is put in line.
    consuming: Mutex<Option<(Channel, ShortString)>>,
}

/// Settles what came by one channel.
struct Settler(Channel);

/// Why a consumer has ended.
enum End {
    /// Its subscription was dropped.
    Cancelled,
    /// Its queue was deleted.
    Deleted,
    /// Its channel or connection is gone, or RabbitMQ refused it.
    Failed(Failure),
    /// The connection has no place for it.
    NoPlace(SubscribeError),
}

impl Queues {
    /// Subscribes, and returns once RabbitMQ has taken the consumer.
    pub(crate) async fn subscribe(
        &self,
        name: &ByteString,
        prefetch: u16,
    ) -> Result<Subscription, SubscribeError> {
        let (deliveries, receiver) = mpsc::channel(prefetch.into());
        let (sender, ready) = oneshot::channel();
        let cancelling = Arc::new(Cancelling::default());
        let consumer = QueueConsumer {
            name: name.clone(),
            prefetch,
            links: self.links.clone(),
            declarations: self.declarations.clone(),
            channels: self.channels.clone(),
            metrics: self.metrics.clone(),
            outsize: self.outsize.clone(),
            replies: self.replies.clone(),
            deliveries,
            cancelling: cancelling.clone(),
            closing: self.closing.clone(),
            ready: Some(sender),
            pauses: Pauses::new(self.reconnect_pause),
        };
        tokio::spawn(consumer.run());
        // Made before the wait, so that who gives up waiting leaves nothing behind.
        let subscription = Subscription::new(receiver, move || cancelling.cancel());
        match tokio::time::timeout(self.timeout, ready).await {
            Ok(Ok(Ok(()))) => Ok(subscription),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(SubscribeError::Unavailable(self.status.reason())),
        }
    }

    /// Sees to it that the queue is there.
    pub(crate) async fn declare(&self, name: &ByteString) -> Result<(), SubscribeError> {
        let target = Target::Queue(name.clone());
        match tokio::time::timeout(self.timeout, self.declarations.ensure(&target)).await {
            Ok(ensured) => ensured.map_err(SubscribeError::Refused),
            Err(_) => Err(SubscribeError::Unavailable(self.status.reason())),
        }
    }

    /// Deletes the queue; RabbitMQ then ends its consumers, here and elsewhere.
    pub(crate) async fn delete(&self, name: &ByteString) -> Result<(), DeleteError> {
        let target = Target::Queue(name.clone());
        let deleting = async {
            let mut links = self.links.clone();
            loop {
                let Some(link) = current(&mut links).await else {
                    return Err("it is closing".to_owned());
                };
                let operation = Operation::DeleteQueue { name };
                match self.declarations.perform(&link, operation).await {
                    Ok(_) => return Ok(()),
                    Err(Failure::Refused(why)) => return Err(why),
                    Err(Failure::Lost(_)) => link.ended().await,
                }
            }
        };
        let deleted = tokio::time::timeout(self.timeout, deleting).await;
        self.declarations.forget(&target);
        match deleted {
            Ok(deleted) => deleted.map_err(DeleteError::Unavailable),
            Err(_) => Err(DeleteError::Unavailable(self.status.reason())),
        }
    }
}

impl QueueConsumer {
    async fn run(mut self) {
        loop {
            let (asked, closing) = (self.cancelling.asked.clone(), self.closing.clone());
            let failure = tokio::select! {
                end = self.consume() => match end {
                    End::Cancelled | End::Deleted => return,
                    End::Failed(failure) => failure,
                    End::NoPlace(error) => {
                        tracing::warn!(queue = &*self.name, %error, "there is no place for a consumer");
                        if let Some(ready) = self.ready.take() {
                            let _ = ready.send(Err(error));
                            return;
                        }
                        Failure::Lost(error.to_string())
                    }
                },
                () = closing.cancelled() => return,
            };
            if let Failure::Refused(why) = &failure
                && !passes(why)
            {
                if let Some(ready) = self.ready.take() {
                    let _ = ready.send(Err(SubscribeError::Refused(why.clone())));
                    return;
                }
                tracing::warn!(queue = &*self.name, why, "RabbitMQ refused a consumer");
            }
            tokio::select! {
                () = tokio::time::sleep(self.pauses.next()) => {}
                () = asked.cancelled() => return,
                () = closing.cancelled() => return,
            }
        }
    }

    /// Consumes on the link of the moment, as long as it lasts.
    async fn consume(&mut self) -> End {
        let asked = self.cancelling.asked.clone();
        let link = tokio::select! {
            link = current(&mut self.links) => match link {
                Some(link) => link,
                None => return End::Cancelled,
            },
            () = asked.cancelled() => return End::Cancelled,
        };
        let target = Target::Queue(self.name.clone());
        let queue = match short(&self.name) {
            Ok(queue) => queue,
            Err(refused) => return End::Failed(refused),
        };
        tokio::select! {
            ensured = self.declarations.ensure(&target) => if let Err(why) = ensured {
                return End::Failed(Failure::Refused(why));
            },
            () = asked.cancelled() => return End::Cancelled,
        }
        let place = match self.channels.place(&link).await {
            Ok(place) => place,
            Err(NoPlace::Failed(failure)) => return End::Failed(failure),
            Err(NoPlace::Full { limit }) => {
                return End::NoPlace(SubscribeError::LimitReached { what: "consumers", limit });
            }
        };
        let consumer = match place.consume(&link, queue, self.prefetch).await {
            Ok(consumer) => consumer,
            Err(failure) => {
                self.declarations.forget(&target);
                return End::Failed(failure);
            }
        };
        let _counted = Counted::new(&self.metrics);
        self.cancelling.began(&place.channel, consumer.tag());
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Ok(()));
        }
        self.pauses.reset();
        let end = tokio::select! {
            biased;
            end = self.deliver(&link, &place.channel, consumer) => end,
            () = link.ended() => End::Failed(Failure::Lost("it ended".to_owned())),
        };
        self.cancelling.consuming.lock().take();
        if let End::Deleted = end {
            tracing::info!(queue = &*self.name, "the queue was deleted; its consumer ends");
            self.declarations.forget(&target);
        }
        end
    }

    async fn deliver(&self, link: &Link, channel: &Channel, mut consumer: Consumer) -> End {
        let settler: Arc<dyn Settle> = Arc::new(Settler(channel.clone()));
        while let Some(delivery) = consumer.next().await {
            let mut delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => return End::Failed(link.failure(&error)),
            };
            let received = match headers::read(&delivery.properties) {
                Ok(received) => received,
                Err(skip) => {
                    self.metrics.skipped(skip);
                    settler.settle(delivery.delivery_tag, Outcome::Ack);
                    continue;
                }
            };
            if self.outsize.is(delivery.data.len(), &self.name, Fate::Rejected) {
                settler.settle(delivery.delivery_tag, Outcome::Reject);
                continue;
            }
            let redelivered = delivery.redelivered || received.republished;
            let destination = Destination::Queue(self.name.clone());
            self.replies.note(&delivery.properties);
            let message = Arc::new(headers::message(received, destination, &mut delivery));
            let tag = delivery.delivery_tag;
            let delivery = Delivery::unsettled(message, redelivered, settler.clone(), tag);
            // An error means that the subscription is gone: what comes out of it is given back.
            let _ = self.deliveries.send(delivery).await;
        }
        if self.cancelling.asked.is_cancelled() {
            return End::Cancelled;
        }
        if !channel.status().connected() {
            return End::Failed(Failure::Lost("its channel is gone".to_owned()));
        }
        // RabbitMQ ended the consumer. A node that stops, or that the queue moves away from, does so
        // as well as a deletion.
        match self.declarations.perform(link, Operation::FindQueue { name: &self.name }).await {
            Ok(_) => End::Failed(Failure::Lost("RabbitMQ ended the consumer".to_owned())),
            Err(Failure::Refused(why)) if !passes(&why) => End::Deleted,
            Err(failure) => End::Failed(failure),
        }
    }
}

/// Counts a consumer as long as it is there.
struct Counted<'a>(&'a Metrics);

impl<'a> Counted<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.consumers.inc();
        Self(metrics)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.consumers.dec();
    }
}

impl Cancelling {
    /// The consumer is there, maybe too late.
    fn began(&self, channel: &Channel, tag: ShortString) {
        let mut consuming = self.consuming.lock();
        if self.asked.is_cancelled() {
            cancel(channel, tag);
        } else {
            *consuming = Some((channel.clone(), tag));
        }
    }

    fn cancel(&self) {
        let mut consuming = self.consuming.lock();
        self.asked.cancel();
        if let Some((channel, tag)) = consuming.take() {
            cancel(&channel, tag);
        }
    }
}

/// Puts a cancel in line, before whatever is given back after it. An error means that the channel is
/// gone, and the consumer with it.
fn cancel(channel: &Channel, tag: ShortString) {
    let _ = channel.basic_cancel(tag, BasicCancelOptions::default()).now_or_never();
}

impl Settle for Settler {
    fn settle(&self, tag: u64, outcome: Outcome) {
        let Self(channel) = self;
        let nack = |requeue| BasicNackOptions { multiple: false, requeue };
        // The first poll puts it in line. An error means that the channel is gone: the tag means
        // nothing any more, and the message comes again.
        let _ = match outcome {
            Outcome::Ack => channel.basic_ack(tag, BasicAckOptions::default()).now_or_never(),
            Outcome::Requeue => channel.basic_nack(tag, nack(true)).now_or_never(),
            Outcome::Reject => channel.basic_nack(tag, nack(false)).now_or_never(),
        };
    }
}
