//! The header of a frame from a client (RFC 6455 section 5.2): everything that can be judged without
//! knowing which frames came before.

use crate::error::Violation;

/// Most bytes a control frame may carry (section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// What a frame from a client is, by its four-bit opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameType {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl FrameType {
    fn is_control(self) -> bool {
        matches!(self, FrameType::Close | FrameType::Ping | FrameType::Pong)
    }
}

/// A whole, lawful header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) frame_type: FrameType,
    /// Bytes of payload that follow, below 2^63.
    pub(crate) payload: u64,
    pub(crate) mask: [u8; 4],
}

/// Reads the header at the start of `input`, and its length: 6, 8 or 14 bytes. `None` when more bytes are
/// needed. A broken rule is reported as soon as the bytes that break it are there.
pub(crate) fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
    let Some((&[first, second], rest)) = input.split_first_chunk() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    let fin = first & 0x80 != 0;
    let frame_type = match first & 0x0f {
        0x0 => FrameType::Continuation,
        0x1 => FrameType::Text,
        0x2 => FrameType::Binary,
        0x8 => FrameType::Close,
        0x9 => FrameType::Ping,
        0xa => FrameType::Pong,
        reserved => return Err(Violation::ReservedOpcode(reserved)),
    };
    if second & 0x80 == 0 {
        return Err(Violation::NotMasked);
    }
    let short = second & 0x7f;
    if frame_type.is_control() {
        if !fin {
            return Err(Violation::ControlFragmented);
        }
        if usize::from(short) > MAX_CONTROL {
            return Err(Violation::ControlTooLong);
        }
    }
    let (payload, rest) = match short {
        126 => {
            let Some((&length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u16::from_be_bytes(length);
            if length < 126 {
                return Err(Violation::LengthNotShortest);
            }
            (u64::from(length), rest)
        }
        127 => {
            let Some((&length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(length);
            if length > i64::MAX as u64 {
                return Err(Violation::LengthExceeds63Bits);
            }
            if length <= u64::from(u16::MAX) {
                return Err(Violation::LengthNotShortest);
            }
            (length, rest)
        }
        short => (u64::from(short), rest),
    };
    let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    Ok(Some((Header { fin, frame_type, payload, mask }, input.len() - rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn header(first: u8, length: &[u8]) -> Vec<u8> {
        [&[first], length, &MASK].concat()
    }

    #[track_caller]
    fn refused(input: &[u8], violation: Violation) {
        assert_eq!(parse(input), Err(violation));
    }

    #[test]
    fn a_length_takes_seven_sixteen_or_sixty_three_bits() {
        for (length, payload) in [
            (&[0x80][..], 0),
            (&[0x80 | 125], 125),
            (&[0x80 | 126, 0, 126], 126),
            (&[0x80 | 126, 0xff, 0xff], 65535),
            (&[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], 65536),
            (&[0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], i64::MAX as u64),
        ] {
            let bytes = header(0x82, length);
            let expected = Header { fin: true, frame_type: FrameType::Binary, payload, mask: MASK };
            assert_eq!(parse(&bytes), Ok(Some((expected, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} bytes of {bytes:02x?}");
            }
        }
    }

    #[test]
    fn a_length_not_in_its_shortest_form_is_refused() {
        refused(&[0x82, 0x80 | 126, 0, 125], Violation::LengthNotShortest);
        refused(&[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Violation::LengthNotShortest);
    }

    #[test]
    fn a_length_of_64_bits_is_refused() {
        refused(&[0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::LengthExceeds63Bits);
    }

    #[test]
    fn each_reserved_bit_is_refused() {
        for bit in [0x40, 0x20, 0x10] {
            refused(&[0x81 | bit, 0x80], Violation::ReservedBits);
        }
    }

    #[test]
    fn each_reserved_opcode_is_refused() {
        for opcode in (3..=7).chain(11..=15) {
            refused(&[0x80 | opcode, 0x80], Violation::ReservedOpcode(opcode));
        }
    }

    #[test]
    fn an_unmasked_frame_is_refused() {
        for opcode in [0, 1, 2, 8, 9, 10] {
            refused(&[0x80 | opcode, 0], Violation::NotMasked);
        }
    }

    #[test]
    fn a_fragmented_control_frame_is_refused() {
        for opcode in [8, 9, 10] {
            refused(&[opcode, 0x80], Violation::ControlFragmented);
        }
    }

    #[test]
    fn a_control_frame_over_125_bytes_is_refused_before_its_length_is_read() {
        for opcode in [8, 9, 10] {
            refused(&[0x80 | opcode, 0x80 | 126], Violation::ControlTooLong);
            refused(&[0x80 | opcode, 0x80 | 127], Violation::ControlTooLong);
        }
    }
}
