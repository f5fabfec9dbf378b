//! What clients ask for and RabbitMQ may refuse, on a connection of its own.
//!
//! RabbitMQ closes a channel with each refusal, and lapin never uses the number of such a channel again: the
//! connection is replaced when half of its numbers are gone. By that the one that consumes would give back
//! what is not settled, and clients would get it again; this one carries nothing.
//!
//! Invariants
//! - The connection is opened with the first operation, and kept from then on: a node whose clients
//!   use topics alone has none.
//! - An operation is done again, on the next connection, until RabbitMQ has answered it. All of them may be
//!   done twice.
//!
//! Not here: operations on exclusive queues, which are locked to the connection that consumes them, and
//! consumers. What RabbitMQ refuses of those still costs that connection.

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::link::{Failure, Links, current};
use crate::operation::{Operation, Operations};
use crate::supervisor::{Pauses, Supervisor};

/// The connection, once there is a use for it.
pub(crate) struct Apart {
    /// Taken with the first use. Held for the taking.
    supervisor: Mutex<Option<Supervisor>>,
    tasks: TaskTracker,
    links: OnceLock<Links>,
    operations: Operations,
    /// The longest pause before an operation is tried again.
    pause: Duration,
}

impl Apart {
    /// One that `supervisor` will keep, as one of `tasks`.
    pub(crate) fn new(supervisor: Supervisor, tasks: TaskTracker, pause: Duration) -> Self {
        let supervisor = Mutex::new(Some(supervisor));
        Self { supervisor, tasks, links: OnceLock::new(), operations: <_>::default(), pause }
    }

    /// Does `operation`, and says how many messages the queue holds that it speaks of. Waits for RabbitMQ
    /// as long as it is away; an error is its refusal, or that it will not be asked any more.
    pub(crate) async fn perform(&self, operation: Operation<'_>) -> Result<u32, Failure> {
        let mut pauses = Pauses::new(self.pause);
        let closing = || Failure::Lost("it is closing".to_owned());
        let mut links = self.links().ok_or_else(closing)?;
        loop {
            let link = current(&mut links).await.ok_or_else(closing)?;
            match self.operations.perform(&link, operation.clone()).await {
                Err(Failure::Lost(_)) => tokio::time::sleep(pauses.next()).await,
                answer => return answer,
            }
        }
    }

    fn links(&self) -> Option<Links> {
        let mut supervisor = self.supervisor.lock();
        if let Some(supervisor) = supervisor.take() {
            // An error cannot be: it is taken once.
            let _ = self.links.set(supervisor.start(&self.tasks));
        }
        self.links.get().cloned()
    }
}

impl std::fmt::Debug for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apart").field("links", &self.links).finish_non_exhaustive()
    }
}
