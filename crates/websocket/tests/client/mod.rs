//! The client's side, as far as tests need it: masked frames, lawful or not, cut anywhere.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use proptest::prelude::*;
use websocket::{CloseFrame, Config, Decoder, Error, Event};

/// Small enough for generated messages to pass it now and then.
pub(crate) const LIMIT: u64 = 2000;

pub(crate) fn decoder() -> Decoder {
    Decoder::new(&Config { max_message: ByteSize::b(LIMIT) })
}

/// One frame as a client sends it.
#[derive(Debug, Clone)]
pub(crate) struct ClientFrame {
    pub(crate) first: u8,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) payload: Vec<u8>,
}

impl ClientFrame {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(self.first);
        match self.payload.len() {
            len @ 0..=125 => out.push(mask_bit | len as u8),
            len @ 126..=0xffff => {
                out.push(mask_bit | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(mask_bit | 127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or_default();
        if self.mask.is_some() {
            out.extend_from_slice(&mask);
        }
        out.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

pub(crate) fn wire(frames: &[ClientFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut out));
    out
}

/// What a client means to say, and in which frames it says so.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    pub(crate) events: Vec<Event>,
    pub(crate) frames: Vec<ClientFrame>,
}

/// Lawful traffic: messages within the limit in any number of fragments, control frames anywhere, at times a
/// Close at the end.
pub(crate) fn traffic() -> impl Strategy<Value = Traffic> {
    let part = prop_oneof![
        4 => (message(), prop::collection::vec((any::<prop::sample::Index>(), control()), 0..6))
            .prop_map(|(message, between)| in_fragments(message, between)),
        1 => control().prop_map(|control| (vec![control.0], vec![control.1])),
    ];
    (
        prop::collection::vec(part, 0..6),
        prop::option::of(close()),
        prop::collection::vec(any::<[u8; 4]>(), 1..5),
    )
        .prop_map(|(parts, close, masks)| {
            let close = close.map(|(event, frame)| (vec![event], vec![frame]));
            let mut traffic = Traffic { events: Vec::new(), frames: Vec::new() };
            for (events, frames) in parts.into_iter().chain(close) {
                traffic.events.extend(events);
                traffic.frames.extend(frames);
            }
            for (frame, mask) in traffic.frames.iter_mut().zip(masks.iter().cycle()) {
                frame.mask = Some(*mask);
            }
            traffic
        })
}

/// Bytes that look random, from two numbers: a strategy for each byte would take most of a test's time.
pub(crate) fn bytes(len: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<u8>> {
    (len, any::<u64>()).prop_map(|(len, mut seed)| {
        std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 56) as u8
        })
        .take(len)
        .collect()
    })
}

/// Text with characters of one to four bytes, up to `letters` of them.
pub(crate) fn text(letters: usize) -> impl Strategy<Value = String> {
    const LETTERS: [char; 8] = ['a', '\0', '\n', '\u{7f}', 'é', '€', '\u{ffff}', '𝄞'];
    let letter = |byte: u8| LETTERS[usize::from(byte) % LETTERS.len()];
    bytes(0..=letters).prop_map(move |bytes| bytes.into_iter().map(letter).collect())
}

fn message() -> impl Strategy<Value = Event> {
    // Lengths on both sides of 125, and of words of eight bytes.
    let len = prop_oneof![0..20usize, 120..140usize, LIMIT as usize - 5..=LIMIT as usize];
    prop_oneof![
        bytes(len).prop_map(|bytes| Event::Binary(bytes.into())),
        text(150).prop_map(|text| Event::Text(text.into())),
    ]
}

fn control() -> impl Strategy<Value = (Event, ClientFrame)> {
    (any::<bool>(), bytes(0..=125usize)).prop_map(|(ping, payload)| {
        let content = Bytes::from(payload.clone());
        let (event, first) =
            if ping { (Event::Ping(content), 0x89) } else { (Event::Pong(content), 0x8a) };
        (event, ClientFrame { first, mask: None, payload })
    })
}

fn close() -> impl Strategy<Value = (Event, ClientFrame)> {
    let code = prop_oneof![1000..=1003u16, 1007..=1013u16, 3000..=4999u16];
    prop::option::of((code, text(30))).prop_map(|close| {
        let payload = match &close {
            None => Vec::new(),
            Some((code, reason)) => [&code.to_be_bytes(), reason.as_bytes()].concat(),
        };
        let event = Event::Close(close.map(|(code, reason)| CloseFrame { code, reason }));
        (event, ClientFrame { first: 0x88, mask: None, payload })
    })
}

/// The message cut where each control frame falls; the same cut twice makes an empty fragment.
fn in_fragments(
    message: Event,
    between: Vec<(prop::sample::Index, (Event, ClientFrame))>,
) -> (Vec<Event>, Vec<ClientFrame>) {
    let (opcode, payload) = match &message {
        Event::Text(text) => (0x1, text.clone()),
        Event::Binary(bytes) => (0x2, bytes.clone()),
        other => panic!("{other:?} is no message"),
    };
    let mut cuts: Vec<_> =
        between.into_iter().map(|(at, control)| (at.index(payload.len() + 1), control)).collect();
    cuts.sort_by_key(|(at, _)| *at);
    let (mut events, mut frames) = (Vec::new(), Vec::new());
    let mut start = 0;
    for (at, (event, frame)) in cuts {
        let first = if frames.is_empty() { opcode } else { 0x0 };
        frames.push(ClientFrame { first, mask: None, payload: payload[start..at].to_vec() });
        events.push(event);
        frames.push(frame);
        start = at;
    }
    let first = if frames.is_empty() { opcode } else { 0x0 };
    frames.push(ClientFrame {
        first: 0x80 | first,
        mask: None,
        payload: payload[start..].to_vec(),
    });
    events.push(message);
    (events, frames)
}

/// What the decoder makes of `bytes`, read in chunks of the lengths in `cuts`, over and over. It stops at the
/// first error and at a Close.
pub(crate) fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<Event>, Result<(), Error>) {
    let mut decoder = decoder();
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied().filter(|cut| *cut > 0).cycle();
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
        rest = later;
        input.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => events.push(event),
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, Ok(()))
}

/// Lengths of the reads a stream may come in.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![]), Just(vec![1]), prop::collection::vec(1usize..300, 1..8)]
}
