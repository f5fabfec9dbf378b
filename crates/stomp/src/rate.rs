//! How many frames a client may send: so many per second on average, a few seconds' worth at once.

use std::time::Instant;

/// How many seconds' worth may come at once.
const BURST: u64 = 5;

/// A leaky bucket in two words (generic cell rate algorithm).
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u32,
    started: Instant,
    /// When, in nanoseconds since the start, the bucket will be empty.
    empty_at: u64,
}

impl Rate {
    /// `per_second` 0 sets no limit.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, started: now, empty_at: 0 }
    }

    /// Whether one more frame is within the limit.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        const SECOND: u64 = 1_000_000_000;
        if self.per_second == 0 {
            return true;
        }
        let now = u64::try_from(now.saturating_duration_since(self.started).as_nanos())
            .unwrap_or(u64::MAX);
        self.empty_at = self.empty_at.max(now) + SECOND / u64::from(self.per_second);
        self.empty_at - now <= BURST * SECOND
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_admitted_and_the_average_holds() {
        let start = Instant::now();
        let mut rate = Rate::new(10, start);
        assert!((0..50).all(|_| rate.admits(start)));
        assert!(!rate.admits(start));
        let mut rate = Rate::new(10, start);
        assert!((0..500).all(|n| rate.admits(start + Duration::from_millis(100 * n))));
    }

    #[test]
    fn zero_sets_no_limit() {
        let start = Instant::now();
        let mut rate = Rate::new(0, start);
        assert!((0..100_000).all(|_| rate.admits(start)));
    }
}
