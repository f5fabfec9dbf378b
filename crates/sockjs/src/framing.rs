//! Ready-made frames: what a service hands to a [`Connection`](crate::Connection), and shares between
//! connections of equal framing.

use bytes::{Bytes, BytesMut};
use websocket::{FrameBuilder, Opcode};

use crate::frame;

/// How what a client gets is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// As a part of what a response brings, whatever its transport.
    Http,
    /// As a WebSocket message with SockJS's frame in it.
    WebSocket,
    /// As a WebSocket message.
    Raw,
}

impl Framing {
    /// A message.
    pub fn message(self, text: &str) -> Bytes {
        match self {
            Self::Http => {
                let mut out = BytesMut::new();
                frame::write_literal(text, &mut out);
                out.freeze()
            }
            Self::WebSocket => {
                let mut out = FrameBuilder::with_capacity(text.len() + 8);
                out.payload().extend_from_slice(b"a[");
                frame::write_literal(text, out.payload());
                out.payload().extend_from_slice(b"]");
                out.finish(Opcode::Text)
            }
            Self::Raw => websocket::frame(Opcode::Text, text.as_bytes()),
        }
    }

    /// Whether a ready-made frame is a message, which the client's program sees.
    pub fn is_message(self, frame: &[u8]) -> bool {
        match self {
            Self::Http => frame.first() == Some(&b'"'),
            // RFC 6455, section 5.2: opcodes from 8 on are control frames.
            Self::Raw => frame.first().is_some_and(|first| first & 0x0f < 8),
            Self::WebSocket => {
                let header = match frame.get(1) {
                    Some(126) => 4,
                    Some(127) => 10,
                    _ => 2,
                };
                frame.get(header) == Some(&b'a')
            }
        }
    }

    /// The first frame of a session, where it is the connection that sends it.
    pub(crate) fn open(self) -> Option<Bytes> {
        match self {
            // Each session's own response has it.
            Self::Http | Self::Raw => None,
            Self::WebSocket => Some(websocket::frame(Opcode::Text, frame::OPEN)),
        }
    }

    /// A heart-beat, where the connection sends them.
    pub(crate) fn heartbeat(self) -> Option<Bytes> {
        match self {
            Self::Http | Self::Raw => None,
            Self::WebSocket => Some(websocket::frame(Opcode::Text, frame::HEARTBEAT)),
        }
    }

    /// What asks the client whether it is there: over HTTP the end of the response, for then it asks for the
    /// next.
    pub fn probe(self) -> Bytes {
        match self {
            Self::Http => Bytes::from_static(frame::HEARTBEAT),
            Self::WebSocket | Self::Raw => websocket::ping(b""),
        }
    }

    /// What tells the client that the session is over.
    pub fn close(self, code: u16, reason: &str) -> Bytes {
        match self {
            Self::Http => frame::close(code, reason),
            Self::WebSocket => {
                let mut both = BytesMut::new();
                let told = websocket::frame(Opcode::Text, &frame::close(code, reason));
                both.extend_from_slice(&told);
                both.extend_from_slice(&websocket::close(code, reason));
                both.freeze()
            }
            Self::Raw => websocket::close(code, reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_clients_program_sees_is_a_message() {
        for framing in [Framing::Http, Framing::WebSocket, Framing::Raw] {
            for len in [0, 10, 200, 70_000] {
                assert!(
                    framing.is_message(&framing.message(&"x".repeat(len))),
                    "{framing:?} {len}"
                );
            }
            let others = [framing.open(), framing.heartbeat()].into_iter().flatten();
            for frame in others.chain([framing.probe(), framing.close(3000, &"x".repeat(300))]) {
                assert!(!framing.is_message(&frame), "{framing:?} {frame:?}");
            }
        }
    }

    #[test]
    fn frames_are_as_the_protocol_shows_them() {
        assert_eq!(Framing::Http.message("x\n"), r#""x\n""#);
        assert_eq!(&Framing::WebSocket.message("x")[2..], br#"a["x"]"#);
        assert_eq!(&Framing::Raw.message("x")[2..], b"x");
        assert!(
            Framing::WebSocket.close(3000, "Go away!")[2..].starts_with(br#"c[3000,"Go away!"]"#)
        );
    }
}
