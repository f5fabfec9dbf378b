//! Of which users the store has been told that they are there.
//!
//! Invariants
//! - At most [`KNOWN`] are remembered; then all are forgotten, and told again.
//! - Each is told again after [`FOR`], as a service may have had the store forget it meanwhile.
//!
//! Not here: telling the store.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use presence::UserName;
use tokio::time::Instant;

/// How many users are remembered.
const KNOWN: usize = 100_000;

/// For how long.
const FOR: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Default)]
pub(super) struct Known {
    /// Until when. Held for a lookup.
    users: Mutex<HashMap<UserName, Instant>>,
}

impl Known {
    /// Whether the store need not be told of `user`.
    pub(super) fn has(&self, user: &UserName, now: Instant) -> bool {
        self.users.lock().get(user).is_some_and(|until| *until > now)
    }

    /// The store was told.
    pub(super) fn add(&self, user: UserName, now: Instant) {
        let mut users = self.users.lock();
        if users.len() >= KNOWN {
            users.clear();
        }
        users.insert(user, now + FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_again_after_a_while_and_where_there_are_too_many() {
        let (known, now) = (Known::default(), Instant::now());
        let user = |n: usize| UserName::new(n.to_string()).unwrap();
        assert!(!known.has(&user(0), now));
        known.add(user(0), now);
        assert!(known.has(&user(0), now) && !known.has(&user(1), now));
        assert!(!known.has(&user(0), now + FOR), "it may have been forgotten meanwhile");
        for n in 1..=KNOWN {
            known.add(user(n), now);
        }
        assert!(known.has(&user(KNOWN), now) && !known.has(&user(0), now));
    }
}
