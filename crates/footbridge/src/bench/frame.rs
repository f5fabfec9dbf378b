//! Frames as a load generator sees them: WebSocket frames from a server, STOMP frames inside.
//!
//! [`Scanner`] takes bytes cut anywhere and gives STOMP frames back. A STOMP frame that lies in
//! one piece in the input is handed out where it lies; only one that is cut (by the read, or by
//! the WebSocket framing) is copied. A WebSocket frame may hold several STOMP frames or a part
//! of one, with line feeds between them: RabbitMQ ends each of its frames with one.
//!
//! A STOMP frame is taken to end at its first NUL: `content-length` is not read, so a body with
//! a NUL inside is cut there. The bodies this generator sends have none.
//!
//! Not here: sockets, and what the frames mean.

use memchr::memchr;

/// The most that is kept of one unfinished STOMP frame: beyond it the server is not answering
/// in STOMP, and memory would grow without end.
const LARGEST_FRAME: usize = 16 << 20;

/// Masks what the client sends. RFC 6455 section 5.3 wants an unpredictable key so that a script
/// cannot shape the bytes a proxy sees; a load generator chooses all of its bytes anyway.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// One STOMP frame without its NUL and without the line feeds before it.
    Stomp(&'a [u8]),
    /// A WebSocket ping, to be answered with the same bytes.
    Ping(&'a [u8]),
    /// A WebSocket close frame: code and reason, as far as given.
    Close(Option<u16>, &'a [u8]),
}

/// Bytes that no WebSocket server may send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    /// A masked frame (RFC 6455 section 5.1).
    #[error("the server sent a masked frame")]
    Masked,
    /// A reserved bit or opcode: an extension that was not asked for.
    #[error("the server sent a reserved bit or opcode")]
    Reserved,
    /// A control frame above 125 bytes, or a STOMP frame above the limit.
    #[error("the server sent a frame that is too large")]
    TooLarge,
}

/// Finds frames in the bytes of one server connection.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The header of the current WebSocket frame, as far as it has come.
    header: Vec<u8>,
    /// The opcode and what is missing of the current frame's payload.
    payload: Option<(u8, u64)>,
    /// A STOMP frame's bytes so far. Empty, and without memory, in most connections.
    partial: Vec<u8>,
    /// A control frame's payload so far; it may come between the pieces of a STOMP frame.
    control: Vec<u8>,
    /// `partial` or `control` was handed out by the last call and is to be forgotten.
    given: Option<Given>,
}

#[derive(Debug, Clone, Copy)]
enum Given {
    Partial,
    Control,
}

impl Scanner {
    /// The next event in `input`, which advances past what was taken; `None` when all is taken.
    pub(super) fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Event<'a>>, ScanError> {
        match self.given.take() {
            Some(Given::Partial) => self.partial.clear(),
            Some(Given::Control) => self.control.clear(),
            None => {}
        }
        loop {
            let (opcode, left) = match self.payload {
                Some(payload) => payload,
                None => match self.take_header(input)? {
                    Some(payload) => payload,
                    None => return Ok(None),
                },
            };
            let here = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
            let chunk = &input[..here];
            if opcode >= CLOSE {
                self.control.extend_from_slice(chunk);
                self.advance(input, here);
                if self.payload.is_some() {
                    return Ok(None);
                }
                self.given = Some(Given::Control);
                match opcode {
                    PING => return Ok(Some(Event::Ping(&self.control))),
                    CLOSE => {
                        let code = self.control.first_chunk().map(|code| u16::from_be_bytes(*code));
                        let reason = self.control.get(2..).unwrap_or_default();
                        return Ok(Some(Event::Close(code, reason)));
                    }
                    _ => self.control.clear(),
                }
                continue;
            }
            let Some(end) = memchr(0, chunk) else {
                let rest = if self.partial.is_empty() { skip_line_feeds(chunk) } else { chunk };
                if self.partial.len() + rest.len() > LARGEST_FRAME {
                    return Err(ScanError::TooLarge);
                }
                self.partial.extend_from_slice(rest);
                self.advance(input, here);
                if self.payload.is_some() {
                    return Ok(None);
                }
                continue;
            };
            self.advance(input, end + 1);
            if self.partial.is_empty() {
                return Ok(Some(Event::Stomp(skip_line_feeds(&chunk[..end]))));
            }
            self.partial.extend_from_slice(&chunk[..end]);
            self.given = Some(Given::Partial);
            return Ok(Some(Event::Stomp(&self.partial)));
        }
    }

    fn advance(&mut self, input: &mut &[u8], by: usize) {
        *input = &input[by..];
        if let Some((opcode, left)) = self.payload {
            let left = left - by as u64;
            self.payload = (left > 0).then_some((opcode, left));
        }
    }

    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<(u8, u64)>, ScanError> {
        loop {
            if let Some((opcode, length, size)) = parse_header(&self.header)? {
                debug_assert_eq!(size, self.header.len(), "taken byte by byte");
                self.header.clear();
                // A frame without payload is over at once: there is nothing to wait for.
                if length > 0 {
                    self.payload = Some((opcode, length));
                }
                return Ok(Some((opcode, length)));
            }
            // The whole header in one piece is the rule; a cut one is gathered byte by byte.
            if self.header.is_empty()
                && let Some((opcode, length, size)) = parse_header(input)?
            {
                *input = &input[size..];
                if length > 0 {
                    self.payload = Some((opcode, length));
                }
                return Ok(Some((opcode, length)));
            }
            let Some((first, rest)) = input.split_first() else { return Ok(None) };
            self.header.push(*first);
            *input = rest;
        }
    }
}

/// Opcode, payload length and header size; `None` when bytes are missing.
fn parse_header(bytes: &[u8]) -> Result<Option<(u8, u64, usize)>, ScanError> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    let opcode = first & 0x0F;
    if first & 0x70 != 0 || !matches!(opcode, CONTINUATION..=BINARY | CLOSE..=PONG) {
        return Err(ScanError::Reserved);
    }
    if second & 0x80 != 0 {
        return Err(ScanError::Masked);
    }
    let (length, size) = match second {
        126 => match rest.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        length => (u64::from(length), 2),
    };
    if opcode >= CLOSE && length > 125 {
        return Err(ScanError::TooLarge);
    }
    Ok(Some((opcode, length, size)))
}

fn skip_line_feeds(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\n' | b'\r'));
    &bytes[start.unwrap_or(bytes.len())..]
}

/// A STOMP frame, taken apart where it lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StompFrame<'a> {
    /// `MESSAGE`, `RECEIPT`, ...
    pub(super) command: &'a [u8],
    headers: &'a [u8],
    /// The body, empty if there is none.
    pub(super) body: &'a [u8],
}

impl<'a> StompFrame<'a> {
    /// `None` if the header block does not end.
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let (command, after) = split_line(frame)?;
        let mut rest = after;
        loop {
            let (line, next) = split_line(rest)?;
            if line.is_empty() {
                let headers = &after[..after.len() - rest.len()];
                return Some(Self { command, headers, body: next });
            }
            rest = next;
        }
    }

    /// The first header of that name, with its escapes left as they are.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let mut rest = self.headers;
        while let Some((line, next)) = split_line(rest) {
            let value = line.strip_prefix(name.as_bytes()).and_then(|l| l.strip_prefix(b":"));
            if let Some(value) = value {
                return Some(String::from_utf8_lossy(value).into_owned());
            }
            rest = next;
        }
        None
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', bytes)?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}

/// Appends a masked text frame, as a client sends it.
pub(super) fn write_text(out: &mut Vec<u8>, payload: &[u8]) {
    write_masked(out, TEXT, payload);
}

/// Appends a masked pong (at most 125 bytes: what a ping may carry).
pub(super) fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_masked(out, PONG, payload);
}

fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_header(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends an unmasked text frame, as a server sends it.
pub(super) fn write_server_text(out: &mut Vec<u8>, payload: &[u8]) {
    write_header(out, TEXT, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn write_header(out: &mut Vec<u8>, opcode: u8, length: usize, mask: u8) {
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(mask | length as u8),
        126..=0xFFFF => {
            out.push(mask | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a scanner makes of `bytes` when they come in two pieces.
    fn scan(first: &[u8], second: &[u8]) -> Vec<String> {
        let mut scanner = Scanner::default();
        let mut seen = Vec::new();
        for mut input in [first, second] {
            while let Some(event) = scanner.next(&mut input).unwrap() {
                seen.push(match event {
                    Event::Stomp(frame) => format!("stomp {}", frame.escape_ascii()),
                    Event::Ping(payload) => format!("ping {}", payload.escape_ascii()),
                    Event::Close(code, reason) => {
                        format!("close {code:?} {}", reason.escape_ascii())
                    }
                });
            }
            assert!(input.is_empty());
        }
        seen
    }

    fn server(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(&mut out, opcode, payload.len(), 0);
        if !fin {
            out[0] &= 0x7F;
        }
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn frames_are_found_wherever_the_bytes_are_cut() {
        let large = vec![b'x'; 70_000];
        let bytes = [
            server(TEXT, true, b"CONNECTED\nversion:1.2\n\n\0\n"),
            server(TEXT, true, b"\n"),
            server(TEXT, true, b"A\n\nfirst\0\nB\n\nsecond\0C\n"),
            server(PING, true, b"are you there"),
            server(PONG, true, b""),
            server(BINARY, false, b"\nth"),
            server(TEXT, true, b""),
            server(CONTINUATION, true, b"ird\0"),
            server(BINARY, true, &[b"D\n\n", large.as_slice(), b"\0"].concat()),
            server(TEXT, true, &[b"E\n\n", &large[..200], b"\0"].concat()),
            server(PING, true, b""),
            server(CLOSE, true, b"\x03\xe8bye"),
            server(CLOSE, true, b""),
        ]
        .concat();
        let expected = [
            "stomp CONNECTED\\nversion:1.2\\n\\n",
            "stomp A\\n\\nfirst",
            "stomp B\\n\\nsecond",
            "ping are you there",
            "stomp C\\n\\nthird",
            &format!("stomp D\\n\\n{}", "x".repeat(70_000)),
            &format!("stomp E\\n\\n{}", "x".repeat(200)),
            "ping ",
            "close Some(1000) bye",
            "close None ",
        ];
        let headers = 0..200;
        let last = bytes.len() - 300..bytes.len();
        for cut in headers.chain(last) {
            assert_eq!(scan(&bytes[..cut], &bytes[cut..]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_can_come_byte_by_byte() {
        let bytes = server(TEXT, true, &[b"M\n\n", [b'y'; 300].as_slice(), b"\0\n"].concat());
        let mut scanner = Scanner::default();
        let mut frames = 0;
        for byte in bytes.chunks(1) {
            let mut input = byte;
            while let Some(event) = scanner.next(&mut input).unwrap() {
                assert_eq!(event, Event::Stomp(&[b"M\n\n", [b'y'; 300].as_slice()].concat()));
                frames += 1;
            }
        }
        assert_eq!(frames, 1);
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        for (bytes, error) in [
            (&[0x81, 0x81, 0, 0, 0, 0, 0][..], ScanError::Masked),
            (&[0xC1, 0x01, 0][..], ScanError::Reserved),
            (&[0x83, 0x01, 0][..], ScanError::Reserved),
            (&[0x89, 126, 0, 126][..], ScanError::TooLarge),
        ] {
            assert_eq!(Scanner::default().next(&mut &bytes[..]), Err(error));
        }
    }

    #[test]
    fn a_stomp_frame_is_taken_apart_with_either_line_end() {
        for text in
            ["ERROR\nmessage:no\nmessage:2\n\na\n\nb", "ERROR\r\nmessage:no\r\nm:2\r\n\r\na\n\nb"]
        {
            let frame = StompFrame::parse(text.as_bytes()).unwrap();
            assert_eq!(frame.command, b"ERROR");
            assert_eq!(frame.header("message").as_deref(), Some("no"));
            assert_eq!(frame.header("mess"), None);
            assert_eq!(frame.body, b"a\n\nb");
        }
        assert_eq!(StompFrame::parse(b"MESSAGE\na:b\n"), None);
        assert_eq!(StompFrame::parse(b"RECEIPT\n\n").unwrap().body, b"");
    }

    #[test]
    fn a_client_frame_is_masked() {
        let mut out = Vec::new();
        write_text(&mut out, b"Hello");
        // The example of RFC 6455 section 5.7.
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}
