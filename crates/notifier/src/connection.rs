//! Connections that know their age and whose they are, and end when it is time.
//!
//! The server tells a connection's caller when it has reached its age (GOAWAY), so that the next
//! calls go by a new one. A stream must know as well, so that it ends between two answers and not in
//! the midst. What is left after the grace is cut off here.
//!
//! Invariants
//! - A connection on which no HTTP/2 was begun within [`PREFACE_TIMEOUT`] ends, the handshake of TLS
//!   included: one that says nothing takes no place from another for long.
//! - No connection lives longer than its age, [`NOTICE`] and the grace together.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::tls;

/// Connections that wait to be accepted; beyond it the kernel lets callers try again.
const BACKLOG: i32 = 1024;

/// What a caller says first in HTTP/2: so many bytes.
const PREFACE: usize = 24;

/// The most handshakes at once; one more waits.
const HANDSHAKES: usize = 256;

/// How long a caller may take to say it.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after a connection has reached its age its streams are ended: by then its caller has heard
/// of it, and opens no more of them here.
pub(crate) const NOTICE: Duration = Duration::from_secs(1);

/// A connection of a caller.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    peer: Peer,
    /// How many bytes of the preface are still to come.
    preface: usize,
    /// When it is cut off unless more of it is heard; first for the preface, then for its age.
    end: Pin<Box<Sleep>>,
    /// How old it may get in all.
    longest: Duration,
    /// Its place among those that may be open at once; `None` where they are not counted.
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whose connection a call came by; an extension of its request.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// When the connection was opened.
    pub(crate) opened: Instant,
    /// Where it comes from; behind a proxy that is the proxy's address.
    pub(crate) address: IpAddr,
    /// The names in the certificate that it showed, if it was asked for one.
    pub(crate) names: Arc<[String]>,
}

/// How connections are taken.
pub(crate) struct Terms {
    /// The most that may be open.
    pub(crate) max_connections: usize,
    /// How old one may get.
    pub(crate) longest: Duration,
    /// How it speaks TLS; none if it does not.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Binds a listening socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever, on those terms.
pub(crate) fn accept(
    listener: TcpListener,
    terms: Terms,
) -> impl Stream<Item = io::Result<Connection>> {
    let Terms { max_connections, longest, tls } = terms;
    let places = Arc::new(Semaphore::new(max_connections));
    let acceptor = tls.map(TlsAcceptor::from);
    let sockets = stream::unfold((listener, places), |(listener, places)| async move {
        // The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        loop {
            match listener.accept().await {
                Ok((socket, address)) => {
                    return Some(((socket, address, place), (listener, places)));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those that are open go on.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    let connections = sockets.map(move |(socket, address, place)| {
        let acceptor = acceptor.clone();
        async move { Connection::open(socket, address, acceptor, longest, place).await }
    });
    connections.buffer_unordered(HANDSHAKES).filter_map(async |connection| connection.map(Ok))
}

impl Connection {
    /// None if the handshake fails, which is told only to whoever failed.
    async fn open(
        socket: TcpStream,
        address: SocketAddr,
        acceptor: Option<TlsAcceptor>,
        longest: Duration,
        place: Option<OwnedSemaphorePermit>,
    ) -> Option<Self> {
        let opened = Instant::now();
        let mut end = Box::pin(tokio::time::sleep_until(opened + PREFACE_TIMEOUT));
        let (socket, names) = match acceptor {
            None => (Socket::Plain(socket), Vec::new()),
            Some(acceptor) => {
                let shaken = tokio::select! {
                    shaken = acceptor.accept(socket) => shaken,
                    () = &mut end => Err(io::ErrorKind::TimedOut.into()),
                };
                let socket = shaken
                    .inspect_err(|error| tracing::debug!(%address, %error, "no TLS handshake"))
                    .ok()?;
                let shown = socket.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let names = shown.map(tls::names).unwrap_or_default();
                (Socket::Tls(Box::new(socket)), names)
            }
        };
        let peer = Peer { opened, address: address.ip(), names: names.into() };
        Some(Self { socket, peer, preface: PREFACE, end, longest, _place: place })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
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
                let end = self.peer.opened + self.longest;
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

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
