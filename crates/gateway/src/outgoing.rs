//! What a session has taken from its mailbox and is writing.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop;
use tokio::time::Instant;

use crate::mailbox::{Mailbox, Taken};
use crate::transport::Transport;

/// Room for this many frames is kept while idle; what a burst needed beyond is given back.
const KEPT: usize = 8;

/// One write of so many is timed: the histogram is one lock for all sessions.
const SAMPLE: u8 = 16;

/// See the module.
#[derive(Default)]
pub(crate) struct Outgoing {
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
    /// A frame that carries STOMP was written whole.
    spoke: bool,
    /// Counts completed writes, to take samples.
    writes: u8,
}

impl Outgoing {
    /// Takes all that is in the mailbox.
    pub(crate) fn take(&mut self, cx: &Context<'_>, mailbox: &Mailbox) -> Taken {
        let taken = mailbox.take(cx, &mut self.frames);
        self.oldest = self.oldest.or(taken.oldest);
        taken
    }

    /// Adds a frame of the session's own behind everything else.
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.frames.push_back(frame);
    }

    /// Writes until all is written or the socket is full; how many bytes it took.
    pub(crate) fn poll_write<T: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut T,
        mailbox: &Mailbox,
        now: Instant,
    ) -> io::Result<u64> {
        if self.frames.is_empty() {
            return Ok(0);
        }
        let (mut written, mut ended) = (0, 0);
        let full = loop {
            if self.frames.is_empty() {
                break false;
            }
            match transport.poll_send(cx, &self.frames, self.offset) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    written += bytes;
                    ended += self.advance(transport, bytes);
                }
                Poll::Ready(Err(error)) => return Err(error),
                // Pending also when the task's turn is over, which says nothing about the socket.
                Poll::Pending => break coop::has_budget_remaining(),
            }
        };
        mailbox.written(written, ended, full);
        self.ever_written += written as u64;
        if full {
            self.stalled.get_or_insert(now);
        } else if self.frames.is_empty() {
            let oldest = self.oldest.take();
            self.waited = oldest
                .filter(|_| self.writes.is_multiple_of(SAMPLE))
                .map(|oldest| now.saturating_duration_since(oldest));
            self.writes = self.writes.wrapping_add(1);
            if self.frames.capacity() > KEPT {
                self.frames = VecDeque::new();
            }
        }
        Ok(written as u64)
    }

    /// Writes what is left, without a mailbox.
    pub(crate) fn poll_rest<T: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut T,
    ) -> Poll<io::Result<()>> {
        while !self.frames.is_empty() {
            match ready!(transport.poll_send(cx, &self.frames, self.offset))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => {
                    self.ever_written += bytes as u64;
                    self.advance(transport, bytes);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Forgets the frames of which nothing is written: those a client can do without.
    pub(crate) fn keep_only_what_is_begun(&mut self) {
        self.frames.truncate(usize::from(self.offset > 0));
    }

    /// How many bytes were ever written.
    pub(crate) fn ever_written(&self) -> u64 {
        self.ever_written
    }

    /// Whether a frame that carries STOMP was written since the last call.
    pub(crate) fn spoke(&mut self) -> bool {
        std::mem::take(&mut self.spoke)
    }

    /// How long the oldest frame of the last completed write had waited, if it was timed; said once.
    pub(crate) fn waited(&mut self) -> Option<Duration> {
        self.waited.take()
    }

    /// When the first frame will have taken longer than `timeout`.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.stalled.map(|since| since + timeout)
    }

    pub(crate) fn is_late(&self, now: Instant, timeout: Duration) -> bool {
        self.deadline(timeout).is_some_and(|deadline| deadline <= now)
    }

    /// Moves on by `bytes`; how many frames that ended.
    fn advance(&mut self, transport: &impl Transport, mut bytes: usize) -> usize {
        let mut ended = 0;
        while let Some(first) = self.frames.front() {
            let left = first.len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                break;
            }
            bytes -= left;
            self.spoke |= transport.carries_stomp(first);
            self.frames.pop_front();
            self.offset = 0;
            self.stalled = None;
            ended += 1;
        }
        ended
    }
}
