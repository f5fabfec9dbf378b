//! When the next message is due: by the clock (open loop) or when an earlier one is done
//! (closed loop).
//!
//! In the open loop every message has its own absolute time, so a late one moves none of the
//! others. A [`Clock`] gives each publisher its turns from a thread: a thread sleeps to within
//! 50 us of its moment, while tokio's timer rounds up to whole milliseconds, which would be most
//! of the latency measured.

use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How messages are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// Open loop: so many messages per second, whatever becomes of them.
    Rate(f64),
    /// Closed loop: at most so many messages that some subscriber still waits for.
    Window(u32),
}

/// When each message is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// When the first one is.
    pub(super) start: Instant,
    /// The number of the first one.
    pub(super) first: u32,
    /// Messages per second.
    pub(super) rate: f64,
}

impl Schedule {
    /// When message `number` is due.
    pub(super) fn due(&self, number: u32) -> Instant {
        self.start + Duration::from_secs_f64(f64::from(number - self.first) / self.rate)
    }
}

/// A thread that gives turns by a schedule; it ends when the last is given or no one waits.
#[derive(Debug)]
pub(super) struct Clock {
    /// By publisher: one permit per message that is due. Bounded by the messages of the schedule.
    turns: Vec<Arc<Semaphore>>,
}

impl Clock {
    /// Starts the clock: message `n` is the turn of publisher `n % publishers`.
    pub(super) fn start(schedule: Schedule, messages: Range<u32>, publishers: u32) -> Self {
        let turns: Vec<_> = (0..publishers).map(|_| Arc::new(Semaphore::new(0))).collect();
        let waiting: Vec<_> = turns.iter().map(Arc::downgrade).collect();
        std::thread::spawn(move || {
            for number in messages {
                std::thread::sleep(schedule.due(number).saturating_duration_since(Instant::now()));
                let turn = waiting.get((number % publishers) as usize).and_then(Weak::upgrade);
                let Some(turn) = turn else { break };
                turn.add_permits(1);
            }
        });
        Self { turns }
    }

    /// Where a publisher waits for its turns.
    pub(super) fn turns(&self, publisher: u32) -> Arc<Semaphore> {
        Arc::clone(&self.turns[publisher as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_absolute_and_does_not_drift() {
        let start = Instant::now();
        let due = |number, rate| Schedule { start, first: 20, rate }.due(number) - start;
        assert_eq!(due(20, 20.0), Duration::ZERO);
        assert_eq!(due(21, 20.0), Duration::from_millis(50));
        assert_eq!(due(220, 20.0), Duration::from_secs(10));
        assert_eq!(due(3_000_020, 3.0), Duration::from_secs(1_000_000));
        assert_eq!(due(21, 0.5), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn each_publisher_gets_its_turns_and_none_early() {
        let schedule = Schedule { start: Instant::now(), first: 10, rate: 1_000.0 };
        let clock = Clock::start(schedule, 10..15, 2);
        for number in 10..15 {
            clock.turns(number % 2).acquire().await.unwrap().forget();
            assert!(Instant::now() >= schedule.due(number));
        }
        assert_eq!(clock.turns.iter().map(|turns| turns.available_permits()).sum::<usize>(), 0);
    }
}
