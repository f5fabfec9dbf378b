//! The stream that lapin reads from: the socket's, with its frames mended.
//!
//! Invariants
//! - It lies above TLS, and under lapin's parser: nothing comes to that past [`Frames`].
//! - It is pending only when the socket is, so that whoever waits is woken.
//! - It holds no more than the longest frame that [`Frames`] wants whole, and one read.
//! - Writes go straight through.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::tcp::AsyncTcpStream;

use crate::frames::{Frames, Step};

/// How much is read at once.
const READ: usize = 128 * 1024;

/// A stream whose frames are mended on their way in.
#[derive(Debug)]
pub(crate) struct Mended<S> {
    stream: S,
    frames: Frames,
    /// Filled up to `end`.
    buffer: Vec<u8>,
    /// What may go to the reader; what lies before it has gone, what lies behind it was not looked at.
    ready: Range<usize>,
    end: usize,
    /// Whether a log line was written. One each connection is enough.
    told: bool,
}

/// What connects: tokio, with streams that are mended.
#[derive(Debug, Clone)]
pub(crate) struct Connecting(Tokio);

/// The tokio runtime of the moment, for lapin.
pub(crate) fn runtime() -> Runtime<RuntimeParts<Tokio, Connecting>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Connecting(Tokio::current())))
}

impl<S> Mended<S> {
    /// `frame_max` is the longest frame that this side agrees to, in bytes; 0 for any.
    pub(crate) fn new(stream: S, frame_max: u32) -> Self {
        let frames = Frames::new(frame_max);
        Self { stream, frames, buffer: vec![0; READ], ready: 0..0, end: 0, told: false }
    }

    /// Finds out what else is ready. False if nothing is before more was read.
    fn advance(&mut self) -> bool {
        let from = self.ready.end;
        match self.frames.step(&mut self.buffer[from..self.end]) {
            Step::Ready(count) => self.ready = from..from + count,
            Step::Drop(count) => self.ready = from + count..from + count,
            Step::More => return false,
        }
        if self.frames.mended > 0 && !self.told {
            self.told = true;
            tracing::warn!(
                "RabbitMQ sent a message with properties that cannot be read as they are: text that \
                 is not UTF-8, headers nested too deep, or too much of them; what cannot be read was \
                 replaced, here and from now on"
            );
        }
        true
    }

    /// Makes room for more, behind what is held.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.ready.end..self.end, 0);
        self.end -= self.ready.end;
        self.ready = 0..0;
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() + READ, 0);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        while this.ready.is_empty() {
            if this.advance() {
                continue;
            }
            this.make_room();
            let read = Pin::new(&mut this.stream).poll_read(cx, &mut this.buffer[this.end..]);
            match ready!(read)? {
                // It ended within a frame, or between two.
                0 => {
                    this.ready = 0..this.end;
                    break;
                }
                count => this.end += count,
            }
        }
        let count = this.ready.len().min(into.len());
        let from = this.ready.start;
        into[..count].copy_from_slice(&this.buffer[from..from + count]);
        this.ready.start += count;
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl Reactor for Connecting {
    type TcpStream = Mended<AsyncTcpStream<<Tokio as Reactor>::TcpStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Mended::new(AsyncTcpStream::Plain(connecting.await?), 0)) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Gives what is there, chunk by chunk; an empty chunk is a moment when nothing has come yet.
    struct Script(VecDeque<Vec<u8>>);

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let Some(mut chunk) = self.0.pop_front() else { return Poll::Ready(Ok(0)) };
            if chunk.is_empty() {
                return Poll::Pending;
            }
            let count = chunk.len().min(into.len());
            into[..count].copy_from_slice(&chunk[..count]);
            let rest = chunk.split_off(count);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(count))
        }
    }

    /// All that comes out, read with room for `room` bytes at a time, and how often it had to wait.
    fn read_all(chunks: Vec<Vec<u8>>, room: usize) -> (Vec<u8>, usize) {
        let mut stream = Mended::new(Script(chunks.into()), 0);
        let (mut all, mut waits, mut into) = (Vec::new(), 0, vec![0; room]);
        loop {
            let read =
                Pin::new(&mut stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut into);
            match read {
                Poll::Ready(Ok(0)) => return (all, waits),
                Poll::Ready(read) => all.extend_from_slice(&into[..read.unwrap()]),
                Poll::Pending => waits += 1,
            }
        }
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], &size[..], payload, &[0xce]].concat()
    }

    /// A content header with a correlation id, and `room` bytes of other headers.
    fn header(id: &[u8; 2], room: usize) -> Vec<u8> {
        let table = [b"\x01nS", &u32::try_from(room).unwrap().to_be_bytes()[..], &vec![7; room]];
        let table = table.concat();
        let length = u32::try_from(table.len()).unwrap().to_be_bytes();
        let begin = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x24, 0];
        frame(2, &[&begin[..], &length, &table, &[2], id].concat())
    }

    #[test]
    fn frames_are_mended_however_they_come_and_are_read() {
        // Frames of up to 320 KiB are agreed, so that one is longer than a read.
        let tune = frame(1, &[0, 10, 0, 30, 7, 255, 0, 5, 0, 0, 0, 60]);
        let body = frame(3, &[0xff; 200_000]);
        let with = |ids: [&[u8; 2]; 2]| {
            [tune.clone(), header(ids[0], 9), body.clone(), header(ids[1], 300_000)].concat()
        };
        let (sent, expected) = (with([b"\xffa", b"b\xff"]), with([b"?a", b"b?"]));
        for (cut, room) in [(7, 1_000_000), (100_000, 1), (1_000_000, 100_000)] {
            let chunks = sent.chunks(cut).flat_map(|chunk| [chunk.to_vec(), Vec::new()]).collect();
            let (read, waits) = read_all(chunks, room);
            assert!(read == expected, "cut by {cut}, read by {room}");
            assert_eq!(waits, sent.len().div_ceil(cut));
        }
    }

    #[test]
    fn what_came_of_a_frame_before_the_end_is_passed_on() {
        let whole = frame(1, &[0, 60, 0, 60]);
        let cut = header(b"ab", 9)[..20].to_vec();
        let (read, _) = read_all(vec![whole.clone(), cut.clone()], 100);
        assert_eq!(read, [whole, cut].concat());
    }
}
