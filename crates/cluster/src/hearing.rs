//! How well a process hears: whether what it has heard of the others is recent enough to act on.
//!
//! It calls to itself by the queue through which it hears the others. When a call comes back, all that the
//! broker had confirmed before the call was sent has been heard. So a process that was frozen, lags behind
//! or is cut off knows that it is, and what others announce takes effect everywhere a known time after the
//! broker confirmed it, without an answer of anybody.
//!
//! Invariants
//! - What was confirmed more than [`TRUST`] ago has been heard as long as [`is_sure`](Hearing::is_sure).
//! - Silence of others counts only in time that was heard: the clock here stands still while no call comes
//!   back or calls come late, and for a while after.
//! - Who has just begun to listen, or may have missed something for good, is not sure before everybody has
//!   announced itself once more.
//!
//! Time comes in as an argument. Not here: sending calls and reading what comes (`nodes`).

use std::time::Duration;

use tokio::time::Instant;

/// How often a process calls to itself.
pub(crate) const CALL_EVERY: Duration = Duration::from_millis(500);

/// How long after it was sent a call that came back is acted on.
pub(crate) const TRUST: Duration = Duration::from_secs(2);

/// How long after its confirm everybody acts on what was announced, or knows that it may not have heard
/// it. The second beyond [`TRUST`] is for clocks that do not run alike.
pub(crate) const TAKES_EFFECT: Duration = Duration::from_secs(3);

/// How long one must listen to have heard of every node that is there.
const SETTLING: Duration = Duration::from_secs(3);

/// How long after an interruption silence does not count: others connect again at pauses of their own, of
/// up to 5 s.
const RETURN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Hearing {
    begun: Instant,
    /// When the last call that came back was sent, or, before the first, when listening began.
    called: Instant,
    /// How much time was heard, since the beginning.
    heard: Duration,
    /// Time is heard from here.
    counts_from: Instant,
    /// When everybody has been heard of, by the time that was heard.
    settles: Duration,
}

impl Hearing {
    pub(crate) fn new(now: Instant) -> Self {
        let (heard, settles) = (Duration::ZERO, SETTLING);
        Self { begun: now, called: now, heard, counts_from: now, settles }
    }

    /// Listening begins at `now`, anew or for the first time.
    pub(crate) fn begins(&mut self, now: Instant) {
        (self.called, self.counts_from) = (now, now);
        self.missed();
    }

    /// Something that was announced may never come.
    pub(crate) fn missed(&mut self) {
        self.settles = self.heard + SETTLING;
    }

    /// A call that was sent then has come back at `now`.
    pub(crate) fn came_back(&mut self, sent: Instant, now: Instant) {
        if sent > self.called + TRUST || now > sent + TRUST {
            self.counts_from = now + RETURN;
        }
        self.heard += sent.saturating_duration_since(self.called.max(self.counts_from));
        self.called = sent.max(self.called);
    }

    /// The time by which silence counts.
    pub(crate) fn clock(&self) -> std::time::Instant {
        (self.begun + self.heard).into_std()
    }

    /// Whether at `now` what was heard may be acted on.
    pub(crate) fn is_sure(&self, now: Instant) -> bool {
        self.heard >= self.settles && now < self.called + TRUST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Calls that come back at once, up to that second.
    fn hear(hearing: &mut Hearing, from: u32, until: u32) {
        for second in from..=until {
            let now = hearing.begun + second * SECOND;
            hearing.came_back(now, now);
        }
    }

    fn passed(hearing: &Hearing) -> Duration {
        hearing.clock() - hearing.begun.into_std()
    }

    #[test]
    fn nobody_is_sure_who_has_just_begun_to_listen() {
        let begun = Instant::now();
        let mut hearing = Hearing::new(begun);
        assert!(!hearing.is_sure(begun));
        hear(&mut hearing, 1, 2);
        assert!(!hearing.is_sure(begun + 2 * SECOND));
        hear(&mut hearing, 3, 3);
        assert!(hearing.is_sure(begun + 3 * SECOND));
    }

    #[test]
    fn a_call_is_trusted_for_a_while_from_its_sending() {
        let begun = Instant::now();
        let mut hearing = Hearing::new(begun);
        hear(&mut hearing, 1, 5);
        let end = begun + 5 * SECOND + TRUST;
        assert!(hearing.is_sure(end - Duration::from_millis(1)));
        assert!(!hearing.is_sure(end));
        // One that was long on its way says little when it comes back.
        hearing.came_back(begun + 6 * SECOND, begun + 9 * SECOND);
        assert!(!hearing.is_sure(begun + 9 * SECOND));
        hearing.came_back(begun + 10 * SECOND, begun + 10 * SECOND);
        assert!(hearing.is_sure(begun + 10 * SECOND));
        // An old one takes nothing back.
        hearing.came_back(begun, begun + 10 * SECOND);
        assert!(hearing.is_sure(begun + 10 * SECOND));
    }

    #[test]
    fn time_does_not_pass_while_nobody_can_be_heard() {
        let mut hearing = Hearing::new(Instant::now());
        hear(&mut hearing, 1, 2);
        assert_eq!(passed(&hearing), 2 * SECOND);
        // Back, but others may not be yet.
        hear(&mut hearing, 60, 70);
        assert_eq!(passed(&hearing), 2 * SECOND);
        hear(&mut hearing, 71, 73);
        assert_eq!(passed(&hearing), 5 * SECOND);
        // What waited comes at once, however old.
        let now = hearing.begun + 200 * SECOND;
        (74..200).for_each(|second| hearing.came_back(hearing.begun + second * SECOND, now));
        hear(&mut hearing, 200, 210);
        assert_eq!(passed(&hearing), 5 * SECOND);
        hear(&mut hearing, 211, 211);
        assert_eq!(passed(&hearing), 6 * SECOND);
    }

    #[test]
    fn who_was_only_away_is_sure_at_once_and_who_missed_something_is_not() {
        let begun = Instant::now();
        let mut hearing = Hearing::new(begun);
        hear(&mut hearing, 1, 5);
        hear(&mut hearing, 60, 60);
        assert!(hearing.is_sure(begun + 60 * SECOND));
        hearing.missed();
        hear(&mut hearing, 61, 72);
        assert!(!hearing.is_sure(begun + 72 * SECOND), "others may take their time to come back");
        hear(&mut hearing, 73, 73);
        assert!(hearing.is_sure(begun + 73 * SECOND));
    }
}
