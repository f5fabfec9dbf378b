//! Why sessions end: one closed list that gives the WebSocket close code, whether the client may
//! reconnect, and the metric's label. The ERROR frame's text comes with each case.

use stomp::Fault;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// The client said DISCONNECT.
    Disconnect,
    /// The client closed the WebSocket.
    ClientClosed,
    /// The connection broke or ended without a word.
    ClientLost,
    /// This node is stopping.
    Drain,
    /// The client broke the protocol.
    Protocol,
    /// A text message was not UTF-8.
    InvalidText,
    /// A frame was longer than allowed.
    TooBig,
    /// The broker would not take or give something for now.
    BrokerUnavailable,
    /// The node is at its limit.
    Overload,
    /// Who the client is was not accepted, or is not any more.
    Unauthenticated,
    /// What the client showed of itself has expired.
    Expired,
    /// The client may not do what it asked for.
    Forbidden,
    /// A service of ours has ended the session.
    Removed,
    /// No CONNECT in time.
    ConnectTimeout,
    /// A frame was begun and not ended in time.
    FrameTimeout,
    /// Silence beyond the heart-beats agreed on.
    HeartBeatTimeout,
    /// The client took a queue's delivery and did not acknowledge it in time.
    AckTimeout,
    /// A limit on what one session may do.
    Limit,
    /// The client did not read what it was sent.
    SlowConsumer,
}

impl CloseReason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 19] = [
        Self::Disconnect,
        Self::ClientClosed,
        Self::ClientLost,
        Self::Drain,
        Self::Protocol,
        Self::InvalidText,
        Self::TooBig,
        Self::BrokerUnavailable,
        Self::Overload,
        Self::Unauthenticated,
        Self::Expired,
        Self::Forbidden,
        Self::Removed,
        Self::ConnectTimeout,
        Self::FrameTimeout,
        Self::HeartBeatTimeout,
        Self::AckTimeout,
        Self::Limit,
        Self::SlowConsumer,
    ];

    /// The WebSocket close code; `None` where the client is gone already.
    pub fn code(self) -> Option<u16> {
        Some(match self {
            Self::Disconnect | Self::ClientClosed => 1000,
            Self::ClientLost => return None,
            Self::Drain => 1001,
            Self::Protocol => 1002,
            Self::InvalidText => 1007,
            Self::TooBig => 1009,
            Self::BrokerUnavailable | Self::Overload => 1013,
            Self::Unauthenticated | Self::Expired => 4401,
            Self::Forbidden | Self::Removed => 4403,
            Self::ConnectTimeout
            | Self::FrameTimeout
            | Self::HeartBeatTimeout
            | Self::AckTimeout => 4408,
            Self::Limit => 4429,
            Self::SlowConsumer => 4500,
        })
    }

    /// Whether the same client may expect better of another try.
    pub fn may_reconnect(self) -> bool {
        match self {
            Self::Drain
            | Self::ClientLost
            | Self::BrokerUnavailable
            | Self::Overload
            | Self::ConnectTimeout
            | Self::FrameTimeout
            | Self::HeartBeatTimeout
            | Self::AckTimeout
            | Self::Limit
            | Self::SlowConsumer => true,
            Self::Disconnect
            | Self::ClientClosed
            | Self::Protocol
            | Self::InvalidText
            | Self::TooBig
            | Self::Unauthenticated
            | Self::Expired
            | Self::Forbidden
            | Self::Removed => false,
        }
    }

    /// The label in metrics, and the reason in the WebSocket close frame and in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::ClientClosed => "client_closed",
            Self::ClientLost => "client_lost",
            Self::Drain => "drain",
            Self::Protocol => "protocol",
            Self::InvalidText => "invalid_text",
            Self::TooBig => "too_big",
            Self::BrokerUnavailable => "broker_unavailable",
            Self::Overload => "overload",
            Self::Unauthenticated => "unauthenticated",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::Removed => "removed",
            Self::ConnectTimeout => "connect_timeout",
            Self::FrameTimeout => "frame_timeout",
            Self::HeartBeatTimeout => "heart_beat_timeout",
            Self::AckTimeout => "ack_timeout",
            Self::Limit => "limit",
            Self::SlowConsumer => "slow_consumer",
        }
    }
}

impl From<&Fault> for CloseReason {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Malformed(malformed) if malformed.is_too_big() => Self::TooBig,
            Fault::TooManySubscriptions { .. }
            | Fault::TooManyTransactions { .. }
            | Fault::TransactionTooLong { .. }
            | Fault::TooManyFrames { .. } => Self::Limit,
            Fault::ConnectTimeout(_) => Self::ConnectTimeout,
            Fault::FrameTimeout(_) => Self::FrameTimeout,
            Fault::HeartBeatTimeout(_) => Self::HeartBeatTimeout,
            _ => Self::Protocol,
        }
    }
}

impl From<&websocket::Error> for CloseReason {
    fn from(error: &websocket::Error) -> Self {
        match error.close_code() {
            1007 => Self::InvalidText,
            1009 => Self::TooBig,
            _ => Self::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table "When a session ends" is what clients are written by.
    #[test]
    fn the_readme_tells_every_code_and_whether_to_try_again() {
        let readme = include_str!("../../../README.md");
        for reason in CloseReason::ALL {
            let Some(code) = reason.code() else { continue };
            let row = readme.lines().filter(|line| line.starts_with('|')).find(|line| {
                line.split('|').nth(1).is_some_and(|codes| codes.contains(&code.to_string()))
            });
            let again = row
                .and_then(|row| row.split('|').nth(3))
                .map(|again| again.trim().starts_with("yes"));
            assert_eq!(again, Some(reason.may_reconnect()), "{reason:?}: {row:?}");
        }
    }
}
