//! Every metric of the gateway, its help text and its labels.
//!
//! Labels come from closed lists, never from a destination, user or session. Counters of the hot
//! path are resolved once, here, and not looked up per frame.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use inbox::Settlement;
use stomp::Command;

use crate::close::CloseReason;
use crate::peers::signature;

/// See the module.
pub(crate) struct Metrics {
    pub(crate) sessions: Gauge,
    pub(crate) draining: Gauge,
    pub(crate) subscriptions: Gauge,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) messages_sent: Counter,
    refused_connections: Family<Refused, Counter>,
    sessions_closed: Family<Closed, Counter>,
    frames_received: Family<Received, Counter>,
    fan_out_sessions: Histogram,
    delivery_seconds: Histogram,
    publishes: Family<Published, Counter>,
    confirm_seconds: Histogram,
    inbox_settlements: Family<Settled, Counter>,
    application_calls: Family<Called, Counter>,
    application_call_seconds: Histogram,
    forwarded: Family<Handed, Counter>,
    unreachable: Counter,
    not_forwarded: Family<NotForwarded, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Received {
    command: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Published {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Settled {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handed {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotForwarded {
    reason: &'static str,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishOutcome {
    /// The broker took responsibility.
    Confirmed,
    /// The broker refused it before or after it was handed over, or went away.
    Failed,
}

impl PublishOutcome {
    const ALL: [Self; 2] = [Self::Confirmed, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.5, 14));
        let metrics = Self {
            sessions: Gauge::default(),
            draining: Gauge::default(),
            subscriptions: Gauge::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            messages_sent: Counter::default(),
            refused_connections: Family::default(),
            sessions_closed: Family::default(),
            frames_received: Family::default(),
            fan_out_sessions: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            delivery_seconds: seconds(),
            publishes: Family::default(),
            confirm_seconds: seconds(),
            inbox_settlements: Family::default(),
            application_calls: Family::default(),
            application_call_seconds: seconds(),
            forwarded: Family::default(),
            unreachable: Counter::default(),
            not_forwarded: Family::default(),
        };
        for reason in CloseReason::ALL {
            drop(metrics.sessions_closed.get_or_create(&Closed { reason: reason.label() }));
        }
        for command in Command::ALL.into_iter().filter(|command| command.is_clients()) {
            drop(metrics.frames_received.get_or_create(&Received { command: command.as_str() }));
        }
        for outcome in PublishOutcome::ALL {
            drop(metrics.publishes.get_or_create(&Published { outcome: outcome.label() }));
        }
        for direction in ["in", "out"] {
            drop(metrics.forwarded.get_or_create(&Handed { direction }));
        }
        metrics
    }

    /// Adds them to `registry` under the prefixes `gateway` and `broker`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let gateway = registry.sub_registry_with_prefix("gateway");
        gateway.register("sessions", "Sessions on this node now", self.sessions.clone());
        gateway.register(
            "draining",
            "1 while the node is stopping, and sessions are those it has not closed yet",
            self.draining.clone(),
        );
        gateway.register(
            "subscriptions",
            "Subscriptions of those sessions now",
            self.subscriptions.clone(),
        );
        gateway.register_with_unit(
            "received",
            "Bytes of STOMP received from clients",
            Unit::Bytes,
            self.received_bytes.clone(),
        );
        gateway.register_with_unit(
            "sent",
            "Bytes written to clients, framing included",
            Unit::Bytes,
            self.sent_bytes.clone(),
        );
        gateway.register(
            "messages_sent",
            "MESSAGE frames handed to sessions' mailboxes",
            self.messages_sent.clone(),
        );
        gateway.register(
            "connections_refused",
            "Connections refused before they became sessions, by HTTP status",
            self.refused_connections.clone(),
        );
        gateway.register(
            "sessions_closed",
            "Sessions that ended, by reason",
            self.sessions_closed.clone(),
        );
        gateway.register(
            "frames_received",
            "STOMP frames received, by command",
            self.frames_received.clone(),
        );
        gateway.register(
            "fan_out_sessions",
            "Subscribers that a topic message went to on this node",
            self.fan_out_sessions.clone(),
        );
        gateway.register_with_unit(
            "delivery",
            "Time from the broker's delivery to the write, sampled from the writes of each session",
            Unit::Seconds,
            self.delivery_seconds.clone(),
        );
        gateway.register(
            "inbox_settlements",
            "What clients did with messages that were stored for them, by outcome",
            self.inbox_settlements.clone(),
        );
        gateway.register(
            "application_calls",
            "Calls of the application for SENDs and SUBSCRIBEs, by outcome",
            self.application_calls.clone(),
        );
        gateway.register_with_unit(
            "application_call",
            "Time from a call of the application to the last confirm of what it answered",
            Unit::Seconds,
            self.application_call_seconds.clone(),
        );
        gateway.register(
            "forwarded_requests",
            "Requests about sessions of another node that were answered: out, handed over to it; in, by this one",
            self.forwarded.clone(),
        );
        gateway.register(
            "forwarded_requests_unanswered",
            "Requests that could not be handed over to the node whose session they were about",
            self.unreachable.clone(),
        );
        gateway.register(
            "forwarded_requests_refused",
            "Requests on the port for other nodes that none of them had signed, by reason",
            self.not_forwarded.clone(),
        );
        let broker = registry.sub_registry_with_prefix("broker");
        broker.register("publishes", "Messages published, by outcome", self.publishes.clone());
        broker.register_with_unit(
            "confirm",
            "Time from a publish to its confirm",
            Unit::Seconds,
            self.confirm_seconds.clone(),
        );
    }

    /// What the console computes rates from, by name; what never happened may be left out.
    pub(crate) fn counted(&self) -> Vec<(&'static str, u64)> {
        let frames = |command: Command| {
            self.frames_received.get_or_create(&Received { command: command.as_str() }).get()
        };
        let publishes = |outcome: PublishOutcome| {
            self.publishes.get_or_create(&Published { outcome: outcome.label() }).get()
        };
        vec![
            ("received", frames(Command::Send)),
            ("sent", self.messages_sent.get()),
            ("received_bytes", self.received_bytes.get()),
            ("sent_bytes", self.sent_bytes.get()),
            ("confirmed", publishes(PublishOutcome::Confirmed)),
            ("failed", publishes(PublishOutcome::Failed)),
        ]
    }

    /// How many sessions ended so far, by reason; none that no session ended for.
    pub(crate) fn ended(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: CloseReason| {
            let reason = reason.label();
            (reason, self.sessions_closed.get_or_create(&Closed { reason }).get())
        };
        CloseReason::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        self.sessions_closed.get_or_create(&Closed { reason: reason.label() }).inc();
    }

    pub(crate) fn refused(&self, status: u16) {
        self.refused_connections.get_or_create(&Refused { status }).inc();
    }

    pub(crate) fn received(&self, command: Command) {
        self.frames_received.get_or_create(&Received { command: command.as_str() }).inc();
    }

    pub(crate) fn fanned_out(&self, sessions: usize) {
        self.fan_out_sessions.observe(sessions as f64);
        self.messages_sent.inc_by(sessions as u64);
    }

    /// A message to users went to so many subscriptions.
    pub(crate) fn addressed(&self, sessions: u64) {
        self.messages_sent.inc_by(sessions);
    }

    pub(crate) fn delivered(&self, after: Duration) {
        self.delivery_seconds.observe(after.as_secs_f64());
    }

    pub(crate) fn settled(&self, settlement: Settlement) {
        let outcome = match settlement {
            Settlement::Ack => "acked",
            Settlement::Nack => "refused",
            Settlement::Reject => "rejected",
            Settlement::Release => "given back",
        };
        self.inbox_settlements.get_or_create(&Settled { outcome }).inc();
    }

    pub(crate) fn called(&self, outcome: &'static str, after: Duration) {
        self.application_calls.get_or_create(&Called { outcome }).inc();
        self.application_call_seconds.observe(after.as_secs_f64());
    }

    /// Another node answered.
    pub(crate) fn forwarded_out(&self) {
        self.forwarded.get_or_create(&Handed { direction: "out" }).inc();
    }

    /// Another node asked.
    pub(crate) fn forwarded_in(&self) {
        self.forwarded.get_or_create(&Handed { direction: "in" }).inc();
    }

    /// Another node did not answer.
    pub(crate) fn unreachable(&self) {
        self.unreachable.inc();
    }

    /// Somebody asked who is no node.
    pub(crate) fn not_forwarded(&self, why: signature::Refused) {
        let reason = match why {
            signature::Refused::Unsigned => "unsigned",
            signature::Refused::Unreadable => "unreadable",
            signature::Refused::Stale => "stale",
            signature::Refused::Forged => "forged",
            signature::Refused::OtherBody => "body",
        };
        self.not_forwarded.get_or_create(&NotForwarded { reason }).inc();
    }

    pub(crate) fn published(&self, outcome: PublishOutcome, after: Duration) {
        self.publishes.get_or_create(&Published { outcome: outcome.label() }).inc();
        self.confirm_seconds.observe(after.as_secs_f64());
    }
}

#[cfg(test)]
impl Metrics {
    /// How many requests were handed over in that direction.
    pub(crate) fn handed(&self, direction: &'static str) -> u64 {
        self.forwarded.get_or_create(&Handed { direction }).get()
    }

    /// How many could not be.
    pub(crate) fn unreached(&self) -> u64 {
        self.unreachable.get()
    }

    /// How many no node had signed, for that reason.
    pub(crate) fn strangers(&self, reason: &'static str) -> u64 {
        self.not_forwarded.get_or_create(&NotForwarded { reason }).get()
    }
}
