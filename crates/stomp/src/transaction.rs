//! Transactions: SEND, ACK and NACK held back until COMMIT.
//!
//! A transaction is a buffer of this session alone. COMMIT replays it in order, ABORT and the end
//! of the session drop it.

use bytestring::ByteString;

use crate::{Action, Command, Config, Fault};

/// The open transactions of one session.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// At most `max_transactions`; few, so a list.
    open: Vec<Transaction>,
}

#[derive(Debug)]
struct Transaction {
    id: ByteString,
    /// At most `max_transaction_frames`, and `max_frame` times 16 bytes of bodies.
    actions: Vec<Action>,
    bytes: usize,
}

/// How many of the largest frames a transaction may hold in bytes.
const FRAMES_OF_FULL_SIZE: usize = 16;

impl Transactions {
    pub(crate) fn begin(&mut self, id: ByteString, config: &Config) -> Result<(), Fault> {
        if self.open.iter().any(|transaction| transaction.id == id) {
            return Err(Fault::DuplicateTransaction(id));
        }
        if self.open.len() >= config.max_transactions {
            return Err(Fault::TooManyTransactions { limit: config.max_transactions });
        }
        self.open.push(Transaction { id, actions: Vec::new(), bytes: 0 });
        Ok(())
    }

    /// Holds `action` back in the transaction `id`.
    pub(crate) fn hold(
        &mut self,
        command: Command,
        id: ByteString,
        action: Action,
        config: &Config,
    ) -> Result<(), Fault> {
        let Some(transaction) = self.open.iter_mut().find(|transaction| transaction.id == id)
        else {
            return Err(Fault::UnknownTransaction { command, id });
        };
        let limit = config.max_transaction_frames;
        let max_bytes = config.limits().frame.saturating_mul(FRAMES_OF_FULL_SIZE);
        if let Action::Publish(publish) = &action {
            transaction.bytes += publish.body.len();
        }
        if transaction.actions.len() >= limit || transaction.bytes > max_bytes {
            return Err(Fault::TransactionTooLong { limit, bytes: max_bytes });
        }
        transaction.actions.push(action);
        Ok(())
    }

    /// Ends the transaction `id` and gives what it held.
    pub(crate) fn end(&mut self, command: Command, id: ByteString) -> Result<Vec<Action>, Fault> {
        match self.open.iter().position(|transaction| transaction.id == id) {
            Some(at) => Ok(self.open.swap_remove(at).actions),
            None => Err(Fault::UnknownTransaction { command, id }),
        }
    }
}
