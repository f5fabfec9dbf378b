//! The walk over one frame's payload, step by step as lapin's parser takes it, which mends what that
//! parser cannot take. See [`Frames`](crate::frames::Frames) for what is mended, and how.
//!
//! Invariant: it goes no deeper than [`DEEPEST`], whatever the bytes say.

/// How many tables and arrays may lie in one another, the headers themselves counted.
pub(crate) const DEEPEST: usize = 16;

/// A part of a method or of a content header.
#[derive(Clone, Copy)]
enum Field {
    /// An octet for the length, and the bytes.
    ShortString,
    Table,
    /// So many octets of anything else.
    Octets(usize),
}

use Field::{Octets, ShortString, Table};

/// The properties of a message, from the highest bit of the flags down.
const PROPERTIES: [Field; 14] = [
    ShortString, // content type
    ShortString, // content encoding
    Table,       // headers
    Octets(1),   // delivery mode
    Octets(1),   // priority
    ShortString, // correlation id
    ShortString, // reply to
    ShortString, // expiration
    ShortString, // message id
    Octets(8),   // timestamp
    ShortString, // type
    ShortString, // user id
    ShortString, // app id
    ShortString, // cluster id
];

/// The beginning of a method's arguments, as far as it has short strings that another chose.
fn arguments(class: u16, method: u16) -> &'static [Field] {
    match (class, method) {
        // connection.close, channel.close. RabbitMQ cuts a long text anywhere.
        (10, 50) | (20, 40) => &[Octets(2), ShortString],
        // connection.blocked, basic.cancel
        (10, 60) | (60, 30) => &[ShortString],
        // basic.return
        (60, 50) => &[Octets(2), ShortString, ShortString, ShortString],
        // basic.deliver
        (60, 60) => &[ShortString, Octets(9), ShortString, ShortString],
        // basic.get-ok
        (60, 71) => &[Octets(9), ShortString, ShortString],
        _ => &[],
    }
}

/// A walk over a payload. Each step is None where lapin's parser gives up.
pub(crate) struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
    /// The end of the innermost table or array, else of the payload.
    end: usize,
    /// Whether anything was changed.
    pub(crate) mended: bool,
    /// The longest frame, if the payload is RabbitMQ's proposal of it.
    pub(crate) tuned: Option<u32>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        let end = bytes.len();
        Self { bytes, at: 0, end, mended: false, tuned: None }
    }

    /// Walks over a method, as far as it can be read.
    pub(crate) fn method(&mut self) -> Option<()> {
        match (self.short()?, self.short()?) {
            // connection.tune: the most channels come before.
            (10, 30) => {
                self.skip(2)?;
                self.tuned = Some(self.long()?);
                Some(())
            }
            (class, method) => self.fields(arguments(class, method)),
        }
    }

    /// Walks over a content header, as far as it can be read.
    pub(crate) fn content_header(&mut self) -> Option<()> {
        // Class, weight and size of the body.
        self.skip(2 + 2 + 8)?;
        let flags = self.short()?;
        for (index, property) in PROPERTIES.iter().enumerate() {
            if flags & (1 << (15 - index)) != 0 {
                self.fields(std::slice::from_ref(property))?;
            }
        }
        Some(())
    }

    fn fields(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            match field {
                Field::ShortString => self.short_string()?,
                Field::Table => self.nested(1, Self::table_entry)?,
                Field::Octets(count) => self.skip(*count)?,
            }
        }
        Some(())
    }

    /// What a table or array holds, which is the `depth`th from outside.
    fn nested(&mut self, depth: usize, entry: fn(&mut Self, usize) -> Option<()>) -> Option<()> {
        let length = self.long()?;
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        if end > self.end {
            return None;
        }
        let outer = std::mem::replace(&mut self.end, end);
        while self.at < end {
            entry(self, depth)?;
        }
        self.end = outer;
        Some(())
    }

    fn table_entry(&mut self, depth: usize) -> Option<()> {
        self.short_string()?;
        self.value(depth)
    }

    /// A value in the `depth`th table or array from outside.
    fn value(&mut self, depth: usize) -> Option<()> {
        let kind = self.at;
        let skipped = match self.take(1)?[0] {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'L' | b'l' | b'd' | b'T' => 8,
            b'S' | b'x' => self.long()?,
            b'F' if depth < DEEPEST => return self.nested(depth + 1, Self::table_entry),
            b'A' if depth < DEEPEST => return self.nested(depth + 1, Self::value),
            b'F' | b'A' => {
                let length = self.long()?;
                self.bytes[kind] = b'x';
                self.mended = true;
                length
            }
            _ => return None,
        };
        self.skip(usize::try_from(skipped).ok()?)
    }

    fn short_string(&mut self) -> Option<()> {
        let length = self.take(1)?[0];
        let mut bytes = self.take(length.into())?;
        let mut mended = false;
        while let Err(error) = std::str::from_utf8(bytes) {
            let rest = &mut bytes[error.valid_up_to()..];
            let wrong = error.error_len().unwrap_or(rest.len());
            let (wrong, behind) = rest.split_at_mut(wrong);
            wrong.fill(b'?');
            bytes = behind;
            mended = true;
        }
        self.mended |= mended;
        Some(())
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn long(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    fn take(&mut self, count: usize) -> Option<&mut [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.end)?;
        let taken = &mut self.bytes[self.at..end];
        self.at = end;
        Some(taken)
    }
}
