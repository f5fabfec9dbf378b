//! Whatever a client sends, and however the network cuts it: no panic, the same events, the limits kept.
#![no_main]

use bytes::BytesMut;
use bytesize::ByteSize;
use libfuzzer_sys::fuzz_target;
use websocket::{Config, Decoder, Error, Event};

const LIMIT: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let Some((&chunk, bytes)) = data.split_first() else { return };
    let cut = decode(bytes, usize::from(chunk).max(1));
    assert_eq!(cut, decode(bytes, bytes.len().max(1)));
});

fn decode(bytes: &[u8], chunk: usize) -> (Vec<Event>, Option<Error>) {
    let mut decoder = Decoder::new(&Config { max_message: ByteSize::b(LIMIT as u64) });
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    for bytes in bytes.chunks(chunk) {
        input.extend_from_slice(bytes);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => {
                    check(&event);
                    events.push(event);
                }
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.len() <= LIMIT, "held {}", input.len());
    }
    (events, None)
}

fn check(event: &Event) {
    match event {
        Event::Text(text) => {
            assert!(text.len() <= LIMIT);
            assert!(std::str::from_utf8(text).is_ok());
        }
        Event::Binary(bytes) => assert!(bytes.len() <= LIMIT),
        Event::Ping(payload) | Event::Pong(payload) => assert!(payload.len() <= 125),
        Event::Close(close) => assert!(close.as_ref().is_none_or(|c| c.reason.len() <= 123)),
    }
}
