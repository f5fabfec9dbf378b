//! The server's end of a session, whatever its transport.
//!
//! A service either polls it with ready-made frames, which many connections may share, or uses
//! [`Connection::receive`] and [`Connection::send`] and thinks no further.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::frame;
use crate::framing::Framing;
use crate::session::{Heard, Session};
use crate::websocket::WebSocket;

/// What [`Connection::send`] has queued beyond which it waits, in bytes.
const ENOUGH: usize = 64 * 1024;

/// See the module. Dropping it ends the session.
pub struct Connection {
    kind: Kind,
    /// What [`Connection::send`] was given and the client has not taken; about [`ENOUGH`] and one message.
    unsent: Unsent,
}

#[derive(Default)]
struct Unsent {
    frames: VecDeque<Bytes>,
    /// How much of the first is taken.
    offset: usize,
    bytes: usize,
}

enum Kind {
    Http(Http),
    WebSocket(Box<WebSocket>),
}

/// The server's end of a session over HTTP.
struct Http(Arc<Session>);

/// What a client's side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message, which is UTF-8.
    Message(Bytes),
    /// A sign of life and nothing else.
    Alive,
    /// This frame is to be sent in answer; also a sign of life.
    Reply(Bytes),
    /// It is time to send this frame; no sign of life.
    Say(Bytes),
    /// The client closed in good order; what to answer, if anything.
    Closed(Option<Bytes>),
}

/// Why receiving ended.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The client is gone without a word, or has not asked for more in time.
    #[error("connection lost")]
    Lost,
    /// What came is no array of JSON strings.
    #[error("a message that is no JSON string, nor an array of them")]
    Payload,
    /// SockJS has text alone.
    #[error("a binary message, which SockJS does not have")]
    Binary,
    /// The client broke the WebSocket protocol.
    #[error(transparent)]
    WebSocket(#[from] websocket::Error),
}

/// The client is gone, or the session over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct Over;

impl Connection {
    pub(crate) fn http(session: Arc<Session>) -> Self {
        Self { kind: Kind::Http(Http(session)), unsent: Unsent::default() }
    }

    pub(crate) fn websocket(websocket: WebSocket) -> Self {
        Self { kind: Kind::WebSocket(Box::new(websocket)), unsent: Unsent::default() }
    }

    /// How frames for it are made.
    pub fn framing(&self) -> Framing {
        match &self.kind {
            Kind::Http(_) => Framing::Http,
            Kind::WebSocket(websocket) => websocket.framing(),
        }
    }

    /// Sends no heart-beats any more, because the service has its own.
    pub fn stop_heartbeats(&mut self) {
        match &mut self.kind {
            Kind::Http(Http(session)) => session.stop_heartbeats(),
            Kind::WebSocket(websocket) => websocket.stop_heartbeats(),
        }
    }

    /// What the client says next. Holds no buffer while there is nothing.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ReceiveError>> {
        match &mut self.kind {
            Kind::Http(Http(session)) => session.poll_heard(cx).map(|heard| match heard {
                Heard::Message(message) => Ok(Received::Message(message)),
                Heard::Alive => Ok(Received::Alive),
                Heard::Lost => Err(ReceiveError::Lost),
            }),
            Kind::WebSocket(websocket) => websocket.poll_receive(cx),
        }
    }

    /// Takes from the front of `frames`, made by this connection's [`Framing`], the first of which is taken up
    /// to `offset` already; how many bytes it took. Waits while the client takes nothing.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &VecDeque<Bytes>,
        offset: usize,
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Http(Http(session)) => session.poll_send(cx, frames),
            Kind::WebSocket(websocket) => websocket.poll_send(cx, frames, offset),
        }
    }

    /// The frame that tells the client that the session is over; the last one.
    pub fn goodbye(&self, code: u16, reason: &str) -> Bytes {
        match &self.kind {
            Kind::Http(_) => Framing::Http.close(code, reason),
            Kind::WebSocket(websocket) => websocket.goodbye(code, reason),
        }
    }

    /// Ends the connection after the last frame, so that the client gets that before it sees the connection
    /// go. The caller bounds the time.
    pub async fn finish(self) {
        match self.kind {
            // What was said last waits for the client's next request, for as long as the session would.
            Kind::Http(_) => {}
            Kind::WebSocket(websocket) => websocket.finish().await,
        }
    }

    /// The next message; none once the session is over. Sends meanwhile what is not sent.
    pub async fn receive(&mut self) -> Option<String> {
        loop {
            let received = poll_fn(|cx| match self.poll_flush(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(Err(ReceiveError::Lost)),
                Poll::Ready(Ok(())) | Poll::Pending => self.poll_receive(cx),
            });
            match received.await.ok()? {
                Received::Message(message) => {
                    return Some(String::from_utf8_lossy(&message).into_owned());
                }
                Received::Alive => {}
                Received::Reply(frame) | Received::Say(frame) => self.unsent.push(frame),
                Received::Closed(answer) => {
                    if let Some(frame) = answer {
                        self.unsent.push(frame);
                        poll_fn(|cx| self.poll_flush(cx)).await.ok()?;
                    }
                    return None;
                }
            }
        }
    }

    /// Sends a message. Waits only while much is not taken by the client; the rest is sent while the service
    /// receives.
    pub async fn send(&mut self, message: &str) -> Result<(), Over> {
        self.unsent.push(self.framing().message(message));
        let sent = poll_fn(|cx| match self.poll_flush(cx) {
            Poll::Pending if self.unsent.bytes < ENOUGH => Poll::Ready(Ok(())),
            flushed => flushed,
        });
        sent.await.map_err(|_| Over)
    }

    /// Ends the session and says why.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.unsent.push(self.goodbye(code, reason));
        if poll_fn(|cx| self.poll_flush(cx)).await.is_ok() {
            self.finish().await;
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unsent = std::mem::take(&mut self.unsent);
        let flushed = loop {
            if unsent.frames.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match self.poll_send(cx, &unsent.frames, unsent.offset) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => unsent.advance(sent),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.unsent = unsent;
        flushed
    }
}

impl Unsent {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn advance(&mut self, sent: usize) {
        self.bytes -= sent;
        self.offset += sent;
        while let Some(first) = self.frames.front()
            && first.len() <= self.offset
        {
            self.offset -= first.len();
            self.frames.pop_front();
        }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.0.leave(frame::close(frame::GONE.0, frame::GONE.1));
    }
}
