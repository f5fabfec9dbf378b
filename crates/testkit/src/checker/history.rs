//! What happened, in the order in which the checker saw it.
//!
//! What always holds: an act of the checker is recorded before its first byte is written (`Sent`,
//! `Subscribing`, `Acking`, `Committing`), and what it hears is recorded after its last byte was read
//! (`Receipted`, `Subscribed`, `Acked`, `Committed`, `Received`). So `Subscribed` before `Sent` in a
//! history means that the subscription was confirmed before the message left, whatever sessions the two
//! belong to.

use std::fmt;
use std::time::Duration;

use stomp::action::AckMode;

use super::Fault;

/// One connection of the checker's, numbered over the whole run: a session that was closed and
/// connected again has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

/// A subscription: the `number`th of its session. One that was ended and made again has another
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId {
    /// Whose it is.
    pub session: SessionId,
    /// From 0, per session.
    pub number: u32,
}

/// What a destination promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Every subscriber gets every message.
    Topic,
    /// One of the consumers gets a message.
    Queue,
}

/// The `number`th topic or queue of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// Topic or queue.
    pub kind: Kind,
    /// From 0, per kind.
    pub number: u32,
}

/// A message: the `number`th that `sender` sent to `destination`, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// The session it was sent by.
    pub sender: SessionId,
    /// Where it was sent to.
    pub destination: Destination,
    /// Its place in the sender's order.
    pub number: u32,
}

/// A MESSAGE that came: the `number`th of its subscription, from 0, whatever was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// The subscription that it names.
    pub subscription: SubscriptionId,
    /// Its place among what came to the subscription.
    pub number: u32,
}

/// A transaction: the `number`th of its session, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId {
    /// Whose it is.
    pub session: SessionId,
    /// From 0, per session.
    pub number: u32,
}

/// Something that the checker did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session is open.
    Connected {
        /// The session.
        session: SessionId,
        /// The node it is with, by its place in the list of URLs.
        node: usize,
    },
    /// SUBSCRIBE is about to be written.
    Subscribing {
        /// The subscription.
        subscription: SubscriptionId,
        /// Its destination.
        destination: Destination,
        /// How it acknowledges.
        ack: AckMode,
    },
    /// The RECEIPT of the SUBSCRIBE came.
    Subscribed(SubscriptionId),
    /// UNSUBSCRIBE is about to be written.
    Unsubscribing(SubscriptionId),
    /// The RECEIPT of the UNSUBSCRIBE came.
    Unsubscribed(SubscriptionId),
    /// SEND is about to be written. One outside of transactions asks for a receipt; one in a transaction
    /// is covered by that of the COMMIT or ABORT.
    Sent {
        /// The message.
        message: MessageId,
        /// The transaction it is in.
        transaction: Option<TransactionId>,
    },
    /// The RECEIPT of a SEND outside of transactions came.
    Receipted(MessageId),
    /// COMMIT is about to be written.
    Committing(TransactionId),
    /// The RECEIPT of the COMMIT came.
    Committed(TransactionId),
    /// ABORT is about to be written.
    Aborting(TransactionId),
    /// The RECEIPT of the ABORT came.
    Aborted(TransactionId),
    /// ACK is about to be written. With `ack:client` it covers all that its subscription got before and
    /// that is not settled. One outside of transactions asks for a receipt, as with `Sent`.
    Acking {
        /// What it names.
        delivery: DeliveryId,
        /// The transaction it is in.
        transaction: Option<TransactionId>,
    },
    /// The RECEIPT of an ACK outside of transactions came.
    Acked(DeliveryId),
    /// NACK with `requeue:true` is about to be written, outside of transactions. With `ack:client` it
    /// covers what an ACK would.
    Nacking(DeliveryId),
    /// The RECEIPT of the NACK came.
    Nacked(DeliveryId),
    /// A MESSAGE came whose body is a message of this run, whole.
    Received {
        /// The delivery.
        delivery: DeliveryId,
        /// The message.
        message: MessageId,
        /// Whether it says `redelivered:true`.
        redelivered: bool,
    },
    /// A MESSAGE came whose body an earlier run of the checker has left in a queue.
    Stray(SubscriptionId),
    /// A frame came that nothing accounts for, or a body that nobody wrote.
    Unexpected {
        /// The session that got it.
        session: SessionId,
        /// What it was.
        what: String,
    },
    /// A session ended otherwise than by DISCONNECT.
    Closed {
        /// The session.
        session: SessionId,
        /// What the server or the socket said.
        why: String,
    },
    /// The checker waits for nothing any more, and begins to end its sessions. What connects later only
    /// looks what is left in the queues.
    Settled,
    /// A session ended: the RECEIPT of its DISCONNECT came.
    Ended(SessionId),
    /// A fault is about to begin.
    FaultBegins(Fault),
    /// A fault has ended.
    FaultEnded(Fault),
}

/// Events in order, each with the time since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    events: Vec<(Duration, Event)>,
}

impl History {
    /// Adds an event behind the others.
    pub fn record(&mut self, at: Duration, event: Event) {
        self.events.push((at, event));
    }

    /// All events, with the time since the start.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Duration, &Event)> {
        self.events.iter().map(|(at, event)| (*at, event))
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing has happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl FromIterator<Event> for History {
    /// A history by hand: a millisecond from each event to the next.
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        let events = (0..).map(Duration::from_millis).zip(events).collect();
        Self { events }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subscription {} of {}", self.number, self.session)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {} of {}", self.number, self.session)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Topic => "topic",
            Kind::Queue => "queue",
        };
        write!(f, "{kind} {}", self.number)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} from {} to {}", self.number, self.sender, self.destination)
    }
}
