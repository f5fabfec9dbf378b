//! One publish channel: writes what its publishers hand over, in order, and hears the confirms.
//!
//! Invariants
//! - Messages to one target are written in the order they were accepted. When the channel is gone,
//!   those that were not confirmed are written first, in order, on the next one.
//! - Messages whose target is not known to be there are parked until it is. The others go on: what
//!   is promised is the order of each sender to each destination.
//! - A message that RabbitMQ refuses by closing the channel is found, by writing one at a time until
//!   it is behind, and fails alone.
//! - What lapin attaches to a confirm as returned may belong to another: returns are matched by
//!   `x-footbridge-id`, and no confirm of a window is believed before all of them are in. By then
//!   each return has come, for RabbitMQ sends it before its confirm, and every confirm takes one along.

use std::collections::HashSet;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use broker::{ConfirmError, MessageId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::asking::{Answer, Asking};
use crate::declarations::{Declarations, Target};
use crate::headers;
use crate::link::{Failure, Link, Links, current};
use crate::metrics::Metrics;
use crate::proofs::is_about_the_key;
use crate::queues::with_advice;
use crate::retained::{Expired, Next, Pending, Retained};
use crate::status::Status;
use crate::supervisor::Pauses;

/// How many messages may be unconfirmed on the channel. lapin looks through all of them for a confirm
/// that speaks of several.
const IN_FLIGHT: usize = 1_000;

/// How many mandatory messages make a window, at most.
const WINDOW: usize = 256;

/// A publish channel and what waits for it.
pub(crate) struct Lane {
    /// Bounded by the room that each message holds.
    pub(crate) incoming: UnboundedReceiver<Pending>,
    pub(crate) links: Links,
    /// Says why what waits was not confirmed.
    pub(crate) status: Arc<Status>,
    pub(crate) declarations: Arc<Declarations>,
    pub(crate) asking: Asking,
    pub(crate) carries: Carries,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) retained: Retained,
    /// Messages with a number below this are written one at a time.
    pub(crate) careful: u64,
    pub(crate) pauses: Pauses,
}

/// What goes by a lane. Each has lanes of its own: what closes the channel of one makes no repeats of
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Messages to topics, and replies. Those that no queue takes are gone.
    Topics,
    /// Messages to queues. Those that no queue takes come back.
    Queues,
    /// Messages to exchanges of others, which may go at any time. Those that no queue takes are gone.
    Exchanges,
}

/// What is on its way on one channel.
#[derive(Default)]
struct Flight {
    publishes: FuturesUnordered<Publish>,
    /// Confirmed, but not believed yet.
    confirmed: Vec<u64>,
    /// Came back.
    returned: HashSet<MessageId>,
    /// Whether the one that is written must be the only one.
    alone: bool,
}

type Publish = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

/// Why a channel is not used any more.
enum End {
    /// Nobody publishes any more.
    Closing,
    /// It, or its connection, is gone.
    Gone,
}

impl Lane {
    pub(crate) async fn run(mut self) {
        while self.has_use().await
            && let Some((link, channel)) = self.channel().await
        {
            self.retained.rewind();
            match self.serve(&link, &channel).await {
                End::Closing => return,
                End::Gone => {}
            }
        }
    }

    /// Waits until a channel is of use: most nodes never publish to exchanges of others. False when
    /// nobody publishes any more.
    async fn has_use(&mut self) -> bool {
        if self.carries == Carries::Exchanges && self.retained.is_empty() {
            let Some(pending) = self.incoming.recv().await else { return false };
            self.retained.push(pending);
        }
        true
    }

    /// The next channel; meanwhile what comes in is retained. None when nobody publishes any more.
    async fn channel(&mut self) -> Option<(Arc<Link>, Channel)> {
        let mut opening = pin!(open(self.links.clone(), self.pauses.next()));
        loop {
            tokio::select! {
                opened = &mut opening => return opened,
                pending = self.incoming.recv() => self.retained.push(pending?),
                () = at(self.retained.deadline()) => drop(self.expire()),
            }
        }
    }

    async fn serve(&mut self, link: &Link, channel: &Channel) -> End {
        let mut flight = Flight::default();
        loop {
            while let Some(next) = self.next(&flight) {
                if next.outgoing.frame > link.frame_max() {
                    self.too_long(&next, link.frame_max());
                } else if let Err((number, error)) = self.write(channel, next, &mut flight).await {
                    return self.failed(link, number, &error);
                }
            }
            tokio::select! {
                biased;
                Some((number, word)) = flight.publishes.next() => match word {
                    Ok(word) => self.confirmed(number, word, &mut flight),
                    Err(error) => return self.failed(link, number, &error),
                },
                () = link.ended() => return End::Gone,
                Some((target, answer)) = self.asking.answer() => self.answered(&target, answer),
                pending = self.incoming.recv() => match pending {
                    Some(pending) => self.retained.push(pending),
                    None => return End::Closing,
                },
                () = at(self.retained.deadline()) => {
                    // A channel that says nothing of what it was given is not trusted with more,
                    // unless RabbitMQ has said that it takes nothing.
                    if self.expire().written && !self.status.is_blocked() {
                        tracing::warn!("RabbitMQ does not confirm; another channel is opened");
                        return End::Gone;
                    }
                }
            }
        }
    }

    /// The next message, if it may be written now. Those whose target is not known to be there are
    /// parked on the way.
    fn next(&mut self, flight: &Flight) -> Option<Next> {
        loop {
            let next = self.retained.next()?;
            if self.declarations.is_known(&next.outgoing.target) {
                return self.may_write(next.number, flight).then_some(next);
            }
            self.retained.park(&next);
            self.ask(&next.outgoing.target);
        }
    }

    /// Asks for the target of what is parked, as long as the oldest of it may wait.
    fn ask(&mut self, target: &Target) {
        if let Some(deadline) = self.retained.parked(target) {
            self.asking.ask(target, deadline);
        }
    }

    fn answered(&mut self, target: &Target, answer: Answer) {
        match answer {
            Answer::There => self.retained.unpark(target),
            Answer::ByKey => self.retained.split(target),
            Answer::Refused(why) => {
                match target {
                    // Anybody may name one.
                    Target::Foreign(exchange) | Target::ForeignKey(exchange, _) => {
                        tracing::debug!(
                            exchange = &**exchange,
                            why,
                            "an exchange takes no messages"
                        );
                    }
                    _ => tracing::warn!(?target, why, "RabbitMQ refused a declaration"),
                }
                self.retained.refuse(target, &with_advice(why));
            }
            // For those that were parked later.
            Answer::Late => {
                self.expire();
                self.ask(target);
            }
        }
    }

    /// Whether a message that no queue takes comes back.
    fn mandatory(&self) -> bool {
        self.carries == Carries::Queues
    }

    fn may_write(&self, number: u64, flight: &Flight) -> bool {
        let limit = match (flight.alone || number < self.careful, self.mandatory()) {
            (true, _) => 1,
            // A window that has begun to close takes no more.
            (false, true) if !flight.confirmed.is_empty() => 0,
            (false, true) => WINDOW,
            (false, false) => IN_FLIGHT,
        };
        flight.publishes.len() < limit
    }

    /// `next` would end the connection.
    fn too_long(&mut self, next: &Next, limit: usize) {
        let size = next.outgoing.frame;
        let why =
            format!("its headers are {size} bytes in AMQP, where a frame has at most {limit}");
        self.retained.settle(next.number, Err(ConfirmError::Refused(why)));
    }

    /// Writes `next`. An error is what a message heard, by number, whose channel is gone.
    async fn write(
        &mut self,
        channel: &Channel,
        next: Next,
        flight: &mut Flight,
    ) -> Result<(), (u64, lapin::Error)> {
        let Next { number, outgoing, again } = next;
        flight.alone = number < self.careful;
        let (channel, mandatory) = (channel.clone(), self.mandatory());
        let mut publish: Publish = Box::pin(async move {
            let properties = match again {
                true => headers::republished(&outgoing.properties),
                false => outgoing.properties.clone(),
            };
            let options = BasicPublishOptions { mandatory, immediate: false };
            let (exchange, key) = (outgoing.exchange.clone(), outgoing.routing_key.clone());
            let written =
                channel.basic_publish(exchange, key, options, &outgoing.body, properties).await;
            match written {
                Ok(confirm) => (number, confirm.await),
                Err(error) => (number, Err(error)),
            }
        });
        self.retained.wrote(number);
        if again {
            self.metrics.republished.inc();
        }
        // The first poll puts the message in line; the order of first polls is the order on the wire.
        match poll_fn(|cx| Poll::Ready(publish.as_mut().poll(cx))).await {
            Poll::Pending => flight.publishes.push(publish),
            Poll::Ready((number, Ok(word))) => self.confirmed(number, word, flight),
            Poll::Ready((number, Err(error))) => return Err((number, error)),
        }
        Ok(())
    }

    fn confirmed(&mut self, number: u64, word: Confirmation, flight: &mut Flight) {
        match word {
            Confirmation::Ack(returned) => {
                flight.note(returned);
                if self.mandatory() {
                    flight.confirmed.push(number);
                } else {
                    self.retained.settle(number, Ok(()));
                }
            }
            Confirmation::Nack(returned) => {
                flight.note(returned);
                let why = "its queue takes no more".to_owned();
                self.retained.settle(number, Err(ConfirmError::Full(why)));
            }
            // The channel is in confirm mode.
            Confirmation::NotRequested => {
                let why = "RabbitMQ was not asked to".to_owned();
                self.retained.settle(number, Err(ConfirmError::Lost(why)));
            }
        }
        if flight.publishes.is_empty() {
            flight.alone = false;
            self.pauses.reset();
            self.close_window(flight);
        }
    }

    fn close_window(&mut self, flight: &mut Flight) {
        for number in flight.confirmed.drain(..) {
            let id = self.retained.id(number);
            if id.is_some_and(|id| flight.returned.contains(&id)) {
                if let Some(target) = self.retained.returned(number) {
                    tracing::warn!(?target, "a queue has gone; it is declared again");
                    self.declarations.forget(&target);
                }
            } else {
                self.retained.settle(number, Ok(()));
            }
        }
        flight.returned.clear();
    }

    /// `number` was the first to hear that the channel is gone.
    fn failed(&mut self, link: &Link, number: u64, error: &lapin::Error) -> End {
        if let Failure::Refused(why) = link.failure(error) {
            tracing::warn!(why, "RabbitMQ closed a publish channel");
            // What it says may be that something known to be there is not.
            self.declarations.forget_each(self.retained.targets());
            // Then it was alone.
            if number < self.careful {
                if is_about_the_key(&why)
                    && let Some(exchange) = self.retained.exchange(number)
                {
                    self.declarations.ask_by_key(&exchange);
                }
                self.retained.settle(number, Err(ConfirmError::Refused(why)));
            } else {
                self.careful = self.retained.end();
            }
        }
        End::Gone
    }

    fn expire(&mut self) -> Expired {
        let why = self.status.reason();
        let expired = self.retained.expire(Instant::now(), &why);
        if expired.messages > 0 {
            let expired = expired.messages;
            tracing::warn!(expired, why, "gave up on messages that RabbitMQ did not confirm");
        }
        expired
    }
}

impl Flight {
    fn note(&mut self, returned: Option<BasicReturnMessage>) {
        let id = returned.and_then(|returned| headers::id(&returned.properties));
        self.returned.extend(id);
    }
}

/// A channel on the link of the moment. None once there will be none any more.
async fn open(mut links: Links, mut pause: Duration) -> Option<(Arc<Link>, Channel)> {
    loop {
        let link = current(&mut links).await?;
        match link.confirm_channel().await {
            Ok(channel) => return Some((link, channel)),
            Err(failure) => {
                tracing::debug!(%failure, "no publish channel");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

/// Returns at `deadline`, never if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}
