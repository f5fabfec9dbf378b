//! How a header line spells the characters that would end it.
//!
//! | version           | reads and writes    | cannot say, so writes a space instead |
//! |-------------------|---------------------|---------------------------------------|
//! | 1.2               | `\\` `\c` `\n` `\r` | NUL                                   |
//! | 1.1               | `\\` `\c` `\n`      | NUL, CR                               |
//! | 1.0, and opening  | nothing             | NUL, CR, LF; `:` in a name            |
//!
//! "Opening" are CONNECT, STOMP and CONNECTED in every version (STOMP 1.2, "Value Encoding"). The
//! space is what keeps a value from injecting a line of its own: what leaves through
//! [`Escapes::write`] holds neither LF nor CR nor NUL, and a name no `:`.

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;

use crate::{Command, Malformed, Version};

/// The escapes of one frame's header lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// Every character stands for itself.
    None,
    /// `\\`, `\c`, `\n`.
    V1_1,
    /// `\\`, `\c`, `\n`, `\r`.
    V1_2,
}

/// Which half of a header a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Name,
    Value,
}

impl Escapes {
    pub(crate) const fn of(command: Command, version: Version) -> Self {
        match version {
            _ if command.opens_session() => Self::None,
            Version::V1_0 => Self::None,
            Version::V1_1 => Self::V1_1,
            Version::V1_2 => Self::V1_2,
        }
    }

    /// The text as it was before it was escaped; the same bytes where nothing was.
    pub(crate) fn read(self, text: ByteString) -> Result<ByteString, Malformed> {
        if self == Self::None || memchr::memchr(b'\\', text.as_bytes()).is_none() {
            return Ok(text);
        }
        let mut plain = String::with_capacity(text.len());
        let mut rest = &*text;
        while let Some((before, after)) = rest.split_once('\\') {
            plain.push_str(before);
            let mut after = after.chars();
            plain.push(match (after.next(), self) {
                (Some('\\'), _) => '\\',
                (Some('c'), _) => ':',
                (Some('n'), _) => '\n',
                (Some('r'), Self::V1_2) => '\r',
                (escaped, _) => return Err(Malformed::BadEscape { escaped }),
            });
            rest = after.as_str();
        }
        plain.push_str(rest);
        Ok(plain.into())
    }

    /// Appends the text in a spelling that stays on its line.
    pub(crate) fn write(self, text: &str, half: Half, out: &mut BytesMut) {
        let bytes = text.as_bytes();
        let mut written = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if let Some(spelling) = self.spelling(byte, half) {
                out.put_slice(&bytes[written..at]);
                out.put_slice(spelling);
                written = at + 1;
            }
        }
        out.put_slice(&bytes[written..]);
    }

    /// What is written in place of a byte that cannot stand for itself.
    const fn spelling(self, byte: u8, half: Half) -> Option<&'static [u8]> {
        match (byte, self) {
            (0, _) => Some(b" "),
            (b'\n' | b'\r', Self::None) | (b'\r', Self::V1_1) => Some(b" "),
            (b':', Self::None) => match half {
                Half::Name => Some(b" "),
                Half::Value => None,
            },
            (_, Self::None) => None,
            (b'\\', _) => Some(br"\\"),
            (b':', _) => Some(br"\c"),
            (b'\n', _) => Some(br"\n"),
            (b'\r', Self::V1_2) => Some(br"\r"),
            _ => None,
        }
    }
}
