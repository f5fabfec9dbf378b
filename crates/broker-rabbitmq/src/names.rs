//! What our exchanges and queues are called, and how they are declared.
//!
//! Invariants
//! - Every declaration of a node's own is within what RabbitMQ 3.10 to 4.4 accept: durable, never
//!   exclusive with `durable`, no queue mode or version, no global prefetch.
//! - Topics of different prefixes go through different exchanges. Those that the nodes have among
//!   themselves have exchanges of their own types: no pattern is needed there, but for events and for what
//!   comes from others.
//!
//! Not here: the queues that clients ask for (`queue_spec`, `subscription_names`).

use std::time::Duration;

use broker::destination::Topic;
use broker::internal::{Internal, ROSTER};
use bytestring::ByteString;
use lapin::ExchangeKind;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use ulid::Ulid;

use crate::Config;

/// The prefix whose topics are in the exchange that the configuration names.
const PREFIX: &str = "/topic";

/// The longest name in AMQP, in bytes.
pub(crate) const LIMIT: usize = 255;

/// After the namespace, the exchange of what comes for nodes.
const DIRECT: &str = ".direct";

/// The exchange where nodes say how they are.
const ALL_NODES: &str = ".roster";

/// The exchange of what comes for groups.
const GROUP: &str = ".group";

/// The exchange of events.
const EVENTS: &str = ".events";

/// The exchange of what services send to users, and the one queue in which it waits.
const TO: &str = ".to";

/// What a node collects in a queue of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Messages to topics.
    Topics,
    /// What the nodes have among themselves.
    Letters,
}

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
        let name = match Internal::of(topic.prefix()) {
            Some(Internal::Nodes) if **topic.key() == *ROSTER => self.ours(ALL_NODES),
            Some(internal) => self.ours(exchange_of(internal)),
            None => format!("{}.topic{}", self.namespace, topic.prefix()),
        };
        (name.len() <= LIMIT).then(|| name.into())
    }

    /// The type of an exchange of ours. What has no patterns needs none, and costs less without.
    pub(crate) fn kind(&self, exchange: &str) -> ExchangeKind {
        match self.internal(exchange) {
            Some(Internal::Nodes) if exchange.ends_with(ALL_NODES) => ExchangeKind::Fanout,
            Some(Internal::Nodes | Internal::Groups) => ExchangeKind::Direct,
            Some(Internal::Events | Internal::Entrance) | None => ExchangeKind::Topic,
        }
    }

    /// Whether `exchange` is the one behind `/topic`.
    pub(crate) fn is_topic_exchange(&self, exchange: &str) -> bool {
        *exchange == *self.topic_exchange
    }

    /// Whether the nodes have `exchange` among themselves. Those of topics may be published to.
    pub(crate) fn is_nodes_exchange(&self, exchange: &str) -> bool {
        let ours = exchange.strip_prefix(&self.namespace);
        !self.is_topic_exchange(exchange)
            && ours.is_some_and(|rest| rest.starts_with('.') && !rest.starts_with(".topic/"))
    }

    /// Whether `queue` is one in which a node collects what is for its clients.
    pub(crate) fn is_nodes_queue(&self, queue: &str) -> bool {
        let ours = queue.strip_prefix(&self.namespace);
        ours.is_some_and(|rest| {
            rest.starts_with(".topic.") || rest.starts_with(".direct.") || rest == TO
        })
    }

    /// The queue in which it waits what services send to users.
    pub(crate) fn entrance(&self) -> ByteString {
        self.ours(TO).into()
    }

    /// The prefix of the topics that come through `exchange`. One that is bound to the topic
    /// exchange by someone else delivers under its own name: its messages are topics too.
    pub(crate) fn prefix(&self, exchange: &str) -> ByteString {
        if let Some(internal) = self.internal(exchange) {
            return ByteString::from_static(internal.prefix());
        }
        let ours = exchange
            .strip_prefix(&self.namespace)
            .and_then(|rest| rest.strip_prefix(".topic"))
            .filter(|prefix| prefix.starts_with('/'));
        match ours {
            Some(prefix) if *exchange != *self.topic_exchange => prefix.into(),
            _ => PREFIX.into(),
        }
    }

    /// The queue that collects this for the node; each time it had to be made anew another one.
    pub(crate) fn node_queue(&self, collected: Collected, generation: u64) -> String {
        let what = match collected {
            Collected::Topics => "topic",
            Collected::Letters => "direct",
        };
        format!("{}.{what}.{}.{generation}", self.namespace, self.boot)
    }

    /// What the nodes have among themselves that comes through `exchange`.
    fn internal(&self, exchange: &str) -> Option<Internal> {
        if self.is_topic_exchange(exchange) {
            return None;
        }
        let ours = exchange.strip_prefix(&self.namespace)?;
        let is_all_nodes = ours == ALL_NODES;
        Internal::ALL.into_iter().find(|internal| match internal {
            Internal::Nodes => is_all_nodes || ours == DIRECT,
            other => ours == exchange_of(*other),
        })
    }

    fn ours(&self, name: &str) -> String {
        format!("{}{name}", self.namespace)
    }
}

/// What the exchange is called, after the namespace.
fn exchange_of(internal: Internal) -> &'static str {
    match internal {
        Internal::Nodes => DIRECT,
        Internal::Groups => GROUP,
        Internal::Events => EVENTS,
        Internal::Entrance => TO,
    }
}

impl Collected {
    /// What is collected of `topic`.
    pub(crate) fn of(topic: &Topic) -> Self {
        match Internal::of(topic.prefix()) {
            Some(_) => Self::Letters,
            None => Self::Topics,
        }
    }
}

/// The exchanges that the nodes have among themselves, in that namespace.
pub(crate) fn nodes_exchanges(namespace: &str) -> [String; 5] {
    [DIRECT, ALL_NODES, GROUP, EVENTS, TO].map(|name| format!("{namespace}{name}"))
}

/// What outlives our connections and RabbitMQ itself.
pub(crate) fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

/// The arguments of a node's queue. Of several consumers only one is served: the one of a connection
/// that is broken and not yet known to be must not take a share.
pub(crate) fn node_queue_arguments(length: Option<u32>, expiry: Duration) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let expiry = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expiry));
    if let Some(length) = length {
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(length.into()));
    }
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
    fn what_nodes_have_among_themselves_has_exchanges_of_its_own() {
        let names = names();
        for (prefix, key, exchange, kind) in [
            ("/~nodes", "all", "footbridge.direct", ExchangeKind::Direct),
            ("/~nodes", "roster", "footbridge.roster", ExchangeKind::Fanout),
            ("/~groups", "g", "footbridge.group", ExchangeKind::Direct),
            ("/~events", "#", "footbridge.events", ExchangeKind::Topic),
            ("/~to", "#", "footbridge.to", ExchangeKind::Topic),
        ] {
            let topic = Topic::exact(prefix.into(), key.into());
            assert_eq!(names.exchange(&topic).as_deref(), Some(exchange));
            assert_eq!(names.prefix(exchange), prefix);
            assert_eq!(names.kind(exchange), kind);
            assert_eq!(Collected::of(&topic), Collected::Letters);
            assert!(names.is_nodes_exchange(exchange), "{exchange}");
            assert!(nodes_exchanges("footbridge").contains(&exchange.to_owned()));
        }
        assert_eq!(Collected::of(&topic("/topic")), Collected::Topics);
        assert_eq!(names.kind("footbridge.topic/news"), ExchangeKind::Topic);
    }

    #[test]
    fn an_exchange_that_is_not_ours_carries_plain_topics() {
        for exchange in ["app.events", "footbridge.topics", "footbridge.topic"] {
            assert_eq!(names().prefix(exchange), "/topic");
        }
    }

    #[test]
    fn what_the_nodes_have_among_themselves_is_known() {
        let names = names();
        for exchange in ["footbridge.direct", "footbridge.roster", "footbridge.to", "footbridge."] {
            assert!(names.is_nodes_exchange(exchange), "{exchange}");
        }
        for exchange in ["footbridge", "footbridges.x", "footbridge.topic/news", "amq.topic", "x"] {
            assert!(!names.is_nodes_exchange(exchange), "{exchange}");
        }
        let config = Config { topic_exchange: "footbridge.t".to_owned(), ..Config::default() };
        assert!(!Names::new(&config, Ulid::nil()).is_nodes_exchange("footbridge.t"));
        for collected in [Collected::Topics, Collected::Letters] {
            assert!(names.is_nodes_queue(&names.node_queue(collected, 1)));
        }
        assert!(names.is_nodes_queue(&names.entrance()));
        assert!(!names.is_nodes_queue("footbridge.to.others"));
        assert!(names.is_nodes_queue("footbridge.direct.another.1"));
        assert!(!names.is_nodes_queue("footbridge.orders"));
        assert!(!names.is_nodes_queue("footbridge.topics"));
    }

    /// What newer versions refuse: `x-queue-mode`, `x-queue-version`, and queues that are neither
    /// durable nor exclusive.
    #[test]
    fn declarations_are_within_what_all_versions_accept() {
        let options = durable();
        assert!(options.durable && !options.exclusive && !options.auto_delete && !options.passive);
        let names = |length| -> Vec<String> {
            let arguments = node_queue_arguments(length, Duration::from_secs(120));
            arguments.inner().keys().map(|name| name.to_string()).collect()
        };
        assert_eq!(names(Some(1)), ["x-expires", "x-max-length", "x-single-active-consumer"]);
        assert_eq!(names(None), ["x-expires", "x-single-active-consumer"]);
        let arguments = node_queue_arguments(None, Duration::from_secs(120));
        let expires = arguments.inner().get("x-expires");
        assert_eq!(expires, Some(&AMQPValue::LongLongInt(120_000)));
    }
}
