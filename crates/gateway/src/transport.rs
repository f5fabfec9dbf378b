//! The seam between a session and its socket: bytes in become [`Incoming`] events, shared bytes go
//! out. Nothing above it knows which transport it is.
//!
//! Frames reach a transport ready-made, so whoever encodes them asks for the transport's
//! [`Framing`]; equal framings share encoded frames.

mod tcp;
mod websocket;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

pub(crate) use self::tcp::Tcp;
pub(crate) use self::websocket::WebSocket;

/// How what a client gets is wrapped for a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Framing {
    /// A STOMP frame as a WebSocket message of its own.
    WebSocket,
    /// A STOMP frame as it is.
    None,
    /// The body of a message as a WebSocket message of its own, for clients without STOMP.
    Plain,
}

impl Framing {
    /// Wraps what `encode` writes; `text` says whether all of it is UTF-8.
    pub(crate) fn wrap(self, text: bool, encode: impl FnOnce(&mut BytesMut)) -> Bytes {
        match self {
            Self::WebSocket | Self::Plain => websocket::wrap(text, encode),
            Self::None => tcp::wrap(encode),
        }
    }
}

/// What a client's side of the transport says.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message, or where the transport knows none, bytes of a stream of STOMP frames. STOMP frames may be
    /// cut anywhere.
    Message {
        bytes: Bytes,
        /// Whether they are text, which is UTF-8 then.
        text: bool,
    },
    /// The transport asks for this answer, such as a pong. It is also a sign of life.
    Reply(Bytes),
    /// A sign of life and nothing else.
    Alive,
    /// The client closed in good order; what to answer, if anything.
    Closed(Option<Bytes>),
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The connection broke or ended without a word.
    #[error("connection lost")]
    Lost,
    /// The client broke the WebSocket protocol.
    #[error(transparent)]
    WebSocket(#[from] ::websocket::Error),
}

/// One client's connection, as a session uses it.
pub(crate) trait Transport: Send + Unpin + 'static {
    /// How frames for this transport are wrapped.
    fn framing(&self) -> Framing;

    /// What the client says next. Holds no buffer while there is nothing.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, ReadError>>;

    /// Writes from the front of `frames`, the first of which is written up to `offset` already, in
    /// one system call where possible; how many bytes the socket took.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &VecDeque<Bytes>,
        offset: usize,
    ) -> Poll<io::Result<usize>>;

    /// Whether a ready-made frame carries STOMP, and so counts as a heart-beat: what only the
    /// transport sees, such as a pong, does not reach the STOMP client.
    fn carries_stomp(frame: &Bytes) -> bool;

    /// What asks a client whether it is there, where the transport has such a thing.
    fn probe(&self) -> Option<Bytes>;

    /// What tells a client that the session is over.
    fn goodbye(&self, code: u16, reason: &str) -> Option<Bytes>;

    /// Ends the connection after the last write, reading to its end so that the client gets that
    /// write before it sees the connection go. The caller bounds the time.
    fn finish(self) -> impl Future<Output = ()> + Send;
}
