//! Makes what was declared survive a kill of RabbitMQ.
//!
//! RabbitMQ keeps its queues and bindings in Mnesia, up to 4.1 at least. A declaration is two records
//! in Mnesia's log: what is to be done, and that it is decided. RabbitMQ syncs the log before it
//! answers, but the second record is written by another process, and on a busy machine comes after
//! that sync: it stays in memory for up to two seconds. Killed in that time, RabbitMQ finds a
//! declaration that nobody decided, and takes it back, with all that the queue holds (3.10.8, killed
//! half a second after the declaration: 3 of 30 queues were gone, with hundreds of messages that were
//! persistent and confirmed). Whatever is declared next takes the second record along. So another
//! change is made behind each: a binding of the node's topic queue comes, or goes.
//!
//! Invariants
//! - One seal serves all that was declared before it began: they cost one change more, not one each.
//! - Where no seal can be had (no topic queue, or no right to bind it) what was declared is believed
//!   as it is.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::link::{Failure, Link};
use crate::operation::{Operation, Operations};

/// An exchange that is always there.
const EXCHANGE: &str = "amq.topic";

/// A key under which nobody publishes; what comes all the same is for no subscription.
const KEY: &str = "footbridge.seal";

/// The seals of one node.
#[derive(Debug, Default)]
pub(crate) struct Seal {
    operations: Operations,
    /// The queue to bind, once there is one. Held for a copy.
    queue: Mutex<Option<String>>,
    /// How many seals were asked for.
    asked: AtomicU64,
    /// Held for the making of a seal: whoever waits finds it made.
    last: tokio::sync::Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// How many of those asked for it served.
    served: u64,
    /// Whether the binding is there.
    bound: bool,
    /// The link that refused a seal.
    refused_by: Option<u64>,
}

impl Seal {
    /// Says which queue there is to bind.
    pub(crate) fn seal_with(&self, queue: &str) {
        *self.queue.lock() = Some(queue.to_owned());
    }

    /// Returns once what was declared up to now is sealed. An error is the connection's.
    pub(crate) async fn seal(&self, link: &Link) -> Result<(), Failure> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut last = self.last.lock().await;
        if last.served >= number || last.refused_by == Some(link.generation) {
            return Ok(());
        }
        let Some(queue) = self.queue.lock().clone() else { return Ok(()) };
        let serves = self.asked.load(Ordering::Relaxed);
        let (queue, exchange, key) = (&*queue, EXCHANGE, KEY);
        let change = match last.bound {
            true => Operation::Unbind { queue, exchange, key },
            false => Operation::Bind { queue, exchange, key },
        };
        match self.operations.perform(link, change).await {
            Ok(_) => {
                last.served = serves;
                last.bound = !last.bound;
                Ok(())
            }
            Err(Failure::Refused(why)) => {
                tracing::debug!(queue, why, "declarations are not sealed");
                last.refused_by = Some(link.generation);
                Ok(())
            }
            Err(lost) => Err(lost),
        }
    }
}
