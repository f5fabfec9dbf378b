//! Heart-beats both ways: what was agreed, and the two deadlines that follow from it.
//!
//! Any byte counts as a sign of life (STOMP 1.2, "Heart-beating"). A client that is late is probed
//! first, because browsers throttle the timers of background tabs; only when another whole interval
//! brings nothing is it taken for dead.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The header `heart-beat:<can send every>,<wants to receive every>`, zero meaning never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Intervals {
    /// How often this side can send.
    pub send: Duration,
    /// How often this side wants to receive.
    pub receive: Duration,
}

impl FromStr for Intervals {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (send, receive) = text.split_once(',').ok_or(())?;
        Ok(Self { send: milliseconds(send)?, receive: milliseconds(receive)? })
    }
}

/// Decimal digits; more than a `u32` holds, 49 days, is as good as that.
fn milliseconds(text: &str) -> Result<Duration, ()> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    Ok(Duration::from_millis(text.parse().unwrap_or(u32::MAX).into()))
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.send.as_millis(), self.receive.as_millis())
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// We have been silent for almost the interval we promised.
    Beat,
    /// The client is late: ask whether it is there.
    Probe,
    /// The client stayed silent for a whole interval after the probe.
    Dead {
        /// How long nothing was heard.
        silent: Duration,
    },
}

/// The two deadlines of a session.
#[derive(Debug)]
pub(crate) struct HeartBeat {
    send: Option<Duration>,
    receive: Option<Duration>,
    last_sent: Instant,
    last_received: Instant,
    probed: Option<Instant>,
    /// While the server does not read, silence is not the client's fault.
    paused: bool,
}

impl HeartBeat {
    /// Whether this side sends any.
    pub(crate) fn sends(&self) -> bool {
        self.send.is_some()
    }

    /// No heart-beats either way, as before CONNECTED.
    pub(crate) fn none(now: Instant) -> Self {
        Self::agree(Intervals::default(), Intervals::default(), now)
    }

    /// What server and client agree on: each direction at the slower of what one side can and the
    /// other wants, not at all if either says zero.
    pub(crate) fn agree(server: Intervals, client: Intervals, now: Instant) -> Self {
        let slower = |can: Duration, wants: Duration| {
            (!can.is_zero() && !wants.is_zero()).then(|| can.max(wants))
        };
        Self {
            send: slower(server.send, client.receive),
            receive: slower(client.send, server.receive),
            last_sent: now,
            last_received: now,
            probed: None,
            paused: false,
        }
    }

    /// The same session with its heart-beats agreed on.
    pub(crate) fn agreed(&self, server: Intervals, client: Intervals, now: Instant) -> Self {
        Self { paused: self.paused, ..Self::agree(server, client, now) }
    }

    pub(crate) fn last_received(&self) -> Instant {
        self.last_received
    }

    pub(crate) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    pub(crate) fn received(&mut self, now: Instant) {
        self.last_received = now;
        self.probed = None;
    }

    pub(crate) fn pause(&mut self, now: Instant, paused: bool) {
        if self.paused && !paused {
            self.received(now);
        }
        self.paused = paused;
    }

    /// The next moment at which [`due`](Self::due) may have something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let send = self.send.map(|interval| self.last_sent + interval - margin(interval));
        [send, self.receive_deadline()].into_iter().flatten().min()
    }

    /// What is due at `now`; called again until it says nothing.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.receive_deadline().is_some_and(|deadline| deadline <= now) {
            if self.probed.is_some() {
                return Some(Due::Dead { silent: now - self.last_received });
            }
            self.probed = Some(now);
            return Some(Due::Probe);
        }
        let interval = self.send?;
        if self.last_sent + interval - margin(interval) <= now {
            self.last_sent = now;
            return Some(Due::Beat);
        }
        None
    }

    fn receive_deadline(&self) -> Option<Instant> {
        let interval = self.receive.filter(|_| !self.paused)?;
        Some(match self.probed {
            None => self.last_received + interval + margin(interval),
            Some(probed) => probed + interval,
        })
    }
}

/// Early enough to be on time although whoever keeps the time is late by a quarter of a second;
/// late enough not to probe for mere jitter.
fn margin(interval: Duration) -> Duration {
    (interval / 3).min(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn intervals(text: &str) -> Intervals {
        text.parse().unwrap()
    }

    #[test]
    fn each_direction_runs_at_the_slower_of_offer_and_wish() {
        let now = Instant::now();
        let agreed = HeartBeat::agree(intervals("10000,10000"), intervals("4000,20000"), now);
        assert_eq!((agreed.send, agreed.receive), (Some(20 * S), Some(10 * S)));
    }

    #[test]
    fn zero_on_either_side_means_none() {
        let now = Instant::now();
        let agreed = HeartBeat::agree(intervals("10000,10000"), intervals("0,0"), now);
        assert_eq!((agreed.send, agreed.receive, agreed.deadline()), (None, None, None));
    }

    #[test]
    fn late_client_is_probed_then_dead_after_another_interval() {
        let start = Instant::now();
        let mut beat = HeartBeat::agree(intervals("0,10000"), intervals("10000,0"), start);
        assert_eq!(beat.deadline(), Some(start + 11 * S));
        assert_eq!(beat.due(start + 11 * S), Some(Due::Probe));
        assert_eq!(beat.deadline(), Some(start + 21 * S));
        assert_eq!(beat.due(start + 20 * S), None);
        assert_eq!(beat.due(start + 21 * S), Some(Due::Dead { silent: 21 * S }));
    }

    #[test]
    fn any_sign_of_life_answers_the_probe() {
        let start = Instant::now();
        let mut beat = HeartBeat::agree(intervals("0,10000"), intervals("10000,0"), start);
        assert_eq!(beat.due(start + 11 * S), Some(Due::Probe));
        beat.received(start + 12 * S);
        assert_eq!(beat.deadline(), Some(start + 23 * S));
    }

    #[test]
    fn we_beat_before_our_interval_is_over_unless_we_wrote() {
        let start = Instant::now();
        let mut beat = HeartBeat::agree(intervals("10000,0"), intervals("0,10000"), start);
        beat.sent(start + 5 * S);
        assert_eq!(beat.due(start + 9 * S), None);
        assert_eq!(beat.due(start + 14 * S), Some(Due::Beat));
        assert_eq!(beat.due(start + 14 * S), None);
    }

    #[test]
    fn a_paused_session_is_not_held_silent() {
        let start = Instant::now();
        let mut beat = HeartBeat::agree(intervals("0,10000"), intervals("10000,0"), start);
        beat.pause(start + S, true);
        assert_eq!((beat.deadline(), beat.due(start + 60 * S)), (None, None));
        beat.pause(start + 60 * S, false);
        assert_eq!(beat.deadline(), Some(start + 71 * S));
    }

    #[test]
    fn malformed_header_is_refused() {
        for text in ["", "1", "1,", "a,b", "-1,0", "+1,0", "1,2,3"] {
            assert!(text.parse::<Intervals>().is_err(), "{text}");
        }
    }

    #[test]
    fn more_than_49_days_is_49_days() {
        assert_eq!(intervals("99999999999,0"), intervals("4294967295,0"));
    }
}
