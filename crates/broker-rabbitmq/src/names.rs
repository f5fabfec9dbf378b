//! What our exchanges and queues are called, and how they are declared.
//!
//! Invariants
//! - Every declaration of a node's own is within what RabbitMQ 3.10 to 4.4 accept: durable, never
//!   exclusive with `durable`, no queue mode or version, no global prefetch.
//! - Topics of different prefixes go through different exchanges.
//!
//! Not here: the queues that clients ask for (`queue_spec`, `subscription_names`).

use std::time::Duration;

use broker::destination::Topic;
use bytestring::ByteString;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use ulid::Ulid;

use crate::Config;

/// The prefix whose topics are in the exchange that the configuration names.
const PREFIX: &str = "/topic";

/// The longest name in AMQP, in bytes.
pub(crate) const LIMIT: usize = 255;

/// The names of one node.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    namespace: String,
    topic_exchange: ByteString,
    boot: String,
}

impl Names {
    pub(crate) fn new(config: &Config, boot: Ulid) -> Self {
        Self {
            namespace: config.namespace.clone(),
            topic_exchange: config.topic_exchange.as_str().into(),
            boot: boot.to_string(),
        }
    }

    /// The node's boot id, as it stands in names and headers.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// The exchange of the topics under `topic`'s prefix; none if its name would be too long.
    pub(crate) fn exchange(&self, topic: &Topic) -> Option<ByteString> {
        if **topic.prefix() == *PREFIX {
            return Some(self.topic_exchange.clone());
        }
        let name = format!("{}.topic{}", self.namespace, topic.prefix());
        (name.len() <= LIMIT).then(|| name.into())
    }

    /// The prefix of the topics that come through `exchange`. One that is bound to the topic
    /// exchange by someone else delivers under its own name: its messages are topics too.
    pub(crate) fn prefix(&self, exchange: &str) -> ByteString {
        let ours = exchange
            .strip_prefix(&self.namespace)
            .and_then(|rest| rest.strip_prefix(".topic"))
            .filter(|prefix| prefix.starts_with('/'));
        match ours {
            Some(prefix) if *exchange != *self.topic_exchange => prefix.into(),
            _ => PREFIX.into(),
        }
    }

    /// Whether a queue of that name is one by which a node gets what is for it.
    pub(crate) fn is_nodes_own(&self, queue: &str) -> bool {
        let rest = queue.strip_prefix(&self.namespace);
        rest.is_some_and(|rest| NODES_OWN.iter().any(|own| rest.starts_with(own)))
    }

    /// The queue that collects this node's topics; each time it had to be made anew another one.
    pub(crate) fn topic_queue(&self, generation: u64) -> String {
        format!("{}.topic.{}.{generation}", self.namespace, self.boot)
    }
}

/// What begins the names of the queues by which nodes get what is for them, behind the namespace.
const NODES_OWN: [&str; 2] = [".topic.", ".direct."];

/// What outlives our connections and RabbitMQ itself.
pub(crate) fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

/// The arguments of a node's topic queue. Of several consumers only one is served: the one of a
/// connection that is broken and not yet known to be must not take a share.
pub(crate) fn topic_queue_arguments(length: u32, expiry: Duration) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let expiry = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expiry));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(length.into()));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(&Config::default(), Ulid::nil())
    }

    fn topic(prefix: &str) -> Topic {
        Topic::exact(prefix.into(), "a".into())
    }

    #[test]
    fn each_prefix_has_its_exchange() {
        let names = names();
        for (prefix, exchange) in [
            ("/topic", "amq.topic"),
            ("/news", "footbridge.topic/news"),
            ("/a/b", "footbridge.topic/a/b"),
            ("/a.b", "footbridge.topic/a.b"),
        ] {
            assert_eq!(names.exchange(&topic(prefix)).as_deref(), Some(exchange));
            assert_eq!(names.prefix(exchange), prefix);
        }
        assert_eq!(names.exchange(&topic(&format!("/{}", "x".repeat(250)))), None);
    }

    #[test]
    fn an_exchange_that_is_not_ours_carries_plain_topics() {
        for exchange in ["app.events", "footbridge.topics", "footbridge.topic"] {
            assert_eq!(names().prefix(exchange), "/topic");
        }
    }

    #[test]
    fn a_nodes_own_queues_are_known_by_their_names() {
        let names = names();
        assert!(names.is_nodes_own(&names.topic_queue(1)));
        assert!(names.is_nodes_own("footbridge.direct.another.1"));
        assert!(!names.is_nodes_own("footbridge.topics"));
        assert!(!names.is_nodes_own("orders"));
    }

    /// What newer versions refuse: `x-queue-mode`, `x-queue-version`, and queues that are neither
    /// durable nor exclusive.
    #[test]
    fn declarations_are_within_what_all_versions_accept() {
        let options = durable();
        assert!(options.durable && !options.exclusive && !options.auto_delete && !options.passive);
        let arguments = topic_queue_arguments(1, Duration::from_secs(120));
        let names: Vec<_> = arguments.inner().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-expires", "x-max-length", "x-single-active-consumer"]);
        let expires = arguments.inner().get("x-expires");
        assert_eq!(expires, Some(&AMQPValue::LongLongInt(120_000)));
    }
}
