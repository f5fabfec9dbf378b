//! The part of the checker that knows inboxes: what was stored for users, what came to them, and what is left.
//!
//! What it holds a cluster to:
//! - **Loss.** A message whose sender was told that it is stored reaches its user. One whose sender was told
//!   nothing may have, or not; one that was refused does not.
//! - **Order.** The first times that a user's messages come to it are in the order in which they were sent.
//!   Each sender sends to a user only after it knows what became of the message before.
//! - **Repeats.** A message that comes to a user again is marked `redelivered:true`. A mark on one that comes
//!   once is no mistake: it says "maybe".
//! - **Settling.** In the end nothing waits: what a user has acknowledged is gone from its inbox.
//! - **Nothing else.** Nothing comes that was not sent to that user.
//!
//! The judge is a function of the history alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A user, by its number.
pub type User = usize;

/// What happened to inboxes, in its order.
#[derive(Clone, Debug, Default)]
pub struct InboxHistory {
    events: Vec<InboxEvent>,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxEvent {
    /// The `n`th message to a user was about to be sent.
    Sent {
        /// To whom.
        user: User,
        /// Which, from 0 on.
        n: usize,
    },
    /// Its sender was told that it is stored.
    Stored {
        /// To whom.
        user: User,
        /// Which.
        n: usize,
    },
    /// Its sender was told that it is not.
    Refused {
        /// To whom.
        user: User,
        /// Which.
        n: usize,
    },
    /// It came to a session of the user.
    Came {
        /// To whom.
        user: User,
        /// Which.
        n: usize,
        /// Whether it was marked.
        redelivered: bool,
    },
    /// So much was left in the user's inbox in the end.
    Left {
        /// Whose.
        user: User,
        /// How many messages.
        messages: u64,
    },
}

/// One thing that was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InboxViolation {
    /// A stored message did not come.
    Lost {
        /// To whom.
        user: User,
        /// Which.
        n: usize,
    },
    /// A message came after a later one.
    OutOfOrder {
        /// To whom.
        user: User,
        /// Which.
        n: usize,
        /// The later one.
        after: usize,
    },
    /// A message came again and was not marked.
    UnmarkedRepeat {
        /// To whom.
        user: User,
        /// Which.
        n: usize,
    },
    /// A message came that was not sent, or was refused.
    NeverSent {
        /// To whom.
        user: User,
        /// Which.
        n: usize,
    },
    /// Something was left.
    NotSettled {
        /// Whose.
        user: User,
        /// How many messages.
        messages: u64,
    },
}

/// What the judge found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxVerdict {
    /// What was wrong, in order.
    pub violations: Vec<InboxViolation>,
    /// How many messages were stored.
    pub stored: usize,
    /// How many came, each counted once.
    pub came: usize,
    /// How often one came again.
    pub repeats: usize,
}

impl InboxHistory {
    /// Notes that something happened.
    pub fn note(&mut self, event: InboxEvent) {
        self.events.push(event);
    }

    /// How many different messages have come to users.
    #[must_use]
    pub fn came(&self) -> usize {
        let came = self.events.iter().filter_map(|event| match event {
            InboxEvent::Came { user, n, .. } => Some((user, n)),
            _ => None,
        });
        came.collect::<BTreeSet<_>>().len()
    }

    /// Judges the history, as it stands.
    #[must_use]
    pub fn judge(&self) -> InboxVerdict {
        let mut users: BTreeMap<User, Judged> = BTreeMap::new();
        let mut verdict = InboxVerdict::default();
        for event in &self.events {
            let (InboxEvent::Sent { user, .. }
            | InboxEvent::Stored { user, .. }
            | InboxEvent::Refused { user, .. }
            | InboxEvent::Came { user, .. }
            | InboxEvent::Left { user, .. }) = *event;
            users.entry(user).or_default().see(user, *event, &mut verdict);
        }
        for (user, judged) in users {
            verdict.stored += judged.stored.len();
            verdict.came += judged.came.len();
            let lost = judged.stored.difference(&judged.came);
            verdict.violations.extend(lost.map(|&n| InboxViolation::Lost { user, n }));
        }
        verdict
    }
}

/// What is known of one user.
#[derive(Default)]
struct Judged {
    sent: BTreeSet<usize>,
    stored: BTreeSet<usize>,
    came: BTreeSet<usize>,
}

impl Judged {
    fn see(&mut self, user: User, event: InboxEvent, verdict: &mut InboxVerdict) {
        let wrong = &mut verdict.violations;
        match event {
            InboxEvent::Sent { n, .. } => _ = self.sent.insert(n),
            InboxEvent::Stored { n, .. } => _ = self.stored.insert(n),
            InboxEvent::Refused { n, .. } => {
                if !self.sent.remove(&n) || self.came.contains(&n) {
                    wrong.push(InboxViolation::NeverSent { user, n });
                }
            }
            InboxEvent::Came { n, redelivered, .. } => {
                if !self.sent.contains(&n) {
                    wrong.push(InboxViolation::NeverSent { user, n });
                }
                let last = self.came.last().copied();
                if !self.came.insert(n) {
                    verdict.repeats += 1;
                    if !redelivered {
                        wrong.push(InboxViolation::UnmarkedRepeat { user, n });
                    }
                } else if let Some(after) = last.filter(|last| *last > n) {
                    wrong.push(InboxViolation::OutOfOrder { user, n, after });
                }
            }
            InboxEvent::Left { messages: 0, .. } => {}
            InboxEvent::Left { messages, .. } => {
                wrong.push(InboxViolation::NotSettled { user, messages });
            }
        }
    }
}

impl InboxVerdict {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// How many violations are written out.
const SHOWN: usize = 20;

impl fmt::Display for InboxVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violations, stored, came, repeats } = self;
        writeln!(f, "{stored} messages stored, {came} came, {repeats} repeats")?;
        for violation in violations.iter().take(SHOWN) {
            writeln!(f, "  {violation:?}")?;
        }
        match violations.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(n: usize) -> [InboxEvent; 2] {
        [InboxEvent::Sent { user: 7, n }, InboxEvent::Stored { user: 7, n }]
    }

    fn came(n: usize, redelivered: bool) -> InboxEvent {
        InboxEvent::Came { user: 7, n, redelivered }
    }

    /// What is wrong if, behind three stored messages, this happens.
    fn wrong(events: &[InboxEvent]) -> Vec<InboxViolation> {
        let stored = (0..3).flat_map(sent);
        let events = stored.chain(events.iter().copied()).collect();
        InboxHistory { events }.judge().violations
    }

    #[test]
    fn what_came_in_order_and_again_with_a_mark_is_right() {
        let left = InboxEvent::Left { user: 7, messages: 0 };
        let events = [came(0, false), came(1, true), came(1, true), came(2, false), left];
        assert_eq!(wrong(&events), []);
    }

    #[test]
    fn each_rule_is_seen_to_be_broken() {
        let all = [came(0, false), came(1, false), came(2, false)];
        let with = |event| [&all[..], &[event]].concat();
        let lost = InboxViolation::Lost { user: 7, n: 2 };
        assert_eq!(wrong(&all[..2]), [lost]);
        let repeat = InboxViolation::UnmarkedRepeat { user: 7, n: 1 };
        assert_eq!(wrong(&with(came(1, false))), [repeat]);
        let order = InboxViolation::OutOfOrder { user: 7, n: 1, after: 2 };
        assert_eq!(wrong(&[all[0], all[2], came(1, true)]), [order]);
        let never = InboxViolation::NeverSent { user: 7, n: 3 };
        assert_eq!(wrong(&with(came(3, false))), [never]);
        let left = InboxViolation::NotSettled { user: 7, messages: 2 };
        assert_eq!(wrong(&with(InboxEvent::Left { user: 7, messages: 2 })), [left]);
        let refused = [
            &all[..],
            &[InboxEvent::Sent { user: 7, n: 3 }, InboxEvent::Refused { user: 7, n: 3 }],
            &[came(3, false)],
        ];
        assert_eq!(wrong(&refused.concat()), [never]);
    }

    #[test]
    fn what_nobody_was_told_of_may_come_or_not() {
        let unknown = InboxEvent::Sent { user: 7, n: 3 };
        let all = [unknown, came(0, false), came(1, false), came(2, false)];
        assert_eq!(wrong(&all), []);
        assert_eq!(wrong(&[&all[..], &[came(3, false)]].concat()), []);
    }
}
