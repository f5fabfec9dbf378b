//! A session that is a WebSocket: `/<server>/<session>/websocket` with SockJS's framing, `/websocket`
//! without. It lives and ends with its connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::either::Either;
use websocket::{Decoder, Event, close_code, socket};

use crate::connection::{ReceiveError, Received};
use crate::framing::Framing;
use crate::payload;

/// The bare socket where hyper gives it back, or what hyper has made of it.
pub(crate) type Socket = Either<TcpStream, TokioIo<Upgraded>>;

/// See the module.
pub(crate) struct WebSocket {
    socket: Socket,
    framing: Framing,
    decoder: Decoder,
    /// Received and not yet decoded; bounded by one read and one message.
    input: BytesMut,
    /// Received in one message with others; bounded by the longest message.
    messages: VecDeque<Bytes>,
    heartbeat: Option<Heartbeat>,
    /// Whether what came makes no sense, so that nothing more is said.
    is_broken: bool,
}

struct Heartbeat {
    every: Duration,
    timer: Pin<Box<Sleep>>,
}

impl WebSocket {
    /// A WebSocket after its handshake; `input` is what came with it already.
    pub(crate) fn new(
        socket: Socket,
        framing: Framing,
        config: &websocket::Config,
        heartbeat: Duration,
        input: &[u8],
    ) -> Self {
        let heartbeat = framing.heartbeat().map(|_| Heartbeat {
            every: heartbeat,
            timer: Box::pin(tokio::time::sleep(heartbeat)),
        });
        Self {
            socket,
            framing,
            decoder: Decoder::new(config),
            input: BytesMut::from(input),
            messages: VecDeque::new(),
            heartbeat,
            is_broken: false,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn stop_heartbeats(&mut self) {
        self.heartbeat = None;
    }

    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received, ReceiveError>> {
        if let Poll::Ready(frame) = self.poll_heartbeat(cx) {
            return Poll::Ready(Ok(Received::Say(frame)));
        }
        loop {
            if let Some(message) = self.messages.pop_front() {
                if self.messages.is_empty() {
                    self.messages = VecDeque::new();
                }
                return Poll::Ready(Ok(Received::Message(message)));
            }
            if !self.input.is_empty() {
                let event = self.decoder.decode(&mut self.input)?;
                if self.input.is_empty() {
                    // Gives the buffer up, so that its last message may own it.
                    self.input = BytesMut::new();
                }
                match event {
                    None => {}
                    Some(Event::Text(bytes)) => {
                        self.take(bytes)?;
                        continue;
                    }
                    Some(Event::Binary(_)) => {
                        self.is_broken = true;
                        return Poll::Ready(Err(ReceiveError::Binary));
                    }
                    Some(Event::Ping(payload)) => {
                        return Poll::Ready(Ok(Received::Reply(websocket::pong(&payload))));
                    }
                    Some(Event::Pong(_)) => return Poll::Ready(Ok(Received::Alive)),
                    Some(Event::Close(frame)) => {
                        // RFC 6455, section 5.5.1: typically the code is echoed.
                        let code = frame.map_or(close_code::NORMAL, |frame| frame.code);
                        let answer = websocket::close(code, "");
                        return Poll::Ready(Ok(Received::Closed(Some(answer))));
                    }
                }
            }
            let input = &mut self.input;
            let read = socket::poll_read(&mut self.socket, cx, |bytes| {
                input.extend_from_slice(bytes);
                bytes.len()
            });
            if !matches!(ready!(read), Ok(1..)) {
                return Poll::Ready(Err(ReceiveError::Lost));
            }
        }
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let (Some(heartbeat), Some(frame)) = (&mut self.heartbeat, self.framing.heartbeat()) else {
            return Poll::Pending;
        };
        ready!(heartbeat.timer.as_mut().poll(cx));
        heartbeat.timer.as_mut().reset(Instant::now() + heartbeat.every);
        Poll::Ready(frame)
    }

    /// Takes a text message apart.
    fn take(&mut self, bytes: Bytes) -> Result<(), ReceiveError> {
        match self.framing {
            Framing::Raw => self.messages.push_back(bytes),
            Framing::Http | Framing::WebSocket => match payload::websocket(&bytes) {
                Ok(messages) => self.messages.extend(messages),
                Err(_) => {
                    self.is_broken = true;
                    return Err(ReceiveError::Payload);
                }
            },
        }
        Ok(())
    }

    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &VecDeque<Bytes>,
        offset: usize,
    ) -> Poll<io::Result<usize>> {
        socket::poll_send(&mut self.socket, cx, frames, offset)
    }

    /// What tells the client that it is over. One that sent nonsense is cut off, as the protocol wants it.
    pub(crate) fn goodbye(&self, code: u16, reason: &str) -> Bytes {
        match self.is_broken {
            true => websocket::close(close_code::INVALID_PAYLOAD, "no message of SockJS"),
            false => self.framing.close(code, reason),
        }
    }

    pub(crate) async fn finish(self) {
        socket::finish(self.socket).await;
    }
}
