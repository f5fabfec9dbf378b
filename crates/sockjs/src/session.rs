//! A session over HTTP: what the requests of one client and the server's end ([`Connection`]) share.
//!
//! Invariants
//! - One request receives at a time. What it takes is gone; what it does not take is for the next one.
//! - A client is told `o` once, before anything else, and the same `c` for ever after the end.
//! - Nothing is taken for the client while no request receives, nor while what was taken is not written: the
//!   server's end waits. So at most [`CHUNK`] bytes and one message are held for the client, and in the end
//!   whatever the server's end still has.
//! - What the client sends waits within a limit; a request that brings more waits for room.
//! - A request that broke while it received ends the session, for what it was given may be lost. So does
//!   silence: no receiving request for the disconnect delay.
//!
//! Not here: how frames are wrapped (`transport`), which session is meant (`sessions`).
//!
//! [`Connection`]: crate::Connection

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frame;
use crate::request::Held;
use crate::turn::{Turn, Turns};

/// Bytes of messages after which no more is taken for one frame.
const CHUNK: usize = 64 * 1024;

/// What a waiting message costs besides its bytes.
const PER_MESSAGE: usize = 64;

/// See the module.
pub(crate) struct Session {
    /// Most bytes from the client that wait to be received.
    inbound_limit: usize,
    /// Guards what requests and the server's end share; held for a few instructions.
    state: Mutex<State>,
    /// Tells whoever ends the session that receiving began or ended.
    changed: Notify,
    /// Tells a sending request that there may be room.
    room: Notify,
    turns: Turns,
}

struct State {
    phase: Phase,
    /// For the client, as literals. At most [`CHUNK`] bytes and one more.
    outbound: VecDeque<Bytes>,
    outbound_bytes: usize,
    /// Whether the response under way shall end, so that the client asks again if it is there.
    is_probed: bool,
    /// From the client; bounded by `inbound_limit`.
    inbound: VecDeque<Bytes>,
    inbound_bytes: usize,
    /// Whether a request has begun to receive since the server's end looked.
    is_alive: bool,
    receiver: Option<Receiver>,
    next_receiver: u64,
    /// Since when no request has received, if none does.
    idle_since: Instant,
    /// Whether frames are sent merely to be seen.
    heartbeats: bool,
    /// Whether the server's end is still there.
    is_served: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How far a session is.
enum Phase {
    /// The client has not been told `o`.
    New,
    Open,
    /// With what the client is told.
    Closed {
        frame: Bytes,
        /// Whether it is the client that is gone.
        is_lost: bool,
    },
}

/// The request that receives.
struct Receiver {
    number: u64,
    waker: Option<Waker>,
    /// What is kept while it waits for the session. A client that does not read would keep it for ever.
    held: Option<Held>,
}

/// What the server's end hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Message(Bytes),
    /// The client asked for more, so it is there.
    Alive,
    /// The client is gone.
    Lost,
}

/// What a receiving request is to write next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// A frame, behind which more may come.
    Frame(Bytes),
    /// The last frame of the session.
    Close(Bytes),
    /// This response is to end, with a frame that says nothing.
    Probe,
}

/// Another request receives for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StillOpen;

impl Session {
    pub(crate) fn new(inbound_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            inbound_limit,
            state: Mutex::new(State {
                phase: Phase::New,
                outbound: VecDeque::new(),
                outbound_bytes: 0,
                is_probed: false,
                inbound: VecDeque::new(),
                inbound_bytes: 0,
                is_alive: false,
                receiver: None,
                next_receiver: 0,
                idle_since: Instant::now(),
                heartbeats: true,
                is_served: true,
                reader: None,
                writer: None,
            }),
            changed: Notify::new(),
            room: Notify::new(),
            turns: Turns::new(),
        })
    }

    // The client's requests.

    /// Lets a request receive; its number. What is `held` is let go once there is nothing more to wait for.
    pub(crate) fn attach(&self, held: Option<Held>) -> Result<u64, StillOpen> {
        let mut state = self.state.lock();
        if state.receiver.is_some() {
            return Err(StillOpen);
        }
        let number = state.next_receiver;
        state.next_receiver += 1;
        let (held, over) = if state.is_served { (held, None) } else { (None, held) };
        state.receiver = Some(Receiver { number, waker: None, held });
        state.is_alive = true;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        drop(over);
        wake(wakers);
        self.changed.notify_one();
        Ok(number)
    }

    /// What request `number`, which receives, is to write next. A response that does not stream, or is long
    /// enough, is [`released`](Self::release) with it.
    pub(crate) fn poll_next(&self, number: u64, cx: &Context<'_>) -> Poll<Next> {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::New) {
            state.phase = Phase::Open;
            return Poll::Ready(Next::Frame(Bytes::from_static(frame::OPEN)));
        }
        if !state.outbound.is_empty() {
            let mut out = BytesMut::with_capacity(state.outbound_bytes + 8);
            frame::messages(&state.outbound, &mut out);
            state.outbound = VecDeque::new();
            state.outbound_bytes = 0;
            let writer = state.writer.take();
            drop(state);
            wake([writer]);
            return Poll::Ready(Next::Frame(out.freeze()));
        }
        if let Phase::Closed { frame, .. } = &state.phase {
            return Poll::Ready(Next::Close(frame.clone()));
        }
        if std::mem::take(&mut state.is_probed) {
            return Poll::Ready(Next::Probe);
        }
        if let Some(receiver) = &mut state.receiver
            && receiver.number == number
        {
            receiver.waker = Some(cx.waker().clone());
        }
        // What waits at the server's end may come now.
        let writer = state.writer.take();
        drop(state);
        wake([writer]);
        Poll::Pending
    }

    /// Whether heart-beats are wanted.
    pub(crate) fn has_heartbeats(&self) -> bool {
        self.state.lock().heartbeats
    }

    /// Request `number` has written all it will.
    pub(crate) fn release(&self, number: u64) {
        let mut state = self.state.lock();
        if state.receiver.as_ref().is_some_and(|receiver| receiver.number == number) {
            let receiver = state.receiver.take();
            state.idle_since = Instant::now();
            drop(state);
            drop(receiver);
            self.changed.notify_one();
        }
    }

    /// Request `number` broke before it had written all it was to: what it took may be lost.
    pub(crate) fn interrupt(&self, number: u64) {
        let mut state = self.state.lock();
        if state.receiver.as_ref().is_none_or(|receiver| receiver.number != number) {
            return;
        }
        let receiver = state.receiver.take();
        state.idle_since = Instant::now();
        drop(state);
        drop(receiver);
        self.lose();
        self.changed.notify_one();
    }

    /// The turn of a request that sends, once those before it are done; none if there are too many.
    pub(crate) async fn turn(&self) -> Option<Turn<'_>> {
        self.turns.take().await
    }

    /// Takes in what the client sent, as soon as there is room. What comes after the end is for nobody, as
    /// with a WebSocket that is being closed.
    pub(crate) async fn deliver(&self, _in_order: &Turn<'_>, messages: Vec<Bytes>) {
        let cost: usize = messages.iter().map(|message| message.len() + PER_MESSAGE).sum();
        let mut messages = Some(messages);
        loop {
            let room = self.room.notified();
            {
                let mut state = self.state.lock();
                if matches!(state.phase, Phase::Closed { .. }) {
                    return;
                }
                if state.inbound_bytes == 0 || state.inbound_bytes + cost <= self.inbound_limit {
                    state.inbound.extend(messages.take().unwrap_or_default());
                    state.inbound_bytes += cost;
                    let reader = state.reader.take();
                    drop(state);
                    return wake([reader]);
                }
            }
            room.await;
        }
    }

    // The server's end.

    pub(crate) fn poll_heard(&self, cx: &Context<'_>) -> Poll<Heard> {
        let mut state = self.state.lock();
        if let Some(message) = state.inbound.pop_front() {
            state.inbound_bytes -= message.len() + PER_MESSAGE;
            drop(state);
            self.room.notify_waiters();
            return Poll::Ready(Heard::Message(message));
        }
        if let Phase::Closed { is_lost: true, .. } = state.phase {
            return Poll::Ready(Heard::Lost);
        }
        if std::mem::take(&mut state.is_alive) {
            return Poll::Ready(Heard::Alive);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes ready-made frames from the front, whole ones only; how many bytes of them.
    pub(crate) fn poll_send(
        &self,
        cx: &Context<'_>,
        frames: &VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Closed { .. }) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // The last words need nobody who receives: whoever asks next is told.
        let is_last = frames.back().is_some_and(|frame| frame.first() == Some(&b'c'));
        let is_ready = state.receiver.as_ref().is_some_and(|receiver| receiver.waker.is_some());
        if !is_last && (!is_ready || !state.outbound.is_empty() || state.is_probed) {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut taken = 0;
        for frame in frames {
            taken += frame.len();
            match frame.first() {
                Some(b'c') => {
                    state.phase = Phase::Closed { frame: frame.clone(), is_lost: false };
                    break;
                }
                Some(b'"') => {
                    state.outbound_bytes += frame.len();
                    state.outbound.push_back(frame.clone());
                }
                _ => state.is_probed = true,
            }
            if state.outbound_bytes >= CHUNK && !is_last {
                break;
            }
        }
        let receiver = state.receiver.as_mut().and_then(|receiver| receiver.waker.take());
        drop(state);
        wake([receiver]);
        self.changed.notify_one();
        Poll::Ready(Ok(taken))
    }

    pub(crate) fn stop_heartbeats(&self) {
        self.state.lock().heartbeats = false;
    }

    /// The server's end is gone. A client that was not told why is told `unless_closed`.
    pub(crate) fn leave(&self, unless_closed: Bytes) {
        let mut state = self.state.lock();
        state.is_served = false;
        if !matches!(state.phase, Phase::Closed { .. }) {
            state.phase = Phase::Closed { frame: unless_closed, is_lost: false };
        }
        state.inbound = VecDeque::new();
        state.inbound_bytes = 0;
        if state.receiver.is_none() {
            state.idle_since = Instant::now();
        }
        let receiver = state.receiver.as_mut();
        let (waker, held) =
            receiver.map(|receiver| (receiver.waker.take(), receiver.held.take())).unzip();
        drop(state);
        drop(held);
        wake([waker.flatten()]);
        self.room.notify_waiters();
        self.changed.notify_one();
    }

    // Whoever ends it.

    /// Ends the session once no request has received for `delay`; returns when nothing is left of it.
    pub(crate) async fn attend(&self, delay: Duration) {
        loop {
            let (idle_since, is_served) = {
                let state = self.state.lock();
                (state.receiver.is_none().then_some(state.idle_since), state.is_served)
            };
            let Some(idle_since) = idle_since else {
                self.changed.notified().await;
                continue;
            };
            let over = idle_since + delay;
            if over <= Instant::now() {
                if !is_served {
                    return;
                }
                self.lose();
                // The server's end has heard of it and takes its leave.
                self.changed.notified().await;
                continue;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(over) => {}
            }
        }
    }

    /// The client is gone, or as good as gone.
    pub(crate) fn lose(&self) {
        let mut state = self.state.lock();
        if let Phase::Closed { is_lost, .. } = &mut state.phase {
            *is_lost = true;
        } else {
            let (code, reason) = frame::INTERRUPTED;
            state.phase = Phase::Closed { frame: frame::close(code, reason), is_lost: true };
        }
        state.outbound = VecDeque::new();
        state.outbound_bytes = 0;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wake(wakers);
        self.room.notify_waiters();
    }
}

fn wake<const COUNT: usize>(wakers: [Option<Waker>; COUNT]) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}
