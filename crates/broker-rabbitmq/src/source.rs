//! Where a subscription's messages come from: which queue, how it comes to be, and what its messages are
//! called.
//!
//! Invariants
//! - What RabbitMQ would close a shared channel over, or take for something else, is refused here: names
//!   that are too long or empty, arguments of the wrong type.
//! - The queues by which a node gets its own topics are nobody's source, and neither are the exchanges
//!   that the nodes have among themselves, by name.
//!
//! Not here: declaring, binding and consuming (`queue_consumer`).

use std::sync::Arc;
use std::time::Duration;

use broker::destination::Topic;
use broker::internal::Internal;
use broker::{Destination, Feed, QueueOptions, SubscribeError, SubscribeRequest};
use bytestring::ByteString;
use lapin::message::Delivery;

use crate::names::{LIMIT, Names};
use crate::queue_spec::{QueueSpec, Usual};
use crate::subscription_names::{self, Kept, SubscriptionNames};
use crate::{Config, GATEWAYS_OWN, RABBITMQS_OWN, is_rabbitmqs_own};

/// The source of one subscription.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) queue: ByteString,
    pub(crate) origin: Origin,
    pub(crate) binding: Option<SourceBinding>,
    pub(crate) shown: Shown,
    pub(crate) end: AtEnd,
    pub(crate) settling: Settling,
}

/// How the queue comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Someone else declared it; without it there is no subscription.
    Found,
    /// It is declared as it was last, else as is usual.
    Usual,
    /// It is declared like this.
    Declared(QueueSpec),
}

/// What the queue is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceBinding {
    pub(crate) exchange: ByteString,
    pub(crate) key: ByteString,
    /// Whether it is ours to declare; else it must be there.
    pub(crate) ours: bool,
}

/// What the messages' destination is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Always this.
    As(Destination),
    /// By their routing keys, a topic.
    Topics,
    /// The same: what services send to users.
    Sent,
    /// By their exchanges and routing keys.
    Exchanges,
}

/// What becomes of the queue with the end of its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// It is left as it is.
    Stays,
    /// It is deleted: nobody else has it.
    Goes,
}

/// Who settles the deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settling {
    /// The subscriber.
    Subscriber,
    /// Nobody: they are acked once they were handed over.
    HandingOver,
}

/// What makes sources.
#[derive(Debug)]
pub(crate) struct Sources {
    names: Arc<Names>,
    subscription_names: SubscriptionNames,
    expiry: Duration,
    length: u32,
}

impl Sources {
    pub(crate) fn new(config: &Config, names: Arc<Names>) -> Self {
        Self {
            names,
            subscription_names: config.subscription_names,
            expiry: config.topic_queue_expiry,
            length: config.topic_queue_length,
        }
    }

    /// The source that `request` asks for.
    pub(crate) fn source(&self, request: &SubscribeRequest) -> Result<Source, SubscribeError> {
        let SubscribeRequest { destination, feed, queue: options, .. } = request;
        let of_queue = |queue: &ByteString, origin| Source {
            queue: queue.clone(),
            origin,
            binding: None,
            shown: Shown::As(destination.clone()),
            end: AtEnd::Stays,
            settling: Settling::Subscriber,
        };
        match destination {
            Destination::Queue(name) => {
                let spec = self.spec(name, options)?;
                Ok(of_queue(name, spec.map_or(Origin::Usual, Origin::Declared)))
            }
            Destination::AmqQueue(name) | Destination::ReplyQueue(name) => {
                self.check(name)?;
                Ok(of_queue(name, Origin::Found))
            }
            Destination::TempQueue(_) => {
                let spec = self.declared(options, Usual::Alone { length: None })?;
                let queue = subscription_names::reply();
                let source = of_queue(&queue, Origin::Declared(spec));
                // As whoever replies names it.
                let shown = Shown::As(Destination::ReplyQueue(queue));
                Ok(Source { end: AtEnd::Goes, shown, ..source })
            }
            Destination::Topic(topic) => {
                let exchange = self.names.exchange(topic).ok_or(SubscribeError::Unsupported {
                    kind: "topic",
                    instead: "its prefix is longer than the name of an exchange may be",
                })?;
                let binding = SourceBinding { exchange, key: topic.key().clone(), ours: true };
                if is_entrance(topic) {
                    return self.entrance(binding, options);
                }
                self.bound(binding, Shown::Topics, feed, options)
            }
            Destination::Exchange { exchange, .. } if exchange.is_empty() => {
                Err(SubscribeError::Refused(
                    "ACCESS_REFUSED - operation not permitted on the default exchange: it has a \
                     binding for each queue and no other; subscribe to the queue"
                        .to_owned(),
                ))
            }
            Destination::Exchange { exchange, .. } if self.names.is_nodes_exchange(exchange) => {
                Err(SubscribeError::Refused(format!(
                    "ACCESS_REFUSED - exchange '{exchange}' is the nodes' own: use another exchange"
                )))
            }
            Destination::Exchange { exchange, key } => {
                check_length(exchange)?;
                let key = key.clone().unwrap_or_default();
                let binding = SourceBinding { exchange: exchange.clone(), key, ours: false };
                self.bound(binding, Shown::Exchanges, feed, options)
            }
            Destination::User(_) | Destination::Group(_) | Destination::App(_) => {
                let kind = destination.kind();
                Err(SubscribeError::Unsupported { kind: kind.as_str(), instead: GATEWAYS_OWN })
            }
        }
    }

    /// How the queue `name` shall be declared; none if nothing is said.
    pub(crate) fn spec(
        &self,
        name: &str,
        options: &QueueOptions,
    ) -> Result<Option<QueueSpec>, SubscribeError> {
        if is_rabbitmqs_own(name) {
            return Err(SubscribeError::Misnamed(RABBITMQS_OWN));
        }
        self.check(name)?;
        match options.is_empty() {
            true => Ok(None),
            false => self.declared(options, Usual::Stays).map(Some),
        }
    }

    /// A source that is bound to `binding`.
    fn bound(
        &self,
        binding: SourceBinding,
        shown: Shown,
        feed: &Feed,
        options: &QueueOptions,
    ) -> Result<Source, SubscribeError> {
        check_length(&binding.key)?;
        let (queue, usual, end) = match feed {
            Feed::Shared => {
                let usual = Usual::Alone { length: Some(self.length) };
                (subscription_names::own(), usual, AtEnd::Goes)
            }
            Feed::Own => (subscription_names::own(), Usual::Alone { length: None }, AtEnd::Goes),
            Feed::Kept { owner, id } => {
                let (exchange, key) = (&*binding.exchange, &*binding.key);
                let kept = Kept { owner: owner.as_deref(), exchange, key, id };
                (self.subscription_names.kept(kept), Usual::Stays, AtEnd::Stays)
            }
            Feed::Named(name) => {
                if is_rabbitmqs_own(name) {
                    return Err(SubscribeError::Misnamed(RABBITMQS_OWN));
                }
                self.check(name)?;
                let usual = match options.durable {
                    Some(true) => Usual::Stays,
                    _ => Usual::Expires,
                };
                (name.clone(), usual, AtEnd::Stays)
            }
        };
        let settling = match feed {
            Feed::Shared => Settling::HandingOver,
            _ => Settling::Subscriber,
        };
        let origin = Origin::Declared(self.declared(options, usual)?);
        Ok(Source { queue, origin, binding: Some(binding), shown, end, settling })
    }

    /// The one queue in which it waits what services send to users, whoever takes it from there.
    fn entrance(
        &self,
        binding: SourceBinding,
        options: &QueueOptions,
    ) -> Result<Source, SubscribeError> {
        Ok(Source {
            queue: self.names.entrance(),
            origin: Origin::Declared(self.declared(options, Usual::Stays)?),
            binding: Some(binding),
            shown: Shown::Sent,
            end: AtEnd::Stays,
            settling: Settling::Subscriber,
        })
    }

    fn declared(&self, options: &QueueOptions, usual: Usual) -> Result<QueueSpec, SubscribeError> {
        QueueSpec::new(options, usual, self.expiry)
    }

    /// Whether a subscriber may name this queue.
    fn check(&self, queue: &str) -> Result<(), SubscribeError> {
        if queue.is_empty() {
            return Err(SubscribeError::Misnamed("a queue has a name"));
        }
        check_length(queue)?;
        if self.names.is_nodes_queue(queue) {
            return Err(SubscribeError::Refused(format!(
                "ACCESS_REFUSED - queue '{queue}' is a node's own: use another queue"
            )));
        }
        Ok(())
    }
}

/// Whether what is sent to `topic` waits in one queue for whoever takes it, whatever feed that asks for.
pub(crate) fn is_entrance(topic: &Topic) -> bool {
    Internal::of(topic.prefix()) == Some(Internal::Entrance)
}

fn check_length(name: &str) -> Result<(), SubscribeError> {
    let size = name.len();
    if size > LIMIT {
        let why = format!("a name of {size} bytes is longer than the limit of {LIMIT}");
        return Err(SubscribeError::Refused(why));
    }
    Ok(())
}

impl Source {
    /// Whether it ends where RabbitMQ has no such queue.
    pub(crate) fn ends_without_queue(&self) -> bool {
        self.origin == Origin::Found
    }

    /// Whether its messages are from services, and say themselves where they shall go.
    pub(crate) fn is_entrance(&self) -> bool {
        self.shown == Shown::Sent
    }

    /// The destination of what was delivered.
    pub(crate) fn destination(&self, names: &Names, delivery: &Delivery) -> Destination {
        self.shown_as(names, delivery.exchange.as_str(), delivery.routing_key.as_str())
    }

    /// The destination of a message that came by `exchange` and `key`.
    fn shown_as(&self, names: &Names, exchange: &str, key: &str) -> Destination {
        match &self.shown {
            Shown::As(destination) => destination.clone(),
            // Put into the queue by its name.
            Shown::Topics | Shown::Sent | Shown::Exchanges if exchange.is_empty() => {
                Destination::Queue(key.into())
            }
            Shown::Topics | Shown::Sent => {
                Destination::Topic(Topic::exact(names.prefix(exchange), key.into()))
            }
            Shown::Exchanges => {
                Destination::Exchange { exchange: exchange.into(), key: Some(key.into()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::Argument;
    use broker::destination::{Destinations, Verb};
    use ulid::Ulid;

    use super::*;

    fn sources() -> Sources {
        let config = Config::default();
        Sources::new(&config, Arc::new(Names::new(&config, Ulid::nil())))
    }

    fn request(to: &str, feed: Feed) -> SubscribeRequest {
        let to = Destinations::default().parse(to, Verb::Subscribe).unwrap();
        SubscribeRequest { feed, ..SubscribeRequest::new(to, 1) }
    }

    fn refused(request: &SubscribeRequest) -> String {
        sources().source(request).unwrap_err().to_string()
    }

    #[test]
    fn a_queue_is_declared_and_one_of_others_is_found() {
        let source = |to| sources().source(&request(to, Feed::Shared)).unwrap();
        let queue = source("/queue/q");
        assert_eq!((&*queue.queue, &queue.origin), ("q", &Origin::Usual));
        let found = source("/amq/queue/amq.gen-x");
        assert_eq!((&*found.queue, &found.origin), ("amq.gen-x", &Origin::Found));
        assert_eq!(source("/reply-queue/a/b").queue, "a/b");
        let mut said = request("/queue/q", Feed::Shared);
        said.queue.arguments = vec![("x-max-length".into(), Argument::Integer(1))];
        let said = sources().source(&said).unwrap();
        assert!(matches!(said.origin, Origin::Declared(spec) if spec.length() == Some(1)));
    }

    #[test]
    fn a_feed_has_a_queue_that_is_bound() {
        let kept = |id: &str| Feed::Kept { owner: Some("ann".into()), id: id.into() };
        let source = |feed| sources().source(&request("/topic/a.*", feed)).unwrap();
        let own = source(Feed::Own);
        let binding = SourceBinding { exchange: "amq.topic".into(), key: "a.*".into(), ours: true };
        assert_eq!(own.binding, Some(binding));
        assert_eq!((own.end, own.settling), (AtEnd::Goes, Settling::Subscriber));
        assert_ne!(own.queue, source(Feed::Own).queue);
        assert_eq!(source(kept("s")).queue, source(kept("s")).queue);
        assert_eq!(source(kept("s")).end, AtEnd::Stays);
        assert_eq!(source(Feed::Named("mine".into())).queue, "mine");
        let exchange = sources().source(&request("/exchange/x", Feed::Shared)).unwrap();
        let binding = SourceBinding { exchange: "x".into(), key: "".into(), ours: false };
        assert_eq!(exchange.binding, Some(binding));
        assert_eq!(exchange.settling, Settling::HandingOver);
    }

    #[test]
    fn messages_are_called_by_where_they_came_from() {
        let names = Names::new(&Config::default(), Ulid::nil());
        let source = |to, feed| sources().source(&request(to, feed)).unwrap();
        let shown =
            |source: &Source, exchange, key| source.shown_as(&names, exchange, key).to_string();
        let topic = source("/topic/a.*", Feed::Own);
        assert_eq!(shown(&topic, "amq.topic", "a.b"), "/topic/a.b");
        assert_eq!(shown(&topic, "", "stomp-x"), "/queue/stomp-x");
        let exchange = source("/exchange/x/#", Feed::Own);
        assert_eq!(shown(&exchange, "y", "a"), "/exchange/y/a");
        assert_eq!(shown(&source("/queue/q", Feed::Shared), "x", "a"), "/queue/q");
        assert_eq!(shown(&source("/amq/queue/q", Feed::Shared), "", "q"), "/amq/queue/q");
    }

    #[test]
    fn what_nobody_may_consume_is_refused() {
        let named = |name: &str| request("/topic/a", Feed::Named(name.into()));
        let default = Destination::Exchange { exchange: "".into(), key: Some("q".into()) };
        for (request, why) in [
            (SubscribeRequest::new(default, 1), "ACCESS_REFUSED - operation not permitted on the"),
            (request("/amq/queue/footbridge.topic.x.1", Feed::Shared), "a node's own"),
            (named("footbridge.direct.x.1"), "a node's own"),
            (named("footbridge.to"), "a node's own"),
            (request("/queue/footbridge.to", Feed::Shared), "a node's own"),
            (request("/exchange/footbridge.direct/all", Feed::Own), "the nodes' own"),
            (request("/exchange/footbridge.to/#", Feed::Own), "the nodes' own"),
            (named("amq.x"), "begin with amq."),
            (named(""), "has a name"),
            (named(&"x".repeat(256)), "longer than the limit of 255"),
            (request("/queue/amq.x", Feed::Shared), "begin with amq."),
            (request("/group/g", Feed::Shared), "handled by the gateway"),
        ] {
            let refused = refused(&request);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
