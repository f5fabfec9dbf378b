//! The seam between a session and its socket: bytes in become [`Incoming`] events, shared bytes go
//! out. Nothing above it knows which transport it is.
//!
//! Frames reach a transport ready-made, so whoever encodes them asks for the transport's
//! [`Framing`]; equal framings share encoded frames.

mod over_sockjs;
mod tcp;
mod websocket;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

pub(crate) use self::over_sockjs::OverSockJs;
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
    /// A STOMP frame as a message of SockJS.
    SockJs(sockjs::Framing),
    /// The body of a message as a message of SockJS, for clients without STOMP.
    PlainSockJs(sockjs::Framing),
}

impl Framing {
    /// Wraps what `encode` writes; `text` says whether all of it is UTF-8.
    pub(crate) fn wrap(self, text: bool, encode: impl FnOnce(&mut BytesMut)) -> Bytes {
        match self {
            Self::WebSocket | Self::Plain => websocket::wrap(text, encode),
            Self::None => tcp::wrap(encode),
            Self::SockJs(framing) | Self::PlainSockJs(framing) => {
                over_sockjs::wrap(framing, encode)
            }
        }
    }

    /// The same for clients without STOMP.
    pub(crate) fn without_stomp(self) -> Self {
        match self {
            Self::WebSocket | Self::Plain | Self::None => Self::Plain,
            Self::SockJs(framing) | Self::PlainSockJs(framing) => Self::PlainSockJs(framing),
        }
    }

    /// Whether clients without STOMP are on the other side, which get bodies and nothing else.
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Self::Plain | Self::PlainSockJs(_) => true,
            Self::WebSocket | Self::None | Self::SockJs(_) => false,
        }
    }

    /// Whether it carries any bytes; if not, what is no text has to become some.
    pub(crate) fn is_binary_safe(self) -> bool {
        match self {
            Self::WebSocket | Self::None | Self::Plain => true,
            Self::SockJs(_) | Self::PlainSockJs(_) => false,
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
    /// The transport has this to say by itself; no sign of life.
    Say(Bytes),
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
    /// The client broke the SockJS protocol.
    #[error("{0}")]
    SockJs(String),
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
    fn carries_stomp(&self, frame: &Bytes) -> bool;

    /// The client sees signs of life from above from now on, and needs none of the transport's own.
    fn stop_heartbeats(&mut self) {}

    /// What asks a client whether it is there, where the transport has such a thing.
    fn probe(&self) -> Option<Bytes>;

    /// What tells a client that the session is over.
    fn goodbye(&self, code: u16, reason: &str) -> Option<Bytes>;

    /// Ends the connection after the last write, reading to its end so that the client gets that
    /// write before it sees the connection go. The caller bounds the time.
    fn finish(self) -> impl Future<Output = ()> + Send;
}
