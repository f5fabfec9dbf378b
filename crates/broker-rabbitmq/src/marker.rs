//! Notices that the topic queue has lost what was not persistent, as a restart of RabbitMQ makes it.
//!
//! The node keeps one message of its own in the queue, not persistent, delivered and not acked. When
//! a connection breaks, RabbitMQ puts it back where it was, and it comes again before anything newer.
//! When RabbitMQ restarts it is gone, and so may others be. So: after each new connection another
//! marker is published; if it comes and the one before did not, there is a gap.
//!
//! Invariants
//! - At most one marker is held for longer than it takes to ack it: the newest that came.
//! - A connection that breaks is no gap as long as the queue itself lives on.
//!
//! Not here: publishing markers, and refreshing them before RabbitMQ closes the channel over a
//! delivery that is never acked.

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::DeliveryTag;
use ulid::Ulid;

/// Tells a marker from what others put into the queue.
const TYPE: &str = "footbridge.marker";

/// What is known of the markers of one node.
#[derive(Debug)]
pub(crate) struct Marker {
    /// Known to nobody else, so that nobody else can write one.
    secret: Ulid,
    /// Delivered on the connection of the moment, and not acked.
    held: Option<(u64, DeliveryTag)>,
    /// Must come again before a newer one does.
    expected: Option<u64>,
}

/// What to do about a marker that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) number: u64,
    /// What is not needed any more.
    pub(crate) ack: Option<DeliveryTag>,
    /// Whether messages may have been lost since the last connection.
    pub(crate) gap: bool,
}

impl Marker {
    pub(crate) fn new() -> Self {
        Self { secret: Ulid::generate(), held: None, expected: None }
    }

    /// The properties of marker `number`; later ones have higher numbers.
    pub(crate) fn write(&self, number: u64) -> BasicProperties {
        BasicProperties::default()
            .with_type(TYPE.into())
            .with_message_id(format!("{}.{number}", self.secret).into())
    }

    /// The number of the marker that `delivery` is.
    pub(crate) fn read(&self, delivery: &Delivery) -> Option<u64> {
        let properties = &delivery.properties;
        if properties.kind().as_ref()?.as_str() != TYPE {
            return None;
        }
        let (secret, number) = properties.message_id().as_ref()?.as_str().split_once('.')?;
        (secret.parse() == Ok(self.secret)).then(|| number.parse().ok())?
    }

    /// There is another connection: what was held is put back, and comes again.
    pub(crate) fn reconnected(&mut self) {
        let held = self.held.take().map(|(number, _)| number);
        self.expected = held.max(self.expected);
    }

    /// There is another queue, in which nothing is expected.
    pub(crate) fn anew(&mut self) {
        (self.held, self.expected) = (None, None);
    }

    /// Marker `number` came.
    pub(crate) fn came(&mut self, number: u64, tag: DeliveryTag) -> Came {
        let gap = self.expected.is_some_and(|expected| expected < number);
        self.expected = self.expected.filter(|expected| *expected > number);
        let ack = match self.held {
            Some((held, _)) if held > number => Some(tag),
            _ => self.held.replace((number, tag)).map(|(_, tag)| tag),
        };
        Came { number, ack, gap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(number: u64, ack: Option<DeliveryTag>, gap: bool) -> Came {
        Came { number, ack, gap }
    }

    #[test]
    fn the_newest_is_held_and_the_one_before_acked() {
        let mut marker = Marker::new();
        assert_eq!(marker.came(1, 7), came(1, None, false));
        assert_eq!(marker.came(2, 9), came(2, Some(7), false));
    }

    #[test]
    fn one_that_comes_again_says_that_nothing_was_lost() {
        let mut marker = Marker::new();
        marker.came(1, 7);
        for tag in [1, 5, 9] {
            marker.reconnected();
            assert_eq!(marker.came(1, tag), came(1, None, false));
        }
        assert_eq!(marker.came(2, 10), came(2, Some(9), false));
    }

    #[test]
    fn one_that_does_not_come_again_is_a_gap_once() {
        let mut marker = Marker::new();
        marker.came(1, 7);
        marker.reconnected();
        assert_eq!(marker.came(2, 1), came(2, None, true));
        assert_eq!(marker.came(3, 2), came(3, Some(1), false));
    }

    #[test]
    fn one_is_expected_until_it_or_a_newer_one_comes() {
        let mut marker = Marker::new();
        marker.came(1, 7);
        marker.reconnected();
        marker.reconnected();
        assert!(marker.came(2, 1).gap);
    }

    /// The ack of the older one was lost with its connection.
    #[test]
    fn an_older_one_that_comes_again_changes_nothing() {
        let mut marker = Marker::new();
        marker.came(1, 7);
        marker.came(2, 8);
        marker.reconnected();
        assert_eq!(marker.came(1, 1), came(1, None, false));
        marker.reconnected();
        assert_eq!(marker.came(1, 1), came(1, None, false));
        assert_eq!(marker.came(2, 2), came(2, Some(1), false));
        assert_eq!(marker.came(1, 3), came(1, Some(3), false));
    }

    #[test]
    fn in_a_new_queue_none_is_expected() {
        let mut marker = Marker::new();
        marker.came(1, 7);
        marker.reconnected();
        marker.anew();
        assert!(!marker.came(2, 1).gap);
    }
}
