//! What a session has taken from its mailbox and is writing.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::mailbox::{Mailbox, Taken};
use crate::transport::Transport;

/// Room for this many frames is kept while idle; what a burst needed beyond is given back.
const KEPT: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Bounded by the mailbox, against whose limit these count until they are written.
    frames: VecDeque<Bytes>,
    /// How much of the first frame is written.
    offset: usize,
    ever_written: u64,
    /// Since when the socket has not taken the first frame whole.
    stalled: Option<Instant>,
    /// When the oldest of what is being written was queued.
    oldest: Option<Instant>,
    waited: Option<Duration>,
}

impl Outgoing {
    /// Takes all that is in the mailbox.
    pub(super) fn take(&mut self, cx: &Context<'_>, mailbox: &Mailbox) -> Taken {
        let taken = mailbox.poll_take(cx, &mut self.frames);
        self.oldest = self.oldest.or(taken.oldest);
        taken
    }

    /// Adds a frame of the session's own behind everything else.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.frames.push_back(frame);
    }

    /// Writes until all is written or the socket is full; how many bytes it took.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut impl Transport,
        mailbox: &Mailbox,
        now: Instant,
    ) -> io::Result<u64> {
        if self.frames.is_empty() {
            return Ok(0);
        }
        let mut written = 0;
        let full = loop {
            if self.frames.is_empty() {
                break false;
            }
            match transport.poll_send(cx, &self.frames, self.offset) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    written += bytes;
                    self.advance(bytes);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break true,
            }
        };
        mailbox.written(written, full);
        self.ever_written += written as u64;
        if full {
            self.stalled.get_or_insert(now);
        } else {
            self.waited = self.oldest.take().map(|oldest| now.saturating_duration_since(oldest));
            if self.frames.capacity() > KEPT {
                self.frames = VecDeque::new();
            }
        }
        Ok(written as u64)
    }

    /// Writes what is left, without a mailbox.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut impl Transport,
    ) -> Poll<io::Result<()>> {
        while !self.frames.is_empty() {
            match ready!(transport.poll_send(cx, &self.frames, self.offset))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.advance(bytes),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Forgets the frames of which nothing is written: those a client can do without.
    pub(super) fn keep_only_what_is_begun(&mut self) {
        self.frames.truncate(usize::from(self.offset > 0));
    }

    /// How many bytes were ever written.
    pub(super) fn ever_written(&self) -> u64 {
        self.ever_written
    }

    /// How long the oldest frame of the last completed write had waited; said once.
    pub(super) fn waited(&mut self) -> Option<Duration> {
        self.waited.take()
    }

    /// When the first frame will have taken longer than `timeout`.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.stalled.map(|since| since + timeout)
    }

    pub(super) fn is_late(&self, now: Instant, timeout: Duration) -> bool {
        self.deadline(timeout).is_some_and(|deadline| deadline <= now)
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.frames.front() {
            let left = first.len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                return;
            }
            bytes -= left;
            self.frames.pop_front();
            self.offset = 0;
            self.stalled = None;
        }
    }
}
