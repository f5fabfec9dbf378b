//! Frames as clients receive them (protocol 0.3.3, "Framing accepted by the client"), before a transport
//! wraps them: `o`, `h`, `a[...]`, `c[code,"reason"]`.
//!
//! Messages are kept as JSON strings ("literals"), quotes included: several become one `a` frame without being
//! escaped again.

use bytes::{BufMut, Bytes, BytesMut};

/// A session has begun.
pub(crate) const OPEN: &[u8] = b"o";

/// Nothing but a sign of life.
pub(crate) const HEARTBEAT: &[u8] = b"h";

/// What clients are told whose server left without a word.
pub(crate) const GONE: (u16, &str) = (3000, "Go away!");

/// What clients are told whose session another request is receiving for.
pub(crate) const STILL_OPEN: (u16, &str) = (2010, "Another connection still open");

/// What clients are told whose receiving request broke.
pub(crate) const INTERRUPTED: (u16, &str) = (1002, "Connection interrupted");

/// Writes `message` as a JSON string.
///
/// Beside what JSON demands, the characters are escaped that browsers are known to change on their way
/// ("JSON Unicode Encoding").
pub(crate) fn write_literal(message: &str, out: &mut BytesMut) {
    out.reserve(message.len() + 2);
    out.put_u8(b'"');
    let bytes = message.as_bytes();
    let mut plain = 0;
    let mut at = 0;
    while at < bytes.len() {
        let (escaped, len): (char, usize) = match bytes[at] {
            byte @ (b'"' | b'\\' | 0..=0x1f) => (char::from(byte), 1),
            0xe2 | 0xef => match message[at..].chars().next() {
                Some(char) if is_mangled(char) => (char, char.len_utf8()),
                Some(char) => {
                    at += char.len_utf8();
                    continue;
                }
                None => break,
            },
            _ => {
                at += 1;
                continue;
            }
        };
        out.put_slice(&bytes[plain..at]);
        write_escaped(escaped, out);
        at += len;
        plain = at;
    }
    out.put_slice(&bytes[plain..]);
    out.put_u8(b'"');
}

/// Whether browsers cannot be trusted with it; all of these begin with 0xe2 or 0xef in UTF-8.
fn is_mangled(char: char) -> bool {
    matches!(char, '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}'
        | '\u{fff0}'..='\u{ffff}')
}

fn write_escaped(char: char, out: &mut BytesMut) {
    let short = match char {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        _ => {
            out.put_slice(format!("\\u{:04x}", u32::from(char)).as_bytes());
            return;
        }
    };
    out.put_slice(&[b'\\', short]);
}

/// An `a` frame of these literals.
pub(crate) fn messages<'a>(literals: impl IntoIterator<Item = &'a Bytes>, out: &mut BytesMut) {
    out.put_slice(b"a[");
    for (number, literal) in literals.into_iter().enumerate() {
        if number > 0 {
            out.put_u8(b',');
        }
        out.put_slice(literal);
    }
    out.put_u8(b']');
}

/// A `c` frame.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(format!("c[{code},").as_bytes());
    write_literal(reason, &mut out);
    out.put_u8(b']');
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(message: &str) -> String {
        let mut out = BytesMut::new();
        write_literal(message, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn close_and_message_frames_are_as_the_protocol_shows_them() {
        assert_eq!(close(3000, "Go away!"), r#"c[3000,"Go away!"]"#);
        let mut out = BytesMut::new();
        messages(&[Bytes::from(literal("a")), Bytes::from(literal("b\n"))], &mut out);
        assert_eq!(out, r#"a["a","b\n"]"#);
    }

    #[test]
    fn what_browsers_mangle_is_escaped_and_nothing_else_is() {
        let mut mangled = 0;
        for char in '\u{ff}'..='\u{ffff}' {
            let expected = if is_mangled(char) {
                mangled += 1;
                format!("\"\\u{:04x}\"", u32::from(char))
            } else {
                format!("\"{char}\"")
            };
            assert_eq!(literal(&char.to_string()), expected);
        }
        assert_eq!(mangled, 4 + 8 + 16 + 16);
    }

    #[test]
    fn a_fixed_text_looks_as_javascript_writes_it() {
        assert_eq!(literal("  \0\n\r \t\u{8}\u{c}\"\\/é"), r#""  \u0000\n\r \t\b\f\"\\/é""#);
    }

    proptest! {
        #[test]
        fn json_reads_back_what_was_written(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&literal(&text)).unwrap(), text);
        }
    }
}
