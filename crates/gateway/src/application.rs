//! The application behind `/app`: where a client's SEND becomes a call of somebody's code.

use std::sync::Arc;

use access::Principal;
use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;

/// One SEND to an application destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Who sent it.
    pub principal: Arc<Principal>,
    /// The destination behind the application's prefix: `message` for `/app/message`.
    pub path: ByteString,
    /// The sender's own headers.
    pub headers: Vec<(ByteString, ByteString)>,
    /// The body.
    pub body: Bytes,
}

/// Something the application wants published in answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where to, spelled as a client would.
    pub destination: ByteString,
    /// Its headers.
    pub headers: Vec<(ByteString, ByteString)>,
    /// Its body.
    pub body: Bytes,
}

/// Why a call was not answered. The text reaches the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing handles this destination.
    #[error("no application handles \"{path}\": {hint}")]
    NoHandler {
        /// The destination behind the prefix.
        path: ByteString,
        /// What there is instead.
        hint: &'static str,
    },
}

/// Handles what clients send to application destinations.
#[async_trait]
pub trait Application: Send + Sync + 'static {
    /// Handles one call; what it returns is published in order.
    async fn call(&self, call: Call) -> Result<Vec<Answer>, CallError>;
}

/// No application: every call is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoApplication;

#[async_trait]
impl Application for NoApplication {
    async fn call(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        Err(CallError::NoHandler { path: call.path, hint: "none is configured" })
    }
}
