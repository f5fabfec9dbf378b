//! Who showed something wrong how often, lately: sans-IO, over a clock that the caller gives.
//!
//! Each failure of an address makes it wait longer for the answer, and the answers of an address with too
//! many are refusals, unseen. A failure is forgotten after a while; a success forgets none, for it may be of
//! somebody else behind the same address, or of whoever guesses and has an account as well.
//!
//! Invariants
//! - Addresses of IPv6 count by their /64, which is what one customer has; IPv4 written as IPv6 is IPv4.
//! - At most [`MAX_ADDRESSES`] are known. When there would be more, the one whose failures would be forgotten
//!   first is forgotten now.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The most addresses that are known at once; each takes some 100 bytes.
pub const MAX_ADDRESSES: usize = 10_000;

/// The failures of all addresses.
#[derive(Debug)]
pub struct Failures {
    limits: Limits,
    capacity: usize,
    /// When all failures of an address are forgotten: one after another, so that the time left says how
    /// many there are.
    forgotten: HashMap<IpAddr, Instant>,
    /// The same, the soonest first.
    by_time: BTreeSet<(Instant, IpAddr)>,
}

/// How failures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long the answer to the first failure waits; each further one waits twice as long.
    pub delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// With so many failures an address is refused; 0 is never.
    pub limit: u32,
    /// After how long one failure is forgotten.
    pub forget: Duration,
}

/// An address is refused for its failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed attempts from this address; try again in {} s", retry_after.as_secs().max(1))]
pub struct TooMany {
    /// When the next attempt is looked at again.
    pub retry_after: Duration,
}

impl Failures {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self::with_capacity(limits, MAX_ADDRESSES)
    }

    fn with_capacity(limits: Limits, capacity: usize) -> Self {
        Self { limits, capacity, forgotten: HashMap::new(), by_time: BTreeSet::new() }
    }

    /// Whether an attempt from `address` may be looked at. Ask before anything is checked.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        let Limits { limit, forget, .. } = self.limits;
        if limit == 0 || self.count(address, now) < limit {
            return Ok(());
        }
        let left = self.left(network(address), now);
        Err(TooMany { retry_after: left.saturating_sub(forget * (limit - 1)) })
    }

    /// Counts a failure, and says how long its answer shall wait.
    pub fn failed(&mut self, address: IpAddr, now: Instant) -> Duration {
        self.forget(now);
        let network = network(address);
        let before = self.forgotten.remove(&network);
        if let Some(at) = before {
            self.by_time.remove(&(at, network));
        }
        let start = before.map_or(now, |at| at.max(now));
        // Beyond the limit there is nothing to count, and the time to forget shall end.
        let longest = now + self.limits.forget * self.limits.limit.max(MAX_DOUBLINGS);
        let at = (start + self.limits.forget).min(longest);
        if self.forgotten.len() >= self.capacity
            && let Some((_, soonest)) = self.by_time.pop_first()
        {
            self.forgotten.remove(&soonest);
        }
        self.forgotten.insert(network, at);
        self.by_time.insert((at, network));
        let doublings = self.count(address, now).saturating_sub(1).min(MAX_DOUBLINGS);
        self.limits.delay.saturating_mul(1 << doublings).min(self.limits.max_delay)
    }

    /// How many failures of that address are not forgotten.
    pub fn count(&self, address: IpAddr, now: Instant) -> u32 {
        let left = self.left(network(address), now);
        let count = left.as_nanos().div_ceil(self.limits.forget.as_nanos().max(1));
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.forgotten.len()
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.forgotten.is_empty()
    }

    fn left(&self, network: IpAddr, now: Instant) -> Duration {
        self.forgotten.get(&network).map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(at, network)) = self.by_time.first().filter(|(at, _)| *at <= now) {
            self.by_time.remove(&(at, network));
            self.forgotten.remove(&network);
        }
    }
}

/// More would be longer than anybody waits.
const MAX_DOUBLINGS: u32 = 20;

/// What stands for an address in the table.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        delay: Duration::from_millis(100),
        max_delay: Duration::from_secs(1),
        limit: 6,
        forget: Duration::from_secs(10),
    };

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_answer_waits_longer_each_time_and_then_there_is_none() {
        let (mut failures, now, ann) = (Failures::new(LIMITS), Instant::now(), at("192.0.2.1"));
        let waits: Vec<_> = (0..6)
            .map(|_| {
                assert_eq!(failures.admit(ann, now), Ok(()));
                failures.failed(ann, now).as_millis()
            })
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        let refused = failures.admit(ann, now).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(10));
        assert_eq!(failures.admit(at("192.0.2.2"), now), Ok(()));
        let later = now + refused.retry_after;
        assert_eq!(failures.admit(ann, later), Ok(()));
        assert_eq!(failures.count(ann, later), 5);
    }

    #[test]
    fn failures_are_forgotten_one_by_one() {
        let (mut failures, now, ann) = (Failures::new(LIMITS), Instant::now(), at("192.0.2.1"));
        (0..3).for_each(|_| {
            failures.failed(ann, now);
        });
        assert_eq!(failures.count(ann, now + Duration::from_secs(15)), 2);
        assert_eq!(failures.count(ann, now + Duration::from_secs(30)), 0);
        let wait = failures.failed(ann, now + Duration::from_secs(31));
        assert_eq!(wait, LIMITS.delay);
    }

    #[test]
    fn a_flood_is_over_once_its_failures_could_be_forgotten() {
        let (mut failures, now, ann) = (Failures::new(LIMITS), Instant::now(), at("192.0.2.1"));
        (0..100_000).for_each(|_| {
            failures.failed(ann, now);
        });
        let most = LIMITS.forget * LIMITS.limit.max(MAX_DOUBLINGS);
        assert_eq!(failures.count(ann, now + most), 0);
    }

    #[test]
    fn an_address_of_ipv6_counts_with_its_neighbours() {
        let (mut failures, now) = (Failures::new(LIMITS), Instant::now());
        failures.failed(at("2001:db8:1:2:3::4"), now);
        assert_eq!(failures.count(at("2001:db8:1:2::1"), now), 1);
        assert_eq!(failures.count(at("2001:db8:1:3::1"), now), 0);
        failures.failed(at("::ffff:192.0.2.1"), now);
        assert_eq!(failures.count(at("192.0.2.1"), now), 1);
    }

    #[test]
    fn a_limit_of_none_refuses_nobody() {
        let limits = Limits { limit: 0, ..LIMITS };
        let (mut failures, now, ann) = (Failures::new(limits), Instant::now(), at("192.0.2.1"));
        (0..1000).for_each(|_| {
            failures.failed(ann, now);
        });
        assert_eq!(failures.admit(ann, now), Ok(()));
    }

    #[test]
    fn a_full_table_forgets_whoever_failed_least() {
        let mut failures = Failures::with_capacity(LIMITS, 3);
        let (now, bad) = (Instant::now(), at("192.0.2.1"));
        (0..5).for_each(|_| {
            failures.failed(bad, now);
        });
        for last in 2..=250 {
            failures.failed(at(&format!("192.0.2.{last}")), now);
        }
        assert_eq!(failures.len(), 3);
        assert_eq!(failures.count(bad, now), 5);
    }

    proptest! {
        #[test]
        fn the_two_tables_agree_and_stay_bounded(
            steps in proptest::collection::vec((0_u8..12, 0_u64..20), 1..200),
        ) {
            let mut failures = Failures::with_capacity(LIMITS, 8);
            let mut now = Instant::now();
            for (last, seconds) in steps {
                now += Duration::from_secs(seconds);
                failures.failed(IpAddr::from([192, 0, 2, last]), now);
                prop_assert!(failures.len() <= 8);
                prop_assert_eq!(failures.len(), failures.by_time.len());
                let agree = |(at, network): &(Instant, IpAddr)| failures.forgotten[network] == *at;
                prop_assert!(failures.by_time.iter().all(agree));
            }
        }
    }
}
