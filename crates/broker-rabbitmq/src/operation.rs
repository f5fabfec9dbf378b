//! What is declared, bound and deleted in RabbitMQ, one at a time on a channel of its own.
//!
//! Invariant: a refusal closes the channel in AMQP; this one carries nothing else, and the next
//! operation opens another.
//!
//! Not here: what ought to be declared, and when.

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::link::{Failure, Link};
use crate::names::{LIMIT, durable};

/// A channel for operations that may fail.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// The channel, with the generation of its link. Held for the length of an operation: one at a
    /// time, for a refusal hits all that are on the channel.
    channel: tokio::sync::Mutex<Option<(u64, Channel)>>,
}

/// One operation.
#[derive(Debug, Clone)]
pub(crate) enum Operation<'a> {
    /// Declares a queue.
    DeclareQueue { name: &'a str, options: QueueDeclareOptions, arguments: FieldTable },
    /// Asks for a queue without declaring it.
    FindQueue { name: &'a str },
    /// Deletes a queue and what it holds; one that is not there is deleted already.
    DeleteQueue { name: &'a str },
    /// Asks for an exchange without declaring it.
    FindExchange { name: &'a str },
    /// Declares an exchange, durable.
    DeclareExchange { name: &'a str, kind: ExchangeKind },
    /// Binds a queue.
    Bind { queue: &'a str, exchange: &'a str, key: &'a str },
    /// Undoes a binding; one that is not there is undone already.
    Unbind { queue: &'a str, exchange: &'a str, key: &'a str },
}

impl Operations {
    /// Does `operation`, and says how many messages the queue holds that it speaks of.
    pub(crate) async fn perform(
        &self,
        link: &Link,
        operation: Operation<'_>,
    ) -> Result<u32, Failure> {
        let mut place = self.channel.lock().await;
        let usable = place.as_ref().filter(|(generation, channel)| {
            *generation == link.generation && channel.status().connected()
        });
        let channel = match usable {
            Some((_, channel)) => channel.clone(),
            None => {
                let channel = link.channel().await?;
                *place = Some((link.generation, channel.clone()));
                channel
            }
        };
        operation.perform(link, &channel).await.inspect_err(|_| *place = None)
    }
}

impl Operation<'_> {
    async fn perform(self, link: &Link, channel: &Channel) -> Result<u32, Failure> {
        let none = FieldTable::default;
        match self {
            Self::DeclareQueue { name, options, arguments } => {
                let declare = channel.queue_declare(short(name)?, options, arguments);
                link.answer(declare).await.map(|queue| queue.message_count())
            }
            Self::FindQueue { name } => {
                let options = QueueDeclareOptions { passive: true, ..durable() };
                let find = channel.queue_declare(short(name)?, options, none());
                link.answer(find).await.map(|queue| queue.message_count())
            }
            Self::DeleteQueue { name } => {
                link.answer(channel.queue_delete(short(name)?, QueueDeleteOptions::default())).await
            }
            Self::FindExchange { name } => {
                let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
                // RabbitMQ looks for the name alone.
                let kind = ExchangeKind::Topic;
                let find = channel.exchange_declare(short(name)?, kind, options, none());
                link.answer(find).await.map(|()| 0)
            }
            Self::DeclareExchange { name, kind } => {
                let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
                let declare = channel.exchange_declare(short(name)?, kind, options, none());
                link.answer(declare).await.map(|()| 0)
            }
            Self::Bind { queue, exchange, key } => {
                let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
                let options = QueueBindOptions::default();
                let bind = channel.queue_bind(queue, exchange, key, options, none());
                link.answer(bind).await.map(|()| 0)
            }
            Self::Unbind { queue, exchange, key } => {
                let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
                link.answer(channel.queue_unbind(queue, exchange, key, none())).await.map(|()| 0)
            }
        }
    }
}

/// A name as AMQP writes it.
pub(crate) fn short(name: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(name).map_err(|_| {
        let size = name.len();
        Failure::Refused(format!("a name of {size} bytes is longer than the limit of {LIMIT}"))
    })
}
