//! What whoever owns a socket does with it, whatever is spoken there: read into a buffer of the thread,
//! write many frames at once, and end without losing what was written last.
//!
//! The one part of the crate that does I/O, behind the feature `socket`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// As many frames as one `writev` takes. More gained nothing when measured.
const MAX_SLICES: usize = 64;

/// Bytes of one read, held per thread and not per session.
const READ: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Reads once and gives what came to `take`, which must not read itself; nothing came at the end of
/// the stream.
pub fn poll_read<T>(
    socket: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled())))
    })
}

/// Writes from the front of `frames`, the first of which is written up to `offset` already, in one system
/// call where possible; how many bytes the socket took.
pub fn poll_send(
    socket: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    frames: &VecDeque<Bytes>,
    offset: usize,
) -> Poll<io::Result<usize>> {
    let socket = Pin::new(socket);
    if let [only] = frames.as_slices().0
        && frames.len() == 1
    {
        return socket.poll_write(cx, &only[offset..]);
    }
    let mut slices: SmallVec<[IoSlice<'_>; MAX_SLICES]> =
        frames.iter().take(MAX_SLICES).map(|frame| IoSlice::new(frame)).collect();
    if let (Some(slice), Some(frame)) = (slices.first_mut(), frames.front()) {
        *slice = IoSlice::new(&frame[offset..]);
    }
    socket.poll_write_vectored(cx, &slices)
}

/// Ends a connection after the last write, reading to its end: closed with something unread, a socket would
/// be reset, and what was written last lost with it. The caller bounds the time.
pub async fn finish(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    if socket.shutdown().await.is_ok() {
        let mut rest = [0; 1024];
        while matches!(socket.read(&mut rest).await, Ok(1..)) {}
    }
}
