//! Which session an exclusive queue is for.
//!
//! All sessions of a node share one AMQP connection, so RabbitMQ locks such a queue against other nodes
//! and applications, and not against other sessions here. This does.
//!
//! Invariants
//! - An exclusive queue has one owner. It is the owner's as long as a subscription of it is there, and
//!   until the queue was deleted after the last; nobody can have it in between, not even the owner.
//! - Who only asked for a queue has locked nobody out: RabbitMQ may know it as everybody's. Until it has
//!   answered, others who want the same for themselves wait, and all else goes on.
//! - One that was only declared stays its owner's as long as RabbitMQ keeps it without a consumer. Then
//!   whoever asks first has it.
//! - A reply queue has an owner likewise. RabbitMQ does not lock it, for it outlives our connections:
//!   a node knows one of another node by its name.
//!
//! Not here: declaring and deleting the queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::PublisherId;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How many locks there may be before those are looked for that have lapsed.
const SWEEP: usize = 1_000;

/// The exclusive queues of one node.
#[derive(Debug)]
pub(crate) struct ExclusiveQueues {
    /// For RabbitMQ's words.
    vhost: String,
    /// By name. Held for a lookup.
    locks: Mutex<Locks>,
    /// Told when a queue was deleted that others wait for, and when RabbitMQ has answered for one.
    ended: Notify,
}

#[derive(Debug)]
struct Locks {
    by_name: HashMap<ByteString, Lock>,
    /// With how many the next sweep is made.
    sweep: usize,
}

#[derive(Debug)]
struct Lock {
    owner: PublisherId,
    /// How many hold it; none of those that only declared it.
    holders: usize,
    /// Whether RabbitMQ has the queue as exclusive, so that it is the owner's.
    granted: bool,
    /// Whether the last holder is deleting the queue.
    ending: bool,
    /// When it was last declared for good, and for how long RabbitMQ keeps it from then on without a
    /// consumer: a subscription that comes to nothing does not end that.
    left: Option<(Instant, Duration)>,
}

/// One subscription's, or declaration's, share in a lock; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    queues: Arc<ExclusiveQueues>,
    queue: ByteString,
    /// For how long the lock outlives it.
    leaves: Option<Duration>,
}

/// Why somebody cannot have a queue, in RabbitMQ's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}': it \
     is another session's own; use another queue"
)]
pub(crate) struct Locked {
    queue: ByteString,
    vhost: String,
}

impl ExclusiveQueues {
    pub(crate) fn new(vhost: String) -> Self {
        let locks = Mutex::new(Locks { by_name: HashMap::new(), sweep: SWEEP });
        Self { vhost, locks, ended: Notify::new() }
    }

    /// Whether `queue` is open to `by`.
    pub(crate) fn check(&self, queue: &ByteString, by: PublisherId) -> Result<(), Locked> {
        match self.locks.lock().by_name.get(queue) {
            Some(lock) if lock.granted && lock.owner != by && lock.is_valid() => {
                Err(self.locked(queue))
            }
            _ => Ok(()),
        }
    }

    /// A share in the lock of `queue`, if there is one or it shall be `exclusive`. Waits while the queue
    /// is being deleted, and while another owner asks for what shall be exclusive. One that RabbitMQ has
    /// given must be [granted](Hold::grant).
    pub(crate) async fn hold(
        self: &Arc<Self>,
        queue: &ByteString,
        by: PublisherId,
        exclusive: bool,
    ) -> Result<Option<Hold>, Locked> {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if let Some(held) = self.try_hold(queue, by, exclusive)? {
                return Ok(held);
            }
            ended.await;
        }
    }

    /// As `hold`; nothing while it would wait.
    fn try_hold(
        self: &Arc<Self>,
        queue: &ByteString,
        by: PublisherId,
        exclusive: bool,
    ) -> Result<Option<Option<Hold>>, Locked> {
        let mut locks = self.locks.lock();
        locks.sweep();
        let valid = locks.by_name.get_mut(queue).filter(|lock| lock.is_valid());
        match valid {
            Some(lock) if lock.ending => return Ok(None),
            Some(lock) if lock.owner != by && !lock.granted => {
                return Ok(if exclusive { None } else { Some(None) });
            }
            Some(lock) if lock.owner != by => return Err(self.locked(queue)),
            Some(lock) => lock.holders += 1,
            None if exclusive => {
                let lock =
                    Lock { owner: by, holders: 1, granted: false, ending: false, left: None };
                locks.by_name.insert(queue.clone(), lock);
            }
            None => return Ok(Some(None)),
        }
        Ok(Some(Some(Hold { queues: self.clone(), queue: queue.clone(), leaves: None })))
    }

    /// Why whoever is not its owner cannot have `queue`.
    pub(crate) fn locked(&self, queue: &ByteString) -> Locked {
        Locked { queue: queue.clone(), vhost: self.vhost.clone() }
    }
}

impl Locks {
    /// Forgets what has lapsed, now and then.
    fn sweep(&mut self) {
        if self.by_name.len() >= self.sweep {
            self.by_name.retain(|_, lock| lock.is_valid());
            self.sweep = SWEEP.max(2 * self.by_name.len());
        }
    }
}

impl Lock {
    fn is_valid(&self) -> bool {
        self.holders > 0 || self.left.is_some_and(|(since, lapse)| since.elapsed() < lapse)
    }
}

impl Hold {
    /// RabbitMQ has the queue as exclusive.
    pub(crate) fn grant(&self) {
        let mut locks = self.queues.locks.lock();
        let lock = locks.by_name.get_mut(&self.queue);
        let news = lock.is_some_and(|lock| !std::mem::replace(&mut lock.granted, true));
        drop(locks);
        if news {
            self.queues.ended.notify_waiters();
        }
    }

    /// Whether it is the last one: then nobody gets another until this one has ended.
    pub(crate) fn is_last(&self) -> bool {
        let mut locks = self.queues.locks.lock();
        match locks.by_name.get_mut(&self.queue) {
            Some(lock) => {
                lock.ending = lock.holders == 1;
                lock.ending
            }
            None => false,
        }
    }

    /// Ends this one, and leaves the lock for `lapse`: as long as RabbitMQ keeps the queue without a
    /// consumer.
    pub(crate) fn leave(mut self, lapse: Duration) {
        self.leaves = Some(lapse);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut locks = self.queues.locks.lock();
        let Some(lock) = locks.by_name.get_mut(&self.queue) else { return };
        lock.holders -= 1;
        if let Some(lapse) = self.leaves {
            lock.left = Some((Instant::now(), lapse));
        } else if lock.holders == 0 && (lock.ending || lock.left.is_none()) {
            locks.by_name.remove(&self.queue);
            drop(locks);
            self.queues.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAPSE: Duration = Duration::from_secs(120);
    const ANN: PublisherId = PublisherId(1);
    const BOB: PublisherId = PublisherId(2);

    fn queues() -> Arc<ExclusiveQueues> {
        Arc::new(ExclusiveQueues::new("/".to_owned()))
    }

    async fn hold(queues: &Arc<ExclusiveQueues>, by: PublisherId) -> Hold {
        let hold = queues.hold(&"q".into(), by, true).await.unwrap().unwrap();
        hold.grant();
        hold
    }

    #[tokio::test]
    async fn who_only_asks_locks_nobody_out() {
        let queues = queues();
        let name = ByteString::from("q");
        let asked = queues.hold(&name, ANN, true).await.unwrap().unwrap();
        assert_eq!(queues.check(&name, BOB), Ok(()));
        assert!(queues.hold(&name, BOB, false).await.unwrap().is_none());
        // RabbitMQ refuses it, and has it for the next one.
        let next = tokio::spawn({
            let queues = queues.clone();
            async move { queues.hold(&"q".into(), BOB, true).await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(asked);
        let next = next.await.unwrap().unwrap().unwrap();
        let late = tokio::spawn({
            let queues = queues.clone();
            async move { queues.hold(&"q".into(), ANN, true).await }
        });
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        next.grant();
        assert!(late.await.unwrap().is_err());
        assert!(queues.check(&name, ANN).is_err());
    }

    #[tokio::test]
    async fn it_is_its_owners_until_the_last_has_ended() {
        let queues = queues();
        let name = ByteString::from("q");
        assert!(queues.hold(&name, BOB, false).await.unwrap().is_none());
        let one = hold(&queues, ANN).await;
        let other = queues.hold(&name, ANN, false).await.unwrap().unwrap();
        assert!(!one.is_last());
        drop(one);
        for exclusive in [false, true] {
            let locked = queues.hold(&name, BOB, exclusive).await.unwrap_err().to_string();
            assert!(
                locked.starts_with(
                    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'"
                ),
                "{locked}"
            );
        }
        assert!(queues.check(&name, BOB).is_err());
        assert_eq!(queues.check(&name, ANN), Ok(()));
        assert!(other.is_last());
        drop(other);
        assert_eq!(queues.check(&name, BOB), Ok(()));
        hold(&queues, BOB).await;
    }

    #[tokio::test]
    async fn who_comes_while_it_is_deleted_waits() {
        let queues = queues();
        let last = hold(&queues, ANN).await;
        assert!(last.is_last());
        let again = tokio::spawn({
            let queues = queues.clone();
            async move { hold(&queues, ANN).await }
        });
        tokio::task::yield_now().await;
        assert!(!again.is_finished());
        drop(last);
        assert!(again.await.unwrap().is_last());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_only_declared_lapses() {
        let queues = queues();
        hold(&queues, ANN).await.leave(LAPSE);
        tokio::time::advance(LAPSE / 2).await;
        assert!(queues.check(&"q".into(), BOB).is_err());
        hold(&queues, ANN).await.leave(LAPSE);
        tokio::time::advance(LAPSE / 2).await;
        assert!(queues.check(&"q".into(), BOB).is_err());
        tokio::time::advance(LAPSE / 2).await;
        assert_eq!(queues.check(&"q".into(), BOB), Ok(()));
        hold(&queues, BOB).await.leave(10 * LAPSE);
        tokio::time::advance(9 * LAPSE).await;
        assert!(queues.check(&"q".into(), ANN).is_err(), "RabbitMQ keeps it for longer");
    }

    #[tokio::test]
    async fn one_that_came_to_nothing_ends_no_lock_that_was_there() {
        let queues = queues();
        drop(hold(&queues, ANN).await);
        assert_eq!(queues.check(&"q".into(), BOB), Ok(()));
        hold(&queues, ANN).await.leave(LAPSE);
        drop(hold(&queues, ANN).await);
        assert!(queues.check(&"q".into(), BOB).is_err());
        let last = hold(&queues, ANN).await;
        assert!(last.is_last());
        drop(last);
        assert_eq!(queues.check(&"q".into(), BOB), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_lapsed_takes_no_room() {
        let queues = queues();
        for n in 0..SWEEP {
            let name = n.to_string().into();
            let hold = queues.hold(&name, ANN, true).await.unwrap().unwrap();
            hold.grant();
            hold.leave(LAPSE);
        }
        tokio::time::advance(LAPSE).await;
        let _held = hold(&queues, ANN).await;
        assert_eq!(queues.locks.lock().by_name.len(), 1);
    }
}
