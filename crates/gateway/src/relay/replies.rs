//! `reply-to:/temp-queue/<name>` on a SEND: a queue of the session's own, made with the first SEND that
//! names it, where answers come in.
//!
//! To whom the message goes it reads `/reply-queue/<queue>`, which is a destination to SEND to. The
//! answers reach the session as MESSAGEs of a subscription that is called as the temp-queue is,
//! without acknowledgement, until the session ends.

use access::{Action, Principal};
use broker::destination::Kind;
use broker::{Destination, SubscribeRequest};
use bytestring::ByteString;
use stomp::Headers;
use stomp::action::AckMode;

use super::Refused;
use super::queue::{Queue, Source, Supply};
use super::subscribe::Subscriber;
use crate::close::CloseReason;
use crate::message_frame::{Shape, Shown};
use crate::node::Node;

/// The header that says where answers go.
pub(super) const REPLY_TO: &str = "reply-to";

/// A temp-queue that a SEND names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TempQueue {
    /// As the client spells it, which is also the id of its subscription.
    spelled: ByteString,
    name: ByteString,
}

impl TempQueue {
    /// The temp-queue in `headers`, if `principal` may have one. A `reply-to` of another kind is the
    /// business of whoever gets the message.
    pub(super) fn of(
        node: &Node,
        principal: &Principal,
        headers: &Headers,
    ) -> Result<Option<Self>, Refused> {
        let Some(text) = headers.get(REPLY_TO) else { return Ok(None) };
        let under =
            |prefix: &str| text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let mut prefixes = node.destinations.prefixes();
        if !prefixes.any(|(prefix, kind)| kind == Kind::TempQueue && under(prefix)) {
            return Ok(None);
        }
        let destination = node.destinations.parse_reply_to(text)?;
        let Destination::TempQueue(name) = &destination else { return Ok(None) };
        node.access.check(principal, Action::Queue, &destination)?;
        let copied = |text: &ByteString| ByteString::from(text.to_string());
        Ok(Some(Self { spelled: copied(text), name: copied(name) }))
    }

    pub(super) fn spelled(&self) -> &ByteString {
        &self.spelled
    }

    /// Makes the queue and subscribes to it; also what its messages are answered to.
    pub(super) async fn open(
        self,
        subscriber: &Subscriber,
    ) -> Result<(ByteString, Queue), Refused> {
        let node = &subscriber.node;
        let request = SubscribeRequest {
            subscriber: subscriber.publisher,
            ..SubscribeRequest::new(Destination::TempQueue(self.name), node.config.prefetch)
        };
        let subscription = node.broker.subscribe(request).await?;
        let Some(queue) = subscription.queue() else {
            return Err(Refused::new(
                CloseReason::Protocol,
                format!("{} is not available on this broker: its queue has no name", self.spelled),
            ));
        };
        let reply_to = ByteString::from(format!("/reply-queue/{queue}"));
        let shape = Shape {
            framing: subscriber.framing,
            version: subscriber.version,
            compat: node.config.compat,
            subscription: Some(self.spelled.clone()),
            shown: Shown::AsSubscribed(self.spelled.clone()),
            acknowledged: false,
        };
        let (ack, destination) = (AckMode::Auto, Destination::TempQueue(self.spelled.clone()));
        let source = Source::Replies { temp_queue: self.spelled, reply_to: reply_to.clone() };
        let queue = Queue::new(
            subscriber,
            Supply::Queue(subscription),
            None,
            ack,
            shape,
            source,
            destination,
        );
        Ok((reply_to, queue))
    }
}
