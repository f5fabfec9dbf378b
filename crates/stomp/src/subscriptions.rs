//! The subscriptions of one session, by what the client calls them: those that are live, and the last
//! that were, because an ACK or NACK may have been on its way when its subscription ended.

use bytestring::ByteString;

use crate::Fault;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// At most `max_subscriptions` live ones, and as many that ended, oldest first; few, so a list.
    known: Vec<Known>,
    next: u32,
}

#[derive(Debug)]
struct Known {
    name: Name,
    number: u32,
    live: bool,
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
        if self.known.iter().any(|known| known.live && known.name == name) {
            let (Name::Id(name) | Name::Destination(name)) = name;
            return Err(Fault::DuplicateSubscription(name));
        }
        if self.known.iter().filter(|known| known.live).count() >= limit {
            return Err(Fault::TooManySubscriptions { limit });
        }
        let number = self.next;
        self.next += 1;
        // From now on the name means this one.
        self.known.retain(|known| known.name != name);
        self.known.push(Known { name, number, live: true });
        Ok(number)
    }

    /// Ends one that is live, and says its number. At most `limit` that ended are remembered.
    pub(crate) fn remove(&mut self, name: &Name, limit: usize) -> Option<u32> {
        self.end(limit, |known| known.name == *name)
    }

    /// Ends the one of that number, if it is live.
    pub(crate) fn remove_number(&mut self, number: u32, limit: usize) {
        self.end(limit, |known| known.number == number);
    }

    fn end(&mut self, limit: usize, is_meant: impl Fn(&Known) -> bool) -> Option<u32> {
        let at = self.known.iter().position(|known| known.live && is_meant(known))?;
        let mut known = self.known.remove(at);
        known.live = false;
        let number = known.number;
        self.known.push(known);
        if self.known.iter().filter(|known| !known.live).count() > limit
            && let Some(oldest) = self.known.iter().position(|known| !known.live)
        {
            self.known.remove(oldest);
        }
        Some(number)
    }

    /// The number of the one of that name that is live, or else ended last.
    pub(crate) fn number(&self, name: &Name) -> Option<u32> {
        self.known.iter().find(|known| known.name == *name).map(|known| known.number)
    }
}
