//! Frames as a publisher may make them, and what lapin's parser says to them.

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod;
use amq_protocol::types::AMQPValue;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::walk::DEEPEST;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1], &size[..], payload, &[FRAME_END]].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn deliver(key: &[u8]) -> Vec<u8> {
    let tag_and_redelivered = [0; 9];
    let payload =
        [&[0, 60, 0, 60], &short(b"c")[..], &tag_and_redelivered, &short(b"e"), &short(key)];
    frame(METHOD, &payload.concat())
}

/// A content header of a body without bytes.
fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    let begin = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame(HEADER, &[&begin[..], &flags.to_be_bytes(), properties].concat())
}

fn headers(table: &[u8]) -> Vec<u8> {
    header(1 << 13, &long(table))
}

/// So many arrays in one another, as the value of one header.
fn arrays(depth: usize) -> Vec<u8> {
    let mut value = b"V".to_vec();
    for _ in 0..depth {
        value = [b"A".to_vec(), long(&value)].concat();
    }
    headers(&[short(b"n"), value].concat())
}

/// What comes out for what comes in chunk by chunk, however little is looked at again.
fn pass<'a>(frames: &mut Frames, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    pass_counting(frames, chunks).0
}

/// As `pass`, with how many bytes were left out.
fn pass_counting<'a>(
    frames: &mut Frames,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, usize) {
    let (mut out, mut held, mut dropped) = (Vec::new(), Vec::new(), 0);
    for chunk in chunks {
        held.extend_from_slice(chunk);
        loop {
            match frames.step(&mut held) {
                Step::Ready(count) => out.extend(held.drain(..count)),
                Step::Drop(count) => dropped += held.drain(..count).count(),
                Step::More => break,
            }
        }
        assert!(held.len() < frames.limit.max(BARE), "{} bytes are held", held.len());
    }
    out.extend(held);
    (out, dropped)
}

fn mended(bytes: &[u8]) -> Vec<u8> {
    pass(&mut Frames::new(0), [bytes])
}

fn unchanged(bytes: &[u8]) {
    let mut frames = Frames::new(0);
    assert_eq!(pass(&mut frames, [bytes]), bytes);
    assert_eq!(frames.mended, 0);
}

fn parse(bytes: &[u8]) -> Vec<AMQPFrame> {
    let (mut rest, mut parsed) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (behind, frame) = parse_frame(rest).expect("lapin can parse it");
        parsed.push(frame);
        rest = behind;
    }
    parsed
}

#[test]
fn bytes_of_a_short_string_that_are_not_utf_8_become_question_marks() {
    unchanged(&deliver("k\u{e9}y.\u{1f600}".as_bytes()));
    let parsed = parse(&mended(&deliver(b"a.\xff\xfe\xc3\xa9\xc3")));
    let AMQPFrame::Method(1, AMQPClass::Basic(AMQPMethod::Deliver(method))) = &parsed[0] else {
        panic!("{parsed:?}");
    };
    assert_eq!(method.routing_key.as_str(), "a.??\u{e9}?");
    assert_eq!(method.exchange.as_str(), "e");
}

#[test]
fn every_property_and_every_header_name_is_mended() {
    let name = short(b"na\xefve");
    let inner = [&name[..], b"S", &long(b"\xff")].concat();
    let table = [&name[..], b"F", &long(&inner)].concat();
    let mut properties = Vec::new();
    for index in 0..14 {
        match index {
            2 => properties.extend(long(&table)),
            3 | 4 => properties.push(0xff),
            9 => properties.extend([0xff; 8]),
            _ => properties.extend(short(b"\xff")),
        }
    }
    let parsed = parse(&mended(&header(0xfffc, &properties)));
    let AMQPFrame::Header(1, header) = &parsed[0] else { panic!("{parsed:?}") };
    let properties = &header.properties;
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "?");
    assert_eq!(properties.cluster_id().as_ref().unwrap().as_str(), "?");
    assert_eq!((*properties.priority(), *properties.timestamp()), (Some(0xff), Some(u64::MAX)));
    let outer = &properties.headers().as_ref().unwrap().inner()["na?ve"];
    let AMQPValue::FieldTable(inner) = outer else { panic!("{outer:?}") };
    assert_eq!(inner.inner()["na?ve"], AMQPValue::LongString(b"\xff"[..].into()));
}

#[test]
fn what_is_nested_too_deep_becomes_bytes() {
    // The headers themselves are the first level.
    unchanged(&arrays(DEEPEST - 1));
    for depth in [DEEPEST, 2_000, 20_000] {
        let parsed = parse(&mended(&arrays(depth)));
        let AMQPFrame::Header(1, header) = &parsed[0] else { panic!("{parsed:?}") };
        let mut value = &header.properties.headers().as_ref().unwrap().inner()["n"];
        let mut levels = 1;
        while let AMQPValue::FieldArray(array) = value {
            levels += 1;
            value = &array.as_slice()[0];
        }
        assert!(matches!(value, AMQPValue::ByteArray(_)), "{value:?}");
        assert_eq!(levels, DEEPEST);
    }
}

#[test]
fn a_reason_that_was_cut_within_a_character_is_mended() {
    for method in [[0, 10, 0, 50], [0, 20, 0, 40]] {
        let text = short("no queue '\u{e9}\u{e9}".as_bytes().split_last().unwrap().1);
        let close = [&method[..], &[1, 148], &text, &[0; 4]].concat();
        parse(&mended(&frame(METHOD, &close)));
    }
}

#[test]
fn a_header_longer_than_a_frame_may_be_goes_without_its_properties() {
    let tune = frame(METHOD, &[0, 10, 0, 30, 7, 255, 0, 0, 32, 0, 0, 60]);
    let fits = headers(&[short(b"n"), b"S".to_vec(), long(&[0xff; 8_000])].concat());
    let longer = headers(&[short(b"n"), b"S".to_vec(), long(&[0xff; 8_200])].concat());
    let all = [tune, fits.clone(), longer, deliver(b"k"), frame(BODY, &[0; 9_000])].concat();
    for chunk in [1, 7, 1_000, all.len()] {
        let mut frames = Frames::new(0);
        let out = pass(&mut frames, all.chunks(chunk));
        assert_eq!(frames.mended, 1);
        let parsed = parse(&out);
        assert_eq!(parsed.len(), 5);
        assert_eq!(parsed[1], parse(&fits)[0]);
        let AMQPFrame::Header(1, bare) = &parsed[2] else { panic!("{parsed:?}") };
        assert_eq!((bare.class_id, bare.properties.bitmask()), (60, 0));
        assert!(matches!(parsed[4], AMQPFrame::Body(1, _)));
    }
}

#[test]
fn the_lower_of_both_sides_limits_is_agreed() {
    for (own, proposed, agreed) in [
        (0, 131_072, 131_072),
        (8_192, 131_072, 8_192),
        (131_072, 8_192, 8_192),
        (8_192, 0, 8_192),
        (0, 0, HIGHEST_LIMIT),
        (1, 1, LOWEST_LIMIT),
    ] {
        let mut frames = Frames::new(own);
        frames.agree(proposed);
        assert_eq!(frames.limit, agreed);
    }
}

#[test]
fn what_is_malformed_is_left_as_it_is() {
    let beyond = headers(&[short(b"n"), b"A".to_vec(), vec![0, 0, 1, 0], vec![0xff]].concat());
    let unknown = headers(&[short(b"n"), b"Z".to_vec(), short(b"\xff"), vec![b'V']].concat());
    let cut = frame(METHOD, &[0, 60, 0, 60, 9, 0xff]);
    for bytes in [beyond, unknown, cut, b"HTTP/1.1 400 \xff\r\n".to_vec()] {
        unchanged(&bytes);
        assert!(parse_frame(&bytes[..]).is_err());
    }
}

fn value(
    name: impl Strategy<Value = Vec<u8>> + Clone + 'static,
    depth: u32,
) -> BoxedStrategy<Vec<u8>> {
    let plain = |kinds: &'static [u8], length| {
        (proptest::sample::select(kinds), vec(any::<u8>(), length))
            .prop_map(|(kind, bytes)| [vec![kind], bytes].concat())
    };
    let leaf =
        prop_oneof![
            plain(b"V", 0),
            plain(b"tbB", 1),
            plain(b"sUu", 2),
            plain(b"Iif", 4),
            plain(b"D", 5),
            plain(b"LldT", 8),
            (proptest::sample::select(&b"Sx"[..]), vec(any::<u8>(), 0..9))
                .prop_map(|(kind, bytes)| [vec![kind], long(&bytes)].concat()),
        ];
    leaf.prop_recursive(depth, 64, 3, move |inner| {
        let array = vec(inner.clone(), 0..3)
            .prop_map(|values| [b"A".to_vec(), long(&values.concat())].concat());
        let table = vec((name.clone(), inner), 0..3).prop_map(|entries| {
            let entries: Vec<_> = entries.into_iter().flat_map(|(n, v)| [n, v]).collect();
            [b"F".to_vec(), long(&entries.concat())].concat()
        });
        prop_oneof![array, table]
    })
    .boxed()
}

fn message(
    name: impl Strategy<Value = Vec<u8>> + Clone + 'static,
    depth: u32,
) -> impl Strategy<Value = Vec<u8>> {
    let deliver = vec(name.clone(), 3).prop_map(|names| {
        let payload = [&[0, 60, 0, 60], &names[0][..], &[0; 9], &names[1], &names[2]];
        frame(METHOD, &payload.concat())
    });
    let content = (any::<u16>(), vec(name.clone(), 10), name.clone(), value(name, depth)).prop_map(
        |(flags, names, key, value)| {
            let flags = flags & 0xfffc;
            let mut names = names.into_iter();
            let mut properties = Vec::new();
            for index in (0..14).filter(|index| flags & (1 << (15 - index)) != 0) {
                match index {
                    2 => properties.extend(long(&[&key[..], &value].concat())),
                    3 | 4 => properties.push(1),
                    9 => properties.extend([1; 8]),
                    _ => properties.extend(names.next().unwrap_or_else(|| short(b""))),
                }
            }
            header(flags, &properties)
        },
    );
    let body = vec(any::<u8>(), 0..50).prop_map(|bytes| frame(BODY, &bytes));
    (deliver, content, body).prop_map(|(d, c, b)| [d, c, b].concat())
}

fn any_name() -> impl Strategy<Value = Vec<u8>> + Clone {
    vec(any::<u8>(), 0..6).prop_map(|bytes| short(&bytes))
}

fn utf_8_name() -> impl Strategy<Value = Vec<u8>> + Clone {
    "\\PC{0,4}".prop_map(|text| short(text.as_bytes()))
}

/// Frames, and what only looks like it.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let junk = (any::<u8>(), vec(any::<u8>(), 0..80));
    let part = prop_oneof![
        4 => message(any_name(), 24),
        2 => (1..=3u8, vec(any::<u8>(), 0..80)).prop_map(|(kind, bytes)| frame(kind, &bytes)),
        1 => (any::<u16>(), vec(any::<u8>(), 0..80)).prop_map(|(f, bytes)| header(f, &bytes)),
        1 => junk.prop_map(|(kind, bytes)| [vec![kind], bytes].concat()),
    ];
    vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_byte_comes_or_goes_however_the_stream_is_cut(
        bytes in stream(),
        cuts in vec(1..40usize, 1..20),
    ) {
        // Junk may look like a header that is too long, which is cut.
        let (whole, dropped) = pass_counting(&mut Frames::new(0), [&bytes[..]]);
        prop_assert_eq!(whole.len() + dropped, bytes.len());
        let mut rest = &bytes[..];
        let mut chunks = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = behind;
        }
        prop_assert_eq!(&pass(&mut Frames::new(0), chunks), &whole);
        prop_assert_eq!(&mended(&whole), &whole, "what is mended is left alone");
    }

    #[test]
    fn whatever_a_publisher_writes_can_be_parsed(messages in vec(message(any_name(), 24), 1..4)) {
        let bytes = messages.concat();
        let parsed = parse(&mended(&bytes));
        prop_assert_eq!(parsed.len(), messages.len() * 3);
    }

    #[test]
    fn what_can_be_parsed_is_left_alone(message in message(utf_8_name(), 8)) {
        let mut frames = Frames::new(0);
        let out = pass(&mut frames, [&message[..]]);
        prop_assert_eq!(parse(&out).len(), 3);
        prop_assert_eq!(frames.mended, 0);
        prop_assert_eq!(out, message);
    }
}
