//! Performs what a session's protocol asks for: at once, or as the action in hand.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use broker::Confirm;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use presence::Attributes;
use stomp::Action;
use stomp::action::{Held, Publish};
use tokio::time::Instant;

use super::ending::End;
use super::performed::Performed;
use super::{Awaited, Session, Step, Then};
use crate::relay::Relay;
use crate::transport::Transport;
use crate::users::{self, Newcomer};

/// A COMMIT that is being performed.
pub(super) struct Commit {
    /// What its transaction held and is not performed yet.
    held: VecDeque<Held>,
    /// Given when all is confirmed; an ERROR meanwhile names it.
    pub(super) receipt: Option<ByteString>,
}

impl<T: Transport> Session<T> {
    pub(super) fn perform(&mut self, action: Action, now: Instant) -> Step {
        let relay = self.relay.as_deref_mut();
        match (action, relay) {
            (Action::Received(command), _) => self.node.metrics.received(command),
            (Action::Close(fault), _) => {
                self.say_last(now);
                return Step::Break(End { reason: (&fault).into(), detail: fault.to_string() });
            }
            (Action::Connect(connect), _) => {
                let node = Arc::clone(&self.node);
                let address = self.arrival.address;
                let mut shown = self.arrival.shown.take().map(|shown| *shown).unwrap_or_default();
                let headers = connect.headers.iter();
                shown.credentials.connect =
                    headers.map(|(name, value)| (name.clone(), value.clone())).collect();
                let connect_by = self.stomp.poll_timeout().map_or(now, Instant::from_std);
                let newcomer = Newcomer {
                    id: self.admission.id().clone(),
                    mailbox: Arc::clone(&self.mailbox),
                    address,
                    device: std::mem::take(&mut self.arrival.device),
                    annotations: Attributes::new(),
                    joins: None,
                    framing: self.transport.framing(),
                };
                self.in_hand = Some(Box::pin(async move {
                    Performed::Connected(users::enter(&node, newcomer, shown, connect_by).await)
                }));
            }
            (Action::Publish(publish), Some(relay)) => {
                let receipted = publish.receipt.is_some();
                self.in_hand = Some(sent(relay, self.arrival.address, publish, receipted, now));
            }
            (Action::Subscribe(subscribe), Some(relay)) => {
                let receipt = subscribe.receipt.clone();
                let opened = relay.subscribe(subscribe);
                self.in_hand = Some(Box::pin(async move {
                    Performed::Subscribed { result: opened.await, receipt }
                }));
            }
            (Action::Unsubscribe(unsubscribe), Some(relay)) => {
                let receipt = unsubscribe.receipt.clone();
                match relay.unsubscribe(&unsubscribe) {
                    Ok(None) => self.stomp.receipt(receipt.as_deref()),
                    Ok(Some(deleted)) => {
                        self.in_hand = Some(Box::pin(async move {
                            Performed::Unsubscribed { result: deleted.await, receipt }
                        }));
                    }
                    Err(refused) => return self.refuse(refused, receipt, now),
                }
            }
            (Action::Acknowledge(acknowledge), Some(relay)) => {
                match relay.acknowledge(&acknowledge) {
                    Ok(()) => self.stomp.receipt(acknowledge.receipt.as_deref()),
                    Err(refused) => return self.refuse(refused, acknowledge.receipt, now),
                }
            }
            (Action::Commit(commit), Some(relay)) => {
                // All of it, or nothing: what can be refused is refused before any of it is done.
                if let Err(refused) = relay.check(&commit.held) {
                    return self.refuse(refused, commit.receipt, now);
                }
                let stomp::action::Commit { held, receipt } = commit;
                self.committing = Some(Commit { held: held.into(), receipt });
            }
            (Action::Disconnect { receipt }, _) => {
                let calls = self.asked();
                self.await_all(Then::Disconnected { receipt, calls }, now);
            }
            // The protocol gives none of these before CONNECT was accepted.
            (
                Action::Publish(_)
                | Action::Subscribe(_)
                | Action::Unsubscribe(_)
                | Action::Acknowledge(_)
                | Action::Commit(_),
                None,
            ) => {}
        }
        Step::Continue(())
    }

    /// Performs the next frame that a COMMIT released, or ends the COMMIT.
    pub(super) fn commit_next(&mut self, now: Instant) {
        let (Some(commit), Some(relay)) = (&mut self.committing, &mut self.relay) else { return };
        match commit.held.pop_front() {
            Some(Held::Publish(publish)) => {
                let receipted = publish.receipt.is_some() || commit.receipt.is_some();
                self.in_hand = Some(sent(relay, self.arrival.address, publish, receipted, now));
            }
            Some(Held::Acknowledge(acknowledge)) => {
                // Known when the COMMIT came, so an error only says that an earlier frame of the
                // same COMMIT covered this one.
                let _ = relay.acknowledge(&acknowledge);
                self.stomp.receipt(acknowledge.receipt.as_deref());
            }
            None => {
                let receipt = commit.receipt.take();
                self.committing = None;
                let calls = self.asked();
                self.await_all(Then::Committed { receipt, calls }, now);
            }
        }
    }

    fn await_all(&mut self, then: Then, now: Instant) {
        let confirm = Confirm::known(Ok(()));
        self.awaited.push_back(Awaited { confirm, since: now, bytes: 0, then });
    }
}

/// Performs a SEND. `receipted`: the client waits for a receipt that covers it.
fn sent(
    relay: &Relay,
    address: IpAddr,
    publish: Publish,
    receipted: bool,
    since: Instant,
) -> BoxFuture<'static, Performed> {
    let receipt = publish.receipt.clone();
    if relay.is_renewal(&publish) {
        let renewed = relay.renew(publish, address);
        return Box::pin(async move { Performed::Renewed { result: renewed.await, receipt } });
    }
    let bytes = size(&publish);
    let published = relay.publish(publish, receipted);
    Box::pin(async move { Performed::Published { result: published.await, receipt, since, bytes } })
}

/// What a SEND counts while it is unconfirmed, in bytes.
fn size(publish: &Publish) -> usize {
    let headers = publish.headers.iter().map(|(name, value)| name.len() + value.len());
    publish.body.len() + headers.sum::<usize>()
}
