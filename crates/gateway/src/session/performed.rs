//! What came of an action that had to wait, and what follows from it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use access::Principal;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{Awaited, Busy, Session, Step, Then};
use crate::application::Caller;
use crate::metrics::PublishOutcome;
use crate::relay::{Opened, OpenedBy, Refused, Relay, Sent, SentTo};
use crate::transport::Transport;
use crate::users::Registration;

/// See the module.
pub(super) enum Performed {
    Connected(Result<(Registration, Caller), Refused>),
    Published {
        result: Result<Sent, Refused>,
        receipt: Option<ByteString>,
        since: Instant,
        bytes: usize,
    },
    /// A fresh token was looked at.
    Renewed {
        result: Result<Principal, Refused>,
        receipt: Option<ByteString>,
    },
    Subscribed {
        result: Result<OpenedBy, Refused>,
        receipt: Option<ByteString>,
    },
    Unsubscribed {
        result: Result<(), Refused>,
        receipt: Option<ByteString>,
    },
}

impl<T: Transport> Session<T> {
    /// Looks whether the action in hand is done.
    pub(super) fn poll_in_hand(&mut self, cx: &mut Context<'_>, now: Instant) -> Step<Busy> {
        let Some(future) = &mut self.in_hand else { return Step::Continue(false) };
        let Poll::Ready(performed) = Pin::new(future).poll(cx) else {
            return Step::Continue(false);
        };
        self.in_hand = None;
        match performed {
            Performed::Connected(Ok((registration, caller))) => {
                let principal = &caller.principal;
                tracing::debug!(
                    session = %self.admission.id(),
                    principal = &*principal.name,
                    authenticated = principal.is_authenticated(),
                    "connected"
                );
                self.stomp.accept(now.into_std(), self.admission.id().as_str(), &principal.name);
                if self.stomp.sends_heart_beats() {
                    self.transport.stop_heartbeats();
                }
                self.relay = Some(Box::new(Relay::new(
                    Arc::clone(&self.node),
                    Arc::clone(&self.mailbox),
                    self.transport.framing(),
                    caller,
                    registration,
                    self.stomp.version(),
                    now,
                )));
            }
            Performed::Connected(Err(refused)) => return self.refuse(refused, None, now),
            Performed::Published { result: Ok(sent), receipt, since, bytes } => {
                if let (Some(relay), Some(replies)) = (&mut self.relay, sent.replies) {
                    relay.hold(Opened::Queue(replies));
                }
                match sent.to {
                    SentTo::Broker(confirm) => {
                        let then = Then::Sent { receipt };
                        self.awaited_bytes += bytes;
                        self.awaited.push_back(Awaited { confirm, since, bytes, then });
                    }
                    SentTo::Application(asking) => self.ask(asking, None, receipt, bytes),
                }
            }
            Performed::Published { result: Err(refused), receipt, since, .. } => {
                self.node.metrics.published(PublishOutcome::Failed, now - since);
                return self.refuse(refused, receipt, now);
            }
            Performed::Renewed { result: Ok(principal), receipt } => {
                if let Some(relay) = &mut self.relay {
                    tracing::debug!(
                        session = %self.admission.id(),
                        principal = &*principal.name,
                        "renewed"
                    );
                    relay.renewed(principal, now);
                }
                self.stomp.receipt(receipt.as_deref());
            }
            Performed::Subscribed { result: Ok(OpenedBy { opened, asking }), receipt } => {
                if let Some(relay) = &mut self.relay {
                    relay.hold(opened);
                }
                match asking {
                    None => self.stomp.receipt(receipt.as_deref()),
                    Some((number, asking)) => self.ask(asking, Some(number), receipt, 0),
                }
            }
            Performed::Unsubscribed { result: Ok(()), receipt } => {
                self.stomp.receipt(receipt.as_deref());
            }
            Performed::Renewed { result: Err(refused), receipt }
            | Performed::Subscribed { result: Err(refused), receipt }
            | Performed::Unsubscribed { result: Err(refused), receipt } => {
                return self.refuse(refused, receipt, now);
            }
        }
        Step::Continue(true)
    }
}
