//! Transactions: SEND, ACK and NACK held back until COMMIT.
//!
//! A transaction is a buffer of this session alone. COMMIT hands it over in order, ABORT and the
//! end of the session drop it. What all open transactions of a session hold is bounded in frames
//! and bytes, headers included.

use bytestring::ByteString;

use crate::action::{Acknowledged, Held};
use crate::{Command, Config, Fault};

/// The open transactions of one session.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// At most `max_transactions`; few, so a list.
    open: Vec<Transaction>,
    /// What they hold together; at most `max_transaction_bytes`.
    bytes: usize,
}

#[derive(Debug)]
struct Transaction {
    id: ByteString,
    /// At most `max_transaction_frames`.
    held: Vec<Held>,
    bytes: usize,
}

impl Transactions {
    pub(crate) fn begin(&mut self, id: ByteString, config: &Config) -> Result<(), Fault> {
        if self.open.iter().any(|transaction| transaction.id == id) {
            return Err(Fault::DuplicateTransaction(id));
        }
        if self.open.len() >= config.max_transactions {
            return Err(Fault::TooManyTransactions { limit: config.max_transactions });
        }
        self.open.push(Transaction { id, held: Vec::new(), bytes: 0 });
        Ok(())
    }

    /// Holds `frame` back in the transaction `id`.
    pub(crate) fn hold(
        &mut self,
        command: Command,
        id: ByteString,
        frame: Held,
        config: &Config,
    ) -> Result<(), Fault> {
        let Some(transaction) = self.open.iter_mut().find(|transaction| transaction.id == id)
        else {
            return Err(Fault::UnknownTransaction { command, id });
        };
        let (limit, max_bytes) = (config.max_transaction_frames, config.transaction_bytes());
        let bytes = size(&frame);
        if transaction.held.len() >= limit || self.bytes + bytes > max_bytes {
            return Err(Fault::TransactionTooLong { limit, bytes: max_bytes });
        }
        self.bytes += bytes;
        transaction.bytes += bytes;
        transaction.held.push(frame.detached());
        Ok(())
    }

    /// Ends the transaction `id` and gives what it held.
    pub(crate) fn end(&mut self, command: Command, id: &ByteString) -> Result<Vec<Held>, Fault> {
        let Some(at) = self.open.iter().position(|transaction| transaction.id == *id) else {
            return Err(Fault::UnknownTransaction { command, id: id.clone() });
        };
        let transaction = self.open.swap_remove(at);
        self.bytes -= transaction.bytes;
        Ok(transaction.held)
    }
}

/// What holding a frame back costs, in bytes.
fn size(frame: &Held) -> usize {
    let own = size_of::<Held>();
    own + match frame {
        Held::Publish(publish) => {
            let headers = publish.headers.iter().map(|(name, value)| {
                size_of::<(ByteString, ByteString)>() + name.len() + value.len()
            });
            publish.destination.len() + publish.body.len() + headers.sum::<usize>()
        }
        Held::Acknowledge(acknowledge) => match &acknowledge.of {
            Acknowledged::Token(id) | Acknowledged::Message { id, .. } => id.len(),
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::action::{Acknowledge, Verdict};

    #[test]
    fn what_is_held_keeps_no_buffer_alive() {
        let config = Config::default();
        let mut transactions = Transactions::default();
        transactions.begin("t".into(), &config).unwrap();
        let buffer = Bytes::from(vec![b'x'; 64 * 1024]);
        let id = || ByteString::try_from(buffer.slice(..20)).unwrap();
        for of in
            [Acknowledged::Token(id()), Acknowledged::Message { id: id(), subscription: None }]
        {
            let acknowledge = Acknowledge { of, verdict: Verdict::Ack, receipt: None };
            let held = Held::Acknowledge(acknowledge);
            transactions.hold(Command::Ack, "t".into(), held, &config).unwrap();
        }
        assert!(buffer.is_unique());
        assert_eq!(transactions.end(Command::Commit, &"t".into()).unwrap().len(), 2);
    }
}
