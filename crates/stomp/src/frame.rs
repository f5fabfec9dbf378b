//! One STOMP frame.

use bytes::Bytes;
use bytestring::ByteString;

use crate::{Command, Headers};

/// A frame: 64 bytes, and a slice of the received bytes for each header and the body.
///
/// Those slices keep the whole buffer they were cut from alive. Copy what outlives the frame by
/// long (a subscription's destination, say) with `ByteString::from(&**text)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the frame asks for or tells.
    pub command: Command,
    /// In the order of the wire, repeated ones included; unescaped.
    pub headers: Headers,
    /// Empty where the command has none.
    pub body: Bytes,
}

impl Frame {
    /// A frame without headers and body.
    pub const fn new(command: Command) -> Self {
        Self { command, headers: Headers::new(), body: Bytes::new() }
    }

    /// The same frame with one header more.
    #[must_use]
    pub fn with_header(
        mut self,
        name: impl Into<ByteString>,
        value: impl Into<ByteString>,
    ) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same frame with that body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&ByteString> {
        self.headers.get(name)
    }
}
