//! Bytes from a client into events: RFC 6455 section 5 from the server's side.
//!
//! What always holds:
//!
//! - A payload is unmasked, and text is checked, as it arrives: no byte is visited twice however the
//!   input is cut, and text that cannot become valid is refused before its frame is complete.
//! - Between calls at most one frame is under way, and of its payload only what has arrived is held: in
//!   `input` when the frame is a whole message or a control frame, in the decoder when it is a fragment.
//! - After a Close or an error nothing more is read and nothing is held.
//!
//! The frame's header alone is judged in `header`.

use bytes::{Buf, Bytes, BytesMut};

use crate::config::Config;
use crate::error::{Error, Violation};
use crate::header::{self, FrameType, Header};
use crate::{close_code, mask};

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole text message, valid UTF-8.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// A Ping, to be answered with a [`pong`](crate::pong) of the same payload, at most 125 bytes.
    Ping(Bytes),
    /// A Pong, asked for or not, at most 125 bytes.
    Pong(Bytes),
    /// The client closes: answer with a Close, if none was sent yet, and close the socket. `None` when it
    /// gave no code.
    Close(Option<CloseFrame>),
}

/// Why the client closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// One that [may be sent](close_code::may_be_sent).
    pub code: u16,
    /// For logs; at most 123 bytes, often empty.
    pub reason: String,
}

/// One connection's incoming half.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    /// The fragments so far of the message in `fragmented`; never longer than `max_message`.
    message: Vec<u8>,
    /// What the message under way is, between its first fragment's header and its last fragment's end.
    fragmented: Option<Kind>,
    /// How many bytes at the end of the text so far begin a character whose rest has not come: 0 to 3.
    unfinished: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

#[derive(Debug)]
enum State {
    /// The next byte of the input begins a frame.
    Header,
    /// The next byte of the input belongs to this frame's payload.
    Payload(Payload),
    /// The client closed or was refused.
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Payload {
    role: Role,
    /// The key as it applies to the first byte not yet unmasked.
    mask: [u8; 4],
    /// Bytes of payload that are, or are still to come, in the input.
    len: usize,
    /// How many of them are unmasked.
    unmasked: usize,
}

/// What a frame's payload is good for.
#[derive(Debug, Clone, Copy)]
enum Role {
    Whole(Kind),
    Fragment { kind: Kind, last: bool },
    Close,
    Ping,
    Pong,
}

impl Decoder {
    /// A decoder at the first byte after the opening handshake.
    pub fn new(config: &Config) -> Self {
        Self {
            max_message: config.limit(),
            message: Vec::new(),
            fragmented: None,
            unfinished: 0,
            state: State::Header,
        }
    }

    /// Takes the next event from the front of `input`; `None` means it needs more bytes. Between calls
    /// `input` may be appended to and nothing else: a payload that has come in part is already unmasked
    /// there.
    ///
    /// Call until `None`. After [`Event::Close`] or an error the answer is always `None`, and what comes in is
    /// discarded.
    ///
    /// Payloads share `input`'s allocation: keep one for long and it keeps the whole read buffer.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        let decoded = self.next(input);
        if matches!(decoded, Err(_) | Ok(Some(Event::Close(_)))) {
            self.state = State::Ended;
            self.message = Vec::new();
            input.clear();
        }
        decoded
    }

    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        loop {
            let payload = match self.state {
                State::Ended => {
                    input.clear();
                    return Ok(None);
                }
                State::Payload(payload) => payload,
                State::Header => {
                    let Some((header, len)) = header::parse(input)? else { return Ok(None) };
                    let payload = self.admit(header)?;
                    input.advance(len);
                    payload
                }
            };
            self.state = State::Header;
            let event = match payload.role {
                Role::Whole(kind) => self.whole(kind, payload, input)?,
                Role::Fragment { kind, last } => self.fragment(kind, last, payload, input)?,
                Role::Close | Role::Ping | Role::Pong => self.control(payload, input)?,
            };
            // No event from a complete fragment that is not the last: the next frame may be here already.
            if event.is_some() || !matches!(self.state, State::Header) {
                return Ok(event);
            }
        }
    }

    /// Judges a frame by its header and the frames before it (section 5.4).
    fn admit(&mut self, header: Header) -> Result<Payload, Error> {
        let Header { fin, frame_type, payload, mask } = header;
        let role = match (frame_type, self.fragmented) {
            (FrameType::Close, _) => Role::Close,
            (FrameType::Ping, _) => Role::Ping,
            (FrameType::Pong, _) => Role::Pong,
            (FrameType::Continuation, None) => return Err(Violation::NothingToContinue.into()),
            (FrameType::Continuation, Some(kind)) => Role::Fragment { kind, last: fin },
            (_, Some(_)) => return Err(Violation::MessageInterrupted.into()),
            (FrameType::Text, None) => Role::data(Kind::Text, fin),
            (FrameType::Binary, None) => Role::data(Kind::Binary, fin),
        };
        if let Role::Fragment { kind, .. } = role {
            self.fragmented = Some(kind);
        }
        let room = match role {
            Role::Close | Role::Ping | Role::Pong => header::MAX_CONTROL,
            Role::Whole(_) | Role::Fragment { .. } => self.max_message - self.message.len(),
        };
        match usize::try_from(payload) {
            Ok(len) if len <= room => Ok(Payload { role, mask, len, unmasked: 0 }),
            _ => Err(Error::TooBig {
                size: self.message.len() as u64 + payload,
                limit: self.max_message as u64,
            }),
        }
    }

    /// A message in one frame is unmasked and checked where it lies, and handed out as it lies.
    fn whole(
        &mut self,
        kind: Kind,
        mut payload: Payload,
        input: &mut BytesMut,
    ) -> Result<Option<Event>, Error> {
        let arrived = input.len().min(payload.len);
        let fresh = arrived - payload.unmasked;
        payload.mask = mask::unmask(&mut input[payload.unmasked..arrived], payload.mask);
        payload.unmasked = arrived;
        let complete = arrived == payload.len;
        if kind == Kind::Text {
            self.unfinished = check_text(&input[..arrived], fresh, self.unfinished, complete)?;
        }
        if !complete {
            self.state = State::Payload(payload);
            return Ok(None);
        }
        Ok(Some(kind.event(take(input, payload.len))))
    }

    /// A fragment goes to the fragments before it as it arrives; the frame headers between them have to go.
    fn fragment(
        &mut self,
        kind: Kind,
        last: bool,
        mut payload: Payload,
        input: &mut BytesMut,
    ) -> Result<Option<Event>, Error> {
        let arrived = input.len().min(payload.len);
        payload.mask = mask::unmask(&mut input[..arrived], payload.mask);
        self.append(&input[..arrived]);
        input.advance(arrived);
        payload.len -= arrived;
        let complete = last && payload.len == 0;
        if kind == Kind::Text {
            self.unfinished = check_text(&self.message, arrived, self.unfinished, complete)?;
        }
        if payload.len > 0 {
            self.state = State::Payload(payload);
        }
        if !complete {
            return Ok(None);
        }
        self.fragmented = None;
        Ok(Some(kind.event(std::mem::take(&mut self.message).into())))
    }

    fn control(&mut self, payload: Payload, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        if input.len() < payload.len {
            self.state = State::Payload(payload);
            return Ok(None);
        }
        mask::unmask(&mut input[..payload.len], payload.mask);
        let content = take(input, payload.len);
        Ok(Some(match payload.role {
            Role::Ping => Event::Ping(content),
            Role::Pong => Event::Pong(content),
            _ => Event::Close(close_frame(&content)?),
        }))
    }

    fn append(&mut self, fragment: &[u8]) {
        let needed = self.message.len() + fragment.len();
        if needed > self.message.capacity() {
            // Doubling keeps many small fragments linear; the limit keeps doubling honest.
            let doubled = self.message.capacity().saturating_mul(2).min(self.max_message);
            self.message.reserve_exact(needed.max(doubled) - self.message.len());
        }
        self.message.extend_from_slice(fragment);
    }
}

impl Role {
    fn data(kind: Kind, fin: bool) -> Self {
        if fin { Role::Whole(kind) } else { Role::Fragment { kind, last: false } }
    }
}

impl Kind {
    fn event(self, message: Bytes) -> Event {
        match self {
            Kind::Text => Event::Text(message),
            Kind::Binary => Event::Binary(message),
        }
    }
}

fn take(input: &mut BytesMut, len: usize) -> Bytes {
    // An empty slice would keep the read buffer alive for nothing.
    if len == 0 { Bytes::new() } else { input.split_to(len).freeze() }
}

/// Checks the last `fresh` bytes of `text`, and the `unfinished` ones before them, where a character was cut
/// off. Answers how many bytes at the end begin a character again: none, when the text is complete.
fn check_text(text: &[u8], fresh: usize, unfinished: u8, complete: bool) -> Result<u8, Error> {
    let unchecked = &text[text.len() - fresh - usize::from(unfinished)..];
    match simdutf8::compat::from_utf8(unchecked) {
        Ok(_) => Ok(0),
        // No `error_len`: a valid beginning, at most three bytes of it.
        Err(cut) if cut.error_len().is_none() && !complete => {
            Ok((unchecked.len() - cut.valid_up_to()) as u8)
        }
        Err(_) => Err(Error::NotUtf8),
    }
}

/// Section 5.5.1: nothing, or a code and a reason.
fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, Error> {
    let (&code, reason) = match payload.split_first_chunk() {
        Some(split) => split,
        None if payload.is_empty() => return Ok(None),
        None => return Err(Violation::CloseTruncated.into()),
    };
    let code = u16::from_be_bytes(code);
    if !close_code::may_be_sent(code) {
        return Err(Violation::CloseCode(code).into());
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Error::NotUtf8)?;
    Ok(Some(CloseFrame { code, reason: reason.to_owned() }))
}

#[cfg(test)]
mod tests;
