//! A service that consumes a queue, and replies by `reply-to` and `correlation-id`.
//!
//! Invariants
//! - Who calls stands in headers that no client can set, see [`broker::header`].
//! - A call for whose reply nobody waits any more is taken out of the queue by the broker, where that
//!   can (`expiration`).
//!
//! Not here: what is in a reply (`wire`).

use std::sync::Arc;

use broker::{Broker, Destination, Message, PublishError, PublisherId, header};
use bytestring::ByteString;
use gateway::application::{Call, CallError};
use tokio::time::Instant;

use crate::config::RouteConfig;
use crate::replies::{CORRELATION, Replies};

/// Where the reply goes: AMQP's property of that name, as every AMQP client knows it.
const REPLY_TO: &str = "reply-to";

/// How long the call is worth something, in milliseconds: AMQP's property of that name.
const EXPIRATION: &str = "expiration";

/// See the module.
pub(crate) struct Queue {
    broker: Arc<dyn Broker>,
    publisher: PublisherId,
    name: ByteString,
    /// None where nobody replies.
    replies: Option<Arc<Replies>>,
}

/// What is asked, as the header [`header::CALL`] says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Subscribe,
}

impl Queue {
    pub(crate) fn new(
        route: &RouteConfig,
        broker: Arc<dyn Broker>,
        publisher: PublisherId,
        replies: &Arc<Replies>,
    ) -> Self {
        let replies = route.reply.then(|| Arc::clone(replies));
        Self { broker, publisher, name: route.queue.as_str().into(), replies }
    }

    /// Puts a call into the queue and waits for its reply until `deadline`; none where nobody replies.
    pub(crate) async fn ask(
        &self,
        kind: Kind,
        call: Call,
        deadline: Instant,
    ) -> Result<Option<Arc<Message>>, CallError> {
        let awaited = match &self.replies {
            None => None,
            Some(replies) => Some(replies.expect(deadline).await.ok_or(CallError::Unavailable)?),
        };
        let mut message = Message::new(Destination::Queue(self.name.clone()), call.body.clone());
        message.headers = identity(kind, &call);
        match &awaited {
            Some(awaited) => {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
                message.headers.extend([
                    (REPLY_TO.into(), awaited.queue.clone()),
                    (CORRELATION.into(), awaited.id.clone()),
                    (EXPIRATION.into(), left.to_string().into()),
                ]);
            }
            // Its client may have a receipt for it.
            None => message.persistent = true,
        }
        let ours = [REPLY_TO, CORRELATION, EXPIRATION];
        let own = call.headers.into_iter();
        message.headers.extend(own.filter(|(name, _)| !ours.contains(&&**name)));
        let published = async {
            let confirm = self.broker.publish(self.publisher, message).await?;
            Ok::<_, PublishError>(confirm.await)
        };
        match tokio::time::timeout_at(deadline, published).await {
            Err(_) => return Err(CallError::TimedOut),
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(self.unpublished(&error)),
            Ok(Err(PublishError::Unfit(why))) => {
                return Err(CallError::Refused { code: "bad_header".into(), message: why });
            }
            Ok(Err(error)) => return Err(self.unpublished(&error)),
        }
        match awaited {
            None => Ok(None),
            Some(awaited) => awaited.reply(deadline).await.ok_or(CallError::TimedOut).map(Some),
        }
    }

    fn unpublished(&self, error: &(dyn std::error::Error + 'static)) -> CallError {
        tracing::warn!(
            queue = &*self.name,
            error,
            "a call does not get into an application's queue"
        );
        CallError::Unavailable
    }
}

fn identity(kind: Kind, call: &Call) -> Vec<(ByteString, ByteString)> {
    let Call { caller, destination, .. } = call;
    let kind = match kind {
        Kind::Message => "message",
        Kind::Subscribe => "subscribe",
    };
    let authenticated = if caller.principal.is_authenticated() { "true" } else { "false" };
    [
        (header::USER, caller.principal.name.clone()),
        (header::AUTHENTICATED, authenticated.into()),
        (header::SESSION, caller.session.clone()),
        (header::DESTINATION, destination.clone()),
        (header::CALL, kind.into()),
    ]
    .map(|(name, value)| (name.into(), value))
    .into()
}
