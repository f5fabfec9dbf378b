//! What holds for all frames and all bytes.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use stomp::{Command, DecodeError, Decoder, Frame, Headers, Limits, Malformed, Version};

const LIMITS: Limits = Limits { frame: 4096, headers: 16, header_length: 512, body: 2048 };

/// Texts made of what codecs stumble over.
fn text() -> impl Strategy<Value = String> {
    let piece = select(vec![
        ":",
        "\\",
        "\r",
        "\n",
        "\0",
        " ",
        "\\c",
        "\\n",
        "\\r",
        "\\\\",
        "\r\n",
        "a",
        "Z9",
        "-",
        "content-length",
        "\u{e9}",
        "\u{4e16}",
        "\u{1f600}",
    ]);
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn body() -> impl Strategy<Value = Bytes> {
    let byte = prop_oneof![select(vec![0, b'\n', b'\r', b':', b'\\', 0xff]), any::<u8>()];
    vec(byte, 0..64).prop_map(Bytes::from)
}

fn frame() -> impl Strategy<Value = Frame> {
    (select(Command::ALL.to_vec()), vec((text(), text()), 0..6), body()).prop_map(
        |(command, headers, body)| Frame {
            command,
            headers: headers.into_iter().collect(),
            body: if command.may_have_body() { body } else { Bytes::new() },
        },
    )
}

fn version() -> impl Strategy<Value = Version> {
    select(Version::ALL.to_vec())
}

/// Bytes that are nearly STOMP: frames with a few bytes exchanged, and pieces strung together.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => select(vec![
            &b"SEND"[..], b"CONNECT", b"MESSAGE", b"ACK", b"\n", b"\n\n", b"\r\n", b"\0", b"a:b\n",
            b":", b"\\", b"content-length:", b"3", b"99999999999999999999", b"receipt:1\n", b"\xff",
        ]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..40),
        1 => (0..600usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    let pieces = vec(piece, 0..24).prop_map(|pieces| pieces.concat());
    let broken = (vec((frame(), version()), 1..3), vec((any::<Index>(), any::<u8>()), 0..4))
        .prop_map(|(frames, changes)| {
            let mut out = BytesMut::new();
            for (frame, version) in frames {
                frame.encode(version, &mut out);
            }
            for (at, byte) in changes {
                let at = at.index(out.len());
                out[at] = byte;
            }
            out.to_vec()
        });
    prop_oneof![pieces, broken]
}

/// What comes out of bytes that come in these chunks.
fn read(version: Version, chunks: &[&[u8]]) -> (Vec<Frame>, Option<DecodeError>) {
    let mut decoder = Decoder::new(LIMITS);
    decoder.set_version(version);
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(input.len() <= LIMITS.frame, "{} bytes are held", input.len());
        assert!(!decoder.is_between_frames() || input.capacity() == 0);
    }
    (frames, None)
}

fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// The frame that a reader should see: what the version cannot express is a space, and headers
/// that may not be written are gone. Written from the documentation, not from the encoder.
fn expressible(frame: &Frame, version: Version) -> Frame {
    let opening = matches!(frame.command, Command::Connect | Command::Stomp | Command::Connected);
    let lost: &[char] = match version {
        _ if opening => &['\0', '\r', '\n'],
        Version::V1_0 => &['\0', '\r', '\n'],
        Version::V1_1 => &['\0', '\r'],
        Version::V1_2 => &['\0'],
    };
    let plain = opening || version == Version::V1_0;
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in frame.headers.iter() {
        let mut name = name.replace(lost, " ");
        let mut value = value.replace(lost, " ");
        if plain {
            // An opening frame without version headers, as all of these are, is one of 1.0.
            name = name.replace(':', " ").trim_matches(' ').into();
            value = value.trim_matches(' ').into();
        }
        // Left out in every version, spaces around it or not.
        let bare = name.trim_matches(' ');
        if !bare.is_empty() && bare != "content-length" {
            headers.push((name, value));
        }
    }
    if frame.command.may_have_body() {
        headers.push(("content-length".into(), frame.body.len().to_string()));
    }
    let headers: Headers = headers.into_iter().collect();
    Frame { command: frame.command, headers, body: frame.body.clone() }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(frame in frame(), version in version()) {
        let mut out = BytesMut::new();
        frame.encode(version, &mut out);
        let (frames, error) = read(version, &[&out]);
        prop_assert_eq!(error, None);
        prop_assert_eq!(frames, [expressible(&frame, version)]);
    }

    #[test]
    fn frames_come_out_one_by_one_however_they_are_cut(
        frames in vec(frame(), 1..5),
        gaps in vec(select(vec!["", "\n", "\r\n", "\n\n\n", "\0"]), 5),
        version in version(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut out = BytesMut::new();
        for (frame, gap) in frames.iter().zip(gaps) {
            out.extend_from_slice(gap.as_bytes());
            frame.encode(version, &mut out);
        }
        let (read, error) = read(version, &cut(&out, &cuts));
        prop_assert_eq!(error, None);
        let expected: Vec<Frame> =
            frames.iter().map(|frame| expressible(frame, version)).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn junk_ends_alike_however_it_is_cut(
        junk in junk(),
        version in version(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let whole = read(version, &[&junk]);
        let bytes: Vec<&[u8]> = junk.chunks(1).collect();
        for chunks in [cut(&junk, &cuts), bytes] {
            let parts = read(version, &chunks);
            prop_assert_eq!(&parts.0, &whole.0);
            match (&parts.1, &whole.1) {
                // The text shown is what has arrived.
                (
                    Some(DecodeError { reason: Malformed::UnknownCommand { start: some }, .. }),
                    Some(DecodeError { reason: Malformed::UnknownCommand { start: all }, .. }),
                ) => prop_assert!(all.starts_with(some.trim_end_matches("\\r")), "{some} {all}"),
                (parts, whole) => prop_assert_eq!(parts, whole),
            }
        }
    }

    #[test]
    fn an_endless_frame_fails_at_its_limit(
        byte in any::<u8>(),
        start in select(vec!["SEND\n", "SEND\na:", "SEND\n\n", "SEND\n\na", "ACK\nb:\n", "MESS"]),
        chunk in 1..64usize,
    ) {
        // These end what should be endless.
        prop_assume!(byte != 0 && byte != b'\n');
        let bytes = [start.as_bytes(), &vec![byte; 2 * LIMITS.frame]].concat();
        let chunks: Vec<&[u8]> = bytes.chunks(chunk).collect();
        let (frames, error) = read(Version::V1_2, &chunks);
        prop_assert_eq!(frames, []);
        prop_assert!(error.is_some());
    }
}
