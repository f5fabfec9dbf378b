//! A session's calls of the application, one after the other.
//!
//! Invariants
//! - One call of a session is in flight, and they are made in the order in which the client asked.
//! - What was asked for is done, whether or not the client is still there: the task that works a lane off
//!   is not the session's.
//! - A lane without work has no task.
//! - A call that breaks down ends alone: those behind it are made.
//!
//! The line is as long as the session lets it get, see [`WAITING`]. What calls are, and what follows from
//! their answers, is the business of those who push them.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

/// How many calls of a session may wait for the one in flight; beyond it the client is not read.
pub(crate) const WAITING: usize = 64;

/// One call, from asking to the last of what follows.
type Work = BoxFuture<'static, ()>;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Lane(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    /// At most [`WAITING`], and the word of the session's end.
    waiting: VecDeque<Work>,
    /// Whether there is a task that works it off.
    is_worked: bool,
}

impl Lane {
    /// Does `work` behind all that was pushed before, as one of `tasks`.
    pub(crate) fn push(&self, tasks: &TaskTracker, work: Work) {
        let idle = {
            let mut line = self.0.lock();
            line.waiting.push_back(work);
            !std::mem::replace(&mut line.is_worked, true)
        };
        if idle {
            tasks.spawn(self.clone().run());
        }
    }

    async fn run(self) {
        while let Some(work) = self.next() {
            // What it left is its own: nobody looks at it again.
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                tracing::error!("a call of an application broke down");
            }
        }
    }

    fn next(&self) -> Option<Work> {
        let mut line = self.0.lock();
        let next = line.waiting.pop_front();
        line.is_worked = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn works_in_order_and_one_at_a_time_whoever_is_left() {
        let (lane, tasks) = (Lane::default(), TaskTracker::new());
        let (done, mut seen) = mpsc::unbounded_channel();
        let (release, released) = oneshot::channel::<()>();
        let first = done.clone();
        lane.push(
            &tasks,
            Box::pin(async move {
                released.await.unwrap();
                first.send(0).unwrap();
            }),
        );
        for n in 1..=3 {
            let done = done.clone();
            lane.push(&tasks, Box::pin(async move { done.send(n).unwrap() }));
        }
        drop((lane, done));
        tokio::task::yield_now().await;
        assert!(seen.try_recv().is_err(), "the second waits for the first");
        release.send(()).unwrap();
        for n in 0..=3 {
            assert_eq!(seen.recv().await, Some(n));
        }
        assert_eq!(seen.recv().await, None);
    }

    #[tokio::test]
    async fn one_that_breaks_down_does_not_keep_those_behind_it_from_being_done() {
        let (lane, tasks) = (Lane::default(), TaskTracker::new());
        for _ in 0..2 {
            let (done, over) = oneshot::channel();
            lane.push(&tasks, Box::pin(async { panic!("it breaks down") }));
            lane.push(&tasks, Box::pin(async move { done.send(()).unwrap() }));
            over.await.unwrap();
        }
    }

    #[tokio::test]
    async fn has_no_task_while_there_is_nothing_to_do() {
        let (lane, tasks) = (Lane::default(), TaskTracker::new());
        for _ in 0..3 {
            let (done, over) = oneshot::channel();
            lane.push(&tasks, Box::pin(async move { done.send(()).unwrap() }));
            over.await.unwrap();
            while !tasks.is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }
}
