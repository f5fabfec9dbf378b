//! A measured message: the stamp its body begins with, and the check of what arrived.
//!
//! The stamp says which run sent it, its number in the run and when it *should* have been sent.
//! Latency is taken from that intended time, so a publisher that falls behind does not hide its
//! own delay (no coordinated omission).
//!
//! Message `n` is sent by publisher `n % publishers`; order is promised per sender, so each
//! subscription keeps one [`Sequence`] per publisher.

use std::collections::BTreeSet;

/// The bytes of a stamp, and the smallest body that can be measured.
pub(super) const STAMP: usize = 8 + 1 + 10 + 1 + 19 + 1;

/// What the body of a measured message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Names the run, so that what an earlier one left behind is not counted.
    pub(super) run: u32,
    /// The message's number in its run, from zero.
    pub(super) number: u32,
    /// When it should have been sent: nanoseconds since the run's start.
    pub(super) intended: u64,
}

impl Stamp {
    /// A body of `size` bytes (at least [`STAMP`]): the stamp, then padding.
    pub(super) fn body(self, size: usize) -> String {
        let Self { run, number, intended } = self;
        let mut body = format!("{run:08x} {number:010} {intended:019} ");
        while body.len() < size {
            let padding = "footbridge bench ";
            body.push_str(&padding[..padding.len().min(size - body.len())]);
        }
        body
    }

    /// `None` if the body does not begin with a stamp.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let stamp = body.first_chunk::<STAMP>()?;
        if stamp[8] != b' ' || stamp[19] != b' ' || stamp[39] != b' ' {
            return None;
        }
        Some(Self {
            run: number(&stamp[..8], 16)?.try_into().ok()?,
            number: number(&stamp[9..19], 10)?.try_into().ok()?,
            intended: number(&stamp[20..39], 10)?,
        })
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        Some(value * u64::from(radix) + u64::from(char::from(*digit).to_digit(radix)?))
    })
}

/// What one subscription got from one publisher, whose messages count up from zero.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    next: u32,
    /// Numbers below `next` that have not come. Empty while all is well.
    missing: BTreeSet<u32>,
}

/// How a message stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first time, and not after a later one.
    InOrder,
    /// The first time, but a later one was here before.
    Late,
    /// Not the first time.
    Again,
}

impl Sequence {
    /// Notes that message `number` arrived.
    pub(super) fn arrived(&mut self, number: u32) -> Arrival {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
            Arrival::InOrder
        } else if self.missing.remove(&number) {
            Arrival::Late
        } else {
            Arrival::Again
        }
    }

    /// How many of the first `sent` messages never came.
    pub(super) fn lost(&self, sent: u32) -> u64 {
        self.missing.len() as u64 + u64::from(sent.saturating_sub(self.next))
    }
}

/// How many of `total` messages fall to one publisher of several.
pub(super) fn share(total: u32, publisher: u32, publishers: u32) -> u32 {
    (total + publishers - 1 - publisher) / publishers
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Again, InOrder, Late};

    fn arrivals(numbers: &[u32]) -> (Vec<Arrival>, u64) {
        let mut sequence = Sequence::default();
        let arrivals = numbers.iter().map(|number| sequence.arrived(*number)).collect();
        (arrivals, sequence.lost(5))
    }

    #[test]
    fn lost_late_and_repeated_messages_are_told_apart() {
        for (numbers, seen, lost) in [
            (&[0, 1, 2, 3, 4][..], &[InOrder; 5][..], 0),
            (&[0, 1, 3, 4], &[InOrder; 4], 1),
            (&[2], &[InOrder], 4),
            (&[], &[], 5),
            (&[0, 1, 2], &[InOrder; 3], 2),
            (&[0, 2, 1, 3, 4], &[InOrder, InOrder, Late, InOrder, InOrder], 0),
            (&[0, 0, 1, 2, 3, 4], &[InOrder, Again, InOrder, InOrder, InOrder, InOrder], 0),
            (&[0, 2, 1, 1, 2], &[InOrder, InOrder, Late, Again, Again], 2),
            (&[4, 3, 2, 1, 0], &[InOrder, Late, Late, Late, Late], 0),
        ] {
            assert_eq!(arrivals(numbers), (seen.to_vec(), lost), "{numbers:?}");
        }
    }

    #[test]
    fn a_stamp_survives_its_body() {
        let stamp = Stamp { run: 0xdead_beef, number: 4_000_000_000, intended: u64::MAX / 2 };
        for size in [STAMP, STAMP + 1, 200, 65_536] {
            let body = stamp.body(size);
            assert_eq!(body.len(), size);
            assert_eq!(Stamp::parse(body.as_bytes()), Some(stamp));
        }
    }

    #[test]
    fn a_body_of_someone_else_has_no_stamp() {
        let body = Stamp { run: 1, number: 2, intended: 3 }.body(STAMP);
        assert_eq!(Stamp::parse(&body.as_bytes()[..STAMP - 1]), None);
        assert_eq!(Stamp::parse(body.replace(' ', "0").as_bytes()), None);
        assert_eq!(Stamp::parse(body.replacen('2', "z", 1).as_bytes()), None);
        assert_eq!(Stamp::parse(b""), None);
    }

    #[test]
    fn the_shares_of_the_publishers_add_up() {
        for (total, publishers) in [(200, 1), (200, 3), (2, 5), (0, 2)] {
            let shares = (0..publishers).map(|publisher| share(total, publisher, publishers));
            assert_eq!(shares.clone().sum::<u32>(), total);
            let counted = |publisher| (0..total).filter(|n| n % publishers == publisher).count();
            assert!(shares.enumerate().all(|(p, share)| counted(p as u32) == share as usize));
        }
    }
}
