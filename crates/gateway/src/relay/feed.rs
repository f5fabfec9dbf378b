//! Where the messages of a subscription come from: what all share, or a queue of its own.
//!
//! A topic or an exchange needs a queue where the client asks for what only a queue can give: by its
//! headers, or by acknowledging what it gets. Such queues are the broker's to keep, so they are made
//! only for who may have them; and one that sends what it gives up, only for who may send there.

use access::{Access, Action, Principal};
use broker::{Destination, Feed, QueueOptions};
use stomp::action::{AckMode, Subscribe};
use stomp::{Command, Compat};

use super::Refused;
use super::options::{Asked, bad, dead_letters};

/// The feed for what is asked for. A client that only acknowledges, and may not have a queue, gets
/// the shared one: what it acknowledges there needs no settling.
pub(super) fn choose(
    access: &Access,
    principal: &Principal,
    subscribe: &Subscribe,
    destination: &Destination,
    asked: &Asked,
) -> Result<Feed, Refused> {
    if let Some(dead) = dead_letters(&asked.queue) {
        access.check(principal, Action::Send, &dead)?;
    }
    if !matches!(destination, Destination::Topic(_) | Destination::Exchange { .. }) {
        return match &asked.name {
            Some(name) => {
                let right = "left out: the destination names the queue";
                Err(bad(Command::Subscribe, "x-queue-name", name, right))
            }
            None => Ok(Feed::Shared),
        };
    }
    let wanted = asked.needs_a_queue();
    let feed = match (&asked.name, &subscribe.id) {
        (Some(name), _) => {
            let queue = Destination::Queue(name.clone());
            access.check(principal, Action::Subscribe, &queue)?;
            Feed::Named(name.clone())
        }
        (None, Some(id)) if asked.queue.durable == Some(true) => {
            Feed::Kept { owner: Some(principal.name.clone()), id: id.clone() }
        }
        _ if wanted || subscribe.ack != AckMode::Auto => Feed::Own,
        _ => return Ok(Feed::Shared),
    };
    match access.check(principal, Action::Queue, destination) {
        Ok(()) => Ok(feed),
        Err(_) if !wanted => Ok(Feed::Shared),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The options of the queue behind `feed`, with what goes without saying: with RabbitMQ's plugin a
/// queue that is kept for a subscriber goes with it nevertheless, unless told not to.
pub(super) fn completed(compat: Compat, feed: &Feed, mut queue: QueueOptions) -> QueueOptions {
    match (compat, feed) {
        (Compat::RabbitMq, Feed::Kept { .. } | Feed::Named(_)) => {
            queue.auto_delete.get_or_insert(true);
        }
        (Compat::RabbitMq, Feed::Shared | Feed::Own) | (Compat::Footbridge, _) => {}
    }
    queue
}

#[cfg(test)]
mod tests;
