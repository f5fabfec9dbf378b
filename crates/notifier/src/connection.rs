//! Connections that know their age, and end when it is time.
//!
//! The server tells a connection's caller when it has reached its age (GOAWAY), so that the next
//! calls go by a new one. A stream must know as well, so that it ends between two answers and not in
//! the midst. What is left after the grace is cut off here.
//!
//! Invariants
//! - A connection on which no HTTP/2 was begun within [`PREFACE_TIMEOUT`] ends: one that says nothing
//!   takes no place from another for long.
//! - No connection lives longer than its age, [`NOTICE`] and the grace together.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, stream};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

/// Connections that wait to be accepted; beyond it the kernel lets callers try again.
const BACKLOG: i32 = 1024;

/// What a caller says first in HTTP/2: so many bytes.
const PREFACE: usize = 24;

/// How long a caller may take to say it.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after a connection has reached its age its streams are ended: by then its caller has heard
/// of it, and opens no more of them here.
pub(crate) const NOTICE: Duration = Duration::from_secs(1);

/// A connection of a caller.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    opened: Opened,
    /// How many bytes of the preface are still to come.
    preface: usize,
    /// When it is cut off unless more of it is heard; first for the preface, then for its age.
    end: Pin<Box<Sleep>>,
    /// How old it may get in all.
    longest: Duration,
    /// Its place among those that may be open at once; `None` where they are not counted.
    _place: Option<OwnedSemaphorePermit>,
}

/// When a call's connection was opened; an extension of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened(pub(crate) Instant);

/// Binds a listening socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever, as long as fewer than `max_connections` are open. None gets older than `longest`.
pub(crate) fn accept(
    listener: TcpListener,
    max_connections: usize,
    longest: Duration,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(max_connections));
    stream::unfold((listener, places), move |(listener, places)| async move {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let connection = Connection::new(socket, longest, place);
                    return Some((Ok(connection), (listener, places)));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those that are open go on.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

impl Connection {
    fn new(socket: TcpStream, longest: Duration, place: Option<OwnedSemaphorePermit>) -> Self {
        let opened = Opened(Instant::now());
        let end = Box::pin(tokio::time::sleep_until(opened.0 + PREFACE_TIMEOUT));
        Self { socket, opened, preface: PREFACE, end, longest, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Opened;

    fn connect_info(&self) -> Opened {
        self.opened
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Polled as long as the connection lives, so the end is always waited for.
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if self.preface > 0 {
            self.preface = self.preface.saturating_sub(buf.filled().len() - before);
            if self.preface == 0 {
                let end = self.opened.0 + self.longest;
                self.end.as_mut().reset(end);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
