//! What a session sends, one message after the other, alone and in transactions.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::super::Destination;

/// How many SENDs a transaction has.
pub(crate) const TRANSACTION: RangeInclusive<u32> = 2..=10;
/// A transaction begins with one message in so many that are sent while none is open.
const BEGINS: u32 = 10;
/// While one is open, one message in so many is sent outside of it.
const OUTSIDE: u32 = 5;
/// One transaction in so many is aborted.
const ABORTED: u32 = 4;

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Where to.
    pub destination: Destination,
    /// The length of its body in bytes.
    pub size: usize,
    /// The pause before it.
    pub pause: Duration,
    /// Its part in a transaction, if it is in one.
    pub part: Option<Part>,
}

/// A message's part in a transaction. The transaction begins with it if none is open: where the
/// session was closed meanwhile, the rest is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What becomes of the transaction in the end.
    pub fate: Fate,
    /// Whether it is the last one.
    pub ends: bool,
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// COMMIT.
    Commit,
    /// ABORT.
    Abort,
}

/// Draws what a session sends.
pub(super) struct Script {
    pub(super) random: StdRng,
    pub(super) destinations: Vec<Destination>,
    pub(super) sizes: RangeInclusive<usize>,
    pub(super) pace: RangeInclusive<Duration>,
    /// The transaction that is open, and how many messages of it are left.
    pub(super) open: Option<(Fate, u32)>,
}

impl Script {
    fn part(&mut self) -> Option<Part> {
        let random = &mut self.random;
        let (fate, left) = match self.open {
            Some(_) if random.random_ratio(1, OUTSIDE) => return None,
            Some(open) => open,
            None if random.random_ratio(1, BEGINS) => {
                let fate = match random.random_ratio(1, ABORTED) {
                    true => Fate::Abort,
                    false => Fate::Commit,
                };
                (fate, random.random_range(TRANSACTION))
            }
            None => return None,
        };
        let ends = left == 1;
        self.open = (!ends).then_some((fate, left - 1));
        Some(Part { fate, ends })
    }
}

impl Iterator for Script {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let destination = *self.destinations.choose(&mut self.random)?;
        // Most are short, as messages are.
        let size = match self.random.random_ratio(1, 8) {
            true => self.random.random_range(self.sizes.clone()),
            false => *self.sizes.start(),
        };
        let pause = self.random.random_range(self.pace.clone());
        Some(Planned { destination, size, pause, part: self.part() })
    }
}
