//! What waits for the user of a session without STOMP: all its inboxes, given to it in the order of each.
//!
//! Invariants
//! - A message is settled once its frame is written.
//! - An inbox is opened when the session begins, or when something comes into it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::{Delivery, Outcome};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::inboxes::{Inboxes, Reader};
use crate::mailbox::Mailbox;
use crate::message_frame::{Shape, encode_delivery};
use crate::metrics::Metrics;
use crate::users::Registered;

/// How many messages of one inbox may be on their way to the client.
const UNWRITTEN: usize = 64;

/// How long until a store that is away is asked again for the inboxes of a user.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Waiting {
    inboxes: Arc<Inboxes>,
    registered: Arc<Registered>,
    metrics: Arc<Metrics>,
    shape: Shape,
    /// The inboxes that are open, in turn.
    open: VecDeque<Open>,
    /// The user's inboxes, while they are asked for.
    asking: Option<BoxFuture<'static, Vec<ByteString>>>,
}

struct Open {
    reader: Reader,
    /// What is not written: at most [`UNWRITTEN`], each with how many bytes the session has written then.
    unwritten: VecDeque<(u64, Delivery)>,
}

impl Waiting {
    /// What waits for the user of `registered`.
    pub(super) fn new(
        inboxes: &Arc<Inboxes>,
        registered: &Arc<Registered>,
        metrics: &Arc<Metrics>,
        shape: Shape,
    ) -> Self {
        registered.bells().hear_all();
        let mut waiting = Self {
            inboxes: Arc::clone(inboxes),
            registered: Arc::clone(registered),
            metrics: Arc::clone(metrics),
            shape,
            open: VecDeque::new(),
            asking: None,
        };
        waiting.ask();
        waiting
    }

    /// Posts the next message to `mailbox`, which has room.
    pub(super) fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        mailbox: &Mailbox,
        now: Instant,
    ) -> Poll<()> {
        match self.registered.bells().unopened() {
            Some(paths) => paths.iter().for_each(|path| self.open(path)),
            None => self.ask(),
        }
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(paths) = asking.as_mut().poll(cx)
        {
            self.asking = None;
            paths.iter().for_each(|path| self.open(path));
        }
        for _ in 0..self.open.len() {
            let Some(mut open) = self.open.pop_front() else { break };
            let delivered = open.reader.poll_next(cx, open.unwritten.len());
            if let Poll::Ready(delivery) = delivered {
                let frame = encode_delivery(&self.shape, &delivery, None);
                let written_at = mailbox.post(frame, now);
                self.metrics.messages_sent.inc();
                open.unwritten.push_back((written_at, delivery));
                self.open.push_back(open);
                return Poll::Ready(());
            }
            self.open.push_back(open);
        }
        Poll::Pending
    }

    /// Settles what is written.
    pub(super) fn written(&mut self, ever_written: u64) {
        for open in &mut self.open {
            while open.unwritten.front().is_some_and(|(at, _)| *at <= ever_written) {
                if let Some((_, delivery)) = open.unwritten.pop_front() {
                    delivery.settle(Outcome::Ack);
                }
            }
        }
    }

    fn ask(&mut self) {
        let (inboxes, user) = (Arc::clone(&self.inboxes), self.registered.user().clone());
        self.asking = Some(Box::pin(async move {
            loop {
                match inboxes.paths(&user).await {
                    Ok(paths) => return paths,
                    Err(error) => {
                        tracing::debug!(%error, "a session does not know its inboxes yet")
                    }
                }
                tokio::time::sleep(RETRY).await;
            }
        }));
    }

    fn open(&mut self, path: &ByteString) {
        if self.registered.bells().has(path) {
            return;
        }
        let reader = Reader::open(&self.inboxes, &self.registered, path, UNWRITTEN);
        self.open.extend(reader.map(|reader| Open { reader, unwritten: VecDeque::new() }));
    }
}
