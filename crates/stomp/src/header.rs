//! Headers: the names in use, and the list a frame carries.
//!
//! A list keeps every header in the order of the wire. Where a name is repeated the first entry
//! is the one that counts (STOMP 1.2, "Repeated Header Entries"): an intermediary that adds its
//! own headers puts them in front.

use bytestring::ByteString;

/// CONNECT: the versions the client speaks, `1.1,1.2`.
pub const ACCEPT_VERSION: &str = "accept-version";
/// SUBSCRIBE: the ack mode. MESSAGE (1.2): what an ACK or NACK of it gives as `id`.
pub const ACK: &str = "ack";
/// The body's length in bytes.
pub const CONTENT_LENGTH: &str = "content-length";
/// The body's media type.
pub const CONTENT_TYPE: &str = "content-type";
/// Where a message goes to or comes from.
pub const DESTINATION: &str = "destination";
/// CONNECT and CONNECTED: the heart-beats offered and wanted, `10000,10000` in milliseconds.
pub const HEART_BEAT: &str = "heart-beat";
/// CONNECT: the virtual host.
pub const HOST: &str = "host";
/// SUBSCRIBE and UNSUBSCRIBE: the subscription. ACK and NACK (1.2): the message's `ack`.
pub const ID: &str = "id";
/// CONNECT: who it is.
pub const LOGIN: &str = "login";
/// ERROR: what went wrong, in short.
pub const MESSAGE: &str = "message";
/// MESSAGE, and ACK and NACK before 1.2: the message.
pub const MESSAGE_ID: &str = "message-id";
/// CONNECT: the password.
pub const PASSCODE: &str = "passcode";
/// Any client frame but CONNECT: asks for a RECEIPT of that id.
pub const RECEIPT: &str = "receipt";
/// RECEIPT and ERROR: the `receipt` of the frame it answers.
pub const RECEIPT_ID: &str = "receipt-id";
/// On MESSAGE: whether it may have been delivered before.
pub const REDELIVERED: &str = "redelivered";
/// NACK: whether the message goes back to its queue, `false` to drop it; RabbitMQ's.
pub const REQUEUE: &str = "requeue";
/// CONNECTED: the server's name and version.
pub const SERVER: &str = "server";
/// CONNECTED: the session's id.
pub const SESSION: &str = "session";
/// MESSAGE, and ACK and NACK in 1.1: the subscription's `id`.
pub const SUBSCRIPTION: &str = "subscription";
/// SEND, ACK, NACK, BEGIN, COMMIT and ABORT: the transaction.
pub const TRANSACTION: &str = "transaction";
/// CONNECTED: who the server takes the client to be; Spring's.
pub const USER_NAME: &str = "user-name";
/// CONNECTED: the version agreed on. ERROR: the versions the server speaks.
pub const VERSION: &str = "version";

/// The headers of a frame, in order, names and values unescaped. Empty ones hold no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(ByteString, ByteString)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header behind the others.
    pub fn push(&mut self, name: impl Into<ByteString>, value: impl Into<ByteString>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of the first header of that name.
    pub fn get(&self, name: &str) -> Option<&ByteString> {
        self.iter().find(|(header, _)| *header == name).map(|(_, value)| value)
    }

    /// Names and values in order, repeated ones included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ByteString, &ByteString)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are, repeated ones included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the spaces around every name and value away, as 1.0 wants it.
    pub(crate) fn trim(&mut self) {
        for text in self.0.iter_mut().flat_map(|(name, value)| [name, value]) {
            let trimmed = text.trim_matches(' ');
            if trimmed.len() < text.len() {
                *text = text.slice_ref(trimmed);
            }
        }
    }
}

impl<N: Into<ByteString>, V: Into<ByteString>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
