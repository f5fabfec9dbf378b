//! What all subscribers of one fan-out run have got so far.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::message::{Arrival, Sequence, Stamp, share};

/// Latencies from 1 us to 60 s, to three digits.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are constant")
}

/// Counts deliveries, checks their order, and notices when a message is done.
///
/// A message is *done* when every subscriber has it. The first `warm_up` messages are checked and
/// counted like the others; [`Tally::measure`] forgets their latencies.
#[derive(Debug)]
pub(super) struct Tally {
    run: u32,
    /// What intended times count from.
    pub(super) start: Instant,
    publishers: u32,
    subscribers: usize,
    /// By subscriber, then publisher.
    sequences: Vec<Sequence>,
    /// By message: how many subscribers do not have it yet.
    waiting: Vec<u32>,
    /// First deliveries since [`Tally::measure`].
    pub(super) deliveries: u64,
    /// Their latencies in nanoseconds, from the intended time of sending.
    pub(super) latency: Histogram<u64>,
    /// When the last of them came.
    pub(super) last: Instant,
    /// Messages sent so far.
    pub(super) sent: u32,
    /// How long after their intended times, in nanoseconds: the generator's own delay.
    pub(super) sent_late: Histogram<u64>,
    /// Messages that every subscriber has.
    pub(super) done: u32,
    duplicated: u64,
    out_of_order: u64,
}

/// What went wrong with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Faults {
    /// Sent, and never received by a subscription.
    pub(super) lost: u64,
    /// Received once more by the same subscription.
    pub(super) duplicated: u64,
    /// Received after a later message of the same publisher.
    pub(super) out_of_order: u64,
}

impl Faults {
    /// What to tell the user; `None` if nothing went wrong.
    pub(super) fn complaint(self) -> Option<String> {
        let Self { lost, duplicated, out_of_order } = self;
        (lost + duplicated + out_of_order > 0).then(|| {
            format!("{lost} deliveries lost, {duplicated} duplicated, {out_of_order} out of order")
        })
    }
}

impl Tally {
    /// For a run of `messages`, whose intended times count from `start`.
    pub(super) fn new(
        run: u32,
        start: Instant,
        subscribers: usize,
        publishers: u32,
        messages: u32,
    ) -> Self {
        let sequences = subscribers * publishers as usize;
        Self {
            run,
            start,
            publishers,
            subscribers,
            sequences: std::iter::repeat_with(Sequence::default).take(sequences).collect(),
            waiting: vec![subscribers as u32; messages as usize],
            deliveries: 0,
            latency: latencies(),
            last: start,
            sent: 0,
            sent_late: latencies(),
            done: 0,
            duplicated: 0,
            out_of_order: 0,
        }
    }

    /// The measurement begins: what came so far was to warm up.
    pub(super) fn measure(&mut self) {
        self.deliveries = 0;
        self.latency.reset();
        self.sent_late.reset();
    }

    /// A message is being sent, so long after its intended time.
    pub(super) fn sending(&mut self, late: Duration) {
        self.sent += 1;
        self.sent_late.saturating_record(late.as_nanos() as u64);
    }

    /// Subscriber `subscriber` received `body` at `now`. True if that was the last subscriber
    /// its message waited for.
    pub(super) fn received(&mut self, subscriber: usize, body: &[u8], now: Instant) -> bool {
        // Anything else on the destination is not ours to count.
        let Some(stamp) = Stamp::parse(body).filter(|stamp| stamp.run == self.run) else {
            return false;
        };
        let Some(waiting) = self.waiting.get_mut(stamp.number as usize) else { return false };
        let publisher = stamp.number % self.publishers;
        let sequence = subscriber * self.publishers as usize + publisher as usize;
        match self.sequences[sequence].arrived(stamp.number / self.publishers) {
            Arrival::InOrder => {}
            Arrival::Late => self.out_of_order += 1,
            Arrival::Again => {
                self.duplicated += 1;
                return false;
            }
        }
        let intended = self.start + Duration::from_nanos(stamp.intended);
        let latency = now.saturating_duration_since(intended);
        self.latency.saturating_record(latency.as_nanos() as u64);
        self.deliveries += 1;
        self.last = now;
        *waiting -= 1;
        let done = *waiting == 0;
        self.done += u32::from(done);
        done
    }

    /// What went wrong, if all that was sent should be here by now.
    pub(super) fn faults(&self) -> Faults {
        let (sent, publishers) = (self.sent, self.publishers);
        let lost = (0..self.subscribers)
            .flat_map(|_| 0..publishers)
            .zip(&self.sequences)
            .map(|(publisher, sequence)| sequence.lost(share(sent, publisher, publishers)))
            .sum();
        Faults { lost, duplicated: self.duplicated, out_of_order: self.out_of_order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_done_when_every_subscriber_has_it() {
        let start = Instant::now();
        let mut tally = Tally::new(7, start, 2, 2, 3);
        tally.sent = 3;
        let body = |number| Stamp { run: 7, number, intended: 1_000_000 }.body(60);
        let now = start + Duration::from_millis(3);
        assert!(!tally.received(0, body(0).as_bytes(), now));
        assert!(!tally.received(0, body(0).as_bytes(), now), "a repeat stands for no one else");
        assert!(tally.received(1, body(0).as_bytes(), now));
        assert!(!tally.received(0, body(2).as_bytes(), now));
        assert!(!tally.received(0, body(1).as_bytes(), now), "another publisher's: not late");
        assert!(tally.received(1, body(1).as_bytes(), now));
        assert_eq!((tally.done, tally.deliveries), (2, 5));
        assert_eq!(tally.latency.max() / 10_000, 200, "from the intended time: 2 ms");
        assert_eq!(tally.faults(), Faults { lost: 1, duplicated: 1, out_of_order: 0 });
        assert_eq!(
            tally.faults().complaint().as_deref(),
            Some("1 deliveries lost, 1 duplicated, 0 out of order")
        );
        assert_eq!(Tally::new(7, start, 2, 2, 3).faults().complaint(), None);
    }

    #[test]
    fn the_warm_up_is_checked_but_not_measured() {
        let start = Instant::now();
        let mut tally = Tally::new(7, start, 1, 1, 3);
        tally.sent = 3;
        let body = |number| Stamp { run: 7, number, intended: 0 }.body(60);
        tally.received(0, body(1).as_bytes(), start);
        tally.measure();
        tally.received(0, body(0).as_bytes(), start);
        tally.received(0, body(2).as_bytes(), start);
        assert_eq!((tally.deliveries, tally.latency.len(), tally.done), (2, 2, 3));
        assert_eq!(tally.faults(), Faults { lost: 0, duplicated: 0, out_of_order: 1 });
    }

    #[test]
    fn what_this_run_did_not_send_is_not_counted() {
        let start = Instant::now();
        let mut tally = Tally::new(7, start, 1, 1, 1);
        tally.sent = 1;
        for stamp in
            [Stamp { run: 8, number: 0, intended: 0 }, Stamp { run: 7, number: 1, intended: 0 }]
        {
            tally.received(0, stamp.body(60).as_bytes(), start);
        }
        tally.received(0, b"hello", start);
        assert_eq!((tally.deliveries, tally.done), (0, 0));
        assert_eq!(tally.faults().lost, 1);
    }
}
