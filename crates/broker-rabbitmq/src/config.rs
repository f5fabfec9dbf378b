//! How to reach RabbitMQ, and how much to hold for it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use lapin::uri::AMQPUri;
use serde::{Deserialize, Serialize};

use crate::SubscriptionNames;
use crate::names::nodes_exchanges;

/// The settings of a [`RabbitMqBroker`](crate::RabbitMqBroker).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where RabbitMQ is: `amqp://user:password@host:port/vhost`, or `amqps:` for TLS; the default
    /// vhost is written `%2f`. Of several, such as the nodes of a cluster, each connection takes
    /// one at random and goes on to the next when it fails. Default: `guest` on this machine.
    pub uris: Vec<Uri>,
    /// A file of certificates in PEM, whose holders are trusted to certify RabbitMQ, besides those
    /// the system trusts; for `amqps:` with a certificate authority of one's own. Read for each
    /// connection. Empty, which is none, by default.
    pub ca_file: PathBuf,
    /// Begins the name of everything that is ours in RabbitMQ, `footbridge` by default. Gateways
    /// that shall reach each other's clients have the same; 1 to 64 bytes.
    pub namespace: String,
    /// The exchange behind `/topic`, `amq.topic` by default. Another one is declared as a durable
    /// topic exchange.
    pub topic_exchange: String,
    /// How long a publish may wait, for room and for its confirm, while RabbitMQ is away or takes
    /// nothing. 60 s by default.
    #[serde(with = "humantime_serde")]
    pub publish_timeout: Duration,
    /// How long a subscription or a deletion may wait for RabbitMQ, 60 s by default.
    #[serde(with = "humantime_serde")]
    pub subscribe_timeout: Duration,
    /// How long one attempt to connect may take, 10 s by default.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The longest pause between two attempts to connect, 5 s by default. Pauses begin at 100 ms
    /// and double; each is shortened at random by up to a half.
    #[serde(with = "humantime_serde")]
    pub reconnect_pause: Duration,
    /// The AMQP heart-beat in whole seconds, 5 s by default: a connection on which nothing came for
    /// two of them is given up.
    #[serde(with = "humantime_serde")]
    pub heart_beat: Duration,
    /// How many bytes of messages may wait for their confirms, 64 MiB by default. What is beyond
    /// waits with its publisher.
    pub retained: ByteSize,
    /// The longest body in bytes, 16 MiB by default, which is the limit of RabbitMQ 4. A message
    /// with a longer one is refused.
    pub max_message: ByteSize,
    /// The longest body in bytes that clients are sent, 1 MiB by default. A topic message with a
    /// longer one is dropped; one of a queue is rejected, and goes where the queue's dead letters
    /// go. Such bodies still reach this node, up to `topic_prefetch` or a subscription's prefetch
    /// at a time.
    pub max_outbound_message: ByteSize,
    /// On how many AMQP channels topics are published, on how many more queues, and on how many more,
    /// once they are used, exchanges that others declare: 4 by default, 1 to 64. A publisher keeps to
    /// one of each, for its order.
    pub publish_channels: u16,
    /// How many deliveries of this node's topic queue may be on their way to it, 1,000 by default; and
    /// as many of its other queue, for what the nodes have among themselves.
    pub topic_prefetch: u16,
    /// How many topic messages RabbitMQ keeps for this node while it is away or behind, 100,000 by
    /// default. Beyond it the oldest are dropped.
    pub topic_queue_length: u32,
    /// How long RabbitMQ keeps the queues of a node that is gone, and the queue of a subscription of its
    /// own, 120 s by default.
    #[serde(with = "humantime_serde")]
    pub topic_queue_expiry: Duration,
    /// How the queues of durable subscriptions are named: `user`, which is the default, gives each user
    /// queues of its own; `plugin` finds the queues again that clients of RabbitMQ's STOMP plugin left
    /// there, and `plugin-4.4` those of RabbitMQ 4.4.
    pub subscription_names: SubscriptionNames,
}

/// An AMQP URI. It may hold a password, which neither `Display` nor `Debug` shows: they put `***` in
/// its place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uri(String);

/// What stands for a password where a URI is shown.
const HIDDEN: &str = "***";

/// A value that no broker can run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key in the configuration.
    pub key: &'static str,
    /// What its value must be.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uris: vec![Uri::from("amqp://guest:guest@127.0.0.1:5672/%2f")],
            ca_file: PathBuf::new(),
            namespace: "footbridge".to_owned(),
            topic_exchange: "amq.topic".to_owned(),
            publish_timeout: Duration::from_secs(60),
            subscribe_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            reconnect_pause: Duration::from_secs(5),
            heart_beat: Duration::from_secs(5),
            retained: ByteSize::mib(64),
            max_message: ByteSize::mib(16),
            max_outbound_message: ByteSize::mib(1),
            publish_channels: 4,
            topic_prefetch: 1_000,
            topic_queue_length: 100_000,
            topic_queue_expiry: Duration::from_secs(120),
            subscription_names: SubscriptionNames::User,
        }
    }
}

impl Config {
    /// Whether a broker can run with these values.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.to_owned() });
        if self.uris.is_empty() {
            return invalid("uris", "must name at least one RabbitMQ");
        }
        for uri in &self.uris {
            match uri.parse() {
                Ok(parsed) if parsed.authority.userinfo.password == HIDDEN => {
                    let why = format!(
                        "{uri:?} was shown without its password; write the password in place of \
                         the {HIDDEN}"
                    );
                    return Err(Invalid { key: "uris", why });
                }
                Ok(_) => {}
                Err(why) => {
                    let why = format!(
                        "{uri:?} is no AMQP URI ({why}); write \
                         amqp://user:password@host:5672/vhost, with %2f for the vhost /"
                    );
                    return Err(Invalid { key: "uris", why });
                }
            }
        }
        if let Err(why) = self.authorities() {
            return Err(Invalid { key: "ca_file", why });
        }
        if self.namespace.is_empty() || self.namespace.len() > 64 {
            return invalid("namespace", "must be 1 to 64 bytes");
        }
        if self.namespace.starts_with("amq.") {
            return invalid("namespace", "must not begin with amq., which is RabbitMQ's own");
        }
        if nodes_exchanges(&self.namespace).contains(&self.topic_exchange) {
            return invalid("topic_exchange", "must be none that the nodes have among themselves");
        }
        if self.topic_exchange.is_empty() || self.topic_exchange.len() > 255 {
            return invalid("topic_exchange", "must be 1 to 255 bytes");
        }
        for (key, value) in [
            ("publish_timeout", self.publish_timeout),
            ("subscribe_timeout", self.subscribe_timeout),
            ("connect_timeout", self.connect_timeout),
            ("reconnect_pause", self.reconnect_pause),
        ] {
            if value.is_zero() {
                return invalid(key, "must be more than 0s");
            }
        }
        if !(1..=60).contains(&self.heart_beat.as_secs()) || self.heart_beat.subsec_nanos() != 0 {
            return invalid("heart_beat", "must be 1 to 60 whole seconds");
        }
        if self.max_message == ByteSize(0) {
            return invalid("max_message", "must be at least 1");
        }
        if self.max_outbound_message == ByteSize(0) {
            return invalid("max_outbound_message", "must be at least 1");
        }
        // Twice, so that headers and bookkeeping of the longest message have room as well.
        if self.retained.as_u64() < self.max_message.as_u64().saturating_mul(2) {
            let why = format!("must be at least twice max_message, which is {}", self.max_message);
            return Err(Invalid { key: "retained", why });
        }
        if self.retained > ByteSize::gib(2) {
            return invalid("retained", "must be at most 2 GiB");
        }
        if !(1..=64).contains(&self.publish_channels) {
            return invalid("publish_channels", "must be 1 to 64");
        }
        if self.topic_prefetch == 0 {
            return invalid("topic_prefetch", "must be at least 1");
        }
        if self.topic_queue_length == 0 {
            return invalid("topic_queue_length", "must be at least 1");
        }
        if !(1..=86_400).contains(&self.topic_queue_expiry.as_secs()) {
            return invalid("topic_queue_expiry", "must be 1s to 1day");
        }
        Ok(())
    }

    /// The certificates in `ca_file`, if there is one.
    pub(crate) fn authorities(&self) -> Result<Option<String>, String> {
        let file = &self.ca_file;
        if file.as_os_str().is_empty() {
            return Ok(None);
        }
        match std::fs::read_to_string(file) {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(Some(pem)),
            Ok(_) => {
                Err(format!("must hold certificates in PEM, and {} holds none", file.display()))
            }
            Err(why) => Err(format!("cannot be read: {}: {why}", file.display())),
        }
    }

    /// The vhost, for words about it; of several the first.
    pub(crate) fn vhost(&self) -> String {
        let uri = self.uris.first().and_then(|uri| uri.parse().ok());
        uri.map_or_else(|| "/".to_owned(), |uri| uri.vhost)
    }

    pub(crate) fn retained_bytes(&self) -> usize {
        bytes(self.retained)
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        bytes(self.max_message)
    }

    pub(crate) fn max_outbound_bytes(&self) -> usize {
        bytes(self.max_outbound_message)
    }
}

impl Uri {
    /// Says what is wrong without saying the URI, where a password may be anywhere.
    pub(crate) fn parse(&self) -> Result<AMQPUri, String> {
        if !self.0.starts_with("amqp://") && !self.0.starts_with("amqps://") {
            return Err("it begins with neither amqp:// nor amqps://".to_owned());
        }
        // What follows would be dropped without a word.
        if self.0.contains('#') {
            return Err("it holds a #, which is written %23".to_owned());
        }
        // The parser would take this machine instead.
        if self.0.contains("://[") || self.0.contains("@[") {
            return Err("its host is an IPv6 address; give that a name".to_owned());
        }
        let uri: AMQPUri = self.0.parse()?;
        if uri.vhost.is_empty() {
            return Err("its vhost is empty; the vhost / is written %2f".to_owned());
        }
        Ok(uri)
    }

    /// The URI with [`HIDDEN`] for its password; where it cannot be told what is the password, little
    /// more than what stands behind the last @.
    fn shown(&self) -> String {
        let scheme = self.0.find("://").map_or("", |end| &self.0[..end + 3]);
        let rest = &self.0[scheme.len()..];
        match rest.rsplit_once('@') {
            Some((who, place)) if self.parse().is_ok() => match who.split_once(':') {
                Some((user, _)) => format!("{scheme}{user}:{HIDDEN}@{place}"),
                None => self.0.clone(),
            },
            None if self.parse().is_ok() => self.0.clone(),
            Some((_, place)) => format!("{HIDDEN}@{place}"),
            None => HIDDEN.to_owned(),
        }
    }
}

impl From<&str> for Uri {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown(), f)
    }
}

/// What this machine cannot address is as good as no limit.
fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fit_to_run() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        let default = Config::default();
        let second = Duration::from_secs(1);
        for (config, key) in [
            (Config { uris: vec![], ..default.clone() }, "uris"),
            (Config { uris: vec!["rabbit:5672".into()], ..default.clone() }, "uris"),
            (Config { uris: vec!["amqp://a:b#c@rabbit/%2f".into()], ..default.clone() }, "uris"),
            (Config { uris: vec!["amqp://[::1]:5672/%2f".into()], ..default.clone() }, "uris"),
            (Config { uris: vec!["amqp://rabbit:5672/".into()], ..default.clone() }, "uris"),
            (Config { ca_file: "/nowhere".into(), ..default.clone() }, "ca_file"),
            (Config { ca_file: "/dev/null".into(), ..default.clone() }, "ca_file"),
            (Config { namespace: String::new(), ..default.clone() }, "namespace"),
            (Config { namespace: "amq.x".to_owned(), ..default.clone() }, "namespace"),
            (Config { topic_exchange: String::new(), ..default.clone() }, "topic_exchange"),
            (
                Config { topic_exchange: "footbridge.direct".to_owned(), ..default.clone() },
                "topic_exchange",
            ),
            (Config { publish_timeout: Duration::ZERO, ..default.clone() }, "publish_timeout"),
            (Config { heart_beat: second / 2, ..default.clone() }, "heart_beat"),
            (Config { heart_beat: second * 61, ..default.clone() }, "heart_beat"),
            (Config { max_message: ByteSize(0), ..default.clone() }, "max_message"),
            (Config { max_message: ByteSize::mib(33), ..default.clone() }, "retained"),
            (
                Config { max_outbound_message: ByteSize(0), ..default.clone() },
                "max_outbound_message",
            ),
            (Config { retained: ByteSize::gib(3), ..default.clone() }, "retained"),
            (Config { publish_channels: 0, ..default.clone() }, "publish_channels"),
            (Config { topic_prefetch: 0, ..default.clone() }, "topic_prefetch"),
            (Config { topic_queue_length: 0, ..default.clone() }, "topic_queue_length"),
            (Config { topic_queue_expiry: second / 2, ..default }, "topic_queue_expiry"),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for (uri, shown) in [
            ("amqp://guest:se@cret@rabbit:5672/%2f", "amqp://guest:***@rabbit:5672/%2f"),
            ("amqps://ann:se:cret@rabbit", "amqps://ann:***@rabbit"),
            ("amqp://ann@rabbit", "amqp://ann@rabbit"),
            ("amqp://rabbit:5672/a", "amqp://rabbit:5672/a"),
            // No URIs, so anything may be the password.
            ("amqp://ann:secret", "***"),
            ("amqp://ann:secret@rabbit:port", "***@rabbit:port"),
            ("ann:secret@rabbit:5672", "***@rabbit:5672"),
            ("secret", "***"),
            ("", "***"),
        ] {
            assert_eq!(Uri::from(uri).to_string(), shown);
            assert_eq!(format!("{:?}", Uri::from(uri)), format!("{shown:?}"));
        }
    }

    #[test]
    fn a_wrong_uri_is_told_without_its_password() {
        for uri in
            ["ann:secret@rabbit:5672", "amqp:secret", "amqp://ann:secret", "http://a:secret@b"]
        {
            let invalid = Config { uris: vec![uri.into()], ..Config::default() }.check();
            let why = invalid.unwrap_err().why;
            assert!(!why.contains("secret") && why.contains("amqp://user:password@host"), "{why}");
        }
    }

    #[test]
    fn a_uri_as_it_is_shown_is_not_taken_for_one() {
        let shown = Uri::from("amqp://guest:secret@rabbit").to_string();
        let config = Config { uris: vec![Uri::from(&*shown)], ..Config::default() };
        assert!(config.check().unwrap_err().why.contains("in place of the ***"));
    }
}
