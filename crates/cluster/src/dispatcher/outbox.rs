//! From the store to the broker: what was scheduled for a destination, and what has failed.

use std::collections::hash_map::Entry;
use std::time::Duration;

use broker::destination::Verb;
use broker::{Confirm, Destination, Message, MessageId};
use bytestring::ByteString;
use inbox::{Address, Position, Settlement, Take};
use presence::GroupName;
use tokio::time::timeout_at;

use super::Dispatcher;
use crate::letter::Content;

/// How many entries of an outbox are published at once.
const AT_ONCE: usize = 64;

/// How many bytes of them.
const BYTES: u64 = 1024 * 1024;

/// How long the broker may take for them. Shorter than `ack_wait`, so that no other process publishes them
/// meanwhile; and than until what has failed is told again.
const PATIENCE: Duration = Duration::from_secs(30);

impl Dispatcher {
    /// Publishes what is due for `destination`, unless that is under way.
    pub(super) fn publish_due(&self, destination: ByteString) {
        match self.0.publishing.lock().entry(destination.clone()) {
            Entry::Occupied(mut under_way) => {
                under_way.insert(true);
                return;
            }
            Entry::Vacant(idle) => _ = idle.insert(false),
        }
        let dispatcher = self.clone();
        self.0.tasks.spawn(async move {
            loop {
                while dispatcher.publish_some(&destination).await {}
                let mut publishing = dispatcher.0.publishing.lock();
                // What became due after the last look was not seen by it.
                match publishing.get_mut(&destination) {
                    Some(again) if *again => *again = false,
                    _ => {
                        publishing.remove(&destination);
                        return;
                    }
                }
            }
        });
    }

    /// Publishes some of what is due; whether there is more.
    async fn publish_some(&self, destination: &ByteString) -> bool {
        let of = Address::Outbox { destination: destination.clone() };
        let take = Take { of: &of, after: Some(Position::END), limit: AT_ONCE, max_bytes: BYTES };
        let taken = match self.0.inbox.take(&take).await {
            Ok(taken) => taken,
            // What is claimed nonetheless is due again after `ack_wait`.
            Err(error) => {
                tracing::warn!(%error, %destination, "what is due is not published");
                return false;
            }
        };
        let epoch = taken.epoch;
        self.changed(&of, &taken.changes);
        self.failed(&of, taken.failed);
        let mut settlements = Vec::with_capacity(taken.entries.len());
        let mut confirms = Vec::with_capacity(taken.entries.len());
        let to = self.0.destinations.parse(destination, Verb::Send);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for entry in taken.entries {
            let seq = entry.seq;
            let confirm = match &to {
                Ok(to) => timeout_at(deadline, self.publish(to, entry)).await,
                // The configuration has changed since.
                Err(error) => {
                    tracing::warn!(%error, %destination, "what is due has nowhere to go");
                    settlements.push((seq, Settlement::Reject));
                    continue;
                }
            };
            match confirm {
                Ok(Ok(confirm)) => confirms.push((seq, confirm)),
                Ok(Err(why)) => {
                    tracing::warn!(why, %destination, "what is due is not published");
                    settlements.push((seq, Settlement::Nack));
                }
                Err(_) => settlements.push((seq, Settlement::Nack)),
            }
        }
        for (seq, confirm) in confirms {
            let settlement = match timeout_at(deadline, confirm).await {
                Ok(Ok(())) => Settlement::Ack,
                Ok(Err(error)) => {
                    tracing::warn!(%error, %destination, "what is due is not published");
                    Settlement::Nack
                }
                Err(_) => Settlement::Nack,
            };
            settlements.push((seq, settlement));
        }
        settlements.sort_unstable_by_key(|(seq, _)| *seq);
        match self.0.inbox.settle(&of, epoch, &settlements).await {
            Ok(settled) => self.settled(&of, settled),
            Err(error) => {
                tracing::warn!(%error, %destination, "what was published may be published again");
            }
        }
        taken.more
    }

    async fn publish(&self, to: &Destination, entry: inbox::Entry) -> Result<Confirm, String> {
        let id = MessageId::of(entry.id);
        if let Destination::Group(name) = to {
            let group = GroupName::new(name.clone()).map_err(|why| why.to_string())?;
            let content = Content { id, headers: entry.headers, body: entry.body };
            let sent = self.0.router.to_group(self.0.publisher, &group, content, true).await;
            return sent.map_err(|why| why.to_string());
        }
        let mut message = Message::new(to.clone(), entry.body);
        (message.id, message.headers, message.persistent) = (id, entry.headers, true);
        self.0.broker.publish(self.0.publisher, message).await.map_err(|why| why.to_string())
    }

    /// Publishes entries that have failed where such go, and forgets them then. Those that the broker does not
    /// take come again by [`Inbox::advance`](inbox::Inbox::advance).
    pub(super) async fn bury(&self, of: &Address, failed: Vec<inbox::Entry>) {
        let Some(grave) = &self.0.dead_letter else { return };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut buried = Vec::with_capacity(failed.len());
        for mut entry in failed {
            let id = entry.id;
            entry.headers.extend(epitaph(of, &entry));
            let confirmed = async {
                let confirm = self.publish(grave, entry).await?;
                confirm.await.map_err(|error| error.to_string())
            };
            match timeout_at(deadline, confirmed).await {
                Ok(Ok(())) => buried.push(id),
                Ok(Err(why)) => tracing::warn!(why, "what has failed is not dead-lettered yet"),
                Err(_) => tracing::warn!("what has failed is not dead-lettered in time"),
            }
        }
        if !buried.is_empty()
            && let Err(error) = self.0.inbox.bury(of, &buried).await
        {
            tracing::warn!(%error, "what was dead-lettered may be so again");
        }
    }
}

/// What a dead letter says of where it comes from.
fn epitaph(of: &Address, entry: &inbox::Entry) -> Vec<(ByteString, ByteString)> {
    let mut headers = vec![
        (ByteString::from_static("inbox-destination"), of.path().clone()),
        (ByteString::from_static("inbox-attempts"), entry.attempts.to_string().into()),
    ];
    if let Some(user) = of.user() {
        headers.push((ByteString::from_static("inbox-user"), user.as_str().into()));
    }
    headers
}
