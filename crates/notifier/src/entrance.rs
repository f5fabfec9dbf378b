//! What services that have only AMQP send to users, sessions and groups: they publish to the exchange
//! `<namespace>.to`, and every notifier takes from the one durable queue behind it.
//!
//! The routing key says whom a message is for:
//!
//! | key | to |
//! |---|---|
//! | `user.<name>` | all sessions of that user; all that follows `user.` is the name, dots included |
//! | `session.<id>` | that session |
//! | `group.<name>` | those who are subscribed to `/group/<name>` |
//! | `all` | every session |
//!
//! With the key `user`, `session` or `group` alone the name is in the header `to`, for names that are longer
//! than a key may be. The header `destination` says where within the user it goes, as in SendToUser; when
//! there is none, to `/queue/messages`, which clients subscribe to as `/user/queue/messages`. The
//! other headers and the body are what clients get.
//!
//! With the header `durable: true` the message is stored in the inboxes of its users, as SendToUser, SendToGroup and
//! SendToAll do (a group's message then goes to `destination` within its members), and so is whatever is for a
//! destination that the configuration calls durable. The headers `idempotency-key`, `ttl` (such as `1h`),
//! `deliver-at` (as in RFC 3339) and `collapse-key` say how it is kept. It is acked once it is stored.
//!
//! Who names a queue in `reply-to` gets an answer there, with the `correlation-id` of what it answers:
//! `{"message_id": "...", "sessions": 2, "nodes": 1, "uncertain_nodes": 0}`, with `"uncounted": true` where
//! nobody could count; or `{"error": "..."}`. Of a durable message: `{"message_id": "...", "stored": 1, "scheduled": 0, "known": 0,
//! "full": 0}`.
//!
//! Invariants
//! - A message is acked after the broker has confirmed all that it became, and its answer, if somebody
//!   wants one, is on its way. While the broker is away it stays where it is; then it comes again, and clients
//!   may get it twice. Without the store of presence it goes to every node.
//! - What can never be sent is rejected, which drops it or gives it to the queue's dead letters; it is answered
//!   and counted. Nothing comes again for ever.
//! - Messages to one user keep the order they have in the queue, as long as one notifier takes them and none
//!   comes again.
//! - At most `IN_FLIGHT` messages are here at a time; the others wait in the queue.
//!
//! Not here: how the queue comes to be (the broker), who may publish there (RabbitMQ's permissions; clients
//! of the gateway may not).

mod addressed;
mod metrics;
mod outcome;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::destination::Topic;
use broker::internal::Internal;
use broker::{
    Broker, Confirm, ConfirmError, Delivery, Destination, Destinations, Outcome as Settled,
    PublishError, PublisherId, SubscribeRequest, Subscription,
};
use bytestring::ByteString;
use cluster::{Outbound, Router, SendError, Sent};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use presence::{GroupName, Lookup, UserName};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::addressed::{Addressed, Misaddressed, To};
pub use self::metrics::EntranceMetrics;
use self::metrics::Fate;
use self::outcome::{Answer, Reply};
use crate::keep::{self, Keep, Kept, Terms};
use crate::keeper::Keeper;

/// How many messages may be on their way to users.
const IN_FLIGHT: u16 = 256;

/// Of how many messages the users are looked up together.
const BATCH: usize = 64;

/// How long it waits before it tries again what may work later.
const PAUSE: Duration = Duration::from_secs(1);

/// How long storing one may take.
const STORED_WITHIN: Duration = Duration::from_secs(60);

/// How long it waits for the broker's word when it stops. What is not acked by then comes again elsewhere.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What takes messages from the queue.
pub struct Entrance {
    broker: Arc<dyn Broker>,
    router: Router,
    destinations: Destinations,
    publisher: PublisherId,
    /// What stores what is durable; none where nothing is stored.
    keeper: Option<Arc<Keeper>>,
    metrics: Arc<EntranceMetrics>,
}

/// What is on its way.
enum Handed {
    /// The broker has it; what is known of whom it reaches.
    Live(Confirm, Reach),
    /// The store of inboxes has it.
    Stored(Answer),
}

enum Reach {
    Counted(Answer),
    OfGroup(GroupName),
    OfAll,
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    /// It never can be.
    #[error(transparent)]
    Misaddressed(#[from] Misaddressed),
    /// The broker does not take it, and would not if it came again.
    #[error("{0}")]
    Refused(String),
    /// It may be sent later.
    #[error("{0}")]
    Later(String),
}

impl Entrance {
    /// An entrance that sends as `publisher`. `destinations` say what a destination within a user is.
    pub fn new(
        broker: Arc<dyn Broker>,
        router: Router,
        destinations: Destinations,
        publisher: PublisherId,
    ) -> Self {
        let metrics = Arc::new(EntranceMetrics::new());
        Self { broker, router, destinations, publisher, keeper: None, metrics }
    }

    /// The same, with what stores what is durable.
    pub(crate) fn with_keeper(self, keeper: Option<Arc<Keeper>>) -> Self {
        Self { keeper, ..self }
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<EntranceMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Takes and sends until `stopping`, then hears the broker's word on what is on its way.
    pub async fn run(self, stopping: CancellationToken) {
        let late = async {
            stopping.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = self.keep(&stopping) => {}
            () = late => tracing::info!("what services sent last may come to users twice"),
        }
    }

    async fn keep(&self, stopping: &CancellationToken) {
        let topic = Topic::exact(Internal::Entrance.prefix().into(), "#".into());
        let request = SubscribeRequest::new(Destination::Topic(topic), IN_FLIGHT);
        while !stopping.is_cancelled() {
            let subscribed = tokio::select! {
                subscribed = self.broker.subscribe(request.clone()) => subscribed,
                () = stopping.cancelled() => return,
            };
            match subscribed {
                Ok(subscription) => self.serve(subscription, stopping).await,
                Err(error) => tracing::warn!(%error, "services cannot send to users by AMQP"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    /// Sends what comes, until the subscription ends.
    async fn serve(&self, mut subscription: Subscription, stopping: &CancellationToken) {
        let mut on_their_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                Some(()) = on_their_way.next() => {}
                first = subscription.next(), if on_their_way.len() < IN_FLIGHT.into() => {
                    let Some(first) = first else { break };
                    let mut batch = vec![first];
                    while batch.len() < BATCH
                        && let Some(Some(next)) = subscription.next().now_or_never()
                    {
                        batch.push(next);
                    }
                    for (delivery, handed) in self.hand_over(batch).await {
                        on_their_way.push(self.finish(delivery, handed));
                    }
                }
            }
        }
        while on_their_way.next().await.is_some() {}
    }

    /// Hands each of `batch` to the broker, in their order.
    async fn hand_over(&self, batch: Vec<Delivery>) -> Vec<(Delivery, Result<Handed, Unsent>)> {
        let read = |delivery: Delivery| {
            let addressed = Addressed::read(&delivery.message, &self.destinations);
            (delivery, addressed)
        };
        let batch: Vec<_> = batch.into_iter().map(read).collect();
        let named = batch.iter().filter_map(|(_, addressed)| match addressed {
            Ok(Addressed { to: To::User(user), .. }) => Some(user.clone()),
            _ => None,
        });
        let users: Vec<UserName> = named.collect::<BTreeSet<_>>().into_iter().collect();
        let found = match users.is_empty() {
            true => None,
            false => self.router.lookup(&users).await,
        };
        let mut handed = Vec::with_capacity(batch.len());
        for (delivery, addressed) in batch {
            let sent = match addressed {
                Ok(addressed) if self.is_durable(&addressed) => self.store(addressed).await,
                Ok(addressed) => self.send(addressed, found.as_ref()).await,
                Err(misaddressed) => Err(misaddressed.into()),
            };
            handed.push((delivery, sent));
        }
        handed
    }

    fn is_durable(&self, addressed: &Addressed) -> bool {
        let keeps = |keeper: &Arc<Keeper>| keeper.keeps(&addressed.outbound.path);
        match &addressed.to {
            To::Session(_) => false,
            _ => addressed.durable.is_some() || self.keeper.as_ref().is_some_and(keeps),
        }
    }

    /// Stores it for those whom it is for, before the next, so that order is kept.
    async fn store(&self, addressed: Addressed) -> Result<Handed, Unsent> {
        let Addressed { to, outbound, durable } = addressed;
        let Some(keeper) = &self.keeper else {
            let why = "it is durable, and no inbox is configured: nothing is stored (inbox.store)";
            return Err(Unsent::Refused(why.to_owned()));
        };
        let to = match to {
            To::User(user) => Kept::Users(vec![user]),
            To::Group(group) => Kept::Members(vec![group]),
            To::All | To::Session(_) => Kept::All,
        };
        let terms = Terms::read(durable.unwrap_or_default(), keeper.ttl(), SystemTime::now());
        let terms = terms.map_err(|why| Unsent::Refused(why.to_string()))?;
        let Outbound { path, content, .. } = outbound;
        keep::fits(&path).map_err(|why| Unsent::Refused(why.to_string()))?;
        let keep = Keep::new(to, path, content, terms, keeper.boot());
        match keeper.store(&keep, Instant::now() + STORED_WITHIN).await {
            Ok(outcomes) => Ok(Handed::Stored(Answer::stored(outcomes))),
            Err(why) if why.may_pass_later() => Err(Unsent::Later(why.to_string())),
            Err(why) => Err(Unsent::Refused(why.to_string())),
        }
    }

    async fn send(&self, addressed: Addressed, found: Option<&Lookup>) -> Result<Handed, Unsent> {
        let Addressed { to, outbound, durable: _ } = addressed;
        let (router, publisher) = (&self.router, self.publisher);
        match to {
            To::User(user) => {
                let sent = router.to_found(publisher, &[user], found, &outbound).await?;
                Ok(Handed::counted(sent, found.is_some()))
            }
            To::Session(id) => {
                let sent = router.to_sessions(publisher, &[id], &outbound).await?;
                // One that nobody knows is sent to where its id says, and was not counted.
                let is_known = sent.uncertain == 0;
                Ok(Handed::counted(sent, is_known))
            }
            To::Group(group) => {
                let content = outbound.content;
                let confirm = router.to_group(publisher, &group, content, outbound.persistent);
                Ok(Handed::Live(confirm.await?, Reach::OfGroup(group)))
            }
            To::All => {
                let confirm = router.to_all(publisher, &outbound).await?;
                Ok(Handed::Live(confirm, Reach::OfAll))
            }
        }
    }

    /// Waits for the broker's word, answers, and settles the delivery.
    async fn finish(&self, delivery: Delivery, handed: Result<Handed, Unsent>) {
        let confirmed = match handed {
            Ok(Handed::Live(confirm, reach)) => match confirm.await {
                Ok(()) => Ok(reach),
                Err(error) => Err(error.into()),
            },
            Ok(Handed::Stored(answer)) => Ok(Reach::Counted(answer)),
            Err(unsent) => Err(unsent),
        };
        let reply = Reply::asked(&delivery.message);
        let (fate, settled, answer) = match confirmed {
            Ok(reach) => {
                let answer = match reply {
                    Some(_) => Some(self.count(reach).await.of(delivery.message.id)),
                    None => None,
                };
                (Fate::sent, Settled::Ack, answer)
            }
            Err(Unsent::Later(why)) => {
                tracing::debug!(why, "a service's message waits for the broker, or for the store");
                tokio::time::sleep(PAUSE).await;
                (Fate::put_back, Settled::Requeue, None)
            }
            Err(unsent) => {
                tracing::warn!(%unsent, key = &*key(&delivery), "a service's message is rejected");
                let fate = match unsent {
                    Unsent::Misaddressed(_) => Fate::misaddressed,
                    Unsent::Refused(_) | Unsent::Later(_) => Fate::refused,
                };
                (fate, Settled::Reject, Some(Answer::error(&unsent)))
            }
        };
        if let (Some(reply), Some(answer)) = (reply, answer) {
            self.answer(reply, &answer).await;
        }
        self.metrics.count(fate);
        delivery.settle(settled);
    }

    async fn count(&self, reach: Reach) -> Answer {
        match reach {
            Reach::Counted(answer) => answer,
            Reach::OfGroup(group) => match self.router.count_group(&group).await {
                Ok((sessions, nodes)) => Answer::counted(sessions.len(), nodes.len(), 0),
                Err(_) => Answer::uncounted(0),
            },
            Reach::OfAll => match self.router.count_all().await {
                Ok(count) => {
                    let sessions = usize::try_from(count.sessions()).unwrap_or(usize::MAX);
                    let nodes = count.nodes.iter().filter(|(_, sessions)| *sessions > 0).count();
                    Answer::counted(sessions, nodes, 0)
                }
                Err(_) => Answer::uncounted(0),
            },
        }
    }

    /// Hands the answer over. If it does not arrive, whoever asked knows no more than before.
    async fn answer(&self, reply: Reply, answer: &Answer) {
        let published = self.broker.publish(self.publisher, reply.message(answer)).await;
        if let Err(error) = published {
            tracing::debug!(%error, "a service gets no answer");
        }
    }
}

fn key(delivery: &Delivery) -> ByteString {
    match &delivery.message.destination {
        Destination::Topic(topic) => topic.key().clone(),
        _ => ByteString::new(),
    }
}

impl Handed {
    fn counted(sent: Sent, is_counted: bool) -> Self {
        let answer = match is_counted {
            true => Answer::counted(sent.sessions, sent.nodes, sent.uncertain),
            false => Answer::uncounted(sent.uncertain),
        };
        Self::Live(sent.confirm, Reach::Counted(answer))
    }
}

impl From<SendError> for Unsent {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Publish(error @ PublishError::Unavailable(_)) => {
                Self::Later(error.to_string())
            }
            SendError::Publish(_) | SendError::Group(_) => Self::Refused(error.to_string()),
        }
    }
}

impl From<ConfirmError> for Unsent {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::Full(_) | ConfirmError::Lost(_) => Self::Later(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}
