//! The consumer of one subscription, over all its connections.
//!
//! Invariants
//! - A subscription outlives its connection and its channel: its task declares, binds and consumes again
//!   on the next. It ends when its queue was deleted, and when it is dropped.
//! - A delivery that was settled here and comes again is settled again, as before, and not delivered.
//! - A queue of the subscription's own, and an exclusive one with its last subscription, is deleted when
//!   the consumer ends. Nothing else is ever deleted here.
//! - A channel apart hears whatever RabbitMQ may refuse but the consumer itself, and that begins where
//!   it puts nobody at risk (`consumer_channels`).

use std::sync::Arc;

use broker::{Arguments, Delivery, Outcome, Settle, SubscribeError};
use futures_util::StreamExt;
use lapin::Consumer;
use tokio::sync::{mpsc, oneshot};

use crate::arguments;
use crate::cancelling::Cancelling;
use crate::consumer_channels::{NoPlace, Place, Standing, Wanted};
use crate::declarations::{Target, passes};
use crate::exclusive_queues::Hold;
use crate::headers;
use crate::link::{Failure, Link, Links, current};
use crate::metrics::Metrics;
use crate::operation::{Operation, short};
use crate::outsize::Fate;
use crate::queues::{Queues, advised};
use crate::settler::Settler;
use crate::source::{AtEnd, Origin, Settling, Source, SourceBinding};
use crate::stream_position::{self, StreamPosition};
use crate::subscription_names;
use crate::supervisor::Pauses;

/// What consumes for one subscription.
pub(crate) struct QueueConsumer {
    pub(crate) queues: Arc<Queues>,
    pub(crate) source: Source,
    pub(crate) prefetch: u16,
    pub(crate) arguments: Arguments,
    /// Its share in an exclusive queue. It ends after the queue was deleted.
    pub(crate) hold: Option<Hold>,
    pub(crate) links: Links,
    /// As long as the prefetch. It is full only of deliveries from a connection that is gone, or that
    /// nobody settles.
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    pub(crate) cancelling: Arc<Cancelling>,
    /// Hears once whether the first attempt worked.
    pub(crate) ready: Option<oneshot::Sender<Result<(), SubscribeError>>>,
    pub(crate) pauses: Pauses,
    pub(crate) position: StreamPosition,
    /// Whether RabbitMQ refused the last attempt to consume.
    pub(crate) refused: bool,
    /// Whether the first attempt met a queue that was known to be there and was not.
    pub(crate) tried_again: bool,
    /// Whether there may be a queue that is this subscription's to delete.
    pub(crate) declared: bool,
    /// The generation of the link on which it was last told that messages were missed.
    pub(crate) missed_on: Option<u64>,
}

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

impl QueueConsumer {
    /// Runs until the subscription is dropped, the queue deleted, or the broker closed.
    pub(crate) async fn run(mut self) {
        let closing = self.queues.closing.clone();
        tokio::select! {
            () = async {
                self.keep().await;
                self.leave().await;
            } => {}
            () = closing.cancelled() => {}
        }
    }

    /// Consumes on one connection after the other.
    async fn keep(&mut self) {
        let asked = self.cancelling.asked.clone();
        loop {
            let queue = &*self.source.queue.clone();
            match self.consume().await {
                End::Cancelled | End::Deleted => return,
                End::Failed(Failure::Refused(why)) if !passes(&why) => {
                    if self.ready.is_some() {
                        self.answer(Err(advised(why)));
                        return;
                    }
                    tracing::warn!(queue, why, "RabbitMQ refused a consumer");
                }
                End::NoPlace(error) => {
                    tracing::warn!(queue, %error, "there is no place for a consumer");
                    if self.ready.is_some() {
                        self.answer(Err(error));
                        return;
                    }
                }
                End::Failed(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.pauses.next()) => {}
                () = asked.cancelled() => return,
            }
        }
    }

    /// Tells whoever subscribes, unless that was told before.
    fn answer(&mut self, answer: Result<(), SubscribeError>) {
        if answer.is_err() && !self.declared {
            // Whoever asks next must not find what came to nothing.
            self.hold = None;
        }
        if let Some(ready) = self.ready.take() {
            // An error means that nobody waits any more, and the subscription is dropped.
            let _ = ready.send(answer);
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
        let had = tokio::select! {
            had = self.have(&link) => had,
            () = asked.cancelled() => return End::Cancelled,
        };
        match had {
            Ok(()) => {}
            Err(Failure::Refused(why)) if self.is_gone(&why) => {
                self.tell_deleted();
                return End::Deleted;
            }
            Err(failure) => return End::Failed(failure),
        }
        let (place, consumer) = match self.begin(&link).await {
            Ok(begun) => begun,
            Err(end) => return end,
        };
        let _counted = Counted::new(&self.queues.metrics);
        self.cancelling.began(&place.channel, consumer.tag());
        self.refused = false;
        self.position.began();
        self.answer(Ok(()));
        self.pauses.reset();
        let end = tokio::select! {
            biased;
            end = self.deliver(&link, &place, consumer) => end,
            () = link.ended() => End::Failed(Failure::Lost("it ended".to_owned())),
        };
        self.cancelling.stopped();
        if let End::Deleted = end {
            self.tell_deleted();
        }
        end
    }

    /// Whether a queue that someone else declared has gone since the subscription began.
    fn is_gone(&self, why: &str) -> bool {
        let began = self.ready.is_none();
        began && self.source.ends_without_queue() && why.starts_with("NOT_FOUND") && !passes(why)
    }

    fn tell_deleted(&self) {
        let queue = &self.source.queue;
        tracing::info!(queue = &**queue, "the queue was deleted; its consumer ends");
        self.queues.declarations.forget_queue(queue);
    }

    /// Sees to it that the queue is there and bound.
    async fn have(&mut self, link: &Link) -> Result<(), Failure> {
        if self.source.binding.is_some() && self.ready.is_none() {
            self.look(link).await?;
        }
        let queues = self.queues.clone();
        let declarations = &queues.declarations;
        let Source { queue, origin, binding, end, .. } = &self.source;
        // Nobody else has a queue of that name; of others RabbitMQ says whether they are ours.
        self.declared |= *end == AtEnd::Goes;
        match origin {
            Origin::Found => {
                // Whoever has a share in it knows it as exclusive here.
                let find = Operation::FindQueue { name: queue };
                declarations.attempt(link, self.hold.is_some(), find).await?;
                // Whoever replies knows the name.
                if self.hold.is_none() && subscription_names::is_reply(queue) {
                    let locked = queues.exclusive.locked(queue);
                    return Err(Failure::Refused(locked.to_string()));
                }
            }
            Origin::Usual => {
                let target = Target::Queue(queue.clone());
                declarations.ensure(&target).await.map_err(Failure::Refused)?;
            }
            Origin::Declared(spec)
                if binding.is_none() && declarations.has_queue(link, queue, spec) => {}
            Origin::Declared(spec) => {
                // First of all: without it no queue is made that stays.
                if let Some(SourceBinding { exchange, ours, .. }) = binding {
                    if *ours {
                        let target = Target::Exchange(exchange.clone());
                        declarations.ensure(&target).await.map_err(Failure::Refused)?;
                    } else {
                        let find = Operation::FindExchange { name: exchange };
                        declarations.attempt(link, false, find).await?;
                    }
                }
                declarations.declare_queue(link, queue, spec).await?;
                self.declared = true;
                if let Some(SourceBinding { exchange, key, .. }) = binding {
                    let bind = Operation::Bind { queue, exchange, key };
                    if let Err(failure) = declarations.attempt(link, spec.exclusive, bind).await {
                        declarations.forget(&Target::Exchange(exchange.clone()));
                        return Err(failure);
                    }
                }
                declarations.seal(link).await?;
                if *end == AtEnd::Stays {
                    declarations.note_queue(link, queue, spec);
                }
            }
        }
        // An exclusive queue may have been declared by a message, or by another subscription.
        if let Some(hold) = &self.hold {
            hold.grant();
            self.declared = true;
        }
        Ok(())
    }

    /// Looks what became of a queue that is bound while there was no connection, and tells of a gap.
    async fn look(&mut self, link: &Link) -> Result<(), Failure> {
        let Source { queue, origin, settling, .. } = &self.source;
        // How long the others' are is for those to say who asked for them.
        let length = match (settling, origin) {
            (Settling::HandingOver, Origin::Declared(spec)) => spec.length(),
            _ => None,
        };
        let find = Operation::FindQueue { name: queue };
        let missed = match self.queues.declarations.perform(link, find).await {
            Ok(messages) => length.is_some_and(|length| i64::from(messages) >= length),
            Err(Failure::Refused(why)) if !passes(&why) => true,
            Err(failure) => return Err(failure),
        };
        if missed && self.missed_on != Some(link.generation) {
            self.missed_on = Some(link.generation);
            tracing::warn!(queue = &**queue, "a subscription's queue was full or is gone");
            self.queues.status.gap();
        }
        Ok(())
    }

    /// Starts the consumer.
    async fn begin(&mut self, link: &Link) -> Result<(Place, Consumer), End> {
        let queues = &self.queues;
        let Source { queue, origin, .. } = &self.source;
        let name = short(queue).map_err(End::Failed)?;
        let wanted = Wanted { queue: queue.clone(), arguments: self.arguments.clone() };
        let standing = match self.refused {
            true => Standing::Suspect,
            false => Standing::Open,
        };
        let mut place = match queues.channels.place(link, wanted, standing).await {
            Ok(place) => place,
            Err(NoPlace::Failed(failure)) => return Err(End::Failed(failure)),
            Err(NoPlace::Full { limit }) => {
                return Err(End::NoPlace(SubscribeError::LimitReached {
                    what: "consumers",
                    limit,
                }));
            }
        };
        let is_stream = match origin {
            Origin::Declared(spec) => spec.is_stream(),
            Origin::Found | Origin::Usual => queues.declarations.is_stream(queue),
        };
        let arguments = arguments::table(&self.position.go_on(&self.arguments, is_stream));
        match place.consume(link, name, self.prefetch, arguments).await {
            Ok(consumer) => Ok((place, consumer)),
            Err(failure) => {
                queues.declarations.forget(&Target::Queue(queue.clone()));
                let Failure::Refused(why) = &failure else { return Err(End::Failed(failure)) };
                let first = self.ready.is_some();
                // It was known to be there, and someone has deleted it: it is declared again. Whoever
                // subscribes waits for that once.
                if why.starts_with("NOT_FOUND")
                    && *origin != Origin::Found
                    && !(first && self.tried_again)
                {
                    self.tried_again = true;
                    return Err(End::Failed(Failure::Lost("the queue had gone".to_owned())));
                }
                self.refused = true;
                Err(End::Failed(failure))
            }
        }
    }

    async fn deliver(&mut self, link: &Link, place: &Place, mut consumer: Consumer) -> End {
        let settler = Arc::new(Settler::new(place.channel.clone(), self.queues.settled.clone()));
        while let Some(delivery) = consumer.next().await {
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => return End::Failed(link.failure(&error)),
            };
            let tag = delivery.delivery_tag;
            let offset = stream_position::offset(&delivery.properties);
            let of_stream = self.reads_stream(offset);
            if of_stream {
                settler.is_of_stream();
            }
            if let Some(outcome) = self.hand_over(delivery, &settler, of_stream).await {
                settler.settle(tag, outcome);
            }
            self.position.passed(offset);
        }
        if self.cancelling.asked.is_cancelled() {
            return End::Cancelled;
        }
        if !place.channel.status().connected() {
            return End::Failed(Failure::Lost("its channel is gone".to_owned()));
        }
        // RabbitMQ ended the consumer. A node that stops, or that the queue moves away from, does so
        // as well as a deletion.
        let find = Operation::FindQueue { name: &self.source.queue };
        match self.queues.declarations.attempt(link, self.hold.is_some(), find).await {
            Ok(_) => End::Failed(Failure::Lost("RabbitMQ ended the consumer".to_owned())),
            Err(Failure::Refused(why)) if !passes(&why) => End::Deleted,
            Err(failure) => End::Failed(failure),
        }
    }

    /// Whether what came with `offset` came from a stream. Of a queue that others declared only that
    /// tells; elsewhere an application may have sent on what it got from one, headers and all.
    fn reads_stream(&self, offset: Option<i64>) -> bool {
        match &self.source.origin {
            Origin::Declared(spec) => spec.is_stream(),
            Origin::Usual => self.queues.declarations.is_stream(&self.source.queue),
            Origin::Found => offset.is_some(),
        }
    }

    /// Hands a delivery over; what becomes of one that the subscriber does not settle.
    async fn hand_over(
        &self,
        mut delivery: lapin::message::Delivery,
        settler: &Arc<Settler>,
        of_stream: bool,
    ) -> Option<Outcome> {
        let Queues { metrics, settled, recent, outsize, names, replies, .. } = &*self.queues;
        let queue = &*self.source.queue;
        let received = match headers::read(&delivery.properties) {
            Ok(mut received) => {
                if subscription_names::is_reply(queue) {
                    received.headers.extend(headers::wanted_destination(&delivery.properties));
                }
                received
            }
            Err(skip) => {
                metrics.skipped(skip);
                return Some(Outcome::Ack);
            }
        };
        let (fate, outcome) = match self.source.settling {
            Settling::Subscriber => (Fate::Rejected, Outcome::Reject),
            Settling::HandingOver => (Fate::Dropped, Outcome::Ack),
        };
        if outsize.is(delivery.data.len(), queue, fate) {
            return Some(outcome);
        }
        replies.note(&delivery.properties);
        let (id, tag) = (received.id, delivery.delivery_tag);
        let marked = delivery.redelivered || received.republished;
        let destination = self.source.destination(names, &delivery);
        match self.source.settling {
            Settling::Subscriber => {
                let properties = &delivery.properties;
                let id = id.filter(|_| !of_stream);
                let known = id.map(|id| settled.known(id, queue, properties));
                if let Some(outcome) = known.and_then(|known| settled.repeated(known, marked)) {
                    metrics.duplicates.inc();
                    return Some(outcome);
                }
                let mut message = headers::message(received, destination, &mut delivery);
                if self.source.is_entrance() {
                    let said = headers::said_destination(&delivery.properties);
                    message.headers.extend(said.map(|said| ("destination".into(), said)));
                }
                let message = Arc::new(message);
                settler.expect(tag, known, marked);
                let settler: Arc<dyn Settle> = settler.clone();
                // An error means that the subscription is gone: what comes out of it is given back.
                let delivery = Delivery::unsettled(message, marked, settler, tag);
                let _ = self.deliveries.send(delivery).await;
                None
            }
            Settling::HandingOver => {
                // Before it is noted: what a broken connection takes back comes again, and is new.
                let Ok(room) = self.deliveries.reserve().await else {
                    return Some(Outcome::Requeue);
                };
                let new = id.is_none_or(|id| {
                    recent.lock().is_new(id, queue, delivery.routing_key.as_str())
                });
                // As for topics, of which the same is known.
                if !new && marked {
                    metrics.duplicates.inc();
                    return Some(Outcome::Ack);
                }
                let shown = received.republished || (id.is_none() && delivery.redelivered);
                let message = Arc::new(headers::message(received, destination, &mut delivery));
                let mut delivery = Delivery::settled(message);
                delivery.redelivered = shown;
                room.send(delivery);
                Some(Outcome::Ack)
            }
        }
    }

    /// Deletes the queue where it does not outlive the subscription, once there is a RabbitMQ to ask.
    async fn leave(&mut self) {
        if !self.declared {
            return;
        }
        let last = self.hold.as_ref().is_some_and(Hold::is_last);
        if !last && self.source.end != AtEnd::Goes {
            return;
        }
        let queue = &self.source.queue;
        let declarations = &self.queues.declarations;
        declarations.forget_queue(queue);
        while let Some(link) = current(&mut self.links).await {
            match declarations.perform(&link, Operation::DeleteQueue { name: queue }).await {
                Ok(_) => return,
                Err(Failure::Refused(why)) => {
                    tracing::info!(queue = &**queue, why, "a subscription's queue is left");
                    return;
                }
                Err(Failure::Lost(_)) => tokio::time::sleep(self.pauses.next()).await,
            }
        }
    }
}

/// Counts a consumer as long as it is there.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.consumers.inc();
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.consumers.dec();
    }
}
