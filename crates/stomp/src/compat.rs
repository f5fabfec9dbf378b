//! Whose manners the server has where STOMP leaves a choice: its own, or those of RabbitMQ's STOMP
//! plugin, for clients that were written against it.
//!
//! Here is what the protocol's side of a session does differently: the form of ERROR frames and the
//! heart-beats offered. (The plugin's ways are those of RabbitMQ up to 4.3.)

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Config, Intervals, Title};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// Its own: an ERROR says all in its `message`, heart-beats are as configured.
    #[default]
    Footbridge,
    /// RabbitMQ's: an ERROR has few words in its `message` and the rest in its body, heart-beats are
    /// as the client wants them.
    RabbitMq,
}

/// What an ERROR frame says.
pub(crate) struct ErrorText<'a> {
    /// The `message` header.
    pub(crate) message: &'a str,
    /// The body.
    pub(crate) body: Cow<'a, str>,
    /// Whether the versions that are spoken here are listed.
    pub(crate) versions: bool,
}

impl Compat {
    /// How an error is told.
    pub(crate) fn error(self, title: Title, detail: &str) -> ErrorText<'_> {
        match self {
            Self::Footbridge => ErrorText {
                message: detail,
                body: detail.into(),
                versions: title == Title::VersionMismatch,
            },
            Self::RabbitMq => ErrorText {
                message: title.as_str(),
                body: if title.ends_its_line() {
                    format!("{detail}\n").into()
                } else {
                    detail.into()
                },
                versions: true,
            },
        }
    }

    /// The heart-beats that the server offers to a client that wants `client`.
    pub(crate) fn heart_beats(self, config: &Config, client: Intervals) -> Intervals {
        match self {
            Self::Footbridge => {
                Intervals { send: config.heart_beat_send, receive: config.heart_beat_receive }
            }
            Self::RabbitMq => Intervals {
                send: whole_seconds(client.receive),
                receive: whole_seconds(client.send),
            },
        }
    }
}

/// Rounded down, but what is something stays at least a second.
fn whole_seconds(interval: Duration) -> Duration {
    match (interval.is_zero(), interval.as_secs()) {
        (true, _) => Duration::ZERO,
        (false, seconds) => Duration::from_secs(seconds.max(1)),
    }
}
