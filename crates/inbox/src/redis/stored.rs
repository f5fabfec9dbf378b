//! How messages stand in Redis, and how entries and changes come from there.
//!
//! A record is what `common.lua` reads, the collapse key, and the message: a version, how many headers there
//! are, each with the lengths of its name and its value, and the body.
//!
//! Invariant: an entry that cannot be read, as of a newer version, is left where it is, logged, and hides
//! nothing else.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use presence::Boot;
use ulid::Ulid;

use super::reply::{Reply, ulid, unreadable};
use crate::{Change, Draft, Entry, Error, State, Status};

const VERSION: u8 = 1;

/// Headers and body of a message.
type Message = (Vec<(ByteString, ByteString)>, Bytes);

/// The message of `draft`, as it is stored.
pub(super) fn message(draft: &Draft) -> Bytes {
    let length: usize =
        draft.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut out = BytesMut::with_capacity(length + draft.body.len() + 5);
    out.put_u8(VERSION);
    out.put_u32(draft.headers.len() as u32);
    for (name, value) in &draft.headers {
        for text in [name, value] {
            out.put_u32(text.len() as u32);
            out.put_slice(text.as_bytes());
        }
    }
    out.put_slice(&draft.body);
    out.freeze()
}

fn read_message(mut stored: Bytes) -> Option<Message> {
    if stored.try_get_u8().ok()? != VERSION {
        return None;
    }
    let count = stored.try_get_u32().ok()? as usize;
    // Each has eight bytes at least.
    let mut headers = Vec::with_capacity(count.min(stored.len() / 8));
    let text = |stored: &mut Bytes| {
        let length = stored.try_get_u32().ok()? as usize;
        let text = (length <= stored.len()).then(|| stored.split_to(length))?;
        ByteString::try_from(text).ok()
    };
    for _ in 0..count {
        headers.push((text(&mut stored)?, text(&mut stored)?));
    }
    Some((headers, stored))
}

/// From whom a record is, and its message.
fn read_record(mut record: Bytes) -> Option<(Boot, Message)> {
    let from = (record.len() > 16).then(|| record.split_to(16))?;
    let mut length = 0;
    for n in 0..3 {
        let end = record.iter().position(|byte| *byte == b' ')?;
        let number = record.split_to(end);
        record.advance(1);
        if n == 2 {
            length = std::str::from_utf8(&number).ok()?.parse().ok()?;
        }
    }
    (length <= record.len()).then(|| record.advance(length))?;
    Some((Boot::new(ulid(&from)?), read_message(record)?))
}

/// The entries of an answer, and which of them nobody held before.
pub(super) fn entries(mut answer: Reply) -> Result<Vec<(Entry, bool)>, Error> {
    let mut entries = Vec::new();
    while !answer.is_empty() {
        let id = answer.ulid()?;
        let (seq, attempts) = (answer.number()?, answer.small()?);
        let (is_fresh, record) = (answer.number()? == 1, answer.bytes()?);
        match read_record(record) {
            Some((from, (headers, body))) => {
                entries.push((Entry { seq, id, from, headers, body, attempts }, is_fresh));
            }
            None => tracing::warn!(%id, seq, "a message in Redis cannot be read"),
        }
    }
    Ok(entries)
}

/// The changes of an answer, which were made at `since`.
pub(super) fn changes(
    mut answer: Reply,
    since: std::time::SystemTime,
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    while !answer.is_empty() {
        let (id, from) = (answer.ulid()?, Boot::new(answer.ulid()?));
        let state = state(&answer.bytes()?).ok_or_else(|| unreadable("a state"))?;
        let attempts = answer.small()?;
        changes.push(Change { id, from, status: Status { state, attempts, since } });
    }
    Ok(changes)
}

/// The state of that letter.
pub(super) fn state(letter: &[u8]) -> Option<State> {
    Some(match letter {
        b"s" => State::Scheduled,
        b"p" => State::Pending,
        b"d" => State::Delivered,
        b"a" => State::Acked,
        b"f" => State::Failed,
        b"e" => State::Expired,
        b"x" => State::Dropped,
        _ => return None,
    })
}

/// An id, as Redis has it.
pub(super) fn id(ulid: Ulid) -> [u8; 16] {
    ulid.to_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(from: Boot, collapse: &str, message: &[u8]) -> Bytes {
        let mut record = id(from.ulid()).to_vec();
        record.extend(format!("1732712345678 300 {} {collapse}", collapse.len()).as_bytes());
        record.extend(message);
        record.into()
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            headers in prop::collection::vec(("\\PC{0,8}", "\\PC{0,8}"), 0..4),
            collapse in "[ 0-9a-z]{0,8}",
            body in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let from = Boot::generate();
            let mut draft = Draft::new(from, body);
            draft.headers =
                headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let stored = record(from, &collapse, &message(&draft));
            prop_assert_eq!(read_record(stored), Some((from, (draft.headers, draft.body))));
        }

        #[test]
        fn no_bytes_are_a_reason_to_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            more in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = read_record(bytes.clone().into());
            let _ = read_record(record(Boot::generate(), "", &more));
            let _ = read_message(bytes.into());
        }
    }
}
