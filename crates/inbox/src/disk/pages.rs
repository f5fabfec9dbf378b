//! What is asked of inboxes without changing them.

use bytestring::ByteString;
use presence::{Cursor, MAX_PAGE, Page, PageRequest, UserName};
use redb::{Error, ReadTransaction};
use ulid::Ulid;

use super::record::{Head, Mark, Record, Where, read};
use super::tables::{HEADS, MARKS, RECORDS, SCHEDULED, USERS, WHERES, text, user_key};
use super::{now, time};
use crate::{Count, Listed, Position, State, Status, Taken};

pub(super) fn status(
    transaction: &ReadTransaction,
    of: &[u8],
    ids: &[Ulid],
) -> Result<Vec<Option<Status>>, Error> {
    let wheres = transaction.open_table(WHERES)?;
    let marks = transaction.open_table(MARKS)?;
    let now = now();
    let one = |id: &Ulid| -> Result<Option<Status>, Error> {
        let Some(place) = wheres.get((of, u128::from(*id)))? else { return Ok(None) };
        let place: Where = read(place.value());
        if let Some(ended) = place.end() {
            return Ok(Some(ended));
        }
        if place.deliver > 0 && place.seq == 0 {
            let since = time(place.since);
            return Ok(Some(Status { state: State::Scheduled, attempts: 0, since }));
        }
        let mark = marks.get((of, place.seq))?.map(|mark| read::<Mark>(mark.value()));
        Ok(mark.map(|mark| status_of(&mark, now)))
    };
    ids.iter().map(one).collect()
}

fn status_of(mark: &Mark, now: u64) -> Status {
    Status { state: mark.state(now), attempts: mark.attempts, since: time(mark.since) }
}

/// What is taken by who has had everything; none where there is something to take.
pub(super) fn nothing(
    transaction: &ReadTransaction,
    of: &[u8],
    after: Option<Position>,
) -> Result<Option<Taken>, Error> {
    let heads = transaction.open_table(HEADS)?;
    let head = heads.get(of)?.map(|head| read::<Head>(head.value())).unwrap_or_default();
    let before = match after {
        Some(Position::END) => u64::MAX,
        Some(after) if after.epoch == head.epoch => after.seq,
        Some(_) | None => 0,
    };
    let marks = transaction.open_table(MARKS)?;
    let now = now();
    for row in marks.range((of, 0)..=(of, u64::MAX))? {
        let (key, mark) = row?;
        if key.value().1 > before || read::<Mark>(mark.value()).is_free(now) {
            return Ok(None);
        }
    }
    let upto = match after {
        Some(Position::END) => Position::END,
        _ => Position { epoch: head.epoch, seq: head.last.max(before) },
    };
    Ok(Some(Taken {
        entries: Vec::new(),
        epoch: head.epoch,
        upto,
        more: false,
        changes: Vec::new(),
        failed: Vec::new(),
    }))
}

pub(super) fn list(
    transaction: &ReadTransaction,
    of: &[u8],
    page: &PageRequest,
) -> Result<Page<Listed>, Error> {
    let marks = transaction.open_table(MARKS)?;
    let records = transaction.open_table(RECORDS)?;
    let scheduled = transaction.open_table(SCHEDULED)?;
    let (limit, now) = (page.limit.clamp(1, MAX_PAGE), now());
    // `<seq>`, or `s<due>.<id>` among those that are scheduled.
    let after = page.after.as_ref().map(Cursor::as_str).unwrap_or("0");
    let mut items = Vec::new();
    let mut due = (0, 0);
    if let Some(after) = after.strip_prefix('s') {
        let (when, id) = after.split_once('.').unwrap_or((after, "0"));
        due = (when.parse().unwrap_or(0), id.parse::<u128>().map_or(0, |id| id.saturating_add(1)));
    } else {
        let after: u64 = after.parse().unwrap_or(0);
        for row in marks.range((of, after.saturating_add(1))..=(of, u64::MAX))? {
            let (key, mark) = row?;
            let (seq, mark) = (key.value().1, read::<Mark>(mark.value()));
            if items.len() == limit {
                let last: Option<u64> = items.last().and_then(|listed: &Listed| listed.seq);
                let next = last.map(|last| Cursor::new(last.to_string()));
                return Ok(Page { items, next });
            }
            let Some(record) = records.get((of, seq))? else { continue };
            let record: Record = read(record.value());
            items.push(listed(&record, Some(seq), status_of(&mark, now)));
        }
    }
    let mut last = None;
    for row in scheduled.range((of, due.0, due.1)..=(of, u64::MAX, u128::MAX))? {
        let (key, record) = row?;
        let (_, deliver, id) = key.value();
        if items.len() == limit {
            let next = last.map_or_else(|| "s0".to_owned(), |(due, id)| format!("s{due}.{id}"));
            return Ok(Page { items, next: Some(Cursor::new(next)) });
        }
        let record: Record = read(record.value());
        let since = time(record.appended);
        let status = Status { state: State::Scheduled, attempts: 0, since };
        items.push(listed(&record, None, status));
        last = Some((deliver, id));
    }
    Ok(Page { items, next: None })
}

fn listed(record: &Record, seq: Option<u64>, status: Status) -> Listed {
    Listed {
        id: record.id(),
        seq,
        appended: time(record.appended),
        deliver_at: (record.deliver > 0).then(|| time(record.deliver)),
        expires_at: time(record.expires),
        cost: record.cost,
        preview: record.preview(),
        status,
    }
}

pub(super) fn epoch(transaction: &ReadTransaction, of: &[u8]) -> Result<u64, Error> {
    let heads = transaction.open_table(HEADS)?;
    Ok(heads.get(of)?.map_or(0, |head| read::<Head>(head.value()).epoch))
}

pub(super) fn count(transaction: &ReadTransaction, of: &[u8]) -> Result<Count, Error> {
    let heads = transaction.open_table(HEADS)?;
    let Some(head) = heads.get(of)?.map(|head| read::<Head>(head.value())) else {
        return Ok(Count::default());
    };
    let marks = transaction.open_table(MARKS)?;
    let records = transaction.open_table(RECORDS)?;
    let now = now();
    let mut count = Count { bytes: head.bytes, ..Count::default() };
    for row in marks.range((of, 0)..=(of, u64::MAX))? {
        let (key, mark) = row?;
        match read::<Mark>(mark.value()).state(now) {
            State::Delivered => count.delivered += 1,
            State::Failed => count.failed += 1,
            _ => count.pending += 1,
        }
        if count.oldest.is_none() {
            let record = records.get(key.value())?.map(|record| read::<Record>(record.value()));
            count.oldest = record.map(|record| time(record.appended));
        }
    }
    let scheduled = transaction.open_table(SCHEDULED)?;
    for row in scheduled.range((of, 0, 0)..=(of, u64::MAX, u128::MAX))? {
        let appended = time(read::<Record>(row?.1.value()).appended);
        count.scheduled += 1;
        count.oldest = Some(count.oldest.map_or(appended, |oldest| oldest.min(appended)));
    }
    Ok(count)
}

pub(super) fn paths(
    transaction: &ReadTransaction,
    user: &UserName,
) -> Result<Vec<ByteString>, Error> {
    let heads = transaction.open_table(HEADS)?;
    let prefix = user_key(user);
    let mut paths = Vec::new();
    for row in heads.range(&*prefix..)? {
        let (key, head) = row?;
        let Some(path) = key.value().strip_prefix(&*prefix) else { break };
        if read::<Head>(head.value()).messages > 0 {
            paths.push(text(path));
        }
    }
    Ok(paths)
}

pub(super) fn known(
    transaction: &ReadTransaction,
    page: &PageRequest,
) -> Result<Page<UserName>, Error> {
    let users = transaction.open_table(USERS)?;
    let limit = page.limit.clamp(1, MAX_PAGE);
    let after = page.after.as_ref().map_or("", Cursor::as_str);
    let mut items: Vec<UserName> = Vec::new();
    for row in users.range(after..)? {
        let name = row?.0.value().to_owned();
        if name == after {
            continue;
        }
        if items.len() == limit {
            let next = items.last().map(|last| Cursor::new(last.as_str()));
            return Ok(Page { items, next });
        }
        items.extend(UserName::new(name));
    }
    Ok(Page { items, next: None })
}
