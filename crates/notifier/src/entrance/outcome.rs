//! What a service is answered, where it asks for an answer.

use broker::destination::Verb;
use broker::{Destination, Destinations, Message, MessageId};
use bytestring::ByteString;
use serde::Serialize;

use crate::outcomes::Outcomes;

/// Names the queue that the answer goes to.
pub(crate) const REPLY_TO: &str = "reply-to";

/// Says what an answer belongs to.
pub(crate) const CORRELATION_ID: &str = "correlation-id";

/// What became of a message.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The broker has it.
    Sent {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
        sessions: usize,
        nodes: usize,
        uncertain_nodes: usize,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        uncounted: bool,
    },
    /// The store of inboxes has it.
    Stored {
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
        stored: u64,
        scheduled: u64,
        known: u64,
        full: u64,
    },
    /// It never will be sent.
    Error { error: String },
}

impl Answer {
    pub(crate) fn counted(sessions: usize, nodes: usize, uncertain_nodes: usize) -> Self {
        Self::Sent { message_id: None, sessions, nodes, uncertain_nodes, uncounted: false }
    }

    pub(crate) fn uncounted(uncertain_nodes: usize) -> Self {
        Self::Sent { message_id: None, sessions: 0, nodes: 0, uncertain_nodes, uncounted: true }
    }

    pub(crate) fn stored(outcomes: Outcomes) -> Self {
        let Outcomes { stored, scheduled, known, full, known_as, .. } = outcomes;
        // The id of what was stored before, where nothing of this was.
        let message_id = known_as.filter(|_| stored + scheduled == 0).map(|id| id.to_string());
        Self::Stored { message_id, stored, scheduled, known, full }
    }

    pub(crate) fn error(why: &impl std::fmt::Display) -> Self {
        Self::Error { error: why.to_string() }
    }

    /// The same, of the message that clients know by that id.
    pub(crate) fn of(mut self, id: MessageId) -> Self {
        if let Self::Sent { message_id, .. } | Self::Stored { message_id, .. } = &mut self {
            message_id.get_or_insert_with(|| id.to_string());
        }
        self
    }
}

/// Where an answer goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    to: Destination,
    correlation_id: Option<ByteString>,
}

impl Reply {
    /// Where `message` asks for an answer. Brokers write the name of a queue with the usual prefix.
    pub(crate) fn asked(message: &Message) -> Option<Self> {
        let header = |wanted: &str| {
            message.headers.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| value)
        };
        let to = header(REPLY_TO)?;
        match Destinations::default().parse(to, Verb::Send) {
            Ok(to) => Some(Self { to, correlation_id: header(CORRELATION_ID).cloned() }),
            Err(error) => {
                tracing::debug!(%error, "a service's reply-to is no destination");
                None
            }
        }
    }

    pub(crate) fn message(self, answer: &Answer) -> Message {
        // Numbers and texts always have a JSON text.
        let mut message = Message::new(self.to, serde_json::to_vec(answer).unwrap_or_default());
        message.headers.push(("content-type".into(), "application/json".into()));
        let correlation_id = self.correlation_id.map(|id| (CORRELATION_ID.into(), id));
        message.headers.extend(correlation_id);
        message
    }
}
