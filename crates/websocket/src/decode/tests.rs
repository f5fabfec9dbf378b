use super::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const FIRST_TEXT: u8 = 0x01;
const FIRST_BINARY: u8 = 0x02;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn header(first: u8, len: usize) -> Vec<u8> {
    let mut header = match len {
        0..=125 => vec![first, 0x80 | len as u8],
        126..=0xffff => [&[first, 0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, 0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    header.extend_from_slice(&KEY);
    header
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len());
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn decoder(limit: u64) -> Decoder {
    Decoder::new(&Config { max_message: bytesize::ByteSize::b(limit) })
}

fn text(text: &'static str) -> Event {
    Event::Text(Bytes::from_static(text.as_bytes()))
}

fn closed(code: u16, reason: &str) -> Event {
    Event::Close(Some(CloseFrame { code, reason: reason.to_owned() }))
}

/// The events of `frames`, given at once and byte by byte, up to the first error.
#[track_caller]
fn check(frames: &[Vec<u8>], events: &[Event], end: Result<(), Error>) {
    let bytes = frames.concat();
    for chunk in [bytes.len().max(1), 1] {
        let mut decoder = decoder(1024);
        let mut input = BytesMut::new();
        let mut decoded = Vec::new();
        let mut outcome = Ok(());
        'chunks: for bytes in bytes.chunks(chunk) {
            input.extend_from_slice(bytes);
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(event)) => decoded.push(event),
                    Ok(None) => break,
                    Err(error) => {
                        outcome = Err(error);
                        break 'chunks;
                    }
                }
            }
        }
        assert_eq!(decoded, events, "in chunks of {chunk}");
        assert_eq!(outcome, end, "in chunks of {chunk}");
    }
}

#[track_caller]
fn accepted(frames: &[Vec<u8>], events: &[Event]) {
    check(frames, events, Ok(()));
}

#[track_caller]
fn refused(frames: &[Vec<u8>], error: impl Into<Error>) {
    check(frames, &[], Err(error.into()));
}

#[test]
fn the_masked_examples_of_section_5_7_are_read_as_there() {
    let hello = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let pong = vec![0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    accepted(&[hello, pong], &[text("Hello"), Event::Pong(Bytes::from_static(b"Hello"))]);
}

#[test]
fn empty_messages_are_messages() {
    accepted(
        &[masked(TEXT, b""), masked(BINARY, b""), masked(FIRST_TEXT, b""), masked(LAST, b"")],
        &[text(""), Event::Binary(Bytes::new()), text("")],
    );
}

#[test]
fn fragments_are_joined() {
    accepted(
        &[masked(FIRST_TEXT, b"a"), masked(MORE, b""), masked(MORE, b"b"), masked(LAST, b"c")],
        &[text("abc")],
    );
    accepted(
        &[masked(FIRST_BINARY, b"\xff"), masked(LAST, b"\xfe")],
        &[Event::Binary(Bytes::from_static(b"\xff\xfe"))],
    );
}

#[test]
fn control_frames_may_come_between_fragments() {
    accepted(
        &[masked(FIRST_TEXT, b"a"), masked(PING, b"1"), masked(PONG, b"2"), masked(LAST, b"b")],
        &[Event::Ping(Bytes::from_static(b"1")), Event::Pong(Bytes::from_static(b"2")), text("ab")],
    );
    accepted(&[masked(FIRST_TEXT, b"a"), masked(CLOSE, b"\x03\xe8")], &[closed(1000, "")]);
}

#[test]
fn a_control_frame_has_room_when_the_message_has_none_left() {
    accepted(
        &[masked(FIRST_BINARY, &[7; 1024]), masked(PING, &[8; 125]), masked(LAST, b"")],
        &[Event::Ping(vec![8; 125].into()), Event::Binary(vec![7; 1024].into())],
    );
}

#[test]
fn a_continuation_continues_something() {
    refused(&[masked(LAST, b"a")], Violation::NothingToContinue);
    refused(&[masked(MORE, b"a")], Violation::NothingToContinue);
    check(
        &[masked(FIRST_TEXT, b"a"), masked(LAST, b"b"), masked(LAST, b"c")],
        &[text("ab")],
        Err(Violation::NothingToContinue.into()),
    );
}

#[test]
fn messages_are_not_interleaved() {
    for first in [TEXT, BINARY, FIRST_TEXT, FIRST_BINARY] {
        refused(&[masked(FIRST_TEXT, b"a"), masked(first, b"b")], Violation::MessageInterrupted);
    }
}

#[test]
fn headers_are_judged() {
    refused(&[masked(TEXT | 0x40, b"a")], Violation::ReservedBits);
    refused(&[masked(0x83, b"a")], Violation::ReservedOpcode(3));
    refused(&[b"\x81\x01a".to_vec()], Violation::NotMasked);
    refused(&[masked(0x09, b"")], Violation::ControlFragmented);
    refused(&[masked(PING, &[0; 126])], Violation::ControlTooLong);
}

#[test]
fn text_is_utf8_whatever_the_frames_cut() {
    let frames = "κό€𝄞".bytes().collect::<Vec<_>>();
    for cut in 0..=frames.len() {
        let (head, tail) = frames.split_at(cut);
        accepted(&[masked(FIRST_TEXT, head), masked(LAST, tail)], &[text("κό€𝄞")]);
    }
    refused(&[masked(TEXT, b"a\xff")], Error::NotUtf8);
    refused(&[masked(TEXT, b"\xed\xa0\x80")], Error::NotUtf8);
    refused(&[masked(TEXT, b"\xf4\x90\x80\x80")], Error::NotUtf8);
}

#[test]
fn text_that_ends_inside_a_character_is_refused() {
    refused(&[masked(TEXT, b"a\xe2\x82")], Error::NotUtf8);
    refused(&[masked(FIRST_TEXT, b"a\xe2"), masked(LAST, b"\x82")], Error::NotUtf8);
    refused(&[masked(FIRST_TEXT, b"a\xe2"), masked(LAST, b"")], Error::NotUtf8);
}

#[test]
fn text_that_cannot_become_valid_is_refused_before_its_frame_is_complete() {
    let mut part = masked(TEXT, &[&b"abc\xff"[..], &[b'd'; 50]].concat());
    part.truncate(6 + 4);
    refused(&[part], Error::NotUtf8);
    refused(&[masked(FIRST_TEXT, b"\xe2\x82"), masked(MORE, b"\x28")], Error::NotUtf8);
}

#[test]
fn an_unfinished_character_is_not_carried_into_the_next_message() {
    let mut decoder = decoder(1024);
    let mut input = BytesMut::from(&masked(TEXT, "€".as_bytes())[..8]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    input.extend_from_slice(&masked(TEXT, "€".as_bytes())[8..]);
    input.extend_from_slice(&masked(TEXT, b"a"));
    assert_eq!(decoder.decode(&mut input), Ok(Some(text("€"))));
    assert_eq!(decoder.decode(&mut input), Ok(Some(text("a"))));
}

#[test]
fn a_message_at_the_limit_passes_and_one_byte_more_is_refused() {
    accepted(&[masked(BINARY, &[7; 1024])], &[Event::Binary(vec![7; 1024].into())]);
    refused(&[masked(BINARY, &[7; 1025])], Error::TooBig { size: 1025, limit: 1024 });
    accepted(
        &[masked(FIRST_BINARY, &[7; 1000]), masked(LAST, &[7; 24])],
        &[Event::Binary(vec![7; 1024].into())],
    );
    refused(
        &[masked(FIRST_BINARY, &[7; 1000]), masked(LAST, &[7; 25])],
        Error::TooBig { size: 1025, limit: 1024 },
    );
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_header() {
    refused(&[header(BINARY, 1025)], Error::TooBig { size: 1025, limit: 1024 });
    refused(
        &[masked(FIRST_BINARY, &[7; 1000]), header(MORE, 25)],
        Error::TooBig { size: 1025, limit: 1024 },
    );
    let most = i64::MAX as u64;
    let largest = [&[BINARY, 0xff][..], &most.to_be_bytes(), &KEY].concat();
    refused(&[largest], Error::TooBig { size: most, limit: 1024 });
}

#[test]
fn a_close_has_no_payload_or_a_code_and_a_reason() {
    accepted(&[masked(CLOSE, b"")], &[Event::Close(None)]);
    accepted(&[masked(CLOSE, b"\x03\xe8")], &[closed(1000, "")]);
}

#[test]
fn a_close_reason_is_utf8() {
    accepted(&[masked(CLOSE, b"\x0f\xa0tsch\xc3\xbcss")], &[closed(4000, "tschüss")]);
    refused(&[masked(CLOSE, b"\x03\xe8\xff")], Error::NotUtf8);
    refused(&[masked(CLOSE, b"\x03\xe8\xc3")], Error::NotUtf8);
}

#[test]
fn a_close_of_one_byte_is_refused() {
    refused(&[masked(CLOSE, b"\x03")], Violation::CloseTruncated);
}

#[test]
fn a_close_code_must_be_one_that_travels() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        refused(&[masked(CLOSE, &u16::to_be_bytes(code))], Violation::CloseCode(code));
    }
}

#[test]
fn nothing_after_a_close_is_read() {
    accepted(&[masked(CLOSE, b""), masked(TEXT, b"late"), vec![0xff; 9]], &[Event::Close(None)]);
}

#[test]
fn nothing_after_an_error_is_read_or_held() {
    let mut decoder = decoder(1024);
    let mut input = BytesMut::from(&masked(FIRST_BINARY, &[7; 100])[..]);
    input.extend_from_slice(&[0xff; 20]);
    assert_eq!(decoder.decode(&mut input), Err(Violation::ReservedBits.into()));
    input.extend_from_slice(&masked(TEXT, b"late"));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty());
    assert_eq!(decoder.message.capacity(), 0);
}

#[test]
fn each_error_has_its_close_code() {
    assert_eq!(Error::from(Violation::NotMasked).close_code(), 1002);
    assert_eq!(Error::NotUtf8.close_code(), 1007);
    assert_eq!(Error::TooBig { size: 2, limit: 1 }.close_code(), 1009);
}

#[test]
fn a_message_in_one_frame_is_handed_out_without_a_copy() {
    let mut decoder = decoder(1024);
    let mut input = BytesMut::from(&masked(TEXT, b"Hello")[..]);
    let payload = input[6..].as_ptr();
    let Ok(Some(Event::Text(message))) = decoder.decode(&mut input) else { panic!("no text") };
    assert_eq!(message, "Hello");
    assert_eq!(message.as_ptr(), payload);
}

#[test]
fn an_idle_decoder_is_64_bytes_and_holds_no_heap_memory() {
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
    let mut decoder = decoder(1024);
    let mut input = BytesMut::new();
    assert_eq!(decoder.message.capacity(), 0);
    input.extend_from_slice(&masked(FIRST_BINARY, &[7; 500]));
    input.extend_from_slice(&masked(LAST, &[7; 500]));
    assert!(matches!(decoder.decode(&mut input), Ok(Some(Event::Binary(_)))));
    assert_eq!(decoder.message.capacity(), 0);
}

#[test]
fn fragments_hold_what_has_come_and_never_more_than_the_limit() {
    let mut decoder = decoder(1000);
    let mut input = BytesMut::from(&masked(FIRST_BINARY, &[7; 1])[..]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    // Announced, not sent.
    input.extend_from_slice(&header(MORE, 998));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(decoder.message.capacity() <= 2, "{}", decoder.message.capacity());
    for byte in 0..998u32 {
        input.extend_from_slice(&[byte as u8]);
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(decoder.message.capacity() <= 1000, "{}", decoder.message.capacity());
    }
    assert_eq!(decoder.message.len(), 999);
}
