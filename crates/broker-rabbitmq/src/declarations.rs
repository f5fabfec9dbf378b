//! What this node knows to be there in RabbitMQ: declared when it is first needed, and remembered.
//!
//! Invariants
//! - What is known to be there survives a kill of RabbitMQ (`seal`).
//! - What was declared on one connection is declared again on the next: another RabbitMQ may answer
//!   there. Until the first such declaration the old ones are trusted; whoever publishes hears of it
//!   when one is wrong, and makes it be forgotten.
//! - A queue that was declared in a way of its own is declared that way again (`declared_queues`).
//!
//! Not here: the operations themselves (`operation`); what ought to be declared, and when.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;

use crate::apart::Apart;
use crate::declared_queues::DeclaredQueues;
use crate::link::{Failure, Link, Links, current};
use crate::names::Names;
use crate::operation::{Operation, Operations};
use crate::proofs::{Proof, Proofs};
use crate::queue_spec::QueueSpec;
use crate::seal::Seal;
use crate::supervisor::Pauses;

/// How many declarations are remembered; with more, all are forgotten and made again when needed.
const MEMORY: usize = 10_000;

/// The declarations of one node.
#[derive(Debug)]
pub(crate) struct Declarations {
    names: Arc<Names>,
    links: Links,
    /// The longest pause before a target is asked for once more.
    pause: Duration,
    operations: Operations,
    apart: Apart,
    proofs: Proofs,
    seal: Seal,
    queues: DeclaredQueues,
    /// Held for a lookup.
    known: Mutex<Known>,
    /// The exchanges that must be asked for with each key: once, then always. At most [`MEMORY`]; with
    /// more, all are forgotten and found out again. Held for a lookup.
    by_key: Mutex<HashSet<ByteString>>,
}

/// What a message needs to be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The queue of this name as it was declared, else durable.
    Queue(ByteString),
    /// A durable exchange of this name that is ours.
    Exchange(ByteString),
    /// An exchange that others declare, and that may be published to; the empty name is the default
    /// exchange. It is asked for and never declared.
    Foreign(ByteString),
    /// An exchange that this node may publish to with some keys only, and one of those.
    ForeignKey(ByteString, ByteString),
    /// A queue that others declare. Whether it is there is seen by what comes back.
    ForeignQueue(ByteString),
}

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    targets: HashSet<Target>,
}

impl Declarations {
    pub(crate) fn new(
        names: Arc<Names>,
        links: Links,
        pause: Duration,
        apart: Apart,
        proofs: Proofs,
    ) -> Self {
        let (operations, seal) = (Operations::default(), Seal::default());
        let (queues, known, by_key) =
            (DeclaredQueues::default(), Mutex::default(), Mutex::default());
        Self { names, links, pause, operations, apart, proofs, seal, queues, known, by_key }
    }

    /// Sees to it that `target` is there, waiting for RabbitMQ as long as it is away, or cannot have it
    /// just now; or that it is an exchange that must be [asked for with each key](Self::is_by_key). An
    /// error is RabbitMQ's reason not to have it.
    pub(crate) async fn ensure(&self, target: &Target) -> Result<(), String> {
        let mut links = self.links.clone();
        let mut pauses = Pauses::new(self.pause);
        while !self.is_known(target) {
            if let Target::Foreign(exchange) = target
                && self.is_by_key(exchange)
            {
                return Ok(());
            }
            let Some(link) = current(&mut links).await else {
                return Err("it is closing".to_owned());
            };
            match self.declare(&link, target).await {
                Ok(()) => self.remember(&link, target),
                Err(Failure::Refused(why)) if !passes(&why) => return Err(why),
                // The end of a connection is not known everywhere at once either.
                Err(_) => tokio::time::sleep(pauses.next()).await,
            }
        }
        Ok(())
    }

    async fn declare(&self, link: &Link, target: &Target) -> Result<(), Failure> {
        let operation = match target {
            Target::Queue(name) => {
                self.declare_queue(link, name, &self.queues.spec(name)).await?;
                return self.seal(link).await;
            }
            Target::Exchange(name) => {
                Operation::DeclareExchange { name, kind: self.names.kind(name) }
            }
            Target::Foreign(name) => {
                if self.proofs.prove(name, None).await? == Proof::ByKey {
                    self.ask_by_key(name);
                }
                return Ok(());
            }
            Target::ForeignKey(name, key) => {
                return self.proofs.prove(name, Some(key)).await.map(drop);
            }
            Target::ForeignQueue(_) => return Ok(()),
        };
        self.perform(link, operation).await?;
        self.seal(link).await
    }

    /// Declares a queue of which a client said how it shall be.
    pub(crate) async fn declare_queue(
        &self,
        link: &Link,
        name: &str,
        spec: &QueueSpec,
    ) -> Result<u32, Failure> {
        self.attempt(link, spec.exclusive, spec.declare(name)).await
    }

    /// Does what a client asks for and RabbitMQ may refuse: apart, unless it is about a queue that is, or
    /// shall be, locked to the connection that consumes it.
    pub(crate) async fn attempt(
        &self,
        link: &Link,
        is_locked: bool,
        operation: Operation<'_>,
    ) -> Result<u32, Failure> {
        match is_locked {
            true => self.perform(link, operation).await,
            false => self.apart.perform(operation).await,
        }
    }

    /// Whether `queue` was found on `link` to be as `spec` says.
    pub(crate) fn has_queue(&self, link: &Link, queue: &ByteString, spec: &QueueSpec) -> bool {
        let target = Target::Queue(queue.clone());
        let known = {
            let known = self.known.lock();
            known.generation == link.generation && known.targets.contains(&target)
        };
        known && self.queues.spec(queue) == *spec
    }

    /// Whether `queue` was last declared as a stream.
    pub(crate) fn is_stream(&self, queue: &ByteString) -> bool {
        self.queues.spec(queue).is_stream()
    }

    /// RabbitMQ has `queue` as `spec` says, sealed.
    pub(crate) fn note_queue(&self, link: &Link, queue: &ByteString, spec: &QueueSpec) {
        self.queues.note(queue, spec);
        self.remember(link, &Target::Queue(queue.clone()));
    }

    /// The queue is gone, and how it was declared counts no more.
    pub(crate) fn forget_queue(&self, queue: &ByteString) {
        self.forget(&Target::Queue(queue.clone()));
        self.queues.forget(queue);
    }

    /// From now on `exchange` is asked for with each key.
    pub(crate) fn ask_by_key(&self, exchange: &ByteString) {
        let mut by_key = self.by_key.lock();
        if by_key.len() >= MEMORY {
            by_key.clear();
        }
        by_key.insert(exchange.clone());
    }

    /// Whether `exchange` must be asked for with each key.
    pub(crate) fn is_by_key(&self, exchange: &ByteString) -> bool {
        self.by_key.lock().contains(exchange)
    }

    /// Does `operation`, and says how many messages the queue holds that it speaks of.
    pub(crate) async fn perform(
        &self,
        link: &Link,
        operation: Operation<'_>,
    ) -> Result<u32, Failure> {
        self.operations.perform(link, operation).await
    }

    /// Returns once what was declared and bound up to now survives a kill of RabbitMQ. An error is
    /// the connection's.
    pub(crate) async fn seal(&self, link: &Link) -> Result<(), Failure> {
        self.seal.seal(link).await
    }

    /// Says which queue is this node's own, for the seals.
    pub(crate) fn seal_with(&self, queue: &str) {
        self.seal.seal_with(queue);
    }

    /// Makes the next use of `target` declare it again.
    pub(crate) fn forget(&self, target: &Target) {
        self.known.lock().targets.remove(target);
    }

    /// Makes the next use of each of these declare it again.
    pub(crate) fn forget_each<'a>(&self, targets: impl Iterator<Item = &'a Target>) {
        let mut known = self.known.lock();
        for target in targets {
            known.targets.remove(target);
        }
    }

    /// Makes the next use of anything declare it again.
    pub(crate) fn forget_all(&self) {
        self.known.lock().targets.clear();
    }

    /// Whether `target` was there when it was last asked for.
    pub(crate) fn is_known(&self, target: &Target) -> bool {
        match target {
            // Those are there from the start, and nobody may declare them.
            Target::Exchange(name) if name.is_empty() || name.starts_with("amq.") => true,
            Target::ForeignQueue(_) => true,
            Target::Foreign(name) if self.is_by_key(name) => false,
            target => self.known.lock().targets.contains(target),
        }
    }

    fn remember(&self, link: &Link, target: &Target) {
        let mut known = self.known.lock();
        if known.generation != link.generation || known.targets.len() >= MEMORY {
            *known = Known { generation: link.generation, targets: HashSet::new() };
        }
        known.targets.insert(target.clone());
    }
}

/// Whether RabbitMQ refused a queue only for now: the node that has it is down, or was too busy to
/// answer.
pub(crate) fn passes(why: &str) -> bool {
    ["is down or inaccessible", "due to timeout", "is stopped by supervisor"]
        .iter()
        .any(|passing| why.contains(passing))
}
