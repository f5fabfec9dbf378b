//! What a session asks of whoever runs it.
//!
//! An action with a `receipt` is answered by [`Session::receipt`](crate::Session::receipt) once it
//! is done, or by [`Session::fail`](crate::Session::fail).

use bytes::Bytes;
use bytestring::ByteString;

use crate::{Fault, Headers};

/// One thing to do, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write a frame, or a heart-beat, that is encoded already.
    Send(Bytes),
    /// Decide on a CONNECT: answer by [`Session::accept`](crate::Session::accept) or
    /// [`Session::fail`](crate::Session::fail). Until then the session stands still.
    Connect(Connect),
    /// Publish a message.
    Publish(Publish),
    /// Open a subscription.
    Subscribe(Subscribe),
    /// End a subscription.
    Unsubscribe(Unsubscribe),
    /// Settle deliveries.
    Acknowledge(Acknowledge),
    /// Give a receipt once everything before it is done and confirmed.
    Settle {
        /// The receipt that was asked for.
        receipt: Option<ByteString>,
    },
    /// The client says good-bye: as [`Settle`](Self::Settle), then close.
    Disconnect {
        /// The receipt that was asked for.
        receipt: Option<ByteString>,
    },
    /// Ask by the transport's own means whether the client is there.
    Probe,
    /// The ERROR frame, if one is due, went before this: close.
    Close(Fault),
}

/// A CONNECT or STOMP frame.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Connect {
    /// Who the client says it is.
    pub login: Option<ByteString>,
    /// What should prove it.
    pub passcode: Option<ByteString>,
    /// The virtual host asked for.
    pub host: Option<ByteString>,
    /// All headers of the frame.
    pub headers: Headers,
}

/// A SEND frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// Where to, as the client spelled it.
    pub destination: ByteString,
    /// All headers of the frame.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// The receipt that was asked for.
    pub receipt: Option<ByteString>,
}

/// A SUBSCRIBE frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    /// The session's own number for the subscription, never used twice.
    pub number: u32,
    /// The client's id for it; absent only in STOMP 1.0.
    pub id: Option<ByteString>,
    /// From where, as the client spelled it.
    pub destination: ByteString,
    /// How its messages are acknowledged.
    pub ack: AckMode,
    /// All headers of the frame.
    pub headers: Headers,
    /// The receipt that was asked for.
    pub receipt: Option<ByteString>,
}

/// An UNSUBSCRIBE frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsubscribe {
    /// The subscription's number; absent where the client names none that is live.
    pub number: Option<u32>,
    /// All headers of the frame.
    pub headers: Headers,
    /// The receipt that was asked for.
    pub receipt: Option<ByteString>,
}

/// An ACK or NACK frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Acknowledge {
    /// Which delivery.
    pub of: Acknowledged,
    /// What became of it.
    pub verdict: Verdict,
    /// The receipt that was asked for.
    pub receipt: Option<ByteString>,
}

/// How an ACK or NACK names its delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Acknowledged {
    /// STOMP 1.2: the value of the MESSAGE frame's `ack` header.
    Token(ByteString),
    /// STOMP 1.0 and 1.1: the message's id and, in 1.1, the number of its subscription.
    Message {
        /// The value of `message-id`.
        id: ByteString,
        /// The subscription it came by, where the client says so.
        subscription: Option<u32>,
    },
}

/// What an ACK or NACK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// ACK.
    Ack,
    /// NACK.
    Nack {
        /// Whether the message should be delivered again; `requeue:false` says no.
        requeue: bool,
    },
}

/// How the messages of a subscription are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// Delivered is done.
    #[default]
    Auto,
    /// An ACK covers all messages of the subscription up to the one it names.
    Client,
    /// An ACK covers the message it names.
    ClientIndividual,
}
