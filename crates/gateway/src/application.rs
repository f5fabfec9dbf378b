//! The application behind `/app`: where what a client sends becomes a call of somebody's code.
//!
//! Invariants
//! - A [`Caller`] is of this node's making: who it is and which session it is, no client can say.
//! - What a caller is told of a failure is meant for it: what is wrong with the application, or where it
//!   is, stays in the log.
//!
//! Not here: in which order a session's calls are made ([`Lane`](crate::lane::Lane)), what becomes of an answer
//! ([`relay`](crate::relay)), how the application is reached.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use access::Principal;
use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;
use presence::Attributes;

use crate::close::CloseReason;

/// Names and values in order.
pub type Pairs = Vec<(ByteString, ByteString)>;

/// Whose call it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Who the session belongs to at the time of the call.
    pub principal: Arc<Principal>,
    /// The session's id.
    pub session: ByteString,
    /// Where the client connects from; behind a proxy that is the proxy's address.
    pub address: IpAddr,
    /// What the application annotated the session with.
    pub attributes: Arc<Attributes>,
}

/// One SEND, or SUBSCRIBE, to an application destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Whose it is.
    pub caller: Caller,
    /// The destination as the client spelled it.
    pub destination: ByteString,
    /// The configured prefix it is under: `/app`.
    pub prefix: ByteString,
    /// The destination behind the prefix: `message` for `/app/message`.
    pub path: ByteString,
    /// The client's own headers.
    pub headers: Pairs,
    /// The body; empty for SUBSCRIBE.
    pub body: Bytes,
}

/// What somebody gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its headers, `content-type` among them.
    pub headers: Pairs,
    /// Its body.
    pub body: Bytes,
    /// Whether it survives a restart of the broker; where the application does not say, it does if the
    /// client waits for a receipt.
    pub persistent: Option<bool>,
}

/// Something the application wants sent in answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where to.
    pub to: To,
    /// What.
    pub content: Content,
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// To a destination, spelled as a client would.
    Destination(ByteString),
    /// To the session that asked: where within its `/user`, such as `/queue/reply`.
    Session(ByteString),
    /// To all sessions of the user that asked: where within their `/user`.
    User(ByteString),
}

/// Why a call was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing handles this destination.
    #[error("nothing handles {destination}{hint}")]
    NoHandler {
        /// As the client spelled it.
        destination: ByteString,
        /// What there is instead, if that is known; begins with its own punctuation.
        hint: &'static str,
    },
    /// The handler found the caller at fault, and says so.
    #[error("{message}")]
    Refused {
        /// For programs: lower-case letters, digits and `_`.
        code: ByteString,
        /// For people.
        message: String,
    },
    /// The handler cannot be reached.
    #[error("the handler of this destination is not there: try again later")]
    Unavailable,
    /// The handler did not answer in time; it may have done its work.
    #[error("the handler of this destination did not answer in time; it may have done its work")]
    TimedOut,
    /// Too many calls are being made already; this one was not.
    #[error("the handler of this destination has too much to do: try again later")]
    Busy,
    /// The handler broke down.
    #[error("the handler of this destination failed")]
    Failed,
    /// The handler answered something that makes no sense.
    #[error("the handler of this destination gave an answer that makes no sense")]
    Nonsense,
    /// The handler answered, and the broker did not take all of it.
    #[error("what the handler of this destination answered could not all be sent: try again later")]
    NotSent,
}

/// Why a session was not let in by the application.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It does not want that client.
    #[error("{reason}")]
    Refused {
        /// What the client is told.
        reason: String,
        /// Whether another user, or a better proof, would be let in.
        unauthenticated: bool,
    },
    /// It did not say.
    #[error("whoever decides about new sessions cannot be asked now: try again later")]
    Unanswered,
}

/// What the application wants to see of those who connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hook {
    /// HTTP headers of the handshake and headers of CONNECT, in lower case.
    pub headers: Vec<String>,
    /// Parameters of the query.
    pub query: Vec<String>,
    /// Cookies.
    pub cookies: Vec<String>,
}

/// Somebody who wants in. `Debug` shows no values: some are secret.
#[derive(Clone, PartialEq)]
pub struct Connecting {
    /// Who; without attributes yet.
    pub caller: Caller,
    /// HTTP headers of the handshake.
    pub headers: Pairs,
    /// Headers of CONNECT.
    pub connect_headers: Pairs,
    /// Parameters of the query.
    pub query: Pairs,
    /// Cookies.
    pub cookies: Pairs,
}

/// Handles what clients send to application destinations.
#[async_trait]
pub trait Application: Send + Sync + 'static {
    /// Whether there is anything at all behind the prefixes; without, clients are told so at once.
    fn is_there(&self) -> bool {
        true
    }

    /// What it wants to see of those who connect; none is not asked, nor told who has gone.
    fn hook(&self) -> Option<&Hook> {
        None
    }

    /// Whether a client may come in, and what its session is annotated with.
    async fn connect(&self, _connecting: Connecting) -> Result<Attributes, ConnectError> {
        Ok(Attributes::new())
    }

    /// Handles what a client sent; what it returns is sent in order.
    async fn message(&self, call: Call) -> Result<Vec<Answer>, CallError>;

    /// What a new subscription gets.
    async fn subscribe(&self, call: Call) -> Result<Vec<Content>, CallError>;

    /// Is told that a session has ended; never answers the client.
    async fn disconnect(&self, _caller: Caller, _reason: CloseReason) {}
}

/// No application: every call is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoApplication;

#[async_trait]
impl Application for NoApplication {
    fn is_there(&self) -> bool {
        false
    }

    async fn message(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        Err(nothing(call.destination))
    }

    async fn subscribe(&self, call: Call) -> Result<Vec<Content>, CallError> {
        Err(nothing(call.destination))
    }
}

fn nothing(destination: ByteString) -> CallError {
    CallError::NoHandler { destination, hint: ": no application is configured" }
}

impl Content {
    /// A message that says nothing of its own survival.
    #[must_use]
    pub fn new(headers: Pairs, body: impl Into<Bytes>) -> Self {
        Self { headers, body: body.into(), persistent: None }
    }
}

impl CallError {
    /// For programs.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::NoHandler { .. } => "no_handler",
            Self::Refused { code, .. } => code,
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Nonsense => "bad_answer",
            Self::NotSent => "not_sent",
        }
    }

    /// The label in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoHandler { .. } => "no_handler",
            Self::Refused { .. } => "refused",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Nonsense => "bad_answer",
            Self::NotSent => "not_sent",
        }
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &Pairs| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("Connecting")
            .field("caller", &self.caller)
            .field("headers", &names(&self.headers))
            .field("connect_headers", &names(&self.connect_headers))
            .field("query", &names(&self.query))
            .field("cookies", &names(&self.cookies))
            .finish()
    }
}
