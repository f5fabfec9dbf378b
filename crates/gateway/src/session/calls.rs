//! What a session has asked of the application, and what it says once that is answered.
//!
//! Invariants
//! - Answers come in the order of the calls, and each is taken before the next call is made: what a client
//!   has no room for holds up its own calls.
//! - Of an answer the mailbox gets as much as it has room for; the rest waits here, with all behind it.
//! - The session may end at any time: its calls are made without it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Busy, Session};
use crate::application::{CallError, Content};
use crate::close::CloseReason;
use crate::lane::{Lane, WAITING};
use crate::relay::{Asking, ERROR};
use crate::transport::Transport;

/// See the module.
pub(super) struct Calls {
    lane: Lane,
    /// Calls that are not answered, in the order they are made: the one in flight, and [`WAITING`] at most.
    asked: VecDeque<Asked>,
    answered: u64,
    /// One at most: the next call waits until it is taken.
    answers: mpsc::Receiver<Answered>,
    answering: mpsc::Sender<Answered>,
    /// What is left of the answer to the first of `asked`, which one call may be answered at most.
    handing: Option<vec::IntoIter<Content>>,
}

struct Asked {
    receipt: Option<ByteString>,
    bytes: usize,
    /// The subscription that the answer is for; none for a SEND.
    subscription: Option<u32>,
}

/// What came of a call, and what its subscription gets.
type Answered = Result<Vec<Content>, CallError>;

impl Calls {
    fn new() -> Self {
        let (answering, answers) = mpsc::channel(1);
        Self {
            lane: Lane::default(),
            asked: VecDeque::new(),
            answered: 0,
            answers,
            answering,
            handing: None,
        }
    }

    /// Whether another call may wait.
    pub(super) fn have_room(&self) -> bool {
        self.asked.len() <= WAITING
    }

    /// Whether no call waits.
    pub(super) fn are_answered(&self) -> bool {
        self.asked.is_empty()
    }

    /// How many calls were ever answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }
}

impl<T: Transport> Session<T> {
    /// How many calls were ever asked for.
    pub(super) fn asked(&self) -> u64 {
        self.calls.as_ref().map_or(0, |calls| calls.answered + calls.asked.len() as u64)
    }

    /// Has a call made, whose answer goes to `subscription` if it is that of a SUBSCRIBE.
    pub(super) fn ask(
        &mut self,
        asking: Box<Asking>,
        subscription: Option<u32>,
        receipt: Option<ByteString>,
        bytes: usize,
    ) {
        let calls = self.calls.get_or_insert_with(|| Box::new(Calls::new()));
        calls.asked.push_back(Asked { receipt, bytes, subscription });
        self.awaited_bytes += bytes;
        let answering = calls.answering.clone();
        let call = async move {
            let asked = async {
                match subscription {
                    Some(_) => asking.subscribe().await,
                    None => asking.message().await.map(|()| Vec::new()),
                }
            };
            // The session counts on an answer to each.
            let answered = AssertUnwindSafe(asked).catch_unwind().await;
            let answered = answered.unwrap_or(Err(CallError::Failed));
            // An error means that the client has gone.
            let _ = answering.send(answered).await;
        };
        calls.lane.push(&self.node.tasks, Box::pin(call));
    }

    /// Takes what is answered while the mailbox has room, and gives the receipts.
    pub(super) fn poll_calls(&mut self, cx: &mut Context<'_>, now: Instant) -> Busy {
        let mut busy = false;
        while self.mailbox.has_room()
            && let Some(calls) = &mut self.calls
        {
            let failed = match &mut calls.handing {
                Some(rest) => {
                    let next = rest.next();
                    let subscription = calls.asked.front().and_then(|asked| asked.subscription);
                    if let (Some(content), Some(number), Some(relay)) =
                        (next, subscription, &self.relay)
                    {
                        relay.answer(number, content, now);
                        busy = true;
                        continue;
                    }
                    calls.handing = None;
                    None
                }
                None => match calls.answers.poll_recv(cx) {
                    Poll::Ready(Some(Ok(contents))) => {
                        calls.handing = Some(contents.into_iter());
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => Some(error),
                    Poll::Ready(None) | Poll::Pending => break,
                },
            };
            let Some(Asked { receipt, bytes, .. }) = calls.asked.pop_front() else { break };
            calls.answered += 1;
            if calls.asked.is_empty() {
                calls.asked = VecDeque::new();
            }
            self.awaited_bytes -= bytes;
            busy = true;
            match failed {
                None => self.stomp.receipt(receipt.as_deref()),
                Some(error) => {
                    self.stomp.receipt_with(receipt.as_deref(), &[(ERROR, error.code())]);
                }
            }
            // Said at once, so that receipts and messages keep their order.
            self.say(now);
        }
        busy
    }

    /// Has the application told, behind all calls, that the session is over.
    pub(super) fn tell_application(&mut self, reason: CloseReason) {
        let (Some(relay), Some(_)) = (&self.relay, self.node.application.hook()) else { return };
        let (node, caller) = (Arc::clone(&self.node), relay.caller().clone());
        let lane = self.calls.take().map_or_else(Lane::default, |calls| calls.lane);
        let tell = async move { node.application.disconnect(caller, reason).await };
        lane.push(&self.node.tasks, Box::pin(tell));
    }
}
