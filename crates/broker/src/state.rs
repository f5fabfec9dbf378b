//! Whether the broker can be reached, and whether messages may have been missed.

/// A broker's state, as [`Broker::state`](crate::Broker::state) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerState {
    /// The way to the broker.
    pub link: Link,
    /// How often, since start, topic messages may have been missed. Each increase is one gap.
    pub gaps: u64,
    /// How often, since start, what nodes have among themselves ([`internal`](crate::internal)) may have
    /// been missed, even what was persistent.
    pub lapses: u64,
}

/// The way to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Publishes and deliveries flow.
    Up,
    /// Deliveries flow; the broker takes no publishes, for the reason given.
    Blocked(String),
    /// Nothing flows, for the reason given.
    Down(String),
}

impl BrokerState {
    /// Up, with no gap so far.
    pub fn up() -> Self {
        Self { link: Link::Up, gaps: 0, lapses: 0 }
    }
}
