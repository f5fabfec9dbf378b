//! A transaction that a session has open.

use super::super::TransactionId;
use super::super::plan::Fate;
use super::consumer::Delivered;

/// See the module.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    /// What becomes of it in the end.
    pub(super) fate: Fate,
    /// How many SENDs it has.
    pub(super) messages: usize,
    /// What its ACKs cover, by the number of the subscription.
    pub(super) acks: Vec<(u32, Vec<Delivered>)>,
}

impl Transaction {
    pub(super) fn new(id: TransactionId, fate: Fate) -> Self {
        Self { id, fate, messages: 0, acks: Vec::new() }
    }

    /// Its name in frames.
    pub(super) fn name(&self) -> String {
        format!("t{}", self.id.number)
    }

    /// Whether it has an ACK of a subscription.
    pub(super) fn acknowledges(&self, subscription: u32) -> bool {
        self.acks.iter().any(|(number, _)| *number == subscription)
    }
}
