//! Long lists, a page at a time: what is in an inbox, and who is known.

use presence::{Cursor, MAX_PAGE, Page, PageRequest, UserName};
use redis::Value;

use super::RedisInbox;
use super::keys::SHARDS;
use super::reply::{Reply, millis, unreadable};
use super::script::Lua;
use super::stored::state;
use crate::{Address, Error, Listed, PREVIEW, Status};

/// Where a page of an inbox begins.
struct Place {
    /// Behind that number of the line, or behind all of it.
    line: String,
    /// Of what is scheduled: from that time on, and of that time behind that id.
    scheduled: (String, Vec<u8>),
}

impl Place {
    fn of(page: &PageRequest) -> Self {
        let beginning = || ("-inf".to_owned(), Vec::new());
        let text = page.after.as_ref().map_or("", Cursor::as_str);
        // A cursor that we did not make begins anew.
        let scheduled = text.split_once(':').and_then(|(time, id)| {
            let id: ulid::Ulid = id.parse().ok()?;
            Some((time.parse::<u64>().ok()?.to_string(), id.to_bytes().to_vec()))
        });
        match scheduled {
            Some(scheduled) => Self { line: String::new(), scheduled },
            None => Self {
                line: text.parse::<u64>().unwrap_or_default().to_string(),
                scheduled: beginning(),
            },
        }
    }

    fn behind(last: &Listed) -> Cursor {
        match (last.seq, last.deliver_at) {
            (None, Some(due)) => Cursor::new(format!("{}:{}", millis(due), last.id)),
            (seq, _) => Cursor::new(seq.unwrap_or_default().to_string()),
        }
    }
}

pub(super) async fn list(
    store: &RedisInbox,
    of: &Address,
    page: &PageRequest,
) -> Result<Page<Listed>, Error> {
    let limit = page.limit.clamp(1, MAX_PAGE);
    let place = Place::of(page);
    let mut ask = store.call(Lua::List, of);
    ask.arg(place.line).arg(place.scheduled.0).arg(place.scheduled.1).arg(limit).arg(PREVIEW);
    let answer: Value = store.link.ask_one(ask).await?;
    let mut answer = Reply::of(answer)?;
    let mut items = Vec::new();
    while !answer.is_empty() {
        items.push(listed(&mut answer)?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more).map(Place::behind);
    Ok(Page { items, next })
}

fn listed(answer: &mut Reply) -> Result<Listed, Error> {
    let (id, seq) = (answer.ulid()?, answer.number()?);
    let (appended, deliver_at) = (answer.time()?, answer.time_or_none()?);
    let (expires_at, cost) = (answer.time()?, answer.number()?);
    let state = state(&answer.bytes()?).ok_or_else(|| unreadable("a state"))?;
    let (attempts, since, preview) = (answer.small()?, answer.time()?, answer.bytes()?);
    Ok(Listed {
        id,
        seq: Some(seq).filter(|seq| *seq > 0),
        appended,
        deliver_at,
        expires_at,
        cost,
        preview,
        status: Status { state, attempts, since },
    })
}

/// The cursor of users is `<shard>.<name>`, the last one of the page.
pub(super) async fn known(store: &RedisInbox, page: &PageRequest) -> Result<Page<UserName>, Error> {
    let limit = page.limit.clamp(1, MAX_PAGE);
    let text = page.after.as_ref().map_or("", Cursor::as_str);
    let (first, mut after) = match text.split_once('.') {
        Some((shard, name)) => (shard.parse().unwrap_or(0), Some(name.to_owned())),
        None => (0, None),
    };
    let mut names: Vec<(usize, String)> = Vec::new();
    for shard in first..SHARDS {
        let mut ask = redis::cmd("ZRANGEBYLEX");
        let from = after.take().map_or("-".to_owned(), |name| format!("({name}"));
        ask.arg(store.keys.known(shard)).arg(from).arg("+");
        ask.arg("LIMIT").arg(0).arg(limit + 1 - names.len());
        let some: Vec<String> = store.link.ask_one(ask).await?;
        names.extend(some.into_iter().map(|name| (shard, name)));
        if names.len() > limit {
            break;
        }
    }
    let has_more = names.len() > limit;
    names.truncate(limit);
    let last = names.last().filter(|_| has_more);
    let next = last.map(|(shard, name)| Cursor::new(format!("{shard}.{name}")));
    let items = names.into_iter().filter_map(|(_, name)| UserName::new(name).ok()).collect();
    Ok(Page { items, next })
}
