//! How sessions stand in Redis.
//!
//! Invariant: what cannot be read, as of a newer version or a stranger, is skipped and logged, and hides
//! nothing else.

use crate::{Session, SessionId, UserName};

/// The sessions of `user`, of the answer of `sessions.lua`.
pub(super) fn sessions(user: &UserName, stored: Vec<(String, String)>) -> Vec<Session> {
    let read = |(id, value): (String, String)| {
        let session = session(user, &id, &value);
        if session.is_none() {
            tracing::warn!(session = id, "a session in Redis cannot be read");
        }
        session
    };
    stored.into_iter().filter_map(read).collect()
}

/// Leaves out what was not written for `stale` ms at `now`; whether there was any. What has no time counts
/// as that.
pub(super) fn leave_out_remnants(stored: &mut Vec<(String, String)>, now: u64, stale: u64) -> bool {
    let before = stored.len();
    let stamp = |value: &str| value.split(' ').nth(1)?.parse::<u64>().ok();
    stored.retain(|(_, value)| stamp(value).is_some_and(|stamp| stamp.saturating_add(stale) > now));
    stored.len() < before
}

/// `<term> <stamp> <boot> <json>`.
fn session(user: &UserName, id: &str, value: &str) -> Option<Session> {
    let mut parts = value.splitn(4, ' ').skip(2);
    let (boot, json) = (parts.next()?.parse().ok()?, parts.next()?);
    let id = SessionId::new(id.to_owned()).ok()?;
    Session::from_json(id, user.clone(), boot, json).ok()
}

/// What stands in the index of a node for a session: `<term> <user>`.
pub(super) fn index(term: u64, user: &UserName) -> String {
    format!("{term} {user}")
}

/// The term and the user of what [`index`] made.
pub(super) fn indexed(value: &str) -> Option<(u64, UserName)> {
    let (term, user) = value.split_once(' ')?;
    Some((term.parse().ok()?, UserName::new(user.to_owned()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Boot;

    #[test]
    fn what_cannot_be_read_hides_nothing() {
        let (boot, user) = (Boot::generate(), UserName::new("a b").unwrap());
        let session = Session::new(SessionId::generate(boot), user.clone(), boot);
        let value = format!("3 1700000000000 {boot} {}", session.to_json());
        let stored = vec![
            ("no id".to_owned(), value.clone()),
            (SessionId::generate(boot).to_string(), "3 x".to_owned()),
            (session.id.to_string(), value),
        ];
        assert_eq!(sessions(&user, stored), [session]);
    }

    #[test]
    fn what_was_not_written_for_long_is_left_out() {
        let of = |stamps: &[&str]| -> Vec<(String, String)> {
            let value = |stamp: &&str| ((*stamp).to_owned(), format!("3 {stamp} boot {{}}"));
            stamps.iter().map(value).collect()
        };
        let mut fresh = of(&["901", "2000"]);
        assert!(!leave_out_remnants(&mut fresh, 1_000, 100));
        assert_eq!(fresh, of(&["901", "2000"]));
        let mut some = of(&["900", "901", "x"]);
        some.push(("none".to_owned(), String::new()));
        assert!(leave_out_remnants(&mut some, 1_000, 100));
        assert_eq!(some, of(&["901"]));
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let user = UserName::new("a b 1").unwrap();
        assert_eq!(indexed(&index(7, &user)), Some((7, user)));
        assert_eq!(indexed("7"), None);
        assert_eq!(indexed("x y"), None);
    }
}
