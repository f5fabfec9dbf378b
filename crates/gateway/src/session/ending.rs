//! How a session ends: what its client is told, and for how long.

use std::future::poll_fn;
use std::task::{Context, Waker};
use std::time::Duration;

use broker::Destination;
use bytestring::ByteString;
use stomp::Title;
use tokio::time::Instant;

use super::{Session, Step};
use crate::close::CloseReason;
use crate::mailbox::Closing;
use crate::relay::{ErrorNote, Refused};
use crate::transport::Transport;

/// How long a client is given to take the last frames and to close.
const GOODBYE: Duration = Duration::from_secs(3);

/// How a session ends: why, and what the close frame says.
pub(super) struct End {
    pub(super) reason: CloseReason,
    pub(super) detail: String,
}

impl<T: Transport> Session<T> {
    /// Says ERROR and ends the session.
    pub(super) fn refuse<U>(
        &mut self,
        refused: Refused,
        receipt: Option<ByteString>,
        now: Instant,
    ) -> Step<U> {
        let receipt = receipt.or_else(|| self.committing.take()?.receipt);
        self.stomp.fail(refused.title, &refused.message, receipt.as_deref());
        self.say_last(now);
        Step::Break(End { reason: refused.reason, detail: refused.message })
    }

    /// Posts what the protocol wants said in the end, behind which no MESSAGE comes: the hub, which runs
    /// at the same time, knows the session no more.
    pub(super) fn say_last(&mut self, now: Instant) {
        if let Some(relay) = &mut self.relay {
            relay.leave();
        }
        self.say(now);
    }

    /// Ends what the session has subscribed to at `destination`, and tells its client if it listens to
    /// that.
    pub(super) fn end_subscriptions(&mut self, destination: &Destination) {
        let Some(relay) = &mut self.relay else { return };
        let ended = relay.end(destination);
        for number in &ended {
            self.stomp.end_subscription(*number);
        }
        if !ended.is_empty() {
            let destination = destination.to_string();
            relay.tell_error(&ErrorNote {
                error: "unsubscribed",
                destination: &destination,
                receipt: None,
                text: &format!("the subscription to {destination} has been ended by the server"),
            });
        }
    }

    pub(super) fn closed_from_outside(&mut self, closing: Closing) -> End {
        let Closing { reason, detail } = closing;
        if let Some(detail) = detail {
            return self.cut_off(reason, detail.into());
        }
        let detail = match reason {
            CloseReason::SlowConsumer => format!(
                "more than {} waited to be read, or one frame for longer than {:?}",
                self.node.config.mailbox, self.node.config.send_timeout
            ),
            CloseReason::BrokerUnavailable => {
                "the broker ended a subscription; subscribe again later".into()
            }
            // Clients that are sent away come back elsewhere: no ERROR for them.
            CloseReason::Drain => {
                return End { reason, detail: "this node is stopping".into() };
            }
            CloseReason::Removed => "a service has ended this session".into(),
            _ => reason.label().into(),
        };
        self.cut_off(reason, detail)
    }

    /// Says ERROR behind what is being written.
    fn cut_off(&mut self, reason: CloseReason, detail: String) -> End {
        if reason == CloseReason::SlowConsumer {
            self.outgoing.keep_only_what_is_begun();
        }
        let title = match reason {
            CloseReason::BrokerUnavailable => Title::ServerCancelled,
            CloseReason::Removed => Title::AccessRefused,
            _ => Title::ProcessingError,
        };
        self.stomp.fail(title, &detail, None);
        while let Some(frame) = self.stomp.poll_said() {
            self.outgoing.push(self.wrap(&frame));
        }
        End { reason, detail }
    }

    /// Ends what the session holds, writes what is left and the close frame, and lets the client
    /// close first, within [`GOODBYE`].
    pub(super) async fn say_goodbye(mut self, end: End) {
        self.node.clock.set(&self.mailbox, None);
        self.in_hand = None;
        let Some(code) = end.reason.code() else { return };
        if let Some(relay) = &mut self.relay {
            relay.leave();
        }
        if end.reason != CloseReason::SlowConsumer {
            self.outgoing.take(&Context::from_waker(Waker::noop()), &self.mailbox);
        }
        self.mailbox.end();
        // A client that closed has its answer in the mailbox already.
        if end.reason != CloseReason::ClientClosed
            && let Some(frame) = self.transport.goodbye(code, &end.detail)
        {
            self.outgoing.push(frame);
        }
        let goodbye = async move {
            if poll_fn(|cx| self.outgoing.poll_rest(cx, &mut self.transport)).await.is_ok() {
                // All is written: what a client with ack:auto was sent is settled.
                if let Some(relay) = &mut self.relay {
                    relay.written(self.outgoing.ever_written());
                }
                drop(self.relay);
                self.transport.finish().await;
            }
        };
        // A client that does not take it in time is cut off.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}
