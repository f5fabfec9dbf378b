//! The rules of writing, one test each, and of agreeing on a version.

use bytes::BytesMut;
use stomp::{Command, Frame, FrameWriter, Headers, Version};

fn written(frame: &Frame, version: Version) -> String {
    let mut out = BytesMut::new();
    frame.encode(version, &mut out);
    String::from_utf8(out.to_vec()).expect("utf-8")
}

#[test]
fn a_frame_is_appended_behind_what_is_there() {
    let mut out = BytesMut::from(&b"\n"[..]);
    let mut frame = FrameWriter::new(&mut out, Command::Message, Version::V1_2);
    frame.header("subscription", "sub-0");
    frame.finish(b"hi\0");
    assert_eq!(&out[..], b"\nMESSAGE\nsubscription:sub-0\ncontent-length:3\n\nhi\0\0");
}

#[test]
fn content_length_is_written_where_a_body_may_be() {
    for command in Command::ALL {
        let text = written(&Frame::new(command), Version::V1_2);
        if command.may_have_body() {
            assert_eq!(text, format!("{command}\ncontent-length:0\n\n\0"));
        } else {
            assert_eq!(text, format!("{command}\n\n\0"));
        }
    }
}

#[test]
fn a_content_length_given_by_the_caller_is_not_written() {
    for version in Version::ALL {
        for name in ["content-length", " content-length", "content-length\r", "content-length\0"] {
            let frame = Frame::new(Command::Send).with_header(name, "99").with_body("abc");
            let text = written(&frame, version);
            // In 1.2 a CR can be said, and makes another name.
            let expected = match (version, name) {
                (Version::V1_2, "content-length\r") => {
                    "SEND\ncontent-length\\r:99\ncontent-length:3\n\nabc\0"
                }
                _ => "SEND\ncontent-length:3\n\nabc\0",
            };
            assert_eq!(text, expected, "{name:?}");
        }
    }
    let receipt = Frame::new(Command::Receipt).with_header("content-length", "3");
    assert_eq!(written(&receipt, Version::V1_2), "RECEIPT\n\n\0");
}

#[test]
fn a_body_is_not_written_where_none_may_be() {
    let frame = Frame::new(Command::Receipt).with_body("body");
    assert_eq!(written(&frame, Version::V1_2), "RECEIPT\n\n\0");
}

#[test]
fn a_header_without_a_name_is_not_written() {
    for version in Version::ALL {
        let frame = Frame::new(Command::Ack).with_header("", "a").with_header(" \0", "b");
        assert_eq!(written(&frame, version), "ACK\n\n\0");
    }
    let frame = Frame::new(Command::Ack).with_header(":", "a");
    assert_eq!(written(&frame, Version::V1_0), "ACK\n\n\0");
    assert_eq!(written(&frame, Version::V1_1), "ACK\n\\c:a\n\n\0");
}

#[test]
fn each_version_escapes_what_it_can_and_blanks_the_rest() {
    let frame = Frame::new(Command::Ack).with_header("n\\:\n\r\0n", "v\\:\n\r\0v");
    for (version, line) in [
        (Version::V1_2, r"n\\\c\n\r n:v\\\c\n\r v"),
        (Version::V1_1, r"n\\\c\n  n:v\\\c\n  v"),
        (Version::V1_0, r"n\    n:v\:   v"),
    ] {
        assert_eq!(written(&frame, version), format!("ACK\n{line}\n\n\0"));
    }
}

#[test]
fn nothing_is_escaped_in_frames_that_open_a_session() {
    for command in [Command::Connect, Command::Stomp, Command::Connected] {
        for version in Version::ALL {
            let frame = Frame::new(command).with_header("a:\\", "b:\\\r\nserver:evil");
            let expected = format!("{command}\na \\:b:\\  server:evil\n\n\0");
            assert_eq!(written(&frame, version), expected);
        }
    }
}

#[test]
fn headers_keep_their_order_and_the_first_one_counts() {
    let headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
    assert_eq!(headers.len(), 3);
    assert_eq!(headers.get("a").map(|value| &**value), Some("1"));
    assert_eq!(headers.get("A"), None);
    let frame = Frame { headers, ..Frame::new(Command::Begin) };
    assert_eq!(written(&frame, Version::V1_2), "BEGIN\na:1\nb:2\na:3\n\n\0");
}

#[test]
fn the_highest_common_version_is_agreed_on() {
    for (accept, agreed) in [
        (None, Some(Version::V1_0)),
        (Some("1.0"), Some(Version::V1_0)),
        (Some("1.2,1.1,1.0"), Some(Version::V1_2)),
        (Some("1.0,1.1"), Some(Version::V1_1)),
        (Some(" 1.1 , 1.0 "), Some(Version::V1_1)),
        (Some("1.1,1.3,2.0"), Some(Version::V1_1)),
        (Some("1.1,,"), Some(Version::V1_1)),
        (Some("1.3"), None),
        (Some("12"), None),
        (Some(""), None),
    ] {
        assert_eq!(Version::negotiate(accept), agreed, "{accept:?}");
    }
}

#[test]
fn versions_are_spelled_as_headers_have_them() {
    assert_eq!(Version::ALL.map(|version| version.to_string()).join(","), Version::SUPPORTED);
    for version in Version::ALL {
        assert_eq!(version.as_str().parse(), Ok(version));
    }
    assert!("1.3".parse::<Version>().is_err());
    assert!(Version::V1_0 < Version::V1_1 && Version::V1_1 < Version::V1_2);
}

#[test]
fn commands_are_upper_case() {
    for command in Command::ALL {
        assert_eq!(Command::from_bytes(command.as_str().as_bytes()), Some(command));
        let lower = command.as_str().to_ascii_lowercase();
        assert_eq!(Command::from_bytes(lower.as_bytes()), None);
    }
}
