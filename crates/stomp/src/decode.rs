//! Bytes to frames.
//!
//! What always holds:
//! - No byte behind the command is searched twice, however the input is cut.
//! - Where a frame exceeds a limit, it fails with the first byte that makes it so; a body whose
//!   `content-length` is over the limit fails before any of it is waited for. So a peer holds at
//!   most [`Limits::frame`] bytes here.
//! - Which frames and which error come out does not depend on how the input was cut.
//! - Between frames there is no memory but the [`Decoder`] itself.
//!
//! More is read than the specifications demand, where peers in the field need it and nobody can
//! be deceived by it:
//! - CRLF ends a line in every version, not in 1.2 alone. A 1.0 or 1.1 value cannot end in CR.
//! - A CR elsewhere in a line is text, in 1.2 too, although its grammar has none there: only LF
//!   ends a line for any reader, and what is written here escapes or replaces every CR.
//! - So is a `:` in a value, for the first one separates.
//! - LF, CR and NUL between frames are skipped, in any number and order.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

use crate::escape::Escapes;
use crate::{Command, DecodeError, Frame, Headers, Malformed, Version, header};

/// What a decoder accepts at most. A frame exactly at its limits passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The whole frame, from the first byte of its command to its NUL, in bytes.
    pub frame: usize,
    /// Header lines of a frame, counted.
    pub headers: usize,
    /// One header line as it arrives, without LF or CRLF, in bytes.
    pub header_length: usize,
    /// The body, in bytes.
    pub body: usize,
}

/// Reads frames off a byte stream.
///
/// Header lines are read by the rules of a version: what follows a backslash in 1.1 and 1.2; in
/// 1.0 nothing does, and the spaces around names and values do not belong to them. CONNECT, STOMP
/// and CONNECTED come before a version is agreed on. They are read without escapes, and lose
/// those spaces if their own version headers amount to 1.0.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Version,
    state: State,
    /// How many bytes at the start of the input are known not to end what is being read, be it
    /// a header line or a body.
    searched: usize,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing of a frame was seen.
    #[default]
    Gap,
    /// A part of a command stands at the start of the input.
    Command,
    /// The command is read and taken off the input.
    Frame(Box<Partial>),
    /// The stream is lost: where its next frame begins cannot be known.
    Failed(Box<DecodeError>),
}

/// A frame in progress.
#[derive(Debug)]
struct Partial {
    command: Command,
    headers: Headers,
    /// Bytes of the frame that are taken off the input.
    taken: usize,
    /// `None` until the blank line.
    body: Option<BodyEnd>,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy)]
enum BodyEnd {
    After(usize),
    AtNul,
}

impl Decoder {
    /// A decoder at the start of a stream. It reads by 1.2 until told otherwise.
    pub fn new(limits: Limits) -> Self {
        Self { limits, version: Version::V1_2, state: State::Gap, searched: 0 }
    }

    /// Reads the headers that come from now on by the rules of that version: call it once CONNECT
    /// (in a client, CONNECTED) has decided on one, before the next [`decode`](Self::decode).
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The next frame of the input, or `None` where it needs more bytes: append them to the same
    /// buffer. Only what is used is taken off `input`; an input that is used up gives its memory
    /// back.
    ///
    /// # Errors
    /// The frame is malformed or exceeds a limit. This ends the stream: the input is dropped, and
    /// so is any later one, with the same error.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let decoded = self.advance(input);
        if let Err(error) = &decoded {
            self.state = State::Failed(Box::new(error.clone()));
            input.clear();
        }
        if input.is_empty() {
            *input = BytesMut::new();
        }
        decoded
    }

    /// Whether the input so far ends with a whole frame, or with nothing but heart-beats after it.
    /// Meant for a moment when [`decode`](Self::decode) has answered `None`.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Gap)
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let mut partial = match mem::take(&mut self.state) {
            State::Failed(error) => return Err(*error),
            State::Frame(partial) => *partial,
            State::Gap | State::Command => {
                skip_gap(input);
                if input.is_empty() {
                    return Ok(None);
                }
                let command =
                    take_command(input).map_err(|reason| DecodeError { reason, receipt: None })?;
                let Some((command, taken)) = command else {
                    self.state = State::Command;
                    return Ok(None);
                };
                Partial { command, headers: Headers::new(), taken, body: None }
            }
        };
        match self.take_rest(&mut partial, input) {
            Ok(Some(body)) => {
                let Partial { command, headers, .. } = partial;
                Ok(Some(Frame { command, headers, body }))
            }
            Ok(None) => {
                self.state = State::Frame(Box::new(partial));
                Ok(None)
            }
            Err(reason) => {
                self.trim(&mut partial);
                Err(DecodeError { reason, receipt: partial.headers.get(header::RECEIPT).cloned() })
            }
        }
    }

    /// Takes header lines and the body; the body is there once the frame is whole.
    fn take_rest(
        &mut self,
        partial: &mut Partial,
        input: &mut BytesMut,
    ) -> Result<Option<Bytes>, Malformed> {
        let end = loop {
            if let Some(end) = partial.body {
                break end;
            }
            let room = self.limits.frame.saturating_sub(partial.taken);
            let before = input.len();
            let Some(line) = self.take_line(room, input)? else { return Ok(None) };
            partial.taken += before - input.len();
            if line.is_empty() {
                partial.body = Some(self.end_headers(partial)?);
            } else if partial.headers.len() == self.limits.headers {
                return Err(Malformed::TooManyHeaders { limit: self.limits.headers });
            } else {
                let (name, value) = read_header(line, Escapes::of(partial.command, self.version))?;
                partial.headers.push(name, value);
            }
        };
        match end {
            BodyEnd::After(length) => take_measured_body(length, input),
            BodyEnd::AtNul => self.take_body_until_nul(partial, input),
        }
    }

    /// Takes a line that takes at most `room` bytes with its end, without its end.
    fn take_line(&mut self, room: usize, input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        let limit = self.limits.header_length;
        let window = &input[..input.len().min(room)];
        let found = memchr::memchr2(b'\n', 0, &window[self.searched..]);
        let line = &window[..found.map_or(window.len(), |found| self.searched + found)];
        let end = line.strip_suffix(b"\r").unwrap_or(line).len();
        if end > limit {
            return Err(Malformed::HeaderTooLong { limit });
        }
        if found.is_none() {
            if window.len() == room {
                return Err(Malformed::FrameTooLong { limit: self.limits.frame });
            }
            self.searched = window.len();
            return Ok(None);
        }
        let after = line.len();
        if window[after] == 0 {
            return Err(Malformed::NulInHeader);
        }
        self.searched = 0;
        let mut line = input.split_to(after + 1);
        line.truncate(end);
        Ok(Some(line.freeze()))
    }

    /// The blank line is there: how will the body end?
    fn end_headers(&self, partial: &mut Partial) -> Result<BodyEnd, Malformed> {
        self.trim(partial);
        if partial.headers.iter().any(|(name, _)| name.is_empty()) {
            return Err(Malformed::EmptyHeaderName);
        }
        let Some(value) = partial.headers.get(header::CONTENT_LENGTH) else {
            return Ok(BodyEnd::AtNul);
        };
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed::bad_content_length(value));
        }
        // Digits beyond `usize` are a length all the same, and over every limit.
        let length = value.parse().unwrap_or(usize::MAX);
        if length > 0 && !partial.command.may_have_body() {
            return Err(Malformed::BodyNotAllowed { command: partial.command });
        }
        if length > self.limits.body {
            return Err(Malformed::BodyTooLong { limit: self.limits.body });
        }
        if length >= self.limits.frame.saturating_sub(partial.taken) {
            return Err(Malformed::FrameTooLong { limit: self.limits.frame });
        }
        Ok(BodyEnd::After(length))
    }

    fn take_body_until_nul(
        &mut self,
        partial: &Partial,
        input: &mut BytesMut,
    ) -> Result<Option<Bytes>, Malformed> {
        let room = self.limits.frame.saturating_sub(partial.taken);
        let limit = if partial.command.may_have_body() { self.limits.body } else { 0 };
        let window = &input[..input.len().min(room).min(limit.saturating_add(1))];
        if let Some(found) = memchr::memchr(0, &window[self.searched..]) {
            let body = input.split_to(mem::take(&mut self.searched) + found).freeze();
            input.advance(1);
            return Ok(Some(body));
        }
        if window.len() > limit {
            return Err(match partial.command {
                command if !command.may_have_body() => Malformed::BodyNotAllowed { command },
                _ => Malformed::BodyTooLong { limit },
            });
        }
        if window.len() == room {
            return Err(Malformed::FrameTooLong { limit: self.limits.frame });
        }
        self.searched = window.len();
        Ok(None)
    }

    /// Takes the spaces around names and values away if the frame is one of 1.0.
    fn trim(&self, partial: &mut Partial) {
        let value = |name| partial.headers.get(name).map(|value| &**value);
        let version = match partial.command {
            Command::Connect | Command::Stomp => Version::negotiate(value(header::ACCEPT_VERSION)),
            Command::Connected => Version::negotiate(value(header::VERSION)),
            _ => Some(self.version),
        };
        if version == Some(Version::V1_0) {
            partial.headers.trim();
        }
    }
}

fn skip_gap(input: &mut BytesMut) {
    let gap = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | 0)).count();
    input.advance(gap);
}

/// Takes a command and the end of its line; also how many bytes that was.
fn take_command(input: &mut BytesMut) -> Result<Option<(Command, usize)>, Malformed> {
    let window = &input[..input.len().min(Command::MAX_LENGTH + 2)];
    let end = memchr::memchr(b'\n', window);
    let line = &window[..end.unwrap_or(window.len())];
    let command = Command::from_bytes(line.strip_suffix(b"\r").unwrap_or(line));
    match (command, end) {
        (Some(command), Some(end)) => {
            input.advance(end + 1);
            Ok(Some((command, end + 1)))
        }
        (Some(_), None) => Ok(None),
        (None, None) if Command::any_begins_with(line) => Ok(None),
        (None, _) => Err(Malformed::unknown_command(input)),
    }
}

fn read_header(mut line: Bytes, escapes: Escapes) -> Result<(ByteString, ByteString), Malformed> {
    let colon = memchr::memchr(b':', &line).ok_or(Malformed::HeaderWithoutColon)?;
    let name = line.split_to(colon);
    line.advance(1);
    let text = |bytes| ByteString::try_from(bytes).map_err(|_| Malformed::NotUtf8);
    Ok((escapes.read(text(name)?)?, escapes.read(text(line)?)?))
}

fn take_measured_body(length: usize, input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
    match input.get(length) {
        None => Ok(None),
        Some(0) => {
            let body = input.split_to(length).freeze();
            input.advance(1);
            Ok(Some(body))
        }
        Some(_) => Err(Malformed::MissingNul),
    }
}
