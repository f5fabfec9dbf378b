//! What a client may say of a queue or a consumer: the little that this broker keeps.
//!
//! Whatever it does not keep is refused by the name that the client used, so that nobody finds out
//! later. `durable:true` of a queue that is named is not among that: such queues are durable by
//! default, and the default is what clients get here, in memory, as `footbridge dev` says at its start.

use broker::{Arguments, Feed, PublisherId, QueueOptions, SubscribeError};

use crate::queue::Ownership;

const INSTEAD: &str = "leave it out, or run with RabbitMQ: `footbridge gateway`";

/// Whose `who` says that a queue is which many may name, if anything is said. As with RabbitMQ, a queue
/// that is not durable is exclusive.
pub(crate) fn of_named_queue(
    options: &QueueOptions,
    who: PublisherId,
) -> Result<Option<Ownership>, SubscribeError> {
    no_arguments(&options.arguments)?;
    Ok(match options {
        _ if exclusive(options).is_some() => Some(Ownership::Exclusive(who)),
        QueueOptions { auto_delete: Some(true), .. } => Some(Ownership::AutoDelete),
        QueueOptions { durable: None, auto_delete: None, exclusive: None, .. } => None,
        _ => Some(Ownership::Common),
    })
}

/// A queue that nobody consumes from cannot be exclusive: it would end with its session, of which this
/// broker hears nothing but the end of its subscriptions.
pub(crate) fn without_consumer(options: &QueueOptions) -> SubscribeError {
    let option = exclusive(options).unwrap_or("exclusive:true");
    SubscribeError::UnsupportedOption {
        what: format!("{option} on a queue that its session has not subscribed to"),
        instead: "subscribe to it first, or run with RabbitMQ: `footbridge gateway`",
    }
}

/// What makes a queue exclusive, if anything does.
fn exclusive(options: &QueueOptions) -> Option<&'static str> {
    match options {
        QueueOptions { exclusive: Some(true), .. } => Some("exclusive:true"),
        QueueOptions { durable: Some(false), .. } => Some("durable:false"),
        _ => None,
    }
}

/// Nothing may be said of a subscription's own queue but what it is: transient, deleted with its
/// consumer, and nobody else's, which who has no name for it need not care about.
pub(crate) fn of_own_queue(options: &QueueOptions) -> Result<(), SubscribeError> {
    let QueueOptions { durable, auto_delete, exclusive: _, arguments } = options;
    no_arguments(arguments)?;
    if *durable == Some(true) {
        return Err(unsupported("durable:true"));
    }
    if *auto_delete == Some(false) {
        return Err(unsupported("auto-delete:false"));
    }
    Ok(())
}

/// No consumer is more than a consumer.
pub(crate) fn no_arguments(arguments: &Arguments) -> Result<(), SubscribeError> {
    match arguments.first() {
        None => Ok(()),
        Some((name, _)) => Err(unsupported(name)),
    }
}

/// Whether the feed is a queue of the subscription's own.
pub(crate) fn is_own(feed: &Feed) -> Result<bool, SubscribeError> {
    match feed {
        Feed::Shared => Ok(false),
        Feed::Own => Ok(true),
        Feed::Kept { .. } => Err(unsupported("durable:true")),
        Feed::Named(_) => Err(unsupported("x-queue-name")),
    }
}

fn unsupported(what: &str) -> SubscribeError {
    SubscribeError::UnsupportedOption { what: what.to_owned(), instead: INSTEAD }
}
