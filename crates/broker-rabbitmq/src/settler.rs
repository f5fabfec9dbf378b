//! Settles what came by one channel.
//!
//! Invariants
//! - A delivery is settled on the channel it came by, by its own tag. Once that channel is gone,
//!   RabbitMQ hears nothing of it and delivers the message again; what was acked or rejected is known by
//!   then ([`Settled`]).
//! - It knows no more deliveries than are unsettled.
//! - What came from a stream is acked, whatever became of it: nothing leaves a stream, and RabbitMQ ends the
//!   whole connection of whoever gives back to one (3.10.8: `NOT_IMPLEMENTED`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker::{Outcome, Settle};
use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use parking_lot::Mutex;

use crate::settled::{Known, Settled};

/// The settling end of one consumer's deliveries, on one channel.
#[derive(Debug)]
pub(crate) struct Settler {
    channel: Channel,
    settled: Arc<Settled>,
    /// Whether it is a stream that the deliveries come from.
    of_stream: AtomicBool,
    /// The unsettled ones that can be known again, by their tags. Held for a lookup.
    unsettled: Mutex<HashMap<u64, Unsettled>>,
}

/// A delivery on its way to the subscriber, or in its hands.
#[derive(Debug, Clone, Copy)]
struct Unsettled {
    known: Known,
    /// Whether it may be a repeat of one that the subscriber still holds.
    marked: bool,
}

impl Settler {
    pub(crate) fn new(channel: Channel, settled: Arc<Settled>) -> Self {
        let of_stream = AtomicBool::new(false);
        Self { channel, settled, of_stream, unsettled: Mutex::default() }
    }

    /// The deliveries come from a stream.
    pub(crate) fn is_of_stream(&self) {
        self.of_stream.store(true, Ordering::Relaxed);
    }

    /// Delivery `tag` goes to the subscriber.
    pub(crate) fn expect(&self, tag: u64, known: Option<Known>, marked: bool) {
        if let Some(known) = known {
            self.unsettled.lock().insert(tag, Unsettled { known, marked });
        }
    }
}

impl Settle for Settler {
    /// A repeat waits for its turn, and what it repeats may be acknowledged meanwhile.
    fn known_outcome(&self, tag: u64) -> Option<Outcome> {
        let delivery = self.unsettled.lock().get(&tag).copied();
        self.settled.outcome(delivery.filter(|it| it.marked)?.known)
    }

    fn settle(&self, tag: u64, outcome: Outcome) {
        let delivery = self.unsettled.lock().remove(&tag);
        if let (Some(Unsettled { known, .. }), Outcome::Ack | Outcome::Reject) = (delivery, outcome)
        {
            self.settled.note(known, outcome);
        }
        let nack = |requeue| BasicNackOptions { multiple: false, requeue };
        let outcome = match self.of_stream.load(Ordering::Relaxed) {
            true => Outcome::Ack,
            false => outcome,
        };
        // The first poll puts it in line. An error means that the channel is gone: the tag means
        // nothing any more, and the message comes again.
        let _ = match outcome {
            Outcome::Ack => self.channel.basic_ack(tag, BasicAckOptions::default()).now_or_never(),
            Outcome::Requeue => self.channel.basic_nack(tag, nack(true)).now_or_never(),
            Outcome::Reject => self.channel.basic_nack(tag, nack(false)).now_or_never(),
        };
    }
}
