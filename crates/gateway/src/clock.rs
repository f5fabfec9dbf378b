//! The node's one timer: wakes sessions at their deadlines.
//!
//! A session sets when it wants to be woken; nothing else is kept per session while it is idle, and
//! a session without heart-beats costs nothing once it is connected. Deadlines are met within one
//! [`TICK`], which every user of the clock allows for.
//!
//! Invariants
//! - An entry that came too early, because the session moved its deadline on, is entered again at
//!   the deadline; moving a deadline back and forth therefore costs one store, not a queue entry.
//! - `set` stores what is wanted and then looks at what is entered, `tick` does the reverse: with
//!   both in one total order (`SeqCst`) at least one of them sees the other, so no alarm is lost.
//! - No lock is held across an `.await`, and none while a session is woken.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use crate::mailbox::Mailbox;

/// How coarse the clock is.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How far ahead an entry may lie, in ticks: a minute.
const FURTHEST: u64 = 240;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// See the module.
pub(crate) struct Clock {
    started: Instant,
    /// Tick number -> those to look at then. A session has one entry, and for a while one more for
    /// each time it brought its deadline forward.
    wheel: Mutex<BTreeMap<u64, Vec<Weak<Mailbox>>>>,
}

/// A session's place on the clock, kept in its mailbox.
pub(crate) struct Alarm {
    /// The tick at which the session wants to be woken.
    wanted: AtomicU64,
    /// The earliest tick at which the wheel has an entry for it.
    entered: AtomicU64,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { wanted: AtomicU64::new(NEVER), entered: AtomicU64::new(NEVER) }
    }
}

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), wheel: Mutex::new(BTreeMap::new()) })
    }

    /// Wakes the session of `mailbox` at `deadline`, or not at all. The latest call counts.
    pub(crate) fn set(&self, mailbox: &Arc<Mailbox>, deadline: Option<std::time::Instant>) {
        let alarm = mailbox.alarm();
        let tick = deadline.map_or(NEVER, |deadline| self.tick_after(deadline));
        alarm.wanted.store(tick, Ordering::SeqCst);
        if tick < alarm.entered.load(Ordering::SeqCst) {
            self.enter(mailbox, tick);
        }
    }

    /// Runs until the last session is gone with the node; to be spawned once.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    fn tick(&self) {
        let now = ticks_between(self.started, Instant::now());
        let due = {
            let mut wheel = self.wheel.lock();
            let later = wheel.split_off(&(now + 1));
            std::mem::replace(&mut *wheel, later)
        };
        let due = due.into_iter().flat_map(|(tick, entries)| {
            entries.into_iter().filter_map(move |entry| Some((tick, entry.upgrade()?)))
        });
        for (tick, mailbox) in due {
            let alarm = mailbox.alarm();
            let (seq, entered) = (Ordering::SeqCst, &alarm.entered);
            if entered.compare_exchange(tick, NEVER, seq, seq).is_err() {
                // Superseded by an earlier entry.
                continue;
            }
            let wanted = alarm.wanted.load(Ordering::SeqCst);
            if wanted <= now {
                mailbox.ring();
            } else if wanted != NEVER {
                self.enter(&mailbox, wanted);
            }
        }
    }

    /// Enters a session at `tick`, or earlier, to be looked at again: a client may name an interval
    /// of weeks, and what is left of a closed session stays until its entry comes up.
    fn enter(&self, mailbox: &Arc<Mailbox>, tick: u64) {
        let tick = tick.min(ticks_between(self.started, Instant::now()) + FURTHEST);
        mailbox.alarm().entered.store(tick, Ordering::SeqCst);
        self.wheel.lock().entry(tick).or_default().push(Arc::downgrade(mailbox));
    }

    /// The first tick that is not before `deadline`.
    fn tick_after(&self, deadline: std::time::Instant) -> u64 {
        ticks_between(self.started, Instant::from_std(deadline)) + 1
    }
}

fn ticks_between(start: Instant, end: Instant) -> u64 {
    let ticks = end.saturating_duration_since(start).as_millis() / TICK.as_millis();
    u64::try_from(ticks).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::{Context, Waker};

    use super::*;

    fn rang(mailbox: &Mailbox) -> bool {
        mailbox.take(&Context::from_waker(Waker::noop()), &mut VecDeque::new()).rung
    }

    fn start() -> (Arc<Clock>, Arc<Mailbox>) {
        let clock = Clock::new();
        tokio::spawn(Arc::clone(&clock).run());
        (clock, Arc::new(Mailbox::new(1024)))
    }

    fn at(after: Duration) -> Option<std::time::Instant> {
        Some((Instant::now() + after).into_std())
    }

    #[tokio::test(start_paused = true)]
    async fn rings_within_a_tick_of_the_deadline_and_not_before() {
        let (clock, mailbox) = start();
        let deadline = Duration::from_millis(10_010);
        clock.set(&mailbox, at(deadline));
        tokio::time::sleep(deadline).await;
        assert!(!rang(&mailbox));
        tokio::time::sleep(TICK + Duration::from_millis(1)).await;
        assert!(rang(&mailbox));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_on_rings_once_at_the_last_one() {
        let (clock, mailbox) = start();
        for second in 1..=30 {
            clock.set(&mailbox, at(Duration::from_secs(10)));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!rang(&mailbox), "after {second} s");
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(rang(&mailbox));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!rang(&mailbox));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_brought_forward_rings_earlier() {
        let (clock, mailbox) = start();
        clock.set(&mailbox, at(Duration::from_secs(60)));
        clock.set(&mailbox, at(Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_secs(1) + 2 * TICK).await;
        assert!(rang(&mailbox));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_set_again_after_it_rang_rings_again() {
        let (clock, mailbox) = start();
        let deadline = at(Duration::from_secs(1));
        for _ in 0..3 {
            clock.set(&mailbox, deadline);
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(rang(&mailbox));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn entries_that_were_superseded_die_by_themselves() {
        let (clock, mailbox) = start();
        let entries = |clock: &Clock| clock.wheel.lock().values().map(Vec::len).sum::<usize>();
        for seconds in [10, 9, 8] {
            clock.set(&mailbox, at(Duration::from_secs(seconds)));
        }
        assert_eq!(entries(&clock), 3);
        for _ in 0..20 {
            clock.set(&mailbox, at(Duration::from_secs(9)));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(entries(&clock), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_session_leaves_the_clock_within_a_minute() {
        let (clock, mailbox) = start();
        clock.set(&mailbox, at(Duration::from_secs(40 * 24 * 60 * 60)));
        drop(mailbox);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(clock.wheel.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_deadline_rings_never_and_keeps_no_entry() {
        let (clock, mailbox) = start();
        clock.set(&mailbox, at(Duration::from_secs(1)));
        clock.set(&mailbox, None);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!rang(&mailbox));
        assert!(clock.wheel.lock().is_empty());
    }
}
