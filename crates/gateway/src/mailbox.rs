//! A session's mailbox: the bounded queue of frames on their way to its client, and the one place
//! from which the session is woken.
//!
//! Frames are ready-made for the session's transport and shared. The session drains the whole
//! mailbox and writes it at once.
//!
//! Invariants
//! - Whatever is queued or taken but not yet written counts against the limit, and so does each
//!   frame ([`PER_FRAME`]). One frame longer than the limit is admitted to an empty mailbox.
//! - A frame that took the mailbox beyond its limit does not count, as far as it is unwritten: no
//!   client is slow because of one message. For how long it may be written is the session's concern.
//! - A session that is sent away ([`CloseReason::Drain`]) gets what comes until it is over: it may have to
//!   wait for the broker first. One that is closed for any other reason gets nothing more.
//! - A full mailbox whose client is not reading closes the session as a slow consumer. A full one
//!   whose session merely had no turn yet says [`Push::Behind`]: the publisher yields and tries
//!   again, which waits for our own scheduler and never for a client.
//! - The lock is held for a few instructions, never while waking.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use broker::Destination;
use bytes::Bytes;
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::Alarm;
use crate::close::CloseReason;

/// What a queued frame costs besides its bytes: its place in the queue and its allocation. Counted,
/// so that very many tiny frames are as bounded as a few long ones.
pub(crate) const PER_FRAME: usize = 64;

/// How many subscriptions may be about to end: a session that has had no turn for so long is overloaded.
const MOST_ENDED: usize = 256;

/// See the module.
pub(crate) struct Mailbox {
    limit: usize,
    /// Queued, or taken and not yet written. Changed only under the lock; read without it, where
    /// a moment's error does not matter.
    bytes: AtomicUsize,
    /// Guards all else that publishers and the session share.
    state: Mutex<State>,
    alarm: Alarm,
}

#[derive(Default)]
struct State {
    /// Bounded in bytes by the mailbox's limit.
    frames: VecDeque<Bytes>,
    ever_queued: u64,
    ever_written: u64,
    /// The last frame that took the mailbox beyond its limit.
    excess: Excess,
    /// When the oldest of `frames` was queued.
    oldest: Option<Instant>,
    /// The socket did not take all of the last write.
    blocked: bool,
    rung: bool,
    close: Option<Closing>,
    /// Subscriptions that are to end. At most [`MOST_ENDED`]; one more closes the session.
    ended: Vec<Destination>,
    /// The session takes nothing any more.
    over: bool,
    waker: Option<Waker>,
}

/// A frame by its place among all bytes that were ever queued.
#[derive(Default)]
struct Excess {
    begin: u64,
    end: u64,
}

/// Why somebody wants a session closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) reason: CloseReason,
    /// What the client is told, where that says more than the reason.
    pub(crate) detail: Option<ByteString>,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// It will be written.
    Queued,
    /// There is no room, but the session is about to make some: yield, and try again.
    Behind,
    /// The session is over, or is so by this frame.
    Gone,
}

/// What the session finds when it looks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// When the oldest of the frames taken was queued; `None` if there were none.
    pub(crate) oldest: Option<Instant>,
    /// Somebody rang: look at the deadlines.
    pub(crate) rung: bool,
    /// Somebody wants the session closed.
    pub(crate) close: Option<Closing>,
    /// Somebody wants all subscriptions to these to end.
    pub(crate) ended: Vec<Destination>,
}

impl Mailbox {
    /// A mailbox for `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, bytes: AtomicUsize::new(0), state: Mutex::default(), alarm: Alarm::new() }
    }

    /// Queues a message's frame, if there is room.
    pub(crate) fn push(&self, frame: Bytes, now: Instant) -> Push {
        let mut state = self.state.lock();
        if state.over || state.close.as_ref().is_some_and(|it| it.reason != CloseReason::Drain) {
            return Push::Gone;
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        if bytes > 0 && bytes - state.excess() + frame.len() + PER_FRAME > self.limit {
            if !state.blocked {
                return Push::Behind;
            }
            state.close = Some(CloseReason::SlowConsumer.into());
            wake(state);
            return Push::Gone;
        }
        self.queue(&mut state, frame, now);
        wake(state);
        Push::Queued
    }

    /// Queues a frame of the session's own, room or not: the session stops reading its client
    /// before these pile up. Returns how many bytes were ever queued, this frame included: once
    /// the session has written as many, this frame is written.
    pub(crate) fn post(&self, frame: Bytes, now: Instant) -> u64 {
        let mut state = self.state.lock();
        if !state.over {
            self.queue(&mut state, frame, now);
        }
        state.ever_queued
    }

    /// Whether the mailbox is at most half full: enough to read the client on, or to take another
    /// delivery from a queue.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) <= self.limit / 2
    }

    /// How many bytes wait to be written, a moment's error apart.
    pub(crate) fn queued(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Wakes the session to look at its deadlines.
    pub(crate) fn ring(&self) {
        let mut state = self.state.lock();
        state.rung = true;
        wake(state);
    }

    /// Asks the session to close. Who asks first is heard, but being sent away is the weakest reason.
    pub(crate) fn close(&self, closing: impl Into<Closing>) {
        let mut state = self.state.lock();
        if state.close.as_ref().is_none_or(|closing| closing.reason == CloseReason::Drain) {
            state.close = Some(closing.into());
        }
        wake(state);
    }

    /// Asks the session to end, because the node does, once it has answered what it has read. Whether it
    /// is not over yet.
    pub(crate) fn send_away(&self) -> bool {
        let mut state = self.state.lock();
        if state.over {
            return false;
        }
        state.close.get_or_insert_with(|| CloseReason::Drain.into());
        wake(state);
        true
    }

    /// Whether somebody has asked the session to close.
    #[cfg(test)]
    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().close.is_some()
    }

    /// Asks the session to end its subscriptions to `destination`.
    pub(crate) fn end_subscriptions(&self, destination: Destination) {
        let mut state = self.state.lock();
        if state.over || state.ended.contains(&destination) {
            return;
        }
        match state.ended.len() {
            MOST_ENDED => drop(state.close.get_or_insert_with(|| CloseReason::Overload.into())),
            _ => state.ended.push(destination),
        }
        wake(state);
    }

    /// Moves all that is queued to the end of `frames`; the session is woken when there is more.
    pub(crate) fn take(&self, cx: &Context<'_>, frames: &mut VecDeque<Bytes>) -> Taken {
        let mut state = self.state.lock();
        if frames.is_empty() {
            std::mem::swap(frames, &mut state.frames);
        } else {
            // Not `append`: it would leave this burst's room in an idle mailbox.
            frames.extend(std::mem::take(&mut state.frames));
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Taken {
            oldest: state.oldest.take(),
            rung: std::mem::take(&mut state.rung),
            close: state.close.clone(),
            ended: std::mem::take(&mut state.ended),
        }
    }

    /// Notes that `bytes` of what was taken are written, which ended so many `frames`, and whether
    /// the socket is full now.
    pub(crate) fn written(&self, bytes: usize, frames: usize, blocked: bool) {
        let mut state = self.state.lock();
        self.bytes.fetch_sub(bytes + frames * PER_FRAME, Ordering::Relaxed);
        state.ever_written += bytes as u64;
        state.blocked = blocked;
    }

    /// Takes nothing any more, and forgets what is queued.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        *state = State { over: true, ..State::default() };
    }

    fn queue(&self, state: &mut State, frame: Bytes, now: Instant) {
        let before = self.bytes.fetch_add(frame.len() + PER_FRAME, Ordering::Relaxed);
        let begin = state.ever_queued;
        state.ever_queued += frame.len() as u64;
        if state.excess() == 0 && before + frame.len() + PER_FRAME > self.limit {
            state.excess = Excess { begin, end: state.ever_queued };
        }
        state.frames.push_back(frame);
        state.oldest.get_or_insert(now);
    }

    /// The session's place on the clock.
    pub(crate) fn alarm(&self) -> &Alarm {
        &self.alarm
    }
}

impl State {
    /// How many bytes of the frame that is too much are unwritten.
    fn excess(&self) -> usize {
        let Excess { begin, end } = self.excess;
        // Both within what is queued, which is in memory.
        end.saturating_sub(begin.max(self.ever_written)) as usize
    }
}

impl From<CloseReason> for Closing {
    fn from(reason: CloseReason) -> Self {
        Self { reason, detail: None }
    }
}

/// Wakes the session once; further calls cost nothing until it has looked again.
fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    fn take(mailbox: &Mailbox) -> (VecDeque<Bytes>, Taken) {
        let mut frames = VecDeque::new();
        let taken = mailbox.take(&Context::from_waker(Waker::noop()), &mut frames);
        (frames, taken)
    }

    #[test]
    fn takes_everything_at_once_in_order() {
        let mailbox = Mailbox::new(1000);
        let now = Instant::now();
        for n in 1..=3 {
            assert_eq!(mailbox.push(frame(n), now), Push::Queued);
        }
        let (frames, taken) = take(&mailbox);
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(taken.oldest, Some(now));
        assert_eq!(take(&mailbox), (VecDeque::new(), Taken::default()));
    }

    #[test]
    fn full_is_behind_while_the_client_reads_and_slow_once_it_does_not() {
        let mailbox = Mailbox::new(1000);
        let now = Instant::now();
        assert_eq!(mailbox.push(frame(1000 - PER_FRAME), now), Push::Queued);
        assert_eq!(mailbox.push(frame(1), now), Push::Behind);
        take(&mailbox);
        mailbox.written(500, 0, true);
        assert_eq!(mailbox.push(frame(500 - PER_FRAME), now), Push::Queued);
        assert_eq!(mailbox.push(frame(1), now), Push::Gone);
        assert_eq!(take(&mailbox).1.close, Some(CloseReason::SlowConsumer.into()));
    }

    #[test]
    fn what_is_taken_but_not_written_counts() {
        let mailbox = Mailbox::new(1000);
        let now = Instant::now();
        mailbox.push(frame(800), now);
        take(&mailbox);
        assert_eq!(mailbox.push(frame(300), now), Push::Behind);
        mailbox.written(800, 1, false);
        assert_eq!(mailbox.push(frame(300), now), Push::Queued);
    }

    #[test]
    fn many_empty_frames_fill_it_too() {
        let mailbox = Mailbox::new(10 * PER_FRAME);
        let now = Instant::now();
        assert!((0..10).all(|_| mailbox.push(frame(0), now) == Push::Queued));
        assert_eq!(mailbox.push(frame(0), now), Push::Behind);
    }

    #[test]
    fn one_frame_longer_than_the_limit_fits_an_empty_mailbox() {
        let mailbox = Mailbox::new(100);
        assert_eq!(mailbox.push(frame(1000), Instant::now()), Push::Queued);
    }

    #[test]
    fn one_long_frame_makes_no_slow_client_of_who_reads_it() {
        let now = Instant::now();
        for before in [0, 300] {
            let mailbox = Mailbox::new(1000);
            mailbox.push(frame(before), now);
            // Beyond an empty mailbox it comes from a queue, which looks for room only.
            mailbox.post(frame(5000), now);
            take(&mailbox);
            mailbox.written(before / 2, 0, true);
            assert_eq!(mailbox.push(frame(1), now), Push::Queued);
            mailbox.written(before / 2 + 3000, usize::from(before > 0), true);
            assert_eq!(mailbox.push(frame(1), now), Push::Queued);
            // The rest is as bounded as ever, and so is a second long one.
            assert_eq!(mailbox.push(frame(500), now), Push::Queued);
            assert_eq!(mailbox.push(frame(500), now), Push::Gone, "{before}");
        }
    }

    #[test]
    fn once_the_long_frame_is_written_the_limit_is_what_it_was() {
        let (mailbox, now) = (Mailbox::new(1000), Instant::now());
        mailbox.push(frame(5000), now);
        assert_eq!(mailbox.push(frame(5000), now), Push::Behind, "one is enough");
        take(&mailbox);
        mailbox.written(5000, 1, true);
        assert_eq!(mailbox.push(frame(900), now), Push::Queued);
        assert_eq!(mailbox.push(frame(900), now), Push::Gone);
    }

    #[test]
    fn a_session_that_is_sent_away_gets_what_comes_and_may_still_be_closed_for_worse() {
        let (mailbox, now) = (Mailbox::new(1000), Instant::now());
        assert!(mailbox.send_away());
        assert_eq!(mailbox.push(frame(1), now), Push::Queued);
        assert_eq!(take(&mailbox).1.close, Some(CloseReason::Drain.into()));
        mailbox.close(CloseReason::Removed);
        assert_eq!(mailbox.push(frame(1), now), Push::Gone);
        assert!(mailbox.send_away());
        assert_eq!(take(&mailbox).1.close, Some(CloseReason::Removed.into()));
        mailbox.end();
        assert!(!mailbox.send_away());
    }

    #[test]
    fn nothing_is_kept_after_the_end() {
        let mailbox = Mailbox::new(100);
        mailbox.push(frame(10), Instant::now());
        mailbox.end();
        assert_eq!(mailbox.push(frame(10), Instant::now()), Push::Gone);
        assert!(take(&mailbox).0.is_empty());
    }
}
