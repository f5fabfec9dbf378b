//! What a request asks to store for users, checked.
//!
//! Invariant: what is in here names no time that makes no sense and no inbox that cannot be; only the store can
//! refuse it yet.
//!
//! Not here: reading the rest of requests (`sends`, `publishes`), storing (`keeper`).

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use bytestring::ByteString;
use cluster::Content;
use humantime_serde::re::humantime::format_duration;
use inbox::{Draft, MAX_PATH};
use presence::{Boot, GroupName, UserName};
use proto::v1::Durable;

use crate::message;
use crate::refusal::Refusal;

/// How far away the time may be at which something is delivered.
const FARTHEST: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// How long ago it may have been: a call that is repeated asks for what was right before.
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Something to store.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    pub(crate) to: Kept,
    /// The destination within users; of the broker's for what is published later.
    pub(crate) path: ByteString,
    pub(crate) draft: Draft,
}

/// In whose inboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In those of users.
    Users(Vec<UserName>),
    /// In those of the users who are members of groups.
    Members(Vec<GroupName>),
    /// In those of all users who are known.
    All,
    /// In nobody's: it is published when it is due.
    Later,
}

/// How something is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Terms {
    pub(crate) key: Option<ByteString>,
    pub(crate) collapse: Option<ByteString>,
    pub(crate) deliver_at: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
}

impl Keep {
    pub(crate) fn new(
        to: Kept,
        path: ByteString,
        content: Content,
        terms: Terms,
        from: Boot,
    ) -> Self {
        let Content { id, headers, body } = content;
        let Terms { key, collapse, deliver_at, expires_at } = terms;
        let id = id.ulid();
        let draft = Draft { id, from, headers, body, key, collapse, deliver_at, expires_at };
        Self { to, path, draft }
    }

    /// About how many bytes it takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.draft.cost()).unwrap_or(usize::MAX)
    }

    /// Whether it may be for an inbox that `other` is for.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        if self.path != other.path {
            return false;
        }
        match (&self.to, &other.to) {
            (Kept::Users(some), Kept::Users(others)) if some.len() + others.len() <= 32 => {
                some.iter().any(|user| others.contains(user))
            }
            (Kept::Users(some), Kept::Users(others)) => {
                let others: HashSet<_> = others.iter().collect();
                some.iter().any(|user| others.contains(user))
            }
            (Kept::Later, to) | (to, Kept::Later) => *to == Kept::Later,
            _ => true,
        }
    }
}

impl Terms {
    /// What `durable` says at `now`, where messages may wait as long as `ttl`.
    pub(crate) fn read(durable: Durable, ttl: Duration, now: SystemTime) -> Result<Self, Refusal> {
        let Durable { idempotency_key, ttl: lifetime, deliver_at, collapse_key } = durable;
        let deliver_at = time("durable.deliver_at", deliver_at, now)?;
        let due = deliver_at.map_or(now, |due| due.max(now));
        let expires_at = match lifetime {
            None => None,
            Some(lifetime) => Some(end(lifetime, now, due, ttl)?),
        };
        Ok(Self {
            key: word("durable.idempotency_key", idempotency_key)?,
            collapse: word("durable.collapse_key", collapse_key)?,
            deliver_at,
            expires_at,
        })
    }
}

/// When a message expires that lives for `lifetime` from `now` on, and may wait for `ttl` once it is due.
fn end(
    lifetime: prost_types::Duration,
    now: SystemTime,
    due: SystemTime,
    ttl: Duration,
) -> Result<SystemTime, Refusal> {
    const FIELD: &str = "durable.ttl";
    let lifetime = Duration::try_from(lifetime)
        .ok()
        .filter(|lifetime| !lifetime.is_zero())
        .ok_or_else(|| Refusal::invalid(FIELD, "must be more than 0"))?;
    let until_due = due.duration_since(now).unwrap_or_default();
    if lifetime <= until_due {
        let problem = "is over before durable.deliver_at: it would expire undelivered";
        return Err(Refusal::invalid(FIELD, problem));
    }
    if lifetime - until_due > ttl {
        let problem = format!(
            "is too long: a message waits for {} at most once it is due (inbox.ttl)",
            format_duration(ttl)
        );
        return Err(Refusal::invalid(FIELD, problem));
    }
    now.checked_add(lifetime).ok_or_else(|| Refusal::invalid(FIELD, "is too long"))
}

/// The time at which something is delivered.
pub(crate) fn time(
    field: &str,
    at: Option<prost_types::Timestamp>,
    now: SystemTime,
) -> Result<Option<SystemTime>, Refusal> {
    let Some(at) = at else { return Ok(None) };
    let at = SystemTime::try_from(at).map_err(|_| Refusal::invalid(field, "is no time"))?;
    if now.duration_since(at).is_ok_and(|ago| ago > LATEST) {
        let problem = "is more than a day past: leave it out to deliver at once";
        return Err(Refusal::invalid(field, problem));
    }
    if at.duration_since(now).is_ok_and(|until| until > FARTHEST) {
        return Err(Refusal::invalid(field, "is more than 3650 days away"));
    }
    Ok(Some(at))
}

/// A key; none if it is empty.
pub(crate) fn word(field: &str, key: String) -> Result<Option<ByteString>, Refusal> {
    message::printable(field, &key)?;
    message::short(field, &key)?;
    Ok((!key.is_empty()).then(|| key.into()))
}

/// Refuses a destination that is too long for an inbox.
pub(crate) fn fits(path: &str) -> Result<(), Refusal> {
    if path.len() > MAX_PATH {
        let length = path.len();
        let problem = format!(
            "is too long: it has {length} bytes and may have {MAX_PATH} where messages are stored"
        );
        return Err(Refusal::invalid("destination", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn at(now: SystemTime, seconds: i64) -> Option<prost_types::Timestamp> {
        let mut at = prost_types::Timestamp::from(now);
        at.seconds += seconds;
        Some(at)
    }

    fn ttl(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn times_that_make_sense_are_taken() {
        let now = SystemTime::now();
        for (deliver_at, ttl, expires_in) in [
            (None, None, None),
            (None, ttl(60), Some(60)),
            (None, ttl(7 * 24 * 3600), Some(7 * 24 * 3600)),
            (at(now, 3600), ttl(3601), Some(3601)),
            // A day away, and a week from then on.
            (at(now, 86_400), ttl(8 * 86_400), Some(8 * 86_400)),
            (at(now, -3600), ttl(60), Some(60)),
            (at(now, 3650 * 86_400), None, None),
        ] {
            let durable = Durable { deliver_at, ttl, ..Durable::default() };
            let terms = Terms::read(durable, WEEK, now).unwrap();
            assert_eq!(terms.expires_at, expires_in.map(|s| now + Duration::from_secs(s)));
            assert_eq!(terms.deliver_at.is_some(), deliver_at.is_some());
        }
    }

    #[test]
    fn times_that_make_none_are_refused_by_their_field() {
        let now = SystemTime::now();
        for (deliver_at, ttl, expected) in [
            (None, ttl(0), "durable.ttl must be more than 0"),
            (None, ttl(-5), "durable.ttl must be more than 0"),
            (None, ttl(7 * 24 * 3600 + 1), "waits for 7days at most"),
            (None, ttl(i64::MAX), "durable.ttl"),
            (at(now, 60), ttl(60), "durable.ttl is over before durable.deliver_at"),
            (at(now, 60), ttl(60 + 7 * 24 * 3600 + 1), "durable.ttl is too long"),
            (at(now, -86_402), None, "durable.deliver_at is more than a day past"),
            (at(now, 3650 * 86_400 + 2), None, "durable.deliver_at is more than 3650 days away"),
            (
                Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
                None,
                "durable.deliver_at is",
            ),
        ] {
            let durable = Durable { deliver_at, ttl, ..Durable::default() };
            let refused = Terms::read(durable, WEEK, now).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn keys_are_short_and_printable() {
        let read = |key: &str| {
            let durable = Durable { idempotency_key: key.to_owned(), ..Durable::default() };
            Terms::read(durable, WEEK, SystemTime::now())
        };
        assert_eq!(read("").unwrap().key, None);
        assert_eq!(read(&"x".repeat(255)).unwrap().key.map(|key| key.len()), Some(255));
        for wrong in ["x".repeat(256), "a\nb".to_owned()] {
            let refused = read(&wrong).unwrap_err().to_string();
            assert!(refused.starts_with("durable.idempotency_key"), "{refused}");
        }
    }
}
