//! STOMP on a bare socket, as STOMP itself defines it: frames go out as they are, and whatever comes
//! is the client's stream.
//!
//! There is nothing to ask a silent client with, and no close frame: the ERROR before the end of the
//! stream, where there is one, says why. A client that ends its half of the connection without a
//! DISCONNECT is lost.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use websocket::socket;

use super::{Framing, Incoming, ReadError, Transport};

/// See the module.
pub(crate) struct Tcp<S>(S);

impl<S> Tcp<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self(socket)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for Tcp<S> {
    fn framing(&self) -> Framing {
        Framing::None
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, ReadError>> {
        Poll::Ready(match ready!(socket::poll_read(&mut self.0, cx, Bytes::copy_from_slice)) {
            Ok(bytes) if !bytes.is_empty() => Ok(Incoming::Message { bytes, text: false }),
            Ok(_) | Err(_) => Err(ReadError::Lost),
        })
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &VecDeque<Bytes>,
        offset: usize,
    ) -> Poll<io::Result<usize>> {
        socket::poll_send(&mut self.0, cx, frames, offset)
    }

    fn carries_stomp(&self, _: &Bytes) -> bool {
        true
    }

    fn probe(&self) -> Option<Bytes> {
        None
    }

    fn goodbye(&self, _: u16, _: &str) -> Option<Bytes> {
        None
    }

    async fn finish(self) {
        socket::finish(self.0).await;
    }
}

pub(super) fn wrap(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut frame = BytesMut::new();
    encode(&mut frame);
    frame.freeze()
}
