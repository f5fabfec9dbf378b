//! Names of users, sessions and groups in requests, and what may be said together with them.
//!
//! Invariant: what passes can be a user, a session or a group; whether it is one is not asked here.

use broker::MessageId;
use bytestring::ByteString;
use presence::{GroupName, Member, PageRequest, SessionId, UserName};
use std::time::Duration;

use crate::message;
use crate::refusal::Refusal;

/// The most targets of one call.
pub(crate) const MAX_TARGETS: usize = 1_000;

/// How many are on a page if nobody says.
const PAGE: usize = 100;

/// The longest time that may be said: ten years.
const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// A user's name.
pub(crate) fn user(field: impl Into<String>, name: &str) -> Result<UserName, Refusal> {
    let field = field.into();
    message::printable(&*field, name)?;
    UserName::new(name).map_err(|why| Refusal::invalid(field, format!("is no user: {why}")))
}

/// A session's id.
pub(crate) fn session(field: impl Into<String>, id: &str) -> Result<SessionId, Refusal> {
    SessionId::new(id).map_err(|why| Refusal::invalid(field, format!("is no session: {why}")))
}

/// A group's name.
pub(crate) fn group(field: impl Into<String>, name: &str) -> Result<GroupName, Refusal> {
    let field = field.into();
    message::printable(&*field, name)?;
    let problem = |why: &dyn std::fmt::Display| format!("is no group: {why}");
    let group = GroupName::new(name).map_err(|why| Refusal::invalid(&*field, problem(&why)))?;
    cluster::group(&group).map_err(|why| Refusal::invalid(&*field, problem(&why)))?;
    Ok(group)
}

/// A message's id.
pub(crate) fn message(field: impl Into<String>, id: &str) -> Result<MessageId, Refusal> {
    id.parse().map_err(|why| Refusal::invalid(field, format!("is {why}")))
}

/// Ids of messages, at least one.
pub(crate) fn messages(field: &str, ids: &[String]) -> Result<Vec<MessageId>, Refusal> {
    some(field, ids.len())?;
    all(field, ids, message)
}

/// Users' names, at least one.
pub(crate) fn users(field: &str, names: &[String]) -> Result<Vec<UserName>, Refusal> {
    some(field, names.len())?;
    all(field, names, user)
}

/// Sessions' ids, at least one.
pub(crate) fn sessions(field: &str, ids: &[String]) -> Result<Vec<SessionId>, Refusal> {
    some(field, ids.len())?;
    all(field, ids, session)
}

/// Groups' names, at least one.
pub(crate) fn groups(field: &str, names: &[String]) -> Result<Vec<GroupName>, Refusal> {
    some(field, names.len())?;
    all(field, names, group)
}

/// Users' names, maybe none.
pub(crate) fn any_users(field: &str, names: &[String]) -> Result<Vec<UserName>, Refusal> {
    not_too_many(field, names.len())?;
    all(field, names, user)
}

/// Sessions' ids, maybe none.
pub(crate) fn any_sessions(field: &str, ids: &[String]) -> Result<Vec<SessionId>, Refusal> {
    not_too_many(field, ids.len())?;
    all(field, ids, session)
}

/// Users and sessions as members, at least one together.
pub(crate) fn members(users: &[String], sessions: &[String]) -> Result<Vec<Member>, Refusal> {
    let count = users.len() + sessions.len();
    some(if users.is_empty() { "sessions" } else { "users" }, count)?;
    let users = all("users", users, user)?.into_iter().map(Member::User);
    Ok(users.chain(all("sessions", sessions, session)?.into_iter().map(Member::Session)).collect())
}

/// The page that is asked for.
pub(crate) fn page(size: u32, token: String) -> Result<PageRequest, Refusal> {
    let size = match size as usize {
        0 => PAGE,
        size if size > presence::MAX_PAGE => {
            let problem = format!("is {size} and may be {}", presence::MAX_PAGE);
            return Err(Refusal::invalid("page_size", problem));
        }
        size => size,
    };
    Ok(match token.is_empty() {
        true => PageRequest::first(size),
        false => PageRequest::after(presence::Cursor::new(token), size),
    })
}

/// A time of a request, more than 0; none if it was not set.
pub(crate) fn time(
    field: &str,
    time: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Refusal> {
    let Some(time) = time else { return Ok(None) };
    match Duration::try_from(time) {
        Ok(time) if !time.is_zero() && time <= LONGEST => Ok(Some(time)),
        _ => Err(Refusal::invalid(field, "must be more than 0 and at most 3650 days")),
    }
}

/// An audience: what its sessions have.
pub(crate) fn audience(
    audience: Option<proto::v1::Audience>,
) -> Result<Vec<(ByteString, ByteString)>, Refusal> {
    const FIELD: &str = "audience.attributes";
    /// The most attributes.
    const MOST: usize = 16;
    let Some(audience) = audience else { return Ok(Vec::new()) };
    if audience.attributes.is_empty() {
        // It means everybody, which is too dangerous a thing to be said by leaving something out.
        let problem = "is empty: name an attribute, or leave the audience out to mean all";
        return Err(Refusal::invalid(FIELD, problem));
    }
    if audience.attributes.len() > MOST {
        let problem = format!("has {} entries and may have {MOST}", audience.attributes.len());
        return Err(Refusal::invalid(FIELD, problem));
    }
    let mut attributes = Vec::with_capacity(audience.attributes.len());
    for (name, value) in audience.attributes {
        let field = || format!("{FIELD}[\"{}\"]", name.escape_debug().take(40).collect::<String>());
        message::short(field(), &name)?;
        message::short(field(), &value)?;
        attributes.push((name.into(), value.into()));
    }
    Ok(attributes)
}

fn some(field: &str, count: usize) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::invalid(field, "is empty: name at least one")),
        _ => not_too_many(field, count),
    }
}

fn not_too_many(field: &str, count: usize) -> Result<(), Refusal> {
    if count > MAX_TARGETS {
        let problem = format!("has {count} entries and may have {MAX_TARGETS}: make several calls");
        return Err(Refusal::invalid(field, problem));
    }
    Ok(())
}

fn all<T>(
    field: &str,
    texts: &[String],
    one: impl Fn(String, &str) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let one = |(n, text): (usize, &String)| one(format!("{field}[{n}]"), text);
    texts.iter().enumerate().map(one).collect()
}
