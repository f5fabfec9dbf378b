//! A WebSocket on a bare socket.
//!
//! To STOMP, text and binary messages are one stream of bytes. Each STOMP frame goes out as a message
//! of its own: text, or binary where the body is not UTF-8.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use websocket::{Decoder, Event, FrameBuilder, Opcode, socket};

use super::{Framing, Incoming, ReadError, Transport};

/// See the module.
pub(crate) struct WebSocket<S> {
    socket: S,
    decoder: Decoder,
    /// Received and not yet decoded; bounded by one read and one message.
    input: BytesMut,
}

impl<S> WebSocket<S> {
    /// A WebSocket after its handshake; `input` is what came with it already.
    pub(crate) fn new(socket: S, config: &websocket::Config, input: &[u8]) -> Self {
        Self { socket, decoder: Decoder::new(config), input: BytesMut::from(input) }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for WebSocket<S> {
    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, ReadError>> {
        loop {
            if !self.input.is_empty() {
                let event = self.decoder.decode(&mut self.input)?;
                if self.input.is_empty() {
                    // Gives the buffer up, so that its last message may own it.
                    self.input = BytesMut::new();
                }
                if let Some(event) = event {
                    return Poll::Ready(Ok(match event {
                        Event::Text(bytes) => Incoming::Message { bytes, text: true },
                        Event::Binary(bytes) => Incoming::Message { bytes, text: false },
                        Event::Ping(payload) => Incoming::Reply(websocket::pong(&payload)),
                        Event::Pong(_) => Incoming::Alive,
                        // RFC 6455, section 5.5.1: typically the code is echoed.
                        Event::Close(frame) => {
                            let code = frame.map_or(1000, |frame| frame.code);
                            Incoming::Closed(self.goodbye(code, ""))
                        }
                    }));
                }
            }
            let input = &mut self.input;
            let read = socket::poll_read(&mut self.socket, cx, |bytes| {
                input.extend_from_slice(bytes);
                bytes.len()
            });
            if !matches!(ready!(read), Ok(1..)) {
                return Poll::Ready(Err(ReadError::Lost));
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &VecDeque<Bytes>,
        offset: usize,
    ) -> Poll<io::Result<usize>> {
        socket::poll_send(&mut self.socket, cx, frames, offset)
    }

    fn carries_stomp(&self, frame: &Bytes) -> bool {
        // RFC 6455, section 5.2: opcodes from 8 on are control frames.
        frame.first().is_some_and(|first| first & 0x0f < 8)
    }

    fn probe(&self) -> Option<Bytes> {
        Some(websocket::ping(b""))
    }

    fn goodbye(&self, code: u16, reason: &str) -> Option<Bytes> {
        Some(websocket::close(code, reason))
    }

    async fn finish(self) {
        socket::finish(self.socket).await;
    }
}

pub(super) fn wrap(text: bool, encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut frame = FrameBuilder::new();
    encode(frame.payload());
    frame.finish(if text { Opcode::Text } else { Opcode::Binary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_that_a_stomp_client_sees_count_as_heart_beats() {
        let (socket, _other) = tokio::io::duplex(1);
        let transport = WebSocket::new(socket, &websocket::Config::default(), b"");
        let carries = |frame: &Bytes| transport.carries_stomp(frame);
        for text in [true, false] {
            assert!(carries(&wrap(text, |out| out.extend_from_slice(b"\n"))));
        }
        for control in [websocket::ping(b""), websocket::pong(b"x"), websocket::close(1000, "")] {
            assert!(!carries(&control));
        }
    }
}
