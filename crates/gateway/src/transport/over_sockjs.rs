//! Sessions over SockJS, whatever its transport.
//!
//! SockJS has text and nothing else: each STOMP frame is a message of its own, and a body that is no UTF-8 was
//! made some where the frame was encoded.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use sockjs::{Connection, ReceiveError, Received};

use super::{Framing, Incoming, ReadError, Transport};

/// See the module.
pub(crate) struct OverSockJs(Connection);

impl OverSockJs {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(connection)
    }
}

impl Transport for OverSockJs {
    fn framing(&self) -> Framing {
        Framing::SockJs(self.0.framing())
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, ReadError>> {
        Poll::Ready(match ready!(self.0.poll_receive(cx)) {
            Ok(Received::Message(bytes)) => Ok(Incoming::Message { bytes, text: true }),
            Ok(Received::Alive) => Ok(Incoming::Alive),
            Ok(Received::Reply(frame)) => Ok(Incoming::Reply(frame)),
            Ok(Received::Say(frame)) => Ok(Incoming::Say(frame)),
            Ok(Received::Closed(answer)) => Ok(Incoming::Closed(answer)),
            Err(ReceiveError::Lost) => Err(ReadError::Lost),
            Err(ReceiveError::WebSocket(error)) => Err(error.into()),
            Err(error @ (ReceiveError::Payload | ReceiveError::Binary)) => {
                Err(ReadError::SockJs(error.to_string()))
            }
        })
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &VecDeque<Bytes>,
        offset: usize,
    ) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, frames, offset)
    }

    fn carries_stomp(&self, frame: &Bytes) -> bool {
        self.0.framing().is_message(frame)
    }

    fn stop_heartbeats(&mut self) {
        self.0.stop_heartbeats();
    }

    fn probe(&self) -> Option<Bytes> {
        Some(self.0.framing().probe())
    }

    fn goodbye(&self, code: u16, reason: &str) -> Option<Bytes> {
        Some(self.0.goodbye(code, reason))
    }

    async fn finish(self) {
        self.0.finish().await;
    }
}

pub(super) fn wrap(framing: sockjs::Framing, encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut frame = BytesMut::new();
    encode(&mut frame);
    framing.message(&String::from_utf8_lossy(&frame))
}
