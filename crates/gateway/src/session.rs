//! One client's session: a task that owns its transport, the protocol's state and its relay.
//!
//! The task wakes for a closed set of reasons, all in [`Session::poll`]: its mailbox (frames, a
//! deadline, a request to close), its socket, the action in hand, a confirm, a queue. It drains the
//! whole mailbox before it writes, and writes before it does anything else.
//!
//! Invariants
//! - One task owns everything; nothing else writes to the client.
//! - One action is in hand at a time, so a session's SENDs and SUBSCRIBEs take effect in order.
//!   While it waits, or too much is unconfirmed or unread, the client is not read.
//! - There is one way out: [`Session::run`] says good-bye, counts the reason and cleans up.
//! - An idle session holds no timer and no buffer.
//! - One that is sent away, because the node stops, reads no more, takes no more from queues, and ends once
//!   all it has read is done and answered, or at the node's last call.
//! - A session whose principal has expired ends, within a tick of the node's clock.

mod calls;
mod ending;
mod perform;
mod performed;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::Confirm;
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use tokio::task::coop;
use tokio::time::Instant;

use self::calls::Calls;
use self::ending::End;
use self::perform::Commit;
use self::performed::Performed;
use crate::arrival::Arrival;
use crate::close::CloseReason;
use crate::mailbox::Mailbox;
use crate::metrics::PublishOutcome;
use crate::node::{Admission, Node};
use crate::outgoing::Outgoing;
use crate::relay::{Refused, Relay};
use crate::transport::{Incoming, ReadError, Transport};

/// See the module.
pub(crate) struct Session<T> {
    node: Arc<Node>,
    /// The session's place on the node, and its id.
    admission: Admission,
    transport: T,
    arrival: Arrival,
    stomp: stomp::Session,
    mailbox: Arc<Mailbox>,
    outgoing: Outgoing,
    /// None until CONNECT was accepted.
    relay: Option<Box<Relay>>,
    /// The COMMIT that is being performed; comes before anything else.
    committing: Option<Commit>,
    /// The action that is being performed, if it has to wait.
    in_hand: Option<BoxFuture<'static, Performed>>,
    /// In the order they were asked for; beyond `max_unconfirmed` the client is not read.
    awaited: VecDeque<Awaited>,
    /// What of the application was asked; none before the first time.
    calls: Option<Box<Calls>>,
    /// What they and the calls take; from `max_unconfirmed_bytes` on the client is not read.
    awaited_bytes: usize,
    /// Whether the client is not read for now.
    paused: bool,
    /// Whether it is sent away.
    leaving: bool,
}

/// Something to say once the broker has spoken, and everything before it was said.
struct Awaited {
    confirm: Confirm,
    since: Instant,
    /// Of the message, headers included.
    bytes: usize,
    then: Then,
}

enum Then {
    /// A SEND is confirmed.
    Sent { receipt: Option<ByteString> },
    /// All that a COMMIT released is confirmed, and so many calls are answered.
    Committed { receipt: Option<ByteString>, calls: u64 },
    /// All before DISCONNECT is confirmed, and so many calls are answered.
    Disconnected { receipt: Option<ByteString>, calls: u64 },
}

type Step<T = ()> = ControlFlow<End, T>;

/// Whether a source had something; if any had, all are asked again.
type Busy = bool;

impl<T: Transport> Session<T> {
    pub(crate) fn new(
        node: Arc<Node>,
        admission: Admission,
        transport: T,
        arrival: Arrival,
    ) -> Self {
        let now = Instant::now();
        Self {
            stomp: stomp::Session::new(Arc::clone(&node.stomp), now.into_std()),
            mailbox: Arc::clone(admission.mailbox()),
            admission,
            transport,
            arrival,
            outgoing: Outgoing::default(),
            relay: None,
            committing: None,
            in_hand: None,
            awaited: VecDeque::new(),
            calls: None,
            awaited_bytes: 0,
            paused: false,
            leaving: false,
            node,
        }
    }

    /// Runs the session to its end.
    ///
    /// Written so that the future is hardly larger than the session: what it captures is used in
    /// place (an `async fn` would hold `self` twice), and the good-bye has its room on the heap.
    /// Measured: 0.8 KiB instead of 4.5.
    #[expect(clippy::manual_async_fn, reason = "an async fn is twice the size, see above")]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let end = poll_fn(|cx| self.poll(cx)).await;
            tracing::debug!(
                session = %self.admission.id(),
                principal = self.relay.as_ref().map(|relay| &*relay.principal().name),
                reason = end.reason.label(),
                may_reconnect = end.reason.may_reconnect(),
                detail = end.detail,
                "closed"
            );
            self.node.metrics.closed(end.reason);
            self.tell_application(end.reason);
            Box::pin(self.say_goodbye(end)).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.poll_once(cx) {
                ControlFlow::Continue(true) => {}
                ControlFlow::Continue(false) => {
                    let protocol = self.stomp.poll_timeout().map(Instant::from_std);
                    let stalled = self.outgoing.deadline(self.node.config.send_timeout);
                    let unsettled = self.ack_deadline();
                    let expired = self.relay.as_ref().and_then(|relay| relay.expires_at());
                    let last_call = self.node.drain.get().filter(|_| self.leaving);
                    let last_call = last_call.map(|schedule| schedule.finish_by);
                    let deadlines = [protocol, stalled, unsettled, expired, last_call];
                    let deadline = deadlines.into_iter().flatten().min();
                    self.node.clock.set(&self.mailbox, deadline.map(Instant::into_std));
                    return Poll::Pending;
                }
                ControlFlow::Break(end) => return Poll::Ready(end),
            }
        }
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Step<Busy> {
        let now = Instant::now();
        let mut busy = self.poll_mailbox(cx, now)?;
        busy |= self.poll_in_hand(cx, now)?;
        busy |= self.poll_calls(cx, now);
        busy |= self.poll_awaited(cx, now)?;
        // Receipts go out before the first delivery of a queue.
        busy |= self.say(now);
        busy |= self.poll_actions(cx, now)?;
        busy |= self.say(now);
        busy |= self.poll_queues(cx, now)?;
        busy |= self.poll_transport(cx, now)?;
        Step::Continue(busy)
    }

    /// Drains the mailbox and writes; looks at the deadlines if the clock rang.
    fn poll_mailbox(&mut self, cx: &mut Context<'_>, now: Instant) -> Step<Busy> {
        let taken = self.outgoing.take(cx, &self.mailbox);
        if let Some(closing) = taken.close {
            self.leaving = closing.reason == CloseReason::Drain && self.relay.is_some();
            if !self.leaving || self.node.is_last_call(now) {
                return Step::Break(self.closed_from_outside(closing));
            }
        }
        for destination in &taken.ended {
            self.end_subscriptions(destination);
        }
        if taken.rung {
            if self.outgoing.is_late(now, self.node.config.send_timeout) {
                return Step::Break(self.closed_from_outside(CloseReason::SlowConsumer.into()));
            }
            if self.relay.as_ref().is_some_and(|relay| relay.is_expired(now)) {
                return self.refuse(expired(), None, now);
            }
            if self.ack_deadline().is_some_and(|deadline| deadline <= now) {
                return self.refuse(too_long_unsettled(self.node.config.ack_timeout), None, now);
            }
            if self.stomp.handle_timeout(now.into_std())
                && let Some(probe) = self.transport.probe()
            {
                self.mailbox.post(probe, now);
            }
        }
        match self.outgoing.poll_write(cx, &mut self.transport, &self.mailbox, now) {
            Ok(0) => {}
            Ok(written) => {
                self.node.metrics.sent_bytes.inc_by(written);
                if self.outgoing.spoke() {
                    self.stomp.sent(now.into_std());
                }
                if let Some(relay) = &mut self.relay {
                    relay.written(self.outgoing.ever_written());
                }
                if let Some(waited) = self.outgoing.waited() {
                    self.node.metrics.delivered(waited);
                }
            }
            Err(error) => {
                return Step::Break(End {
                    reason: CloseReason::ClientLost,
                    detail: error.to_string(),
                });
            }
        }
        // What was due, and what is said of subscriptions that ended, is in the mailbox now or about to be.
        Step::Continue(taken.rung || !taken.ended.is_empty())
    }

    /// Answers what the broker has confirmed, in the order it was asked for.
    fn poll_awaited(&mut self, cx: &mut Context<'_>, now: Instant) -> Step<Busy> {
        let mut busy = false;
        let answered = self.calls.as_ref().map_or(0, |calls| calls.answered());
        while let Some(first) = self.awaited.front_mut() {
            if let Then::Committed { calls, .. } | Then::Disconnected { calls, .. } = first.then
                && answered < calls
            {
                break;
            }
            let Poll::Ready(result) = Pin::new(&mut first.confirm).poll(cx) else { break };
            let Some(Awaited { since, bytes, then, .. }) = self.awaited.pop_front() else { break };
            self.awaited_bytes -= bytes;
            busy = true;
            match (then, result) {
                (Then::Sent { receipt }, Ok(())) => {
                    self.node.metrics.published(PublishOutcome::Confirmed, now - since);
                    self.stomp.receipt(receipt.as_deref());
                }
                (Then::Sent { receipt }, Err(error)) => {
                    self.node.metrics.published(PublishOutcome::Failed, now - since);
                    return self.refuse(error.into(), receipt, now);
                }
                (Then::Committed { receipt, .. }, _) => self.stomp.receipt(receipt.as_deref()),
                (Then::Disconnected { receipt, .. }, _) => {
                    self.stomp.receipt(receipt.as_deref());
                    self.say(now);
                    return Step::Break(End {
                        reason: CloseReason::Disconnect,
                        detail: String::new(),
                    });
                }
            }
        }
        if self.awaited.is_empty() && self.awaited.capacity() > 8 {
            self.awaited = VecDeque::new();
        }
        Step::Continue(busy)
    }

    /// Takes deliveries from queues while the mailbox has room.
    fn poll_queues(&mut self, cx: &mut Context<'_>, now: Instant) -> Step<Busy> {
        let mut busy = false;
        while let Some(relay) = &mut self.relay
            && !self.leaving
            && self.mailbox.has_room()
        {
            match relay.poll_deliver(cx, now) {
                Poll::Ready(Ok(())) => busy = true,
                Poll::Ready(Err(refused)) => return self.refuse(refused, None, now),
                Poll::Pending => break,
            }
        }
        Step::Continue(busy)
    }

    /// Performs what the client asked for, as long as nothing has to wait.
    fn poll_actions(&mut self, cx: &mut Context<'_>, now: Instant) -> Step<Busy> {
        let mut busy = false;
        while self.may_act() {
            // A client that never runs dry gives way to the other sessions of its thread: once its
            // turn is over this is pending, and the task is scheduled again.
            let Poll::Ready(turn) = coop::poll_proceed(cx) else { break };
            if self.committing.is_some() {
                self.commit_next(now);
            } else if let Some(action) = self.stomp.poll_action() {
                self.perform(action, now)?;
            } else if self.leaving && self.is_answered() {
                self.say_last(now);
                return Step::Break(self.closed_from_outside(CloseReason::Drain.into()));
            } else {
                break;
            }
            turn.made_progress();
            busy = true;
        }
        Step::Continue(busy)
    }

    /// Reads, if there is nothing to do first.
    fn poll_transport(&mut self, cx: &mut Context<'_>, now: Instant) -> Step<Busy> {
        let paused = self.leaving || !self.may_act() || !self.stomp.wants_input();
        if paused != self.paused {
            self.paused = paused;
            self.stomp.pause(now.into_std(), paused);
        }
        if paused {
            return Step::Continue(false);
        }
        match self.transport.poll_receive(cx) {
            Poll::Pending => return Step::Continue(false),
            Poll::Ready(Ok(Incoming::Message { bytes, .. })) => {
                self.node.metrics.received_bytes.inc_by(bytes.len() as u64);
                self.stomp.receive(now.into_std(), bytes);
            }
            Poll::Ready(Ok(Incoming::Reply(frame))) => {
                self.stomp.alive(now.into_std());
                self.mailbox.post(frame, now);
            }
            Poll::Ready(Ok(Incoming::Alive)) => self.stomp.alive(now.into_std()),
            Poll::Ready(Ok(Incoming::Say(frame))) => {
                self.mailbox.post(frame, now);
            }
            Poll::Ready(Ok(Incoming::Closed(answer))) => {
                if let Some(frame) = answer {
                    self.mailbox.post(frame, now);
                }
                return Step::Break(End {
                    reason: CloseReason::ClientClosed,
                    detail: String::new(),
                });
            }
            Poll::Ready(Err(ReadError::Lost)) => {
                return Step::Break(End {
                    reason: CloseReason::ClientLost,
                    detail: "connection lost".into(),
                });
            }
            Poll::Ready(Err(ReadError::WebSocket(error))) => {
                let refused = Refused::new((&error).into(), error.to_string());
                return self.refuse(refused, None, now);
            }
            Poll::Ready(Err(ReadError::SockJs(detail))) => {
                // SockJS wants the connection cut off, and nothing said.
                return Step::Break(End { reason: CloseReason::Protocol, detail });
            }
        }
        Step::Continue(true)
    }

    /// When a delivery will have been unsettled for too long.
    fn ack_deadline(&self) -> Option<Instant> {
        self.relay.as_ref()?.ack_deadline(self.node.config.ack_timeout)
    }

    /// Whether the next action may be performed: none is in hand, not too much is unconfirmed or
    /// waits for the application, and the client reads what it is sent.
    fn may_act(&self) -> bool {
        self.in_hand.is_none()
            && self.awaited.len() < self.node.config.max_unconfirmed
            && self.calls.as_ref().is_none_or(|calls| calls.have_room())
            && self.awaited_bytes < self.node.config.max_unconfirmed_byte_count()
            && self.mailbox.has_room()
    }

    /// Whether nothing of what the client has asked for waits for an answer.
    fn is_answered(&self) -> bool {
        self.awaited.is_empty() && self.calls.as_ref().is_none_or(|calls| calls.are_answered())
    }

    /// Posts the frames that the protocol wants said.
    fn say(&mut self, now: Instant) -> Busy {
        let mut busy = false;
        while let Some(frame) = self.stomp.poll_said() {
            busy = true;
            self.mailbox.post(self.wrap(&frame), now);
        }
        busy
    }

    fn wrap(&self, frame: &[u8]) -> Bytes {
        self.transport.framing().wrap(true, |out| out.extend_from_slice(frame))
    }
}

fn expired() -> Refused {
    Refused::titled(
        stomp::Title::AccessRefused,
        CloseReason::Expired,
        "the token has expired: connect again with a fresh one; to stay connected, SEND a fresh one to \
         /app/~/token in time",
    )
}

fn too_long_unsettled(timeout: Duration) -> Refused {
    let title = stomp::Title::PreconditionFailed;
    Refused::titled(
        title,
        CloseReason::AckTimeout,
        format!(
            "a message was neither acknowledged nor refused within {timeout:?}: ACK or NACK each in \
             time, or SUBSCRIBE with ack:auto"
        ),
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::transport::{Tcp, WebSocket};

    /// The task of an idle session is most of what it costs.
    #[test]
    fn the_task_of_a_session_is_below_a_kibibyte() {
        fn size_of<T, F: Future>(_: fn(Session<T>) -> F) -> usize {
            std::mem::size_of::<F>()
        }
        let websocket = size_of(Session::<WebSocket<TcpStream>>::run);
        let tcp = size_of(Session::<Tcp<TcpStream>>::run);
        assert!(websocket <= 1024, "{websocket} bytes");
        assert!(tcp <= websocket, "{tcp} bytes, with WebSocket {websocket}");
    }
}
