//! What the others know of this process, as far as that is certain.
//!
//! Invariants
//! - That sessions may not stand in the store is known since a confirmed announcement said so, behind
//!   which none was begun that said otherwise.
//! - Nothing is certain once it is a while since the last confirm: this process may be cut off, and others
//!   may have stopped to reckon with it.

use std::time::Duration;

use presence::ANNOUNCE_EVERY;
use tokio::time::Instant;

/// How long ago the last confirm may be: two announcements, far less than the silence after which a node is
/// forgotten.
const RECENT: Duration = ANNOUNCE_EVERY.saturating_mul(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HeardOfUs {
    /// Counts announcements, from the first attempt on.
    attempts: u64,
    /// The last that said that every session stands in the store.
    complete: u64,
    /// When the last confirm came.
    confirmed: Option<Instant>,
    /// When the first of those behind it was confirmed.
    since: Option<Instant>,
}

impl HeardOfUs {
    /// An announcement begins; what to call it.
    pub(crate) fn begins(&mut self, is_complete: bool) -> u64 {
        self.attempts += 1;
        if is_complete {
            (self.complete, self.since) = (self.attempts, None);
        }
        self.attempts
    }

    /// That one was confirmed at `now`.
    pub(crate) fn is_confirmed(&mut self, attempt: u64, now: Instant) {
        self.confirmed = Some(now);
        if attempt > self.complete {
            self.since.get_or_insert(now);
        }
    }

    /// Since when, at `now`, the broker has had it that sessions may not stand in the store.
    pub(crate) fn incomplete_since(&self, now: Instant) -> Option<Instant> {
        let is_recent = |confirmed| now.saturating_duration_since(confirmed) < RECENT;
        self.since.filter(|_| self.confirmed.is_some_and(is_recent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_first_confirm_until_something_else_is_said() {
        let (mut heard, now) = (HeardOfUs::default(), Instant::now());
        let later = now + Duration::from_secs(2);
        let first = heard.begins(false);
        assert_eq!(heard.incomplete_since(now), None);
        heard.is_confirmed(first, now);
        assert_eq!(heard.incomplete_since(now), Some(now));
        let again = heard.begins(false);
        assert_eq!(heard.incomplete_since(now + RECENT), None, "this node may be cut off");
        heard.is_confirmed(again, later);
        assert_eq!(heard.incomplete_since(now + RECENT), Some(now));
        // From its beginning on others may have heard it.
        let complete = heard.begins(true);
        assert_eq!(heard.incomplete_since(later), None);
        heard.is_confirmed(complete, later);
        assert_eq!(heard.incomplete_since(later), None);
    }

    #[test]
    fn a_late_confirm_of_what_was_said_before_does_not_count() {
        let (mut heard, now) = (HeardOfUs::default(), Instant::now());
        let before = heard.begins(false);
        let complete = heard.begins(true);
        heard.is_confirmed(complete, now);
        heard.is_confirmed(before, now);
        assert_eq!(heard.incomplete_since(now), None);
    }
}
