//! Against tungstenite, written by others: both must make the same of any traffic.
//!
//! Deliberate differences, where tungstenite is more lenient or later than RFC 6455 asks:
//!
//! - A length that is not in its shortest form (section 5.2) is refused here and accepted there.
//! - A close code that may not be sent is refused here; there it becomes a Close with code 1002. Code 1014 is
//!   registered with IANA and accepted here.
//! - A broken rule is reported here by the first bytes that break it, there when the frame is complete. So
//!   streams with errors are compared with zeros after them that complete any frame. Of two broken rules the
//!   two may name different ones; that there is an error, and after which events, must agree.

use std::io::{self, Read, Write};

use bytes::Bytes;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use websocket::{CloseFrame, Error, Event, FrameBuilder, Opcode, Violation};

mod client;

use client::{ClientFrame, LIMIT, bytes, cuts, decode, text, traffic, wire};

/// A connection whose peer has said `incoming` and then says nothing more; what is written is dropped.
struct Stream<'a> {
    incoming: &'a [u8],
    cuts: &'a [usize],
    reads: usize,
}

impl<'a> Stream<'a> {
    fn new(incoming: &'a [u8], cuts: &'a [usize]) -> Self {
        Self { incoming, cuts, reads: 0 }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let cut = match self.cuts {
            [] => usize::MAX,
            cuts => cuts[self.reads % cuts.len()],
        };
        self.reads += 1;
        let len = buffer.len().min(cut);
        self.incoming.read(&mut buffer[..len])
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn event(message: Message) -> Event {
    match message {
        Message::Text(text) => Event::Text(text.into()),
        Message::Binary(bytes) => Event::Binary(bytes),
        Message::Ping(payload) => Event::Ping(payload),
        Message::Pong(payload) => Event::Pong(payload),
        Message::Close(close) => {
            Event::Close(close.map(|close| CloseFrame {
                code: close.code.into(),
                reason: close.reason.to_string(),
            }))
        }
        Message::Frame(frame) => panic!("{frame} is not read"),
    }
}

/// What tungstenite makes of `bytes`, up to the first error or a Close.
fn oracle(
    role: Role,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<Event>, Result<(), tungstenite::Error>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMIT as usize))
        .max_frame_size(Some(LIMIT as usize));
    let mut socket = WebSocket::from_raw_socket(Stream::new(bytes, cuts), role, Some(config));
    let mut events = Vec::new();
    loop {
        match socket.read().map(event) {
            Ok(close @ Event::Close(_)) => {
                events.push(close);
                return (events, Ok(()));
            }
            Ok(event) => events.push(event),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (events, Ok(()));
            }
            Err(error) => return (events, Err(error)),
        }
    }
}

/// One thing done to lawful frames, mostly unlawful.
#[derive(Debug, Clone)]
enum Mutation {
    FlipBit {
        frame: prop::sample::Index,
        bit: u8,
    },
    FlipPayloadBit {
        frame: prop::sample::Index,
        byte: prop::sample::Index,
        bit: u8,
    },
    DropMask(prop::sample::Index),
    Remove(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Lengthen(prop::sample::Index, Vec<u8>),
    Close(Vec<u8>),
    /// Of the stream, not of a frame: nothing after it means what it meant.
    FlipStreamBit {
        byte: prop::sample::Index,
        bit: u8,
    },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use prop::collection::vec;
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 0..8u8).prop_map(|(frame, bit)| Mutation::FlipBit { frame, bit }),
        (any::<Index>(), any::<Index>(), 0..8u8)
            .prop_map(|(frame, byte, bit)| Mutation::FlipPayloadBit { frame, byte, bit }),
        any::<Index>().prop_map(Mutation::DropMask),
        any::<Index>().prop_map(Mutation::Remove),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        (any::<Index>(), bytes(0..LIMIT as usize))
            .prop_map(|(frame, more)| Mutation::Lengthen(frame, more)),
        vec(any::<u8>(), 0..5).prop_map(Mutation::Close),
        (any::<Index>(), 0..8u8).prop_map(|(byte, bit)| Mutation::FlipStreamBit { byte, bit }),
    ]
}

fn mutated(mut frames: Vec<ClientFrame>, mutations: &[Mutation]) -> Vec<u8> {
    let mut flips = Vec::new();
    for mutation in mutations {
        let len = frames.len();
        match mutation {
            Mutation::Close(payload) => {
                frames.push(ClientFrame {
                    first: 0x88,
                    mask: Some([7; 4]),
                    payload: payload.clone(),
                });
            }
            Mutation::FlipStreamBit { byte, bit } => flips.push((byte, bit)),
            _ if len == 0 => {}
            Mutation::FlipBit { frame, bit } => frames[frame.index(len)].first ^= 1 << bit,
            Mutation::FlipPayloadBit { frame, byte, bit } => {
                let payload = &mut frames[frame.index(len)].payload;
                if !payload.is_empty() {
                    let byte = byte.index(payload.len());
                    payload[byte] ^= 1 << bit;
                }
            }
            Mutation::DropMask(frame) => frames[frame.index(len)].mask = None,
            Mutation::Remove(frame) => drop(frames.remove(frame.index(len))),
            Mutation::Swap(a, b) => frames.swap(a.index(len), b.index(len)),
            Mutation::Lengthen(frame, more) => frames[frame.index(len)].payload.extend(more),
        }
    }
    let mut bytes = wire(&frames);
    for (byte, bit) in flips {
        if !bytes.is_empty() {
            let byte = byte.index(bytes.len());
            bytes[byte] ^= 1 << bit;
        }
    }
    bytes
}

/// Whether the two agree, the deliberate differences aside.
fn agree(bytes: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let (mut ours, mut our_end) = decode(bytes, cuts);
    let (theirs, their_end) = oracle(Role::Server, bytes, cuts);
    if our_end == Err(Violation::LengthNotShortest.into()) {
        prop_assert!(theirs.starts_with(&ours), "{:?}, then {:?}", ours, theirs);
        return Ok(());
    }
    let replaced = || {
        let reason = "Protocol violation".to_owned();
        Event::Close(Some(CloseFrame { code: 1002, reason }))
    };
    if let Some(Event::Close(Some(CloseFrame { code: 1014, .. }))) = ours.last() {
        ours.pop();
        ours.push(replaced());
    }
    // A reason that is not UTF-8 is an error there too.
    if matches!(our_end, Err(Error::Protocol(Violation::CloseCode(_)))) && their_end.is_ok() {
        ours.push(replaced());
        our_end = Ok(());
    }
    prop_assert_eq!(theirs, ours);
    prop_assert_eq!(our_end.is_err(), their_end.is_err(), "{:?}, {:?}", our_end, their_end);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn lawful_traffic_means_the_same_to_both(traffic in traffic(), cuts in cuts()) {
        let bytes = wire(&traffic.frames);
        let (theirs, end) = oracle(Role::Server, &bytes, &cuts);
        prop_assert!(end.is_ok(), "{:?}", end);
        prop_assert_eq!(&theirs, &traffic.events);
        prop_assert_eq!((theirs, Ok(())), decode(&bytes, &cuts));
    }

    #[test]
    fn unlawful_traffic_is_refused_by_both_after_the_same_events(
        traffic in traffic(),
        mutations in prop::collection::vec(mutation(), 1..4),
        cuts in cuts(),
    ) {
        let mut bytes = mutated(traffic.frames, &mutations);
        bytes.extend_from_slice(&[0; LIMIT as usize + 14]);
        agree(&bytes, &cuts)?;
    }

    #[test]
    fn a_frame_of_junk_is_the_same_to_both(
        first: u8,
        second: u8,
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = vec![first, second | 0x80];
        bytes.extend_from_slice(&rest);
        bytes.extend_from_slice(&[0; LIMIT as usize + 14]);
        agree(&bytes, &[])?;
    }

    #[test]
    fn what_we_encode_is_what_a_client_reads(
        messages in prop::collection::vec(sent(), 0..8),
        cuts in cuts(),
    ) {
        let bytes = messages.iter().map(|(frame, _)| &frame[..]).collect::<Vec<_>>().concat();
        let expected: Vec<Event> = messages.into_iter().map(|(_, event)| event).collect();
        let (events, end) = oracle(Role::Client, &bytes, &cuts);
        prop_assert!(end.is_ok(), "{:?}", end);
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn a_close_we_encode_is_what_a_client_reads(
        code in prop_oneof![1000..=1003u16, 1007..=1013u16, 3000..=4999u16],
        reason in text(150),
    ) {
        let (events, end) = oracle(Role::Client, &websocket::close(code, &reason), &[]);
        prop_assert!(end.is_ok(), "{:?}", end);
        let [Event::Close(Some(close))] = &events[..] else { panic!("{events:?}") };
        prop_assert_eq!(close.code, code);
        prop_assert!(reason.starts_with(&close.reason));
        // Nothing but the rest of one character is missing.
        prop_assert!(close.reason.len() == reason.len() || close.reason.len() > 119);
    }
}

fn sent() -> impl Strategy<Value = (Bytes, Event)> {
    let binary = bytes(0..LIMIT as usize);
    let control = || bytes(0..=125usize);
    prop_oneof![
        text(300).prop_map(|text| {
            let mut builder = FrameBuilder::new();
            builder.payload().extend_from_slice(text.as_bytes());
            (builder.finish(Opcode::Text), Event::Text(text.into()))
        }),
        binary.prop_map(|b| (websocket::frame(Opcode::Binary, &b), Event::Binary(b.into()))),
        control().prop_map(|b| (websocket::ping(&b), Event::Ping(b.into()))),
        control().prop_map(|b| (websocket::pong(&b), Event::Pong(b.into()))),
    ]
}

#[test]
fn the_largest_header_is_read_by_a_client() {
    let payload = vec![7; 100_000];
    let frame = websocket::frame(Opcode::Binary, &payload);
    let mut socket = WebSocket::from_raw_socket(Stream::new(&frame, &[]), Role::Client, None);
    assert_eq!(socket.read().unwrap(), Message::Binary(payload.into()));
}
