//! Performs what a session's protocol asks for: at once, or as the action in hand.

use std::sync::Arc;

use broker::Confirm;
use stomp::Action;
use stomp::action::Verdict;
use tokio::time::Instant;

use super::ending::End;
use super::{Awaited, Performed, Session, Step, Then};
use crate::authorise::Credentials;
use crate::close::CloseReason;
use crate::relay::Refused;
use crate::transport::Transport;

impl<T: Transport> Session<T> {
    pub(super) fn perform(&mut self, action: Action, now: Instant) -> Step {
        if let Some(command) = command(&action) {
            self.node.metrics.received(command);
            if !self.rate.admits(now) {
                let message = format!(
                    "more than {} frames per second",
                    self.node.config.max_frames_per_second
                );
                return self.refuse(Refused { reason: CloseReason::Limit, message }, None, now);
            }
        }
        let relay = self.relay.as_deref_mut();
        match (action, relay) {
            (Action::Send(frame), _) => self.post(&frame, now),
            (Action::Probe, _) => {
                if let Some(probe) = self.transport.probe() {
                    self.mailbox.post(probe, now);
                }
            }
            (Action::Close(fault), _) => {
                return Step::Break(End { reason: (&fault).into(), detail: fault.to_string() });
            }
            (Action::Connect(connect), _) => {
                let node = Arc::clone(&self.node);
                let credentials = Credentials { login: connect.login, passcode: connect.passcode };
                self.in_hand = Some(Box::pin(async move {
                    let principal = node.authorise.principal(credentials).await;
                    Performed::Connected(principal.map_err(Refused::from))
                }));
            }
            (Action::Publish(publish), Some(relay)) => {
                let receipt = publish.receipt.clone();
                let published = relay.publish(publish);
                self.in_hand = Some(Box::pin(async move {
                    Performed::Published { result: published.await, receipt, since: now }
                }));
            }
            (Action::Subscribe(subscribe), Some(relay)) => {
                let receipt = subscribe.receipt.clone();
                let opened = relay.subscribe(subscribe);
                self.in_hand = Some(Box::pin(async move {
                    Performed::Subscribed { result: opened.await, receipt }
                }));
            }
            (Action::Unsubscribe(unsubscribe), Some(relay)) => {
                if let Some(number) = unsubscribe.number {
                    relay.unsubscribe(number);
                }
                self.stomp.receipt(unsubscribe.receipt.as_deref());
            }
            (Action::Acknowledge(acknowledge), Some(relay)) => {
                match relay.acknowledge(&acknowledge) {
                    Ok(()) => self.stomp.receipt(acknowledge.receipt.as_deref()),
                    Err(refused) => return self.refuse(refused, acknowledge.receipt, now),
                }
            }
            (Action::Settle { receipt }, _) => self.await_all(Then::Settled { receipt }, now),
            (Action::Disconnect { receipt }, _) => {
                self.await_all(Then::Disconnected { receipt }, now);
            }
            // The protocol gives none of these before CONNECT was accepted.
            (
                Action::Publish(_)
                | Action::Subscribe(_)
                | Action::Unsubscribe(_)
                | Action::Acknowledge(_),
                None,
            ) => {}
        }
        Step::Continue(())
    }

    fn await_all(&mut self, then: Then, now: Instant) {
        self.awaited.push_back(Awaited { confirm: Confirm::known(Ok(())), since: now, then });
    }
}

/// The command of the client's frame that an action comes from.
fn command(action: &Action) -> Option<&'static str> {
    Some(match action {
        Action::Connect(_) => "connect",
        Action::Publish(_) => "send",
        Action::Subscribe(_) => "subscribe",
        Action::Unsubscribe(_) => "unsubscribe",
        Action::Acknowledge(acknowledge) => match acknowledge.verdict {
            Verdict::Ack => "ack",
            Verdict::Nack { .. } => "nack",
        },
        Action::Settle { .. } => "commit",
        Action::Disconnect { .. } => "disconnect",
        Action::Send(_) | Action::Probe | Action::Close(_) => return None,
    })
}
