//! Frames a server sends (RFC 6455 section 5.2): whole messages, never masked, never fragmented, as shared
//! bytes that any number of connections may write.

use bytes::{Buf, Bytes, BytesMut};

use crate::close_code;
use crate::header::MAX_CONTROL;

/// Two bytes and a 64-bit length: the largest header without a mask.
const LARGEST_HEADER: usize = 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A text message; the payload must be UTF-8.
    Text,
    /// A binary message.
    Binary,
    /// The end: nothing may be sent after it. At most 125 bytes.
    Close,
    /// Asks for a Pong. At most 125 bytes.
    Ping,
    /// Answers a Ping, or is a heart-beat of its own. At most 125 bytes.
    Pong,
}

impl Opcode {
    fn bits(self) -> u8 {
        match self {
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// A frame whose payload is written before its length is known: room for the largest header is kept in
/// front, so that the payload is never moved.
#[derive(Debug)]
pub struct FrameBuilder {
    /// `LARGEST_HEADER` bytes of room, then the payload.
    frame: BytesMut,
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuilder {
    /// A builder for a payload of unknown length.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// A builder with room for `payload` bytes before it must grow.
    pub fn with_capacity(payload: usize) -> Self {
        let mut frame = BytesMut::with_capacity(LARGEST_HEADER + payload);
        frame.extend_from_slice(&[0; LARGEST_HEADER]);
        Self { frame }
    }

    /// Where the payload is written: append only, for what is in the buffer already is the header's room.
    pub fn payload(&mut self) -> &mut BytesMut {
        &mut self.frame
    }

    /// Bytes of payload written.
    pub fn payload_len(&self) -> usize {
        self.frame.len() - LARGEST_HEADER
    }

    /// The frame, with the shortest header its payload allows.
    ///
    /// # Panics
    ///
    /// When a control frame's payload is longer than 125 bytes, or [`payload`](Self::payload) was cut into
    /// the header's room.
    pub fn finish(mut self, opcode: Opcode) -> Bytes {
        assert!(self.frame.len() >= LARGEST_HEADER, "a frame's payload is only appended to");
        let payload = self.payload_len();
        assert!(
            !opcode.is_control() || payload <= MAX_CONTROL,
            "a control frame carries at most {MAX_CONTROL} bytes"
        );
        let room = &mut self.frame[..LARGEST_HEADER];
        let unused = match payload {
            0..=125 => {
                room[9] = payload as u8;
                8
            }
            126..=0xffff => {
                room[7] = 126;
                room[8..].copy_from_slice(&(payload as u16).to_be_bytes());
                6
            }
            _ => {
                room[1] = 127;
                room[2..].copy_from_slice(&(payload as u64).to_be_bytes());
                0
            }
        };
        room[unused] = 0x80 | opcode.bits();
        self.frame.advance(unused);
        self.frame.freeze()
    }
}

/// A frame with a copy of `payload`.
///
/// # Panics
///
/// When a control frame's payload is longer than 125 bytes.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut builder = FrameBuilder::with_capacity(payload.len());
    builder.payload().extend_from_slice(payload);
    builder.finish(opcode)
}

/// A Close frame. A reason over 123 bytes is cut there, or just before, between two characters. A Close
/// without a code, to answer one that had none, is `frame(Opcode::Close, b"")`.
///
/// # Panics
///
/// When `code` is not one that [may be sent](close_code::may_be_sent).
pub fn close(code: u16, reason: &str) -> Bytes {
    assert!(close_code::may_be_sent(code), "close code {code} may not be sent");
    let mut cut = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let reason = &reason[..cut];
    let mut builder = FrameBuilder::with_capacity(2 + reason.len());
    builder.payload().extend_from_slice(&code.to_be_bytes());
    builder.payload().extend_from_slice(reason.as_bytes());
    builder.finish(Opcode::Close)
}

/// A Ping frame.
///
/// # Panics
///
/// When `payload` is longer than 125 bytes.
pub fn ping(payload: &[u8]) -> Bytes {
    frame(Opcode::Ping, payload)
}

/// A Pong frame: the answer to [`Event::Ping`](crate::Event::Ping) carries the same payload.
///
/// # Panics
///
/// When `payload` is longer than 125 bytes.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(Opcode::Pong, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_section_5_7_are_encoded_as_there() {
        assert_eq!(frame(Opcode::Text, b"Hello"), b"\x81\x05Hello"[..]);
        assert_eq!(ping(b"Hello"), b"\x89\x05Hello"[..]);
        assert_eq!(pong(b"Hello"), b"\x8a\x05Hello"[..]);
        assert_eq!(frame(Opcode::Binary, &[7; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(
            frame(Opcode::Binary, &vec![7; 65536])[..10],
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn a_length_is_encoded_in_its_shortest_form() {
        for (payload, header) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)] {
            let frame = frame(Opcode::Binary, &vec![7; payload]);
            assert_eq!(frame.len(), header + payload);
            assert!(frame[header..].iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn the_payload_is_not_moved_by_the_header() {
        for len in [0, 125, 126, 65536] {
            let mut builder = FrameBuilder::with_capacity(len);
            builder.payload().resize(LARGEST_HEADER + len, 7);
            assert_eq!(builder.payload_len(), len);
            let end = builder.payload().as_ptr_range().end;
            assert_eq!(builder.finish(Opcode::Binary).as_ptr_range().end, end);
        }
    }

    #[test]
    fn a_close_carries_its_code_and_reason() {
        assert_eq!(close(close_code::GOING_AWAY, "drain"), b"\x88\x07\x03\xe9drain"[..]);
        assert_eq!(close(close_code::NORMAL, ""), b"\x88\x02\x03\xe8"[..]);
        assert_eq!(frame(Opcode::Close, b""), b"\x88\x00"[..]);
    }

    #[test]
    fn a_close_reason_is_cut_between_characters_at_123_bytes() {
        assert_eq!(close(1000, &"x".repeat(123)).len(), 2 + 125);
        assert_eq!(close(1000, &"x".repeat(124)).len(), 2 + 125);
        // 61 two-byte characters are 122 bytes; half of the next would fit.
        assert_eq!(close(1000, &"é".repeat(62)).len(), 2 + 2 + 122);
    }

    #[test]
    #[should_panic(expected = "at most 125 bytes")]
    fn a_control_frame_over_125_bytes_is_a_bug_of_the_caller() {
        ping(&[0; 126]);
    }

    #[test]
    #[should_panic(expected = "may not be sent")]
    fn a_close_code_that_never_travels_is_a_bug_of_the_caller() {
        close(1006, "");
    }
}
