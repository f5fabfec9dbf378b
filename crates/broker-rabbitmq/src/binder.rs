//! Makes the bindings of a node's queue in RabbitMQ what they shall be.
//!
//! Invariants
//! - A binding that RabbitMQ refuses fails alone, and is tried again.
//! - A binding that someone else undid, or that went away with its exchange, is made again: on the
//!   next connection, and else once its turn has come.
//!
//! Not here: which bindings there shall be (`bindings`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::bindings::{Binding, Bindings, Change};
use crate::declarations::{Declarations, Target};
use crate::link::{Failure, Link};
use crate::operation::Operation;

/// How often the bindings are looked at that RabbitMQ refused, or that may have gone.
const RETRY: Duration = Duration::from_secs(10);

/// How many bindings that ought to be there are made once more each time: so few that it is nothing
/// to RabbitMQ, and with a thousand topics each has its turn within four minutes.
const DOUBTED: usize = 50;

/// How many changes are sealed together, at most: whoever waits for the first of them waits for all.
const TOGETHER: usize = 64;

/// What makes the bindings.
pub(crate) struct Binder {
    pub(crate) declarations: Arc<Declarations>,
    pub(crate) bindings: Arc<Bindings>,
}

/// A change in the making. One that is dropped before its end, with its connection, is lost.
struct Taken<'a> {
    bindings: &'a Bindings,
    change: Change,
    settled: bool,
}

impl Binder {
    /// Makes what has changed up to now, and leaves to [`keep`](Self::keep) what changes meanwhile: that
    /// may never end. An error is the connection's.
    pub(crate) async fn catch_up(&self, link: &Link, queue: &str) -> Result<(), Failure> {
        let mut left = self.bindings.changes();
        while left > 0
            && let Some(change) = self.bindings.try_next()
        {
            let most = left.min(TOGETHER);
            left -= self.make(link, queue, change, most).await?;
        }
        Ok(())
    }

    /// Makes what changes, and what was refused or may have gone once more now and then.
    pub(crate) async fn keep(&self, link: &Link, queue: &str) -> Failure {
        let mut retry = tokio::time::interval_at(Instant::now() + RETRY, RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = self.bindings.next() => {
                    if let Err(failure) = self.make(link, queue, change, TOGETHER).await {
                        return failure;
                    }
                }
                _ = retry.tick() => {
                    self.bindings.retry();
                    self.bindings.doubt(DOUBTED);
                }
            }
        }
    }

    /// Undoes the bindings one by one, as far as RabbitMQ goes along.
    pub(crate) async fn undo(&self, link: &Link, queue: &str) {
        for Binding { exchange, key } in self.bindings.take_bound() {
            let unbind = Operation::Unbind { queue, exchange: &exchange, key: &key };
            if self.declarations.perform(link, unbind).await.is_err() {
                break;
            }
        }
    }

    /// Makes `change` and what else there is to do at the moment, `most` changes in all, and seals
    /// them together; how many it made. An error is the connection's.
    async fn make(
        &self,
        link: &Link,
        queue: &str,
        change: Change,
        most: usize,
    ) -> Result<usize, Failure> {
        let mut next = Some(change);
        let mut done = Vec::new();
        let mut count = 0;
        while let Some(change) = next.take() {
            let taken = Taken { bindings: &self.bindings, change, settled: false };
            match self.perform(link, queue, &taken.change).await {
                Ok(_) => done.push(taken),
                Err(Failure::Refused(why)) => {
                    tracing::warn!(change = ?taken.change, why, "RabbitMQ refused a binding");
                    self.declarations.forget_all();
                    taken.refused(&why);
                }
                Err(lost) => return Err(lost),
            }
            count += 1;
            if count < most {
                next = self.bindings.try_next();
            }
        }
        if !done.is_empty() {
            self.declarations.seal(link).await?;
        }
        done.into_iter().for_each(Taken::made);
        Ok(count)
    }

    async fn perform(&self, link: &Link, queue: &str, change: &Change) -> Result<u32, Failure> {
        match change {
            Change::Bind(Binding { exchange, key }) => {
                let target = Target::Exchange(exchange.clone());
                self.declarations.ensure(&target).await.map_err(Failure::Refused)?;
                let bind = Operation::Bind { queue, exchange, key };
                self.declarations.perform(link, bind).await
            }
            Change::Unbind(Binding { exchange, key }) => {
                let unbind = Operation::Unbind { queue, exchange, key };
                self.declarations.perform(link, unbind).await
            }
        }
    }
}

impl Taken<'_> {
    fn made(mut self) {
        self.settled = true;
        self.bindings.made(self.change.clone());
    }

    fn refused(mut self, why: &str) {
        self.settled = true;
        self.bindings.refused(self.change.clone(), why);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.bindings.lost(self.change.clone());
        }
    }
}
