//! The body of a response by which a client receives.
//!
//! It ends, and lets the next request receive, after the one frame of a polling transport, the length a
//! streaming one may have, and the end of the session. Dropped before, it breaks the session.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use crate::config::Config;
use crate::frame;
use crate::request::Held;
use crate::session::{Next, Session};
use crate::transport::Wrapping;

/// See the module.
pub(crate) struct Responding {
    wrapping: Wrapping,
    prelude: Option<Bytes>,
    what: What,
    /// Bytes of frames so far, against `limit`.
    sent: usize,
    limit: usize,
    heartbeat: Duration,
    /// When a heart-beat is due.
    timer: Pin<Box<Sleep>>,
}

enum What {
    /// What the session has.
    Session {
        session: Arc<Session>,
        number: u64,
    },
    /// One frame and the end.
    Only(Bytes),
    Nothing,
}

impl Responding {
    /// A response that receives for `session`, or says that another does. What is `held` is kept while it waits
    /// for the session: not until the client, who may read nothing, has had the end.
    pub(crate) fn new(
        session: &Arc<Session>,
        wrapping: Wrapping,
        config: &Config,
        held: Option<Held>,
    ) -> Self {
        let what = match session.attach(held) {
            Ok(number) => What::Session { session: Arc::clone(session), number },
            Err(_) => {
                let (code, reason) = frame::STILL_OPEN;
                What::Only(frame::close(code, reason))
            }
        };
        Self {
            prelude: wrapping.prelude(),
            wrapping,
            what,
            sent: 0,
            limit: config.response_bytes(),
            heartbeat: config.heartbeat,
            timer: Box::pin(tokio::time::sleep(config.heartbeat)),
        }
    }

    /// The frame to write next, and whether it is the last of this response.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<(Bytes, bool)> {
        let (session, number) = match &self.what {
            What::Session { session, number } => (session, *number),
            What::Only(frame) => return Poll::Ready((frame.clone(), true)),
            What::Nothing => return Poll::Pending,
        };
        let is_streaming = self.wrapping.transport().is_streaming();
        match session.poll_next(number, cx) {
            Poll::Ready(Next::Frame(frame)) => return Poll::Ready((frame, !is_streaming)),
            Poll::Ready(Next::Close(frame)) => return Poll::Ready((frame, true)),
            Poll::Ready(Next::Probe) => {
                return Poll::Ready((Bytes::from_static(frame::HEARTBEAT), true));
            }
            Poll::Pending => {}
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(Instant::now() + self.heartbeat);
            if session.has_heartbeats() {
                return Poll::Ready((Bytes::from_static(frame::HEARTBEAT), !is_streaming));
            }
        }
        Poll::Pending
    }

    fn release(&mut self) {
        if let What::Session { session, number } = std::mem::replace(&mut self.what, What::Nothing)
        {
            session.release(number);
        }
    }
}

impl Stream for Responding {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(prelude) = this.prelude.take() {
            return Poll::Ready(Some(Ok(prelude)));
        }
        if matches!(this.what, What::Nothing) {
            return Poll::Ready(None);
        }
        let Poll::Ready((frame, is_last)) = this.poll_frame(cx) else { return Poll::Pending };
        let wrapped = this.wrapping.wrap(&frame);
        this.sent += wrapped.len();
        let now = Instant::now();
        this.timer.as_mut().reset(now + this.heartbeat);
        if is_last || this.sent >= this.limit {
            // Before it is written: who has read it may ask again at once.
            this.release();
            this.what = What::Nothing;
        }
        Poll::Ready(Some(Ok(wrapped)))
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        if let What::Session { session, number } = &self.what {
            session.interrupt(*number);
        }
    }
}
