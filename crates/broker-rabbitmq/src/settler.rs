//! Settles what came by one channel.
//!
//! Invariants
//! - A delivery is settled on the channel it came by, by its own tag. Once that channel is gone,
//!   RabbitMQ hears nothing of it and delivers the message again; what was acked or rejected is known by
//!   then ([`Settled`]).
//! - It knows no more deliveries than are unsettled.
//! - What came from a stream is acked, whatever its outcome: it stays in the stream. RabbitMQ ends the
//!   whole connection over a nack of it (3.10.8: `NOT_IMPLEMENTED`). An application that forges the mark of
//!   a stream harms its own message alone.

use std::collections::HashMap;
use std::sync::Arc;

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
    /// The unsettled ones of which something is to be remembered, by their tags. Held for a lookup.
    unsettled: Mutex<HashMap<u64, Unsettled>>,
}

/// What is remembered of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsettled {
    /// How it is known when it comes again.
    Known(Known),
    /// It came from a stream.
    OfStream,
}

impl Settler {
    pub(crate) fn new(channel: Channel, settled: Arc<Settled>) -> Self {
        Self { channel, settled, unsettled: Mutex::default() }
    }

    /// Delivery `tag` goes to the subscriber.
    pub(crate) fn expect(&self, tag: u64, unsettled: Option<Unsettled>) {
        if let Some(unsettled) = unsettled {
            self.unsettled.lock().insert(tag, unsettled);
        }
    }
}

impl Settle for Settler {
    fn settle(&self, tag: u64, outcome: Outcome) {
        let unsettled = self.unsettled.lock().remove(&tag);
        let outcome = match (unsettled, outcome) {
            (Some(Unsettled::Known(known)), Outcome::Ack | Outcome::Reject) => {
                self.settled.note(known);
                outcome
            }
            (Some(Unsettled::OfStream), _) => Outcome::Ack,
            (_, outcome) => outcome,
        };
        let nack = |requeue| BasicNackOptions { multiple: false, requeue };
        // The first poll puts it in line. An error means that the channel is gone: the tag means
        // nothing any more, and the message comes again.
        let _ = match outcome {
            Outcome::Ack => self.channel.basic_ack(tag, BasicAckOptions::default()).now_or_never(),
            Outcome::Requeue => self.channel.basic_nack(tag, nack(true)).now_or_never(),
            Outcome::Reject => self.channel.basic_nack(tag, nack(false)).now_or_never(),
        };
    }
}
