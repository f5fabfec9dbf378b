//! How far a consumer of a stream has come: where it begins on the next connection.
//!
//! Invariants
//! - What was delivered does not come again: the next connection begins behind it.
//! - A consumer that begins at the stream's end and has got nothing yet begins, on the next connection,
//!   at the second when it first did, by this node's clock: what came while there was no connection is
//!   not missed. It may be given what came in the second before.

use std::time::SystemTime;

use broker::{Argument, Arguments};
use lapin::BasicProperties;
use lapin::types::AMQPValue;

use crate::arguments::STREAM_OFFSET;

/// The position of one consumer.
#[derive(Debug, Default)]
pub(crate) struct StreamPosition {
    /// The offset of the last delivery that had one.
    last: Option<i64>,
    /// When it was first consumed, in seconds since 1970.
    since: Option<u64>,
}

/// The offset of a delivery, if it came from a stream.
pub(crate) fn offset(properties: &BasicProperties) -> Option<i64> {
    match properties.headers().as_ref()?.inner().get(STREAM_OFFSET)? {
        AMQPValue::LongLongInt(offset) => Some(*offset),
        AMQPValue::LongInt(offset) => Some((*offset).into()),
        _ => None,
    }
}

impl StreamPosition {
    /// The consumer is there.
    pub(crate) fn began(&mut self) {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        self.since = self.since.or_else(|| Some(now()?.as_secs()));
    }

    /// What stood at `offset` was handed over.
    pub(crate) fn passed(&mut self, offset: Option<i64>) {
        self.last = offset.or(self.last);
    }

    /// The arguments to go on with, of a consumer that asked for `arguments`.
    pub(crate) fn go_on(&self, arguments: &Arguments, is_stream: bool) -> Arguments {
        let mut arguments = arguments.clone();
        let asked = arguments.iter().position(|(name, _)| **name == *STREAM_OFFSET);
        let from = match (self.last, self.since, asked.map(|at| &arguments[at].1)) {
            (Some(last), ..) => Argument::Integer(last.saturating_add(1)),
            (None, Some(since), None) if is_stream => Argument::Time(since),
            (None, Some(since), Some(Argument::Text(text))) if **text == *"next" => {
                Argument::Time(since)
            }
            _ => return arguments,
        };
        match asked {
            Some(at) => arguments[at].1 = from,
            None => arguments.push((STREAM_OFFSET.into(), from)),
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;

    fn asked(offset: Argument) -> Arguments {
        vec![("x-priority".into(), Argument::Integer(1)), (STREAM_OFFSET.into(), offset)]
    }

    fn text(text: &str) -> Argument {
        Argument::Text(text.into())
    }

    #[test]
    fn it_goes_on_behind_what_came() {
        let mut position = StreamPosition::default();
        let first = asked(text("first"));
        assert_eq!(position.go_on(&first, true), first);
        position.began();
        assert_eq!(position.go_on(&first, true), first, "all of it is still to come");
        position.passed(Some(41));
        position.passed(None);
        assert_eq!(position.go_on(&first, true), asked(Argument::Integer(42)));
        let none = position.go_on(&Arguments::new(), true);
        assert_eq!(none, [(STREAM_OFFSET.into(), Argument::Integer(42))]);
    }

    #[test]
    fn it_waits_for_what_is_next_since_it_first_did() {
        let mut position = StreamPosition::default();
        let next = asked(text("next"));
        assert_eq!(position.go_on(&next, true), next);
        position.began();
        let since = position.since.unwrap();
        assert_eq!(position.go_on(&next, true), asked(Argument::Time(since)));
        let none = Arguments::new();
        assert_eq!(position.go_on(&none, true), [(STREAM_OFFSET.into(), Argument::Time(since))]);
        assert_eq!(position.go_on(&none, false), none);
    }

    #[test]
    fn an_offset_is_a_number() {
        let with = |value| {
            let mut table = FieldTable::default();
            table.insert(STREAM_OFFSET.into(), value);
            offset(&BasicProperties::default().with_headers(table))
        };
        assert_eq!(with(AMQPValue::LongLongInt(7)), Some(7));
        assert_eq!(with(AMQPValue::LongString("7".into())), None);
        assert_eq!(offset(&BasicProperties::default()), None);
    }
}
