//! Reads what scripts answer, one value after the other.
//!
//! Invariant: what cannot be read is an error, and never a panic.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use redis::Value;
use ulid::Ulid;

use crate::Error;

/// Values of an answer that are yet to be read.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(super) fn of(answer: Value) -> Result<Self, Error> {
        match answer {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(unreadable("an array")),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        let number = match self.0.next() {
            Some(Value::Int(number)) => u64::try_from(number).ok(),
            Some(Value::BulkString(text)) => {
                std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())
            }
            _ => None,
        };
        number.ok_or_else(|| unreadable("a number"))
    }

    pub(super) fn small(&mut self) -> Result<u32, Error> {
        Ok(u32::try_from(self.number()?).unwrap_or(u32::MAX))
    }

    /// A time that is given in ms.
    pub(super) fn time(&mut self) -> Result<SystemTime, Error> {
        time(self.number()?).ok_or_else(|| unreadable("a time"))
    }

    /// A time in ms, or 0 for none.
    pub(super) fn time_or_none(&mut self) -> Result<Option<SystemTime>, Error> {
        Ok(Some(self.number()?).filter(|millis| *millis > 0).and_then(time))
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Error> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes.into()),
            Some(Value::SimpleString(text)) => Ok(text.into()),
            _ => Err(unreadable("a text")),
        }
    }

    pub(super) fn ulid(&mut self) -> Result<Ulid, Error> {
        ulid(&self.bytes()?).ok_or_else(|| unreadable("an id"))
    }

    pub(super) fn list(&mut self) -> Result<Self, Error> {
        Self::of(self.0.next().unwrap_or(Value::Nil))
    }
}

/// An id, as Redis has it.
pub(super) fn ulid(bytes: &[u8]) -> Option<Ulid> {
    Some(Ulid::from_bytes(bytes.try_into().ok()?))
}

pub(super) fn unreadable(wanted: &str) -> Error {
    Error::Unknown(format!("Redis answered something that is not {wanted}"))
}

/// The time of that many ms.
pub(super) fn time(millis: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// A time in ms; what is before 1970 is 0, and what a number of Redis cannot hold is the most it can.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    length(since)
}

/// A duration in ms, so much at most that adding it to a time is exact.
pub(super) fn length(duration: Duration) -> u64 {
    const MOST: u64 = 1 << 48;
    u64::try_from(duration.as_millis()).unwrap_or(MOST).min(MOST)
}
