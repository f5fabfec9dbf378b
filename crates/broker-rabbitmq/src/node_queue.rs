//! A queue that collects for this node: declared, bound and consumed on each connection. There are two:
//! for topics, and for letters, which a flood of topics does not push out, for it has no greatest length.
//!
//! Invariants
//! - The queue outlives a broken connection, and what came meanwhile is there on the next one. If it
//!   cannot be had any more, or seems to hold what ends every connection, another generation of it is
//!   declared, and a gap is announced.
//! - A restart of RabbitMQ is announced as a gap; a connection that breaks is none.
//! - The one for letters is not declared before there is a use for it.
//! - Each delivery is acked by its own tag, after it was dispatched. A dispatch that a connection's
//!   end broke off goes on with the next connection.
//!
//! Not here: how its bindings are made (`binder`); how a restart of RabbitMQ is noticed, which takes
//! messages that were not persistent with it (`marker`).

use std::sync::Arc;
use std::time::Duration;

use broker::Link as State;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{DeliveryTag, FieldTable};
use lapin::{Channel, Consumer};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::binder::Binder;
use crate::declarations::Declarations;
use crate::link::{Failure, Link, Links, current};
use crate::marker::{Came, Marker};
use crate::metrics::Metrics;
use crate::names::{Collected, Names, durable, node_queue_arguments};
use crate::operation::{Operation, short};
use crate::publisher::Publisher;
use crate::status::{Part, Status};
use crate::supervisor::Pauses;
use crate::topics::Topics;

/// How often RabbitMQ is asked how long the queue is.
const LOOK: Duration = Duration::from_secs(5);

/// How old a marker gets: far below the 30 minutes after which RabbitMQ closes a channel that does not
/// ack.
const REFRESH: Duration = Duration::from_secs(60);

/// How long after a marker did not come another one is published.
const REMARK: Duration = Duration::from_secs(5);

/// After how many deliveries in a row everything else that serves the queue has a turn. lapin hands
/// out what it has without ever making its reader wait.
const TURN: u32 = 64;

/// After how many connections in a row that ended at something unreadable the queue is given up.
const UNREADABLE: u32 = 2;

/// A connection that served the queue for longer begins such a row anew.
const SOON: Duration = Duration::from_secs(30);

/// What keeps the queue.
pub(crate) struct NodeQueue {
    pub(crate) collected: Collected,
    pub(crate) config: Arc<Config>,
    pub(crate) names: Arc<Names>,
    pub(crate) status: Arc<Status>,
    pub(crate) links: Links,
    pub(crate) declarations: Arc<Declarations>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) binder: Binder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) topics: Arc<Topics>,
    /// Asks for the bindings to be undone and the queue to be deleted.
    pub(crate) leaving: CancellationToken,
    /// Which one of this process it is; 0 before the first.
    pub(crate) generation: u64,
    /// Whether RabbitMQ has had it, and is asked for it before another is declared.
    pub(crate) declared: bool,
    /// Whether RabbitMQ was asked to declare it and has not answered.
    pub(crate) declaring: bool,
    /// Held for a few instructions.
    pub(crate) marker: Mutex<Marker>,
    /// The number of the newest marker that came.
    pub(crate) newest_marker: watch::Sender<u64>,
    /// How many connections in a row ended soon, at something unreadable. It may be in another queue:
    /// this one is given up once in such a row.
    pub(crate) unreadable: u32,
}

impl NodeQueue {
    /// Runs until the broker closes, or leaves: then it is served no more, whatever it waited for.
    pub(crate) async fn run(mut self) {
        let leaving = self.leaving.clone();
        tokio::select! {
            () = self.keep() => {}
            () = leaving.cancelled() => {
                let link = self.links.borrow().clone();
                if let Some(link) = link.filter(|_| self.declared || self.declaring) {
                    self.leave(&link).await;
                }
            }
        }
    }

    /// Serves the queue on each connection, until there is none any more.
    async fn keep(&mut self) {
        if self.collected == Collected::Letters {
            self.binder.bindings.wanted().await;
        }
        let mut pauses = Pauses::new(self.config.reconnect_pause);
        while let Some(link) = current(&mut self.links).await {
            let since = Instant::now();
            let failure = self.serve(&link, &mut pauses).await;
            if since.elapsed() > SOON {
                self.unreadable = 0;
            }
            self.unreadable += u32::from(link.unreadable());
            let queue = self.name();
            tracing::warn!(queue, %failure, "a queue of this node's is not served");
            self.status.set(self.part(), State::Down(format!("queue {queue}: {failure}")));
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Serves the queue on one connection, as long as it lasts.
    async fn serve(&mut self, link: &Link, pauses: &mut Pauses) -> Failure {
        let (channel, consumer) = match self.begin(link).await {
            Ok(begun) => begun,
            Err(failure) => return failure,
        };
        self.status.set(self.part(), State::Up);
        pauses.reset();
        let queue = self.name();
        tokio::select! {
            biased;
            failure = self.deliver(link, &channel, consumer) => failure,
            () = link.ended() => Failure::Lost("it ended".to_owned()),
            failure = self.binder.keep(link, &queue) => failure,
            failure = self.look(link) => failure,
            () = self.mark() => Failure::Lost("it is closing".to_owned()),
        }
    }

    async fn begin(&mut self, link: &Link) -> Result<(Channel, Consumer), Failure> {
        self.have(link).await?;
        // Bound before it is consumed: whatever was missed while it was away comes first, in order.
        self.binder.catch_up(link, &self.name()).await?;
        self.marker.lock().reconnected();
        let begun = self.consume(link).await?;
        // Made again behind what clients wait for: there may be thousands.
        self.binder.bindings.doubt_all();
        Ok(begun)
    }

    fn name(&self) -> String {
        self.names.node_queue(self.collected, self.generation)
    }

    fn part(&self) -> Part {
        match self.collected {
            Collected::Topics => Part::TopicQueue,
            Collected::Letters => Part::LetterQueue,
        }
    }

    /// How many messages it keeps. Letters must not be pushed out; they go when the queue expires.
    fn length(&self) -> Option<u32> {
        match self.collected {
            Collected::Topics => Some(self.config.topic_queue_length),
            Collected::Letters => None,
        }
    }

    fn is_full(&self, messages: u32) -> bool {
        self.length().is_some_and(|length| messages >= length)
    }

    /// Sees to it that there is a queue: the one of before if it can still be had, else another.
    async fn have(&mut self, link: &Link) -> Result<(), Failure> {
        if self.declared && self.unreadable == UNREADABLE {
            self.give_up(link).await?;
        }
        if self.declared {
            let name = self.name();
            match self.declarations.perform(link, Operation::FindQueue { name: &name }).await {
                Ok(messages) => {
                    if self.is_full(messages) {
                        tracing::warn!(queue = name, "the topic queue is full; some was dropped");
                        self.status.gap();
                    }
                    return Ok(());
                }
                Err(Failure::Refused(why)) => {
                    tracing::warn!(queue = name, why, "a queue of this node's is gone");
                    self.status.lost(self.collected);
                    self.declared = false;
                }
                Err(lost) => return Err(lost),
            }
        }
        self.generation += 1;
        let name = self.name();
        let arguments = node_queue_arguments(self.length(), self.config.topic_queue_expiry);
        let declare = Operation::DeclareQueue { name: &name, options: durable(), arguments };
        self.declaring = true;
        let declared = self.declarations.perform(link, declare).await;
        self.declaring = false;
        declared?;
        if self.collected == Collected::Topics {
            self.declarations.seal_with(&name);
        }
        self.declared = true;
        self.binder.bindings.anew();
        self.marker.lock().anew();
        Ok(())
    }

    /// Deletes the queue, and with it what cannot be read, if it is there.
    async fn give_up(&mut self, link: &Link) -> Result<(), Failure> {
        let name = self.name();
        tracing::warn!(
            queue = name,
            "a queue of this node's may hold an unreadable message; it is deleted"
        );
        let delete = Operation::DeleteQueue { name: &name };
        if let Err(Failure::Lost(why)) = self.declarations.perform(link, delete).await {
            return Err(Failure::Lost(why));
        }
        self.status.lost(self.collected);
        self.declared = false;
        // Not once more in this row.
        self.unreadable += 1;
        Ok(())
    }

    async fn consume(&self, link: &Link) -> Result<(Channel, Consumer), Failure> {
        let queue = short(&self.name())?;
        let channel = link.channel().await?;
        let consuming = async {
            // One more for the marker, which is held.
            let prefetch = self.config.topic_prefetch.saturating_add(1);
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            channel.basic_consume(queue, "".into(), options, none).await
        };
        let consumer = link.answer(consuming).await?;
        Ok((channel, consumer))
    }

    /// Dispatches what comes, until nothing does.
    async fn deliver(&self, link: &Link, channel: &Channel, mut consumer: Consumer) -> Failure {
        // What came by the connection before may not come again.
        self.topics.resume().await;
        let mut turn = 0;
        while let Some(delivery) = consumer.next().await {
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => return link.failure(&error),
            };
            let tag = delivery.delivery_tag;
            let marker = self.marker.lock().read(&delivery);
            let ack = match marker {
                Some(number) => self.marked(number, tag),
                None => {
                    self.topics.dispatch(delivery).await;
                    Some(tag)
                }
            };
            // The first poll puts the ack in line; an error means that the connection is gone, and
            // the delivery will come again.
            if let Some(tag) = ack {
                let _ = channel.basic_ack(tag, BasicAckOptions::default()).now_or_never();
            }
            turn += 1;
            if turn == TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Failure::Refused("RabbitMQ ended the consumer".to_owned())
    }

    /// Marker `number` came; what to ack.
    fn marked(&self, number: u64, tag: DeliveryTag) -> Option<DeliveryTag> {
        let Came { ack, gap, .. } = self.marker.lock().came(number, tag);
        if gap {
            let queue = self.name();
            tracing::warn!(queue, "RabbitMQ restarted; messages may have been lost");
            self.status.gap();
        }
        self.newest_marker.send_modify(|newest| *newest = number.max(*newest));
        ack
    }

    /// Publishes a marker, and another when it is old or was lost. Returns once nobody publishes.
    async fn mark(&self) {
        let queue = self.name();
        let mut newest = self.newest_marker.subscribe();
        let mut number = *newest.borrow();
        loop {
            number += 1;
            let properties = self.marker.lock().write(number);
            let published = match self.publisher.publish_to_queue(&queue, properties).await {
                Ok(confirm) => confirm.await.is_ok(),
                Err(_) => false,
            };
            if published {
                // It can be lost after its confirm, for it is not persistent.
                let coming = async { newest.wait_for(|newest| *newest >= number).await.is_ok() };
                match tokio::time::timeout(REMARK, coming).await {
                    Ok(true) => tokio::time::sleep(REFRESH).await,
                    Ok(false) => return,
                    Err(_) => {}
                }
            } else {
                tokio::time::sleep(REMARK).await;
            }
        }
    }

    /// Looks now and then how long the queue is.
    async fn look(&self, link: &Link) -> Failure {
        let name = self.name();
        let mut was_full = false;
        loop {
            match self.declarations.perform(link, Operation::FindQueue { name: &name }).await {
                Ok(messages) => {
                    let gauge = match self.collected {
                        Collected::Topics => &self.metrics.topic_queue_messages,
                        Collected::Letters => &self.metrics.direct_queue_messages,
                    };
                    gauge.set(messages.into());
                    let is_full = self.is_full(messages);
                    if is_full && !was_full {
                        tracing::warn!(queue = name, "the topic queue is full; some is dropped");
                        self.status.gap();
                    }
                    was_full = is_full;
                }
                // If it is gone, the consumer hears of it.
                Err(Failure::Refused(why)) => tracing::debug!(queue = name, why, "not found"),
                Err(lost) => return lost,
            };
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Undoes the bindings first, for deleting a queue with many of them stalls publishers, and then
    /// deletes the queue.
    async fn leave(&self, link: &Link) {
        let name = self.name();
        self.binder.undo(link, &name).await;
        if let Err(failure) =
            self.declarations.perform(link, Operation::DeleteQueue { name: &name }).await
        {
            tracing::info!(queue = name, %failure, "a queue of this node's is left to expire");
        }
    }
}
