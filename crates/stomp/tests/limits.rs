//! Each limit lets its own size pass, refuses one more, and does so with the first byte that
//! tells.

use bytes::BytesMut;
use stomp::{Command, Decoder, Limits, Malformed};

const WIDE: Limits = Limits { frame: 1000, headers: 100, header_length: 1000, body: 1000 };

/// Feeds byte by byte. How many bytes had come when the error did, and which it is; `None` where
/// the bytes are taken without one.
fn refusal(limits: Limits, bytes: &[u8]) -> Option<(usize, Malformed)> {
    let mut decoder = Decoder::new(limits);
    let mut input = BytesMut::new();
    for (at, byte) in bytes.iter().enumerate() {
        input.extend_from_slice(&[*byte]);
        match decoder.decode(&mut input) {
            Ok(_) => {}
            Err(error) => return Some((at + 1, error.reason)),
        }
    }
    None
}

/// The same for all the bytes at once.
fn refusal_at_once(limits: Limits, bytes: &[u8]) -> Option<Malformed> {
    let mut decoder = Decoder::new(limits);
    let mut input = BytesMut::from(bytes);
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error.reason),
        }
    }
}

/// The bytes fail both ways, with the `length`th one.
#[track_caller]
fn assert_refused(limits: Limits, bytes: &[u8], length: usize, reason: Malformed) {
    assert!(reason.is_too_big());
    assert_eq!(refusal_at_once(limits, bytes), Some(reason.clone()));
    assert_eq!(refusal(limits, bytes), Some((length, reason)));
}

#[track_caller]
fn assert_taken(limits: Limits, bytes: &[u8]) {
    assert_eq!(refusal_at_once(limits, bytes), None);
    assert_eq!(refusal(limits, bytes), None);
}

#[test]
fn a_frame_counts_from_its_command_to_its_nul() {
    let limits = Limits { frame: 14, ..WIDE };
    assert_taken(limits, b"\n\n\nSEND\na:b\n\n123\0\n\n\n\nSEND\na:b\n\n123\0");
    let reason = Malformed::FrameTooLong { limit: 14 };
    assert_refused(limits, b"SEND\na:b\n\n1234\0", 14, reason);
}

#[test]
fn a_frame_is_refused_within_its_headers_too() {
    let reason = Malformed::FrameTooLong { limit: 14 };
    assert_refused(Limits { frame: 14, ..WIDE }, b"SEND\na:bbbbbbbbbbbbbbb", 14, reason.clone());
    assert_refused(Limits { frame: 14, ..WIDE }, b"SEND\na:bbbbbb\n\n\0", 14, reason);
}

#[test]
fn a_frame_is_refused_for_its_content_length_before_the_body_comes() {
    let limits = Limits { frame: 30, ..WIDE };
    let head = |length| format!("SEND\ncontent-length:{length:02}\n\n");
    assert_taken(limits, format!("{}12345\0", head(5)).as_bytes());
    let reason = Malformed::FrameTooLong { limit: 30 };
    assert_refused(limits, head(6).as_bytes(), head(6).len(), reason);
}

#[test]
fn headers_are_counted() {
    let limits = Limits { headers: 2, ..WIDE };
    assert_taken(limits, b"SEND\na:b\na:b\n\n\0SEND\na:b\na:b\n\n\0");
    let reason = Malformed::TooManyHeaders { limit: 2 };
    assert_refused(limits, b"SEND\na:b\na:b\nc:d\n\n\0", 17, reason);
}

#[test]
fn a_header_line_is_measured_without_its_end() {
    let limits = Limits { header_length: 5, ..WIDE };
    assert_taken(limits, b"SEND\na:345\na:345\r\n\n\0");
    let reason = Malformed::HeaderTooLong { limit: 5 };
    assert_refused(limits, b"SEND\na:3456\n\n\0", 11, reason.clone());
    assert_refused(limits, b"SEND\na:3456\r\n\n\0", 11, reason.clone());
    assert_refused(limits, b"SEND\na:345\r\r\n\n\0", 12, reason.clone());
    assert_refused(limits, b"SEND\na:\\\\\\\\\n\n\0", 11, reason);
}

#[test]
fn a_body_until_nul_is_measured_as_it_comes() {
    let limits = Limits { body: 3, ..WIDE };
    assert_taken(limits, b"SEND\n\n123\0SEND\n\n123\0");
    let reason = Malformed::BodyTooLong { limit: 3 };
    assert_refused(limits, b"SEND\n\n12345678", 10, reason);
}

#[test]
fn a_measured_body_is_refused_before_it_comes() {
    let limits = Limits { body: 3, ..WIDE };
    assert_taken(limits, b"SEND\ncontent-length:3\n\n\0\0\0\0");
    let head = b"SEND\ncontent-length:4\n\n";
    assert_refused(limits, head, head.len(), Malformed::BodyTooLong { limit: 3 });
}

#[test]
fn limits_of_zero_leave_the_smallest_frame() {
    let limits = Limits { frame: 7, headers: 0, header_length: 0, body: 0 };
    assert_taken(limits, b"SEND\n\n\0\nSEND\n\n\0");
    assert_refused(limits, b"SEND\na", 6, Malformed::HeaderTooLong { limit: 0 });
    assert_refused(limits, b"SEND\n\nx", 7, Malformed::BodyTooLong { limit: 0 });
    let reason = Malformed::FrameTooLong { limit: 7 };
    assert_refused(limits, b"SEND\r\n\r\n\0", 7, reason);
}

#[test]
fn boundless_limits_are_limits_too() {
    let max = usize::MAX;
    let limits = Limits { frame: max, headers: max, header_length: max, body: max };
    assert_taken(limits, b"SEND\na:b\n\nbody\0");
}

#[test]
fn what_is_wrong_is_not_what_is_too_big() {
    let reason = refusal_at_once(WIDE, b"ACK\n\nx\0").expect("an error");
    assert_eq!(reason, Malformed::BodyNotAllowed { command: Command::Ack });
    assert!(!reason.is_too_big());
}
