//! Why a store did not do as asked.

/// Why a store did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, and has done nothing. Trying later may work.
    #[error("the store of inboxes is unavailable: {0}")]
    Unavailable(String),
    /// It did not answer in time, or the answer was lost: it may have done some or all of it.
    #[error("the store of inboxes did not answer, and may have done it: {0}")]
    Unknown(String),
    /// It has no room, on disk or in memory, and has done nothing.
    #[error("the store of inboxes has no room: {0}")]
    NoSpace(String),
    /// It does not keep what it is given as long as it must, so nothing is appended. What is in it can be
    /// taken and settled.
    #[error("the store of inboxes would not keep what it is given: {0}")]
    NotDurable(String),
    /// What it has on disk is damaged. It is not opened, and never made anew.
    #[error("the store of inboxes is damaged: {0}")]
    Corrupt(String),
}
