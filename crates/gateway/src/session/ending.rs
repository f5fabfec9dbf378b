//! How a session ends: what its client is told, and for how long.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytestring::ByteString;
use stomp::Action;
use tokio::time::Instant;

use super::{Session, Step};
use crate::close::CloseReason;
use crate::relay::Refused;
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
        self.stomp.fail(&refused.message, receipt.as_deref());
        self.say(now);
        Step::Break(End { reason: refused.reason, detail: refused.message })
    }

    pub(super) fn closed_from_outside(&mut self, reason: CloseReason) -> End {
        let detail = match reason {
            CloseReason::SlowConsumer => format!(
                "more than {} waited to be read, or one frame for longer than {:?}",
                self.node.config.mailbox, self.node.config.send_timeout
            ),
            CloseReason::Overload => "this node has no room for another session".into(),
            // Clients that are sent away come back elsewhere: no ERROR for them.
            CloseReason::Drain => {
                return End { reason, detail: "this node is stopping".into() };
            }
            _ => reason.label().into(),
        };
        if reason == CloseReason::SlowConsumer {
            self.outgoing.keep_only_what_is_begun();
        }
        self.stomp.fail(&detail, None);
        while let Some(Action::Send(frame)) = self.stomp.poll_said() {
            self.outgoing.push(self.wrap(&frame));
        }
        End { reason, detail }
    }

    /// Writes what is left and the close frame, and lets the client close first, within
    /// [`GOODBYE`].
    pub(super) async fn say_goodbye(mut self, end: End) {
        let Some(code) = end.reason.code() else {
            self.mailbox.end();
            return;
        };
        poll_fn(|cx| {
            if end.reason != CloseReason::SlowConsumer {
                self.outgoing.take(cx, &self.mailbox);
            }
            Poll::Ready(())
        })
        .await;
        self.mailbox.end();
        // A client that closed has its answer in the mailbox already.
        if end.reason != CloseReason::ClientClosed
            && let Some(frame) = self.transport.goodbye(code, &end.detail)
        {
            self.outgoing.push(frame);
        }
        let (mut outgoing, mut transport) = (self.outgoing, self.transport);
        let goodbye = async move {
            if poll_fn(|cx| outgoing.poll_rest(cx, &mut transport)).await.is_ok() {
                transport.finish().await;
            }
        };
        // A client that does not take it in time is cut off.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}
