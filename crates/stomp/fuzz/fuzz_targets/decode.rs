//! Any bytes, cut anywhere: the decoder does not panic, holds no more than its limits, gives the
//! same for every cut, and what it gives can be written and read again.
//!
//! `cargo +nightly fuzz run decode`, from the crate.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use stomp::{Decoder, Frame, Limits, Malformed, Version};

const LIMITS: Limits = Limits { frame: 512, headers: 8, header_length: 64, body: 256 };

fn read<'a>(
    limits: Limits,
    version: Version,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Option<Malformed>) {
    let mut decoder = Decoder::new(limits);
    decoder.set_version(version);
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.reason)),
            }
        }
        assert!(input.len() <= limits.frame);
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let [choice, bytes @ ..] = data else { return };
    let version = Version::ALL[usize::from(*choice) % 3];
    let (frames, error) = read(LIMITS, version, std::iter::once(bytes));

    let (cut_frames, cut_error) = read(LIMITS, version, bytes.chunks(1 + usize::from(*choice) / 3));
    assert_eq!(frames, cut_frames);
    match (error, cut_error) {
        // The text shown is what has arrived.
        (Some(Malformed::UnknownCommand { .. }), Some(Malformed::UnknownCommand { .. })) => {}
        (error, cut_error) => assert_eq!(error, cut_error),
    }

    for frame in frames {
        let once = trip(&frame, version);
        assert_eq!((once.command, &once.body), (frame.command, &frame.body));
        // Not `frame` itself: the first trip may have blanked what the version cannot express.
        assert_eq!(trip(&once, version), once);
    }
});

/// The frame as a reader gets it from us.
fn trip(frame: &Frame, version: Version) -> Frame {
    let wide = Limits { frame: 1 << 20, headers: 64, header_length: 1 << 16, body: 1 << 20 };
    let mut out = BytesMut::new();
    frame.encode(version, &mut out);
    let (mut frames, error) = read(wide, version, std::iter::once(&out[..]));
    assert_eq!((frames.len(), error), (1, None));
    frames.remove(0)
}
