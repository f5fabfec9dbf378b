//! One destination's subscribers on a node, and how a message comes to them.
//!
//! Not here: where messages come from, and waiting for those that are behind ([`Hub`](super::Hub)).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use broker::{Destination, Message, SubscribeError};
use bytes::Bytes;
use parking_lot::Mutex;
use presence::GroupName;
use slab::Slab;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::SHAPES_AT_ONCE;
use crate::close::CloseReason;
use crate::mailbox::{Mailbox, Push};
use crate::message_frame::{Shape, encode};
use crate::users::Registered;

/// One destination's subscribers on this node.
pub(super) struct Fan {
    pub(super) destination: Destination,
    /// Of which group it is; then letters come, and only members are subscribed.
    pub(super) group: Option<GroupName>,
    /// Held for a whole fan-out; never while `fans` is.
    pub(super) subscribers: Mutex<Subscribers>,
    /// How many subscribers there are, for who only looks and should not wait for a fan-out.
    pub(super) seats: AtomicUsize,
    /// Whether the broker's subscription is live; `None` until it is known.
    pub(super) live: watch::Sender<Option<Result<(), SubscribeError>>>,
    /// Notified when the last subscriber leaves.
    pub(super) emptied: Notify,
}

#[derive(Default)]
pub(super) struct Subscribers {
    /// Grouped by shape, so that a message is encoded once for each group.
    pub(super) shapes: HashMap<Shape, Slab<Subscriber>>,
    /// The broker's subscription is over, or about to be: no seat is taken here any more.
    pub(super) closed: bool,
}

/// Who gets a destination's messages.
pub(super) enum Subscriber {
    Session(Arc<Mailbox>),
    /// Somebody of whom it is not certain yet whether the group's revocations have reached it.
    Newcomer(Arc<Registered>),
    /// A member of the group.
    Member(Arc<Registered>),
    /// It was one. The place is its own until its seat is given up.
    Revoked,
}

impl Fan {
    pub(super) fn new(destination: Destination, group: Option<GroupName>) -> Self {
        Self {
            destination,
            group,
            subscribers: Mutex::default(),
            seats: AtomicUsize::new(0),
            live: watch::Sender::new(None),
            emptied: Notify::new(),
        }
    }

    /// The shapes, if they are more than a message is encoded for at once.
    pub(super) fn many_shapes(&self) -> Option<Vec<Shape>> {
        let subscribers = self.subscribers.lock();
        let shapes = &subscribers.shapes;
        (shapes.len() > SHAPES_AT_ONCE).then(|| shapes.keys().cloned().collect())
    }

    /// Pushes `message` to the subscribers of these shapes, or to all: how many there are, and who must be
    /// tried again.
    pub(super) fn push(
        &self,
        shapes: Option<&[Shape]>,
        message: &Message,
        redelivered: bool,
        now: Instant,
    ) -> (usize, Vec<(Arc<Mailbox>, Bytes)>) {
        let subscribers = self.subscribers.lock();
        let text = str::from_utf8(&message.body).is_ok();
        let mut behind = Vec::new();
        let mut sessions = 0;
        let mut push = |shape: &Shape, of_shape: &Slab<Subscriber>| {
            let frame = encode(shape, message, redelivered, text);
            for mailbox in of_shape.iter().filter_map(|(_, subscriber)| subscriber.mailbox()) {
                sessions += 1;
                if mailbox.push(frame.clone(), now) == Push::Behind {
                    behind.push((Arc::clone(mailbox), frame.clone()));
                }
            }
        };
        match shapes {
            None => subscribers.shapes.iter().for_each(|(shape, all)| push(shape, all)),
            Some(shapes) => {
                let found =
                    shapes.iter().filter_map(|shape| subscribers.shapes.get_key_value(shape));
                found.for_each(|(shape, all)| push(shape, all));
            }
        }
        (sessions, behind)
    }

    /// Ends the sessions whose subscription the broker has ended: they would wait for nothing.
    pub(super) fn close(&self) {
        let mut subscribers = self.subscribers.lock();
        subscribers.closed = true;
        for (_, subscriber) in subscribers.shapes.values().flatten() {
            match subscriber {
                Subscriber::Session(mailbox) => mailbox.close(CloseReason::BrokerUnavailable),
                Subscriber::Newcomer(member) | Subscriber::Member(member) => {
                    member.mailbox().close(CloseReason::BrokerUnavailable);
                }
                Subscriber::Revoked => {}
            }
        }
    }
}

impl Subscriber {
    /// Where messages for it go, if any do.
    pub(super) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        match self {
            Self::Session(mailbox) => Some(mailbox),
            Self::Member(member) => Some(member.mailbox()),
            Self::Newcomer(_) | Self::Revoked => None,
        }
    }
}
