//! The gateway's own settings, section `[gateway]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use stomp::Compat;
use websocket::Origins;

/// Where clients connect, and what each may cost the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port for clients. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address and port for clients that speak STOMP without WebSocket; none, written `""`, by
    /// default. Port 0 takes a free one.
    #[serde(with = "or_none")]
    pub stomp_listen: Option<SocketAddr>,
    /// Path of the WebSocket endpoint.
    pub path: String,
    /// Origins that pages may connect from, besides the gateway's own.
    pub origins: Origins,
    /// Whether clients may use SockJS below the paths of the endpoints.
    pub sockjs: bool,
    /// Whether the console is served at `/`.
    pub console: bool,
    /// The role that whoever logs in to the console needs. Without one, written `""`, what the console shows of the
    /// node is open to this machine; or to everybody, where everything else is.
    pub console_role: String,
    /// Whose manners the node has where STOMP leaves a choice.
    pub compat: Compat,
    /// Most sessions on this node; one more is refused with 503, or an ERROR without WebSocket.
    pub max_sessions: usize,
    /// Most sessions of one user on this node; one more is refused.
    pub max_user_sessions: usize,
    /// Claims by which services choose sessions ("everybody whose `tenant` is a"), by the names that tokens
    /// and the users file give them.
    pub attribute_claims: Vec<String>,
    /// Most connections that have not become sessions; further ones wait to be accepted.
    pub max_handshakes: usize,
    /// How long a client may take to send its HTTP request, and again to take the answer.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Most bytes waiting to be written to one session; a client that lets more pile up is closed.
    pub mailbox: ByteSize,
    /// How long one frame may take to be written; a client that takes longer is closed.
    #[serde(with = "humantime_serde")]
    pub send_timeout: Duration,
    /// How long a topic's subscription is kept after its last subscriber left.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Unsettled deliveries of a queue subscription that names no `prefetch-count`.
    pub prefetch: u16,
    /// Highest `prefetch-count` that a client may ask for.
    pub max_prefetch: u16,
    /// Most queues of one session's own: for subscriptions to topics and exchanges that need one, and
    /// for answers. 0 allows none.
    pub max_own_queues: usize,
    /// What an ACK covers with `ack:client`.
    pub ack_scope: AckScope,
    /// Whether a NACK that does not say so by `requeue` has its message delivered again.
    pub nack_requeue: bool,
    /// How long a queue's delivery may be unsettled; a client that takes longer is closed, and the
    /// delivery goes to another. Less than RabbitMQ's `consumer_timeout`, at which it would close the
    /// channel that the client shares with others.
    #[serde(with = "humantime_serde")]
    pub ack_timeout: Duration,
    /// Unconfirmed SENDs of one session beyond which it is not read.
    pub max_unconfirmed: usize,
    /// Bytes of unconfirmed SENDs of one session beyond which it is not read.
    pub max_unconfirmed_bytes: ByteSize,
    /// How long a node takes to stop at most, while it closes its sessions in batches: half of it for
    /// closing, and the rest for what the broker has to confirm.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// How much of that a node that says that it is not ready goes on letting clients in, until every load
    /// balancer has noticed. More than HAProxy or Kubernetes takes from one check to the next.
    #[serde(with = "humantime_serde")]
    pub drain_notice: Duration,
}

/// What an ACK, or NACK, of a message covers besides it where the subscription has `ack:client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckScope {
    /// What its subscription delivered before, as STOMP says.
    #[default]
    Subscription,
    /// What any subscription of the session delivered before, as RabbitMQ has it.
    Session,
}

/// A value that cannot work, with its key in its section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key, as written in the section.
    pub key: &'static str,
    /// What is wrong with its value, and what would be right.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            stomp_listen: None,
            path: "/ws".into(),
            origins: Origins::default(),
            sockjs: true,
            console: false,
            console_role: String::new(),
            compat: Compat::Footbridge,
            max_sessions: 10_000,
            max_user_sessions: 1_000,
            attribute_claims: Vec::new(),
            max_handshakes: 1_000,
            request_timeout: Duration::from_secs(10),
            mailbox: ByteSize::kib(512),
            send_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(10),
            prefetch: 1_000,
            max_prefetch: 10_000,
            max_own_queues: 16,
            ack_scope: AckScope::Subscription,
            nack_requeue: true,
            ack_timeout: Duration::from_secs(25 * 60),
            max_unconfirmed: 256,
            max_unconfirmed_bytes: ByteSize::mib(1),
            drain: Duration::from_secs(25),
            drain_notice: Duration::from_secs(3),
        }
    }
}

impl Config {
    /// Refuses what no gateway could work with.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.into() });
        if let Some(why) = wrong_with_path(&self.path) {
            return invalid("path", why);
        }
        if self.mailbox < ByteSize::kib(4) {
            return invalid("mailbox", "below 4 KiB every client would be too slow");
        }
        if self.prefetch > self.max_prefetch {
            return invalid("prefetch", "above max_prefetch");
        }
        let counts: [(&'static str, usize); 6] = [
            ("max_user_sessions", self.max_user_sessions),
            ("max_handshakes", self.max_handshakes),
            ("max_sessions", self.max_sessions),
            ("prefetch", usize::from(self.prefetch)),
            ("max_unconfirmed", self.max_unconfirmed),
            ("max_unconfirmed_bytes", self.max_unconfirmed_byte_count()),
        ];
        for (key, count) in counts {
            if count == 0 {
                return invalid(key, "0 would refuse everything; use 1 or more");
            }
        }
        for (key, time) in
            [("request_timeout", self.request_timeout), ("send_timeout", self.send_timeout)]
        {
            if time < Duration::from_millis(100) {
                return invalid(key, "below 100 ms no client could keep up; use 10s, say");
            }
        }
        if self.ack_timeout < Duration::from_secs(1) {
            return invalid("ack_timeout", "below 1 s no client could keep up; use 25m, say");
        }
        if self.ack_timeout > Duration::from_secs(24 * 60 * 60) {
            return invalid("ack_timeout", "more than a day; use 25m, say");
        }
        for (key, time) in [
            ("request_timeout", self.request_timeout),
            ("send_timeout", self.send_timeout),
            ("linger", self.linger),
            ("drain", self.drain),
        ] {
            if time > Duration::from_secs(60 * 60) {
                return invalid(key, "more than an hour; use 10s, say");
            }
        }
        if !self.drain_notice.is_zero() && self.drain_notice >= self.drain {
            return invalid(
                "drain_notice",
                "leaves nothing of drain, of which it is a part; use 0s",
            );
        }
        Ok(())
    }

    /// What an ACK covers; RabbitMQ's manners say it, whatever else is configured.
    pub(crate) fn ack_scope(&self) -> AckScope {
        match self.compat {
            Compat::Footbridge => self.ack_scope,
            Compat::RabbitMq => AckScope::Session,
        }
    }

    /// The mailbox limit in bytes.
    pub(crate) fn mailbox_bytes(&self) -> usize {
        bytes(self.mailbox)
    }

    /// The limit on unconfirmed bytes.
    pub(crate) fn max_unconfirmed_byte_count(&self) -> usize {
        bytes(self.max_unconfirmed_bytes)
    }
}

/// What is wrong with the path of an endpoint, if anything is.
pub(crate) fn wrong_with_path(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') || path.len() < 2 || path.ends_with('/') {
        return Some("use a path such as \"/ws\", without a slash at its end");
    }
    let is_odd = path.contains(['?', '#', '%', ' ']) || path.contains("//");
    is_odd.then_some("use plain words between slashes, such as \"/ws\"")
}

/// An address that may be missing, which is written as an empty text.
pub(crate) mod or_none {
    use std::net::SocketAddr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            D::Error::custom("no address and port such as \"127.0.0.1:61613\"; \"\" is none")
        })
    }
}

/// What this machine cannot address is as good as no limit.
fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
