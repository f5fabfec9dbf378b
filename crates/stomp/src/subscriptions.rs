//! The live subscriptions of one session, by what the client calls them.

use bytestring::ByteString;

use crate::Fault;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// At most `max_subscriptions`; few, so a list.
    live: Vec<(Name, u32)>,
    next: u32,
}

/// What a client calls a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Its `id`.
    Id(ByteString),
    /// Its destination: STOMP 1.0 without an `id`.
    Destination(ByteString),
}

impl Subscriptions {
    /// Adds one, and numbers it: no number is given twice.
    pub(crate) fn add(&mut self, name: Name, limit: usize) -> Result<u32, Fault> {
        if self.number(&name).is_some() {
            let (Name::Id(name) | Name::Destination(name)) = name;
            return Err(Fault::DuplicateSubscription(name));
        }
        if self.live.len() >= limit {
            return Err(Fault::TooManySubscriptions { limit });
        }
        let number = self.next;
        self.next += 1;
        self.live.push((name, number));
        Ok(number)
    }

    /// Removes one that is live, and says its number.
    pub(crate) fn remove(&mut self, name: &Name) -> Option<u32> {
        let at = self.live.iter().position(|(live, _)| live == name)?;
        Some(self.live.swap_remove(at).1)
    }

    /// The number of one that is live.
    pub(crate) fn number(&self, name: &Name) -> Option<u32> {
        self.live.iter().find(|(live, _)| live == name).map(|(_, number)| *number)
    }
}
