//! What holds for any traffic, lawful or not, however the network cuts it.

use bytes::BytesMut;
use proptest::prelude::*;
use websocket::Event;

mod client;

use client::{LIMIT, bytes, cuts, decode, decoder, traffic, wire};

proptest! {
    #[test]
    fn lawful_traffic_decodes_to_what_the_client_meant_however_it_is_cut(
        traffic in traffic(),
        cuts in cuts(),
    ) {
        let (events, end) = decode(&wire(&traffic.frames), &cuts);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(events, traffic.events);
    }

    #[test]
    fn junk_decodes_alike_however_it_is_cut_and_keeps_the_limits(
        traffic in traffic(),
        junk in prop::collection::vec(any::<u8>(), 0..200),
        cuts in cuts(),
    ) {
        let mut bytes = wire(&traffic.frames);
        bytes.extend_from_slice(&junk);
        let (events, end) = decode(&bytes, &cuts);
        prop_assert_eq!(&(events.clone(), end), &decode(&bytes, &[]));
        for event in events {
            match event {
                Event::Text(text) => {
                    prop_assert!(text.len() as u64 <= LIMIT);
                    prop_assert!(std::str::from_utf8(&text).is_ok());
                }
                Event::Binary(bytes) => prop_assert!(bytes.len() as u64 <= LIMIT),
                Event::Ping(payload) | Event::Pong(payload) => prop_assert!(payload.len() <= 125),
                Event::Close(close) => prop_assert!(close.is_none_or(|c| c.reason.len() <= 123)),
            }
        }
    }

    #[test]
    fn the_input_never_has_to_hold_more_than_one_message_and_its_header(
        traffic in traffic(),
        junk in bytes(0..LIMIT as usize * 2),
    ) {
        let mut bytes = wire(&traffic.frames);
        bytes.extend_from_slice(&junk);
        let mut decoder = decoder();
        let mut input = BytesMut::new();
        for byte in bytes {
            input.extend_from_slice(&[byte]);
            while let Ok(Some(_)) = decoder.decode(&mut input) {}
            prop_assert!(input.len() as u64 <= LIMIT.max(14));
        }
    }
}
