//! The commands of client and server frames.

use std::fmt;

/// The first line of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Client: opens the session.
    Connect,
    /// Client: opens the session, as CONNECT does; 1.1 and later, for servers that tell STOMP from
    /// HTTP by the first line.
    Stomp,
    /// Client: a message for a destination.
    Send,
    /// Client: opens a subscription.
    Subscribe,
    /// Client: closes a subscription.
    Unsubscribe,
    /// Client: accepts a message.
    Ack,
    /// Client: refuses a message; 1.1 and later.
    Nack,
    /// Client: opens a transaction.
    Begin,
    /// Client: carries a transaction out.
    Commit,
    /// Client: rolls a transaction back.
    Abort,
    /// Client: ends the session.
    Disconnect,
    /// Server: the answer to CONNECT.
    Connected,
    /// Server: a message of a subscription.
    Message,
    /// Server: the client's frame with that `receipt` is done.
    Receipt,
    /// Server: what went wrong; the connection closes after it.
    Error,
}

impl Command {
    /// Every command, clients' first.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Stomp,
        Self::Send,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ack,
        Self::Nack,
        Self::Begin,
        Self::Commit,
        Self::Abort,
        Self::Disconnect,
        Self::Connected,
        Self::Message,
        Self::Receipt,
        Self::Error,
    ];

    /// Whether it is for clients to send.
    pub const fn is_clients(self) -> bool {
        !matches!(self, Self::Connected | Self::Message | Self::Receipt | Self::Error)
    }

    /// The longest command, in bytes.
    pub(crate) const MAX_LENGTH: usize = Self::Unsubscribe.as_str().len();

    /// The command as the frame's first line spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Disconnect => "DISCONNECT",
            Self::Connected => "CONNECTED",
            Self::Message => "MESSAGE",
            Self::Receipt => "RECEIPT",
            Self::Error => "ERROR",
        }
    }

    /// The command of that spelling; upper case only.
    pub fn from_bytes(line: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.as_str().as_bytes() == line)
    }

    /// Whether the frame may carry a body: SEND, MESSAGE and ERROR do, no other (STOMP 1.2,
    /// "Body").
    pub const fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether some command begins with these bytes.
    pub(crate) fn any_begins_with(start: &[u8]) -> bool {
        Self::ALL.into_iter().any(|command| command.as_str().as_bytes().starts_with(start))
    }

    /// Whether the frame belongs to the opening of a session. Such frames come before a version is
    /// agreed on, so their headers have no escapes in any version.
    pub(crate) const fn opens_session(self) -> bool {
        matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
