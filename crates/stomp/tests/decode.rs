//! The rules of reading, one test each. The properties behind them are in `properties.rs`.

use bytes::BytesMut;
use stomp::{Command, Decoder, Frame, Limits, Malformed, Version};

const ROOMY: Limits = Limits { frame: 1 << 16, headers: 64, header_length: 8192, body: 1 << 15 };

/// Every frame of the bytes, and the error that ends them, if one does.
fn read_all(limits: Limits, version: Version, bytes: &[u8]) -> (Vec<Frame>, Option<Malformed>) {
    let mut decoder = Decoder::new(limits);
    decoder.set_version(version);
    let mut input = BytesMut::from(bytes);
    let mut frames = Vec::new();
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.reason)),
        }
    }
}

/// The one frame of the bytes.
fn read(version: Version, bytes: &[u8]) -> Frame {
    let (mut frames, error) = read_all(ROOMY, version, bytes);
    assert_eq!(error, None);
    assert_eq!(frames.len(), 1, "{frames:?}");
    frames.remove(0)
}

fn refuse_within(limits: Limits, version: Version, bytes: &[u8]) -> Malformed {
    let (frames, error) = read_all(limits, version, bytes);
    assert_eq!(frames, []);
    error.expect("an error")
}

fn refuse(version: Version, bytes: &[u8]) -> Malformed {
    refuse_within(ROOMY, version, bytes)
}

fn headers(frame: &Frame) -> Vec<(&str, &str)> {
    frame.headers.iter().map(|(name, value)| (&**name, &**value)).collect()
}

#[test]
fn a_frame_is_a_command_headers_and_a_body() {
    let frame = read(Version::V1_2, b"SEND\ndestination:/queue/a\nx:y\n\nhello\0");
    assert_eq!(frame.command, Command::Send);
    assert_eq!(headers(&frame), [("destination", "/queue/a"), ("x", "y")]);
    assert_eq!(&frame.body[..], b"hello");
}

#[test]
fn every_command_is_read() {
    for command in Command::ALL {
        assert_eq!(read(Version::V1_2, format!("{command}\n\n\0").as_bytes()), Frame::new(command));
    }
}

#[test]
fn line_feeds_crlf_and_nul_between_frames_are_skipped() {
    let bytes = b"\n\r\n\0\nBEGIN\n\n\0\n\n\0\r\nABORT\n\n\0\n";
    let (frames, error) = read_all(ROOMY, Version::V1_2, bytes);
    assert_eq!(frames, [Frame::new(Command::Begin), Frame::new(Command::Abort)]);
    assert_eq!(error, None);
}

#[test]
fn lines_may_end_in_crlf_in_every_version() {
    for version in Version::ALL {
        let frame = read(version, b"SEND\r\ndestination:/a\r\nx:\r\n\r\nbody\r\n\0");
        assert_eq!(headers(&frame), [("destination", "/a"), ("x", "")]);
        assert_eq!(&frame.body[..], b"body\r\n");
    }
}

#[test]
fn a_cr_inside_a_line_is_text() {
    for version in Version::ALL {
        assert_eq!(headers(&read(version, b"ACK\na\rb:c\rd\r\r\n\n\0")), [("a\rb", "c\rd\r")]);
    }
}

#[test]
fn the_first_of_repeated_headers_counts_and_all_are_kept() {
    let frame = read(Version::V1_2, b"MESSAGE\nfoo:World\nfoo:Hello\n\n\0");
    assert_eq!(frame.header("foo").map(|value| &**value), Some("World"));
    assert_eq!(headers(&frame), [("foo", "World"), ("foo", "Hello")]);
}

#[test]
fn the_first_colon_separates_and_the_others_are_text() {
    let frame = read(Version::V1_2, b"SEND\nurl:http://h:80/\n\n\0");
    assert_eq!(headers(&frame), [("url", "http://h:80/")]);
}

#[test]
fn a_value_may_be_empty_and_a_name_may_not() {
    assert_eq!(headers(&read(Version::V1_2, b"SEND\na:\n\n\0")), [("a", "")]);
    assert_eq!(refuse(Version::V1_2, b"SEND\n:a\n\n\0"), Malformed::EmptyHeaderName);
    assert_eq!(refuse(Version::V1_0, b"SEND\n  :a\n\n\0"), Malformed::EmptyHeaderName);
}

#[test]
fn escapes_of_1_2() {
    let frame = read(
        Version::V1_2,
        br"SEND
a\cb\\c\nd\re:\\n\c:\r\n\\

"
        .iter()
        .chain(b"\0")
        .copied()
        .collect::<Vec<_>>()
        .as_slice(),
    );
    assert_eq!(headers(&frame), [("a:b\\c\nd\re", "\\n::\r\n\\")]);
}

#[test]
fn escapes_of_1_1_lack_cr() {
    let frame = read(Version::V1_1, b"SEND\na\\cb:\\\\ \\c \\n\n\n\0");
    assert_eq!(headers(&frame), [("a:b", "\\ : \n")]);
    let reason = refuse(Version::V1_1, b"SEND\na:\\r\n\n\0");
    assert_eq!(reason, Malformed::BadEscape { escaped: Some('r') });
}

#[test]
fn a_backslash_is_text_in_1_0() {
    assert_eq!(headers(&read(Version::V1_0, b"SEND\na\\c:\\t\\\n\n\0")), [("a\\c", "\\t\\")]);
}

#[test]
fn undefined_escapes_are_refused() {
    for version in [Version::V1_1, Version::V1_2] {
        for (line, escaped) in [
            ("a:b\\tc", Some('t')),
            ("a\\xb:c", Some('x')),
            ("a:\\C", Some('C')),
            ("a:\\\u{e9}", Some('\u{e9}')),
            ("a:b\\", None),
            ("a\\:b", None),
        ] {
            let bytes = format!("SEND\n{line}\n\n\0");
            assert_eq!(refuse(version, bytes.as_bytes()), Malformed::BadEscape { escaped });
        }
    }
}

#[test]
fn nothing_is_escaped_in_frames_that_open_a_session() {
    for version in Version::ALL {
        for command in ["CONNECT", "STOMP"] {
            let bytes = format!("{command}\naccept-version:1.2\npasscode:a\\c\\t\\\n\n\0");
            let frame = read(version, bytes.as_bytes());
            assert_eq!(frame.header("passcode").unwrap(), "a\\c\\t\\");
        }
        let frame = read(version, b"CONNECTED\nversion:1.2\nserver:a\\cb\n\n\0");
        assert_eq!(frame.header("server").unwrap(), "a\\cb");
    }
}

#[test]
fn spaces_around_names_and_values_belong_to_them_from_1_1_on() {
    for version in [Version::V1_1, Version::V1_2] {
        assert_eq!(headers(&read(version, b"SEND\n a : b \n\n\0")), [(" a ", " b ")]);
    }
    assert_eq!(headers(&read(Version::V1_0, b"SEND\n a : b c \n\n\0")), [("a", "b c")]);
    assert_eq!(headers(&read(Version::V1_0, b"SEND\na:  \n\n\0")), [("a", "")]);
}

#[test]
fn a_connect_is_trimmed_when_it_amounts_to_1_0() {
    let login = |bytes: &[u8]| read(Version::V1_2, bytes).header("login").cloned().unwrap();
    assert_eq!(login(b"CONNECT\nlogin: guest\n\n\0"), "guest");
    assert_eq!(login(b"CONNECT\naccept-version: 1.0\nlogin: guest\n\n\0"), "guest");
    assert_eq!(login(b"CONNECT\naccept-version:1.0,1.1\nlogin: guest\n\n\0"), " guest");
    let session = |bytes: &[u8]| read(Version::V1_2, bytes).header("session").cloned().unwrap();
    assert_eq!(session(b"CONNECTED\nsession: 7\n\n\0"), "7");
    assert_eq!(session(b"CONNECTED\nversion:1.1\nsession: 7\n\n\0"), " 7");
}

#[test]
fn a_measured_body_may_hold_nul() {
    let frame = read(Version::V1_2, b"SEND\ncontent-length:5\n\na\0b\0\n\0");
    assert_eq!(&frame.body[..], b"a\0b\0\n");
}

#[test]
fn content_length_is_heeded_in_every_version_and_the_first_one_counts() {
    for version in Version::ALL {
        let frame = read(version, b"ERROR\ncontent-length:3\ncontent-length:1\n\n\0\0\0\0");
        assert_eq!(&frame.body[..], b"\0\0\0");
    }
    let frame = read(Version::V1_0, b"SEND\ncontent-length: 2 \n\n\0\0\0");
    assert_eq!(&frame.body[..], b"\0\0");
}

#[test]
fn a_measured_body_ends_in_nul() {
    let reason = refuse(Version::V1_2, b"SEND\ncontent-length:3\n\nabcd\0");
    assert_eq!(reason, Malformed::MissingNul);
    let reason = refuse(Version::V1_2, b"SUBSCRIBE\ncontent-length:0\n\n\n\0");
    assert_eq!(reason, Malformed::MissingNul);
}

#[test]
fn content_length_is_decimal_digits() {
    for value in ["", "x", "-1", "+1", " 1", "1 ", "0x1", "1.0", "\u{661}"] {
        let bytes = format!("SEND\ncontent-length:{value}\n\na\0");
        let reason = refuse(Version::V1_2, bytes.as_bytes());
        assert!(matches!(reason, Malformed::BadContentLength { .. }), "{value:?}: {reason:?}");
    }
    assert_eq!(&read(Version::V1_2, b"SEND\ncontent-length:0001\n\na\0").body[..], b"a");
}

#[test]
fn a_content_length_beyond_every_number_is_a_body_too_long() {
    for limits in [ROOMY, Limits { body: usize::MAX, frame: usize::MAX, ..ROOMY }] {
        let digits = "9".repeat(100);
        let bytes = format!("SEND\ncontent-length:{digits}\n\n");
        let reason = refuse_within(limits, Version::V1_2, bytes.as_bytes());
        assert!(reason.is_too_big(), "{reason:?}");
    }
}

#[test]
fn only_send_message_and_error_have_a_body() {
    for command in Command::ALL {
        let unmeasured = format!("{command}\n\nx\0");
        let measured = format!("{command}\ncontent-length:1\n\n");
        if command.may_have_body() {
            assert_eq!(&read(Version::V1_2, unmeasured.as_bytes()).body[..], b"x");
        } else {
            let expected = Malformed::BodyNotAllowed { command };
            assert_eq!(refuse(Version::V1_2, unmeasured.as_bytes()), expected);
            assert_eq!(refuse(Version::V1_2, measured.as_bytes()), expected);
            read(Version::V1_2, format!("{command}\ncontent-length:0\n\n\0").as_bytes());
        }
    }
    assert!([Command::Send, Command::Message, Command::Error].iter().all(|c| c.may_have_body()));
    assert_eq!(Command::ALL.iter().filter(|command| command.may_have_body()).count(), 3);
}

#[test]
fn bytes_that_are_not_stomp_fail_at_once() {
    for (bytes, start) in [
        (&b"G"[..], "G"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1"),
        (b"connect\n", "connect"),
        (b"CONNECTX", "CONNECTX"),
        (b"SEN\n", "SEN"),
        (b"SEND\rX", "SEND\\rX"),
        (b"SEN\r", "SEN"),
        (b"SEND\0", "SEND\\x00"),
        (b" SEND\n", " SEND"),
        (b"\x16\x03\x01", "\\x16\\x03\\x01"),
        (b"UNSUBSCRIBE ", "UNSUBSCRIBE "),
    ] {
        let expected = Malformed::UnknownCommand { start: start.into() };
        assert_eq!(refuse(Version::V1_2, bytes), expected);
    }
}

#[test]
fn an_unknown_command_is_shown_cut_and_printable() {
    let Malformed::UnknownCommand { start } = refuse(Version::V1_2, &[0xff; 1000]) else {
        panic!()
    };
    assert_eq!(start, r"\xff".repeat(8));
}

#[test]
fn a_header_line_needs_a_colon() {
    assert_eq!(refuse(Version::V1_2, b"SEND\nabc\n"), Malformed::HeaderWithoutColon);
    assert_eq!(refuse(Version::V1_2, b"SEND\na\\cb\n"), Malformed::HeaderWithoutColon);
}

#[test]
fn headers_are_utf_8() {
    let frame = read(Version::V1_2, "SEND\n\u{fc}:\u{1f600}\n\n\0".as_bytes());
    assert_eq!(headers(&frame), [("\u{fc}", "\u{1f600}")]);
    assert_eq!(refuse(Version::V1_2, b"SEND\na:\xff\n"), Malformed::NotUtf8);
    assert_eq!(refuse(Version::V1_2, b"SEND\n\xc3:b\n"), Malformed::NotUtf8);
}

#[test]
fn a_nul_before_the_blank_line_is_refused() {
    for bytes in [&b"SEND\na:b\0"[..], b"SEND\n\0", b"SEND\na:b\n\0", b"SEND\na\0b:c\n\n\0"] {
        assert_eq!(refuse(Version::V1_2, bytes), Malformed::NulInHeader);
    }
}

#[test]
fn an_error_names_the_receipt_that_was_read_before_it() {
    let receipt = |version, bytes: &[u8]| {
        let mut decoder = Decoder::new(ROOMY);
        decoder.set_version(version);
        let error = decoder.decode(&mut BytesMut::from(bytes)).expect_err("malformed");
        error.receipt.map(String::from)
    };
    assert_eq!(receipt(Version::V1_2, b"SEND\nreceipt:r-1\nbad\n"), Some("r-1".into()));
    assert_eq!(receipt(Version::V1_0, b"SEND\nreceipt: r-1\nbad\n"), Some("r-1".into()));
    assert_eq!(receipt(Version::V1_2, b"ACK\nreceipt:r\\c1\n\nbody\0"), Some("r:1".into()));
    assert_eq!(receipt(Version::V1_2, b"SEND\nbad\nreceipt:r-1\n"), None);
    assert_eq!(receipt(Version::V1_2, b"NOPE\nreceipt:r-1\n\n\0"), None);
}

#[test]
fn nothing_is_read_after_an_error() {
    let mut decoder = Decoder::new(ROOMY);
    let mut input = BytesMut::from(&b"NOPE\n\n\0BEGIN\n\n\0"[..]);
    let first = decoder.decode(&mut input);
    assert!(input.is_empty());
    input.extend_from_slice(b"BEGIN\n\n\0");
    assert_eq!(decoder.decode(&mut input), first);
    assert!(input.is_empty() && first.is_err());
}

#[test]
fn a_decoder_knows_whether_it_is_between_frames() {
    let mut decoder = Decoder::new(ROOMY);
    let mut input = BytesMut::new();
    let mut between_after = |bytes: &[u8]| {
        input.extend_from_slice(bytes);
        while decoder.decode(&mut input).expect("well-formed").is_some() {}
        decoder.is_between_frames()
    };
    assert!(between_after(b""));
    assert!(between_after(b"\n\n"));
    assert!(!between_after(b"SEN"));
    assert!(!between_after(b"D\n"));
    assert!(!between_after(b"a:b\n\n"));
    assert!(!between_after(b"body"));
    assert!(between_after(b"\0"));
    assert!(between_after(b"\r\n"));
    assert!(!between_after(b"SEND\n\n\0S"));
}

#[test]
fn input_keeps_what_is_not_used_and_gives_its_memory_back_when_empty() {
    let mut decoder = Decoder::new(ROOMY);
    let mut input = BytesMut::from(&b"BEGIN\n\n\0ABORT\n\n\0"[..]);
    assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::new(Command::Begin))));
    assert_eq!(&input[..], b"ABORT\n\n\0");
    assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::new(Command::Abort))));
    assert_eq!(input.capacity(), 0);
    input.extend_from_slice(b"\n");
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(input.capacity(), 0);
}

#[test]
fn text_and_body_are_slices_of_the_input() {
    let mut input = BytesMut::from(&b"SEND\ndestination:/queue/a\nesc:a\\cb\n\nhello\0"[..]);
    let held = input.as_ptr_range();
    let frame = Decoder::new(ROOMY).decode(&mut input).unwrap().unwrap();
    let destination = frame.header("destination").unwrap();
    assert!(held.contains(&destination.as_ptr()) && held.contains(&frame.body.as_ptr()));
    assert!(!held.contains(&frame.header("esc").unwrap().as_ptr()));
}

#[test]
fn frames_and_decoders_are_small() {
    assert!(size_of::<Frame>() <= 64, "{}", size_of::<Frame>());
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
}
