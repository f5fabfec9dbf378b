//! STOMP to broker: performs what a session's client asks of destinations.
//!
//! The relay parses destinations, has each access authorised, and holds the session's
//! subscriptions; whatever may wait comes back as a future that owns all it needs. It knows whom the
//! session belongs to, which a `renewal` moves on. `subscribe` opens
//! subscriptions, by what `options` read from headers and the `feed` that follows; `publish` sends, with
//! `replies` for a session's own answers; `call` asks the application; a `queue` holds what is delivered until `acknowledge` or the
//! write settles it.
//!
//! Invariants
//! - Nothing a client asks for reaches a broker without [`Access::check`](access::Access::check). Where an
//!   application sends is trusted.
//! - Headers that the server sets never come from a client.
//! - Dropping the relay ends every subscription and gives back what is unsettled.
//!
//! Not here: the protocol (crate `stomp`), the fan-out of topics ([`Hub`](crate::hub::Hub)).

mod acknowledge;
mod call;
mod error_note;
mod feed;
mod group;
mod options;
mod publish;
mod queue;
mod refused;
mod renewal;
mod replies;
mod seat;
mod subscribe;
mod user;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::{Destination, Message, PublisherId};
use bytestring::ByteString;
use futures_util::future::{self, BoxFuture};
use stomp::action::{Held, Publish, Subscribe, Unsubscribe};
use stomp::{Command, Version};
use tokio::time::Instant;

use self::acknowledge::nothing_to_acknowledge;
pub(crate) use self::call::Asking;
pub(crate) use self::error_note::{ERROR, ErrorNote};
use self::publish::Replies;
pub(crate) use self::publish::{Sent, SentTo};
use self::queue::{Queue, Source};
pub(crate) use self::refused::Refused;
pub(crate) use self::renewal::deadline;
use self::replies::TempQueue;
use self::seat::Seat;
use self::subscribe::{AskedSubscription, Subscriber, room_for_queues};
pub(crate) use self::subscribe::{Opened, OpenedBy};
use crate::application::{Caller, Content};
use crate::close::CloseReason;
use crate::mailbox::Mailbox;
use crate::message_frame;
use crate::node::Node;
use crate::transport::Framing;
use crate::users::Registration;

/// How long a client waits for what needs the broker and does not get it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One session's relay.
pub(crate) struct Relay {
    node: Arc<Node>,
    mailbox: Arc<Mailbox>,
    framing: Framing,
    publisher: PublisherId,
    caller: Caller,
    registration: Registration,
    /// When the principal ends to be who it is; none is never.
    expires_at: Option<Instant>,
    version: Version,
    /// A few characters of the session's id that no other session's has.
    tag: ByteString,
    /// At most `max_subscriptions` of the STOMP session.
    shared: Vec<SharedSubscription>,
    /// Likewise.
    asked: Vec<AskedSubscription>,
    /// As `shared`, and at most `max_own_queues` for answers.
    queues: VecDeque<Queue>,
    /// How many deliveries the client got from queues.
    deliveries: u64,
    /// Above the number of every subscription that was opened.
    next_number: u32,
    /// Whether a subscription has ended whose messages the client acknowledges.
    acknowledging_ended: bool,
}

/// A subscription to what all subscribers on the node share.
struct SharedSubscription {
    number: u32,
    acknowledged: bool,
    seat: Seat,
}

impl Relay {
    pub(crate) fn new(
        node: Arc<Node>,
        mailbox: Arc<Mailbox>,
        framing: Framing,
        caller: Caller,
        registration: Registration,
        version: Version,
        now: Instant,
    ) -> Self {
        let session = &caller.session;
        Self {
            publisher: node.sessions.new_publisher(),
            tag: ByteString::from(session[session.len().saturating_sub(8)..].to_owned()),
            registration,
            node,
            mailbox,
            framing,
            expires_at: deadline(&caller.principal, now),
            caller,
            version,
            shared: Vec::new(),
            asked: Vec::new(),
            queues: VecDeque::new(),
            deliveries: 0,
            next_number: 0,
            acknowledging_ended: false,
        }
    }

    /// Publishes, or calls the application. The future waits while the broker has no room.
    /// `receipted`: the client waits for a receipt that covers it.
    pub(crate) fn publish(
        &self,
        publish: Publish,
        receipted: bool,
    ) -> BoxFuture<'static, Result<Sent, Refused>> {
        let mut checked = match publish::check(&self.node, &self.caller.principal, &publish) {
            Ok(checked) => checked,
            Err(refused) => return Box::pin(future::err(refused)),
        };
        let replies = match checked.replies.take() {
            None => Replies::AsSaid,
            Some(temp_queue) => match self.reply_to(&temp_queue) {
                Some(reply_to) => Replies::Known(reply_to.clone()),
                None => Replies::New(temp_queue),
            },
        };
        Box::pin(publish::publish(self.subscriber(), checked, replies, publish, receipted))
    }

    /// Whether all that a transaction held can be asked for: each destination is there and allowed,
    /// each delivery is waiting to be settled, and there is room for the queues it needs.
    pub(crate) fn check(&self, held: &[Held]) -> Result<(), Refused> {
        let mut new: Vec<TempQueue> = Vec::new();
        for held in held {
            match held {
                // A token is looked at when its turn comes.
                Held::Publish(publish) if self.is_renewal(publish) => {}
                Held::Publish(publish) => {
                    let checked = publish::check(&self.node, &self.caller.principal, publish)?;
                    new.extend(checked.replies.filter(|temp_queue| {
                        self.reply_to(temp_queue).is_none() && !new.contains(temp_queue)
                    }));
                }
                Held::Acknowledge(acknowledge) => {
                    let found = self.find(&acknowledge.of);
                    found.ok_or_else(|| nothing_to_acknowledge(&acknowledge.of))?;
                }
            }
        }
        match new.is_empty() {
            true => Ok(()),
            false => room_for_queues(self.own_queues() + new.len(), &self.node.config),
        }
    }

    /// Opens a subscription.
    pub(crate) fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BoxFuture<'static, Result<OpenedBy, Refused>> {
        Box::pin(subscribe::open(self.subscriber(), subscribe))
    }

    /// Keeps a subscription until it is ended, or the relay dropped.
    pub(crate) fn hold(&mut self, opened: Opened) {
        let number = match opened {
            Opened::Shared { number, acknowledged, seat } => {
                // Whoever revoked it when it was not held yet found nothing to end.
                if let Some(group) = seat.revoked() {
                    self.mailbox.end_subscriptions(group);
                }
                self.shared.push(SharedSubscription { number, acknowledged, seat });
                Some(number)
            }
            Opened::User { number, acknowledged, seat, inbox } => {
                self.shared.push(SharedSubscription { number, acknowledged, seat });
                self.queues.extend(inbox);
                Some(number)
            }
            Opened::Queue(queue) => {
                let number = queue.number();
                self.queues.push_back(queue);
                number
            }
            Opened::Asked(asked) => {
                let number = asked.number;
                self.asked.push(asked);
                Some(number)
            }
        };
        self.next_number = self.next_number.max(number.map_or(0, |number| number + 1));
        self.show_subscriptions();
    }

    /// Has the console show how many subscriptions there are.
    fn show_subscriptions(&self) {
        let Some(seen) = self.registration.registered().seen() else { return };
        let is_shared = |number| self.shared.iter().any(|shared| shared.number == number);
        let numbers = self.queues.iter().filter(|queue| queue.is_live()).filter_map(Queue::number);
        // One to a user's destination is both.
        let queues = numbers.filter(|number| !is_shared(*number)).count();
        seen.subscribed(self.shared.len() + self.asked.len() + queues);
    }

    /// Ends a subscription. What it has not settled goes back, except what `ack:auto` settles once
    /// it is written. If the client wants no more what its queue keeps, the future deletes that.
    pub(crate) fn unsubscribe(
        &mut self,
        unsubscribe: &Unsubscribe,
    ) -> Result<Option<BoxFuture<'static, Result<(), Refused>>>, Refused> {
        let flag = |name| options::flag(Command::Unsubscribe, &unsubscribe.headers, name);
        let unwanted = flag("durable")? == Some(true) || flag("persistent")? == Some(true);
        let Some(number) = unsubscribe.number else { return Ok(None) };
        let mut kept = None;
        self.shared.retain(|shared| {
            self.acknowledging_ended |= shared.number == number && shared.acknowledged;
            shared.number != number
        });
        self.asked.retain(|asked| {
            self.acknowledging_ended |= asked.number == number && asked.shape.acknowledged;
            asked.number != number
        });
        self.queues.retain_mut(|queue| {
            if queue.number() != Some(number) {
                return true;
            }
            kept = queue.kept().cloned();
            self.acknowledging_ended |= queue.is_acknowledged();
            queue.leave()
        });
        self.show_subscriptions();
        Ok(kept.filter(|_| unwanted).map(|name| {
            let node = Arc::clone(&self.node);
            let delete = async move { Ok(node.broker.delete(&Destination::Queue(name)).await?) };
            Box::pin(delete) as BoxFuture<'static, _>
        }))
    }

    /// Ends the subscriptions to `destination`, because somebody else wants that, and gives back what they
    /// have not settled. Says their numbers.
    pub(crate) fn end(&mut self, destination: &Destination) -> Vec<u32> {
        let mut ended = Vec::new();
        self.shared.retain(|shared| {
            let is_meant = shared.seat.is_of(destination);
            if is_meant {
                self.acknowledging_ended |= shared.acknowledged;
                ended.push(shared.number);
            }
            !is_meant
        });
        self.asked.retain(|asked| {
            let is_meant = asked.destination == *destination;
            if is_meant {
                self.acknowledging_ended |= asked.shape.acknowledged;
                ended.push(asked.number);
            }
            !is_meant
        });
        self.queues.retain_mut(|queue| match queue.number() {
            Some(number) if queue.is_live() && queue.is_of(destination) => {
                self.acknowledging_ended |= queue.is_acknowledged();
                // One to a user's destination is both.
                if !ended.contains(&number) {
                    ended.push(number);
                }
                queue.leave()
            }
            _ => true,
        });
        self.show_subscriptions();
        ended
    }

    /// Tells the session what went wrong, if it listens to that.
    pub(crate) fn tell_error(&self, error: &ErrorNote<'_>) {
        error.tell(self.registration.registered());
    }

    /// Ends all subscriptions, as [`unsubscribe`](Self::unsubscribe) does.
    pub(crate) fn leave(&mut self) {
        self.shared.clear();
        self.asked.clear();
        self.queues.retain_mut(Queue::leave);
    }

    /// Takes the next delivery of any queue and posts it to the mailbox; the queues take turns.
    /// `Ready(Err)` when the broker ended one.
    pub(crate) fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<(), Refused>> {
        for _ in 0..self.queues.len() {
            let Some(mut queue) = self.queues.pop_front() else { break };
            let delivered = queue.poll_deliver(cx, &self.mailbox, now, &mut self.deliveries);
            self.queues.push_back(queue);
            if delivered.is_ready() {
                return delivered;
            }
        }
        Poll::Pending
    }

    /// Posts a message of the application's answer to a subscription to the mailbox, which has room, if the
    /// subscription is still there.
    pub(crate) fn answer(&self, number: u32, content: Content, now: Instant) {
        let Some(asked) = self.asked.iter().find(|asked| asked.number == number) else { return };
        let mut message = Message::new(asked.destination.clone(), content.body);
        message.headers = content.headers;
        let text = str::from_utf8(&message.body).is_ok();
        self.mailbox.post(message_frame::encode(&asked.shape, &message, false, text), now);
        self.node.metrics.messages_sent.inc();
    }

    /// Whose the session is.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// When the oldest unsettled delivery will have been so for longer than `timeout`.
    pub(crate) fn ack_deadline(&self, timeout: Duration) -> Option<Instant> {
        let oldest = self.queues.iter().filter_map(Queue::unsettled_since).min()?;
        Some(oldest + timeout)
    }

    /// Settles the `ack:auto` deliveries whose frames are written.
    pub(crate) fn written(&mut self, ever_written: u64) {
        self.queues.retain_mut(|queue| queue.written(ever_written));
    }

    fn subscriber(&self) -> Subscriber {
        Subscriber {
            node: Arc::clone(&self.node),
            mailbox: Arc::clone(&self.mailbox),
            framing: self.framing,
            version: self.version,
            publisher: self.publisher,
            caller: self.caller.clone(),
            registered: Arc::clone(self.registration.registered()),
            tag: self.tag.clone(),
            own_queues: self.own_queues(),
        }
    }

    /// How many queues of its own the session has.
    fn own_queues(&self) -> usize {
        let live = self.queues.iter().filter(|queue| queue.is_live());
        live.filter(|queue| *queue.source() != Source::Others).count()
    }

    /// What messages from a temp-queue are answered to, if it is there.
    fn reply_to(&self, wanted: &TempQueue) -> Option<&ByteString> {
        self.queues.iter().find_map(|queue| match queue.source() {
            Source::Replies { temp_queue, reply_to } if temp_queue == wanted.spelled() => {
                Some(reply_to)
            }
            _ => None,
        })
    }
}

fn not_available(destination: &Destination) -> Refused {
    Refused::titled(
        stomp::Title::InvalidDestination,
        CloseReason::Protocol,
        format!(
            "'{destination}' is not available to this frame in this version: use a topic or a queue"
        ),
    )
}
