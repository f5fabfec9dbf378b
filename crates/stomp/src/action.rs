//! What a session asks of whoever runs it.
//!
//! An action with a `receipt` is answered by [`Session::receipt`](crate::Session::receipt) once it
//! is done, or by [`Session::fail`](crate::Session::fail).

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::{Command, Fault, Headers};

/// One thing to do, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A frame came; what it asks for follows.
    Received(Command),
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
    /// Do what a transaction held back: all of it in order, or nothing.
    Commit(Commit),
    /// The client says good-bye: give the receipt once everything before is done and confirmed,
    /// then close.
    Disconnect {
        /// The receipt that was asked for.
        receipt: Option<ByteString>,
    },
    /// ERROR was said: close.
    Close(Fault),
}

/// A CONNECT or STOMP frame. `Debug` shows no values: some are secret.
#[derive(Clone, PartialEq, Default)]
pub struct Connect {
    /// All headers of the frame: whatever shows who the client is may be among them.
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

/// A COMMIT frame, with what its transaction held back.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// In the order it came.
    pub held: Vec<Held>,
    /// The receipt that was asked for, due once all of it is done and confirmed.
    pub receipt: Option<ByteString>,
}

/// A frame that a transaction can hold back.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    /// A SEND frame.
    Publish(Publish),
    /// An ACK or NACK frame.
    Acknowledge(Acknowledge),
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
        /// The subscription it came by, where the client says so: one that is live or ended lately,
        /// or `u32::MAX`.
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
        /// Whether the message should be delivered again, where the client says so by `requeue`.
        requeue: Option<bool>,
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

impl Publish {
    /// The same, sharing no bytes with the buffer it was received in, which may be much longer:
    /// for whoever keeps it. A body that fills a good part of any such buffer is not copied.
    pub fn detached(self) -> Self {
        const LARGE: usize = 32 * 1024;
        Self {
            destination: copied(&self.destination),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (copied(name), copied(value)))
                .collect(),
            body: if self.body.len() < LARGE {
                Bytes::copy_from_slice(&self.body)
            } else {
                self.body
            },
            receipt: self.receipt,
        }
    }
}

impl Acknowledged {
    /// The same, sharing no bytes with the buffer it was received in.
    fn detached(self) -> Self {
        match self {
            Self::Token(token) => Self::Token(copied(&token)),
            Self::Message { id, subscription } => Self::Message { id: copied(&id), subscription },
        }
    }
}

impl Held {
    /// The same, sharing no bytes with the buffer it was received in, as [`Publish::detached`] says.
    pub(crate) fn detached(self) -> Self {
        match self {
            Self::Publish(publish) => Self::Publish(publish.detached()),
            Self::Acknowledge(acknowledge) => {
                let of = acknowledge.of.detached();
                Self::Acknowledge(Acknowledge { of, ..acknowledge })
            }
        }
    }

    /// The receipt that was asked for.
    pub fn receipt(&self) -> Option<&ByteString> {
        match self {
            Self::Publish(publish) => publish.receipt.as_ref(),
            Self::Acknowledge(acknowledge) => acknowledge.receipt.as_ref(),
        }
    }
}

impl From<Held> for Action {
    fn from(held: Held) -> Self {
        match held {
            Held::Publish(publish) => Self::Publish(publish),
            Held::Acknowledge(acknowledge) => Self::Acknowledge(acknowledge),
        }
    }
}

fn copied(text: &ByteString) -> ByteString {
    ByteString::from(String::from(&**text))
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.headers.iter().map(|(name, _)| name);
        f.debug_struct("Connect").field("headers", &names.collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connect_shows_is_in_no_debug_text() {
        let headers = [("login", "ann"), ("passcode", "secret")].into_iter().collect();
        let shown = format!("{:?}", Action::Connect(Connect { headers }));
        assert!(shown.contains("passcode") && !shown.contains("secret"), "{shown}");
    }
}
