//! Which nodes there are, by what they say of themselves. Time comes in as an argument.
//!
//! Invariants
//! - A node is in the roster from its announcement until it has been silent for `silence`, or said
//!   good-bye.
//! - Of the announcements of one node the last that came in counts; they come in the order in which they
//!   were made.
//! - The roster holds at most `MAX_NODES`: beyond it a node that is new takes the place of the one that
//!   was silent longest, as nothing else bounds what strangers may announce.
//!
//! Sending and receiving announcements is the gateway's and the notifier's affair.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytestring::ByteString;

use crate::{Boot, Epoch};

/// How often a node announces itself, besides on every change.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);

/// How long a node that is silent stays in the roster, where nothing else is configured.
pub const SILENCE: Duration = Duration::from_secs(10);

/// The most nodes a roster holds.
pub const MAX_NODES: usize = 10_000;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The node.
    pub boot: Boot,
    /// The epoch in which all its sessions are registered, see
    /// [`State::registered`](crate::State::registered).
    pub registered: Option<Epoch>,
    /// Whether it is about to end: it takes no new sessions.
    pub draining: bool,
    /// Where it takes requests that came to other nodes and are about sessions of its own, as `host:port`;
    /// none if it takes none.
    pub forward: Option<ByteString>,
}

/// The nodes that were heard of.
#[derive(Debug)]
pub struct Roster {
    silence: Duration,
    heard: HashMap<Boot, Heard>,
}

#[derive(Debug)]
struct Heard {
    announcement: Announcement,
    at: Instant,
}

impl Roster {
    /// An empty roster, in which a node is kept for `silence` after its last announcement, such as
    /// [`SILENCE`]. That must outlast some lost announcements.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        Self { silence, heard: HashMap::new() }
    }

    /// A node announced itself at `now`. Says whether that was news: a node that was not known, or
    /// something else than it said before.
    pub fn hear(&mut self, announcement: Announcement, now: Instant) -> bool {
        self.expire(now);
        let boot = announcement.boot;
        if self.heard.len() >= MAX_NODES && !self.heard.contains_key(&boot) {
            let oldest = self.heard.iter().min_by_key(|(_, heard)| heard.at).map(|(boot, _)| *boot);
            oldest.map(|boot| self.heard.remove(&boot));
        }
        let heard = Heard { announcement, at: now };
        let before = self.heard.insert(boot, heard);
        before.map(|heard| heard.announcement).as_ref() != self.get(boot)
    }

    /// A node said good-bye. Says whether it was there.
    pub fn leave(&mut self, boot: Boot) -> bool {
        self.heard.remove(&boot).is_some()
    }

    /// Strikes those that have been silent for too long at `now`, and says which.
    pub fn expire(&mut self, now: Instant) -> Vec<Boot> {
        let silence = self.silence;
        let silent = |heard: &Heard| now.saturating_duration_since(heard.at) >= silence;
        self.heard.extract_if(|_, heard| silent(heard)).map(|(boot, _)| boot).collect()
    }

    /// When [`expire`](Roster::expire) has something to do, if nobody is heard of before.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.heard.values().map(|heard| heard.at + self.silence).min()
    }

    /// What the nodes said last, as far as they have not been struck.
    pub fn announcements(&self) -> impl Iterator<Item = &Announcement> {
        self.heard.values().map(|heard| &heard.announcement)
    }

    /// What that node said last.
    #[must_use]
    pub fn get(&self, boot: Boot) -> Option<&Announcement> {
        self.heard.get(&boot).map(|heard| &heard.announcement)
    }

    /// The node whose sessions' ids begin so, see [`Boot::node_name`].
    #[must_use]
    pub fn by_name(&self, node_name: &str) -> Option<Boot> {
        self.heard.keys().copied().find(|boot| boot.node_name() == node_name)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heard.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(boot: Boot) -> Announcement {
        Announcement { boot, registered: Some(Epoch::new("e")), draining: false, forward: None }
    }

    #[test]
    fn a_silent_node_is_struck_and_one_that_speaks_is_not() {
        let (silent, speaking) = (Boot::generate(), Boot::generate());
        let (mut roster, start) = (Roster::new(SILENCE), Instant::now());
        roster.hear(announced(silent), start);
        roster.hear(announced(speaking), start);
        roster.hear(announced(speaking), start + SILENCE / 2);
        assert_eq!(roster.next_expiry(), Some(start + SILENCE));
        assert_eq!(roster.expire(start + SILENCE - Duration::from_millis(1)), []);
        assert_eq!(roster.expire(start + SILENCE), [silent]);
        assert_eq!(roster.announcements().map(|node| node.boot).collect::<Vec<_>>(), [speaking]);
        assert_eq!(roster.next_expiry(), Some(start + SILENCE / 2 + SILENCE));
    }

    #[test]
    fn only_what_is_new_is_news() {
        let (mut roster, now) = (Roster::new(SILENCE), Instant::now());
        let first = announced(Boot::generate());
        assert!(roster.hear(first.clone(), now));
        assert!(!roster.hear(first.clone(), now));
        let unsynced = Announcement { registered: None, ..first.clone() };
        assert!(roster.hear(unsynced.clone(), now));
        assert_eq!(roster.get(first.boot), Some(&unsynced));
        // It was struck meanwhile, so it is new again.
        assert!(roster.hear(unsynced, now + SILENCE));
    }

    #[test]
    fn a_node_that_says_good_bye_is_gone() {
        let (mut roster, boot) = (Roster::new(SILENCE), Boot::generate());
        roster.hear(announced(boot), Instant::now());
        assert_eq!(roster.by_name(&boot.node_name()), Some(boot));
        assert!(roster.leave(boot));
        assert!(!roster.leave(boot));
        assert!(roster.is_empty());
    }

    #[test]
    fn strangers_do_not_grow_it_without_end() {
        let (mut roster, start) = (Roster::new(SILENCE), Instant::now());
        let first = Boot::generate();
        roster.hear(announced(first), start);
        for _ in 0..MAX_NODES {
            roster.hear(announced(Boot::generate()), start + Duration::from_secs(1));
        }
        assert_eq!(roster.len(), MAX_NODES);
        assert_eq!(roster.get(first), None);
    }
}
