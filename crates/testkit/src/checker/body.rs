//! What stands in a message's body: which message it is, and enough more to fill it.
//!
//! `check <run> <sender> <t|q><destination> <number> <length> ....`

use super::{Destination, Kind, MessageId, SessionId};

/// What a body turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A message of this run.
    Message(MessageId),
    /// A message of another run.
    Stray,
    /// Nothing that the checker wrote, or not all of it.
    Unreadable,
}

/// Writes the body of a message; longer than `length` only if that is too short to say what it is.
pub(crate) fn write(run: u64, message: MessageId, length: usize) -> String {
    let MessageId { sender, destination, number } = message;
    let kind = match destination.kind {
        Kind::Topic => 't',
        Kind::Queue => 'q',
    };
    let start = format!("check {run:016x} {} {kind}{} {number} ", sender.0, destination.number);
    // The length that the number itself makes is of at most 20 digits.
    let length = length.max(start.len() + 21);
    let mut body = format!("{start}{length} ");
    body.extend(std::iter::repeat_n('.', length - body.len()));
    body
}

/// Reads what [`write`] has written.
pub(crate) fn read(run: u64, body: &[u8]) -> Body {
    match parse(body) {
        Some((from, message)) if from == run => Body::Message(message),
        Some(_) => Body::Stray,
        None => Body::Unreadable,
    }
}

fn parse(body: &[u8]) -> Option<(u64, MessageId)> {
    let text = std::str::from_utf8(body).ok()?;
    let mut words = text.strip_prefix("check ")?.split(' ');
    let run = u64::from_str_radix(words.next()?, 16).ok()?;
    let sender = SessionId(words.next()?.parse().ok()?);
    let destination = words.next()?;
    let kind = match destination.chars().next()? {
        't' => Kind::Topic,
        'q' => Kind::Queue,
        _ => return None,
    };
    let destination = Destination { kind, number: destination[1..].parse().ok()? };
    let number = words.next()?.parse().ok()?;
    let length: usize = words.next()?.parse().ok()?;
    let whole = length == body.len() && words.next()?.bytes().all(|byte| byte == b'.');
    (whole && words.next().is_none()).then_some((run, MessageId { sender, destination, number }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: MessageId = MessageId {
        sender: SessionId(17),
        destination: Destination { kind: Kind::Queue, number: 3 },
        number: 12,
    };

    #[test]
    fn a_body_is_read_as_it_was_written() {
        for length in [0, 64, 5_000] {
            let body = write(9, MESSAGE, length);
            assert!(body.len() == length || length == 0, "{}", body.len());
            assert_eq!(read(9, body.as_bytes()), Body::Message(MESSAGE));
            assert_eq!(read(10, body.as_bytes()), Body::Stray);
        }
    }

    #[test]
    fn a_body_that_was_changed_is_not_read() {
        let body = write(9, MESSAGE, 100);
        let changed = [&body[..99], &format!("{body}."), &body.replace("..", ". "), "", "hello"];
        for body in changed {
            assert_eq!(read(9, body.as_bytes()), Body::Unreadable, "{body}");
        }
    }
}
