//! Whether the store can be reached, and whether this node stands in it completely.

use crate::Epoch;

/// A node's standing, as [`Presence::state`](crate::Presence::state) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The way to the store.
    pub link: Link,
    /// The epoch of the store in which every session of this node is registered. `None` while one may
    /// not be: a node announces that before it lets in a session that it could not register.
    pub registered: Option<Epoch>,
}

/// The way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Questions are answered.
    Up,
    /// They are not, for the reason given.
    Down(String),
}
