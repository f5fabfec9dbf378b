//! What the console shows of a session of this node.
//!
//! It is kept only where there is a console, so that a session costs no more elsewhere.
//!
//! Not here: what presence keeps of a session.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use bytestring::ByteString;

use crate::transport::Framing;

/// See the module.
pub(crate) struct Seen {
    pub(crate) address: IpAddr,
    /// What the client says it is; may be empty.
    pub(crate) device: ByteString,
    pub(crate) since: SystemTime,
    pub(crate) framing: Framing,
    /// How many subscriptions it holds, as its own task last said.
    subscriptions: AtomicU32,
}

impl Seen {
    pub(super) fn new(address: IpAddr, device: ByteString, framing: Framing) -> Self {
        let since = SystemTime::now();
        Self { address, device, since, framing, subscriptions: AtomicU32::new(0) }
    }

    pub(crate) fn subscriptions(&self) -> u32 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// The session holds so many subscriptions now.
    pub(crate) fn subscribed(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.subscriptions.store(count, Ordering::Relaxed);
    }
}
