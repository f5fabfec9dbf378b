//! What becomes of a message, and of the transaction that it may be in.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::{MessageId, SubscriptionId, TransactionId};

/// A message that was sent.
pub(super) struct Message {
    pub(super) sent_at: Duration,
    pub(super) transaction: Option<TransactionId>,
    /// None while its transaction has seen no COMMIT.
    pub(super) release: Option<Release>,
    pub(super) receipted_at: Option<Duration>,
    /// How often it reached a consumer unmarked. Of a topic's message nothing is noted here.
    pub(super) unmarked: u32,
    /// The place of its last delivery, to whomever.
    pub(super) came: Option<usize>,
    /// The first acknowledgement of one of its deliveries.
    pub(super) acknowledged: Option<Acknowledgement>,
}

/// When a message was let go: by its SEND, or by the COMMIT of its transaction.
#[derive(Clone, Copy)]
pub(super) struct Release {
    pub(super) place: usize,
    /// Later messages have higher ones; those of a COMMIT are in the order of their SENDs.
    pub(super) rank: u64,
}

/// The receipt of an ACK, or of the COMMIT that it was in.
#[derive(Clone, Copy)]
pub(super) struct Acknowledgement {
    pub(super) by: SubscriptionId,
    pub(super) place: usize,
    pub(super) at: Duration,
}

/// A transaction in which something was sent or acknowledged.
#[derive(Default)]
pub(super) struct Transaction {
    pub(super) messages: Vec<MessageId>,
    /// Those with ACKs in it.
    pub(super) subscriptions: BTreeSet<SubscriptionId>,
    pub(super) fate: Fate,
}

/// How far a transaction is.
#[derive(Clone, Copy, Default)]
pub(super) enum Fate {
    #[default]
    Open,
    /// COMMIT was written.
    Committing { place: usize, at: Duration },
    /// COMMIT was receipted.
    Committed,
    /// ABORT was written.
    Aborting { at: Duration },
    /// ABORT was receipted.
    Aborted,
}

impl Message {
    pub(super) fn new(at: Duration, transaction: Option<TransactionId>) -> Self {
        Self {
            sent_at: at,
            transaction,
            release: None,
            receipted_at: None,
            unmarked: 0,
            came: None,
            acknowledged: None,
        }
    }
}
