//! The broker's state, put together from the parts that know a piece of it.
//!
//! Invariant: what subscribers of the state see changes only when it differs.

use std::time::Duration;

use broker::{BrokerState, Link};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::names::Collected;

/// How often [`Status::away`] looks.
const LOOK: Duration = Duration::from_millis(50);

/// The state, and who says what.
#[derive(Debug)]
pub(crate) struct Status {
    /// Held for a few instructions, and while the watch is told.
    parts: Mutex<Parts>,
    state: watch::Sender<BrokerState>,
}

/// A part that must work for the whole to be up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The connection that messages are published on.
    Publish,
    /// The connection that deliveries come by.
    Consume,
    /// The connection for what may be refused. The whole does not hang on it.
    Apart,
    /// The node's topic queue.
    TopicQueue,
    /// The node's queue for letters, once there is a use for it.
    LetterQueue,
}

#[derive(Debug)]
struct Parts {
    publish: Link,
    consume: Link,
    apart: Link,
    topic_queue: Link,
    letter_queue: Link,
    gaps: u64,
    lapses: u64,
}

impl Status {
    /// Down, until every part has said otherwise.
    pub(crate) fn new() -> Self {
        let down = || Link::Down("not connected to RabbitMQ yet".to_owned());
        let parts = Parts {
            publish: down(),
            consume: down(),
            apart: down(),
            topic_queue: down(),
            // Most processes never need one, and who does waits for it.
            letter_queue: Link::Up,
            gaps: 0,
            lapses: 0,
        };
        let state = watch::Sender::new(parts.state());
        Self { parts: Mutex::new(parts), state }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    /// Says how `part` is.
    pub(crate) fn set(&self, part: Part, link: Link) {
        self.change(|parts| *parts.of(part) = link);
    }

    /// Says that topic messages may have been missed.
    pub(crate) fn gap(&self) {
        self.change(|parts| parts.gaps += 1);
    }

    /// Says that a queue of the node's is lost, with what it held.
    pub(crate) fn lost(&self, collected: Collected) {
        self.change(|parts| {
            parts.gaps += 1;
            parts.lapses += u64::from(collected == Collected::Letters);
        });
    }

    /// Whether RabbitMQ has said that it takes no publishes.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.parts.lock().publish, Link::Blocked(_))
    }

    /// Returns once `part` has been down for so long without a break. Looks now and then, for what
    /// subscribers hear of is the whole.
    pub(crate) async fn away(&self, part: Part, so_long: Duration) {
        let mut since = None;
        loop {
            if matches!(self.parts.lock().of(part), Link::Down(_)) {
                let since: &mut Instant = since.get_or_insert_with(Instant::now);
                if since.elapsed() >= so_long {
                    return;
                }
            } else {
                since = None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why nothing can be had now; how it is otherwise.
    pub(crate) fn reason(&self) -> String {
        match &self.state.borrow().link {
            Link::Up => "RabbitMQ did not answer in time".to_owned(),
            Link::Blocked(reason) => format!("RabbitMQ takes no publishes: {reason}"),
            Link::Down(reason) => reason.clone(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock();
        change(&mut parts);
        let now = parts.state();
        self.state.send_if_modified(|state| {
            let differs = *state != now;
            *state = now;
            differs
        });
    }
}

impl Parts {
    fn of(&mut self, part: Part) -> &mut Link {
        match part {
            Part::Publish => &mut self.publish,
            Part::Consume => &mut self.consume,
            Part::Apart => &mut self.apart,
            Part::TopicQueue => &mut self.topic_queue,
            Part::LetterQueue => &mut self.letter_queue,
        }
    }

    fn state(&self) -> BrokerState {
        let all = [&self.publish, &self.consume, &self.topic_queue, &self.letter_queue];
        let worst = all
            .iter()
            .find(|link| matches!(link, Link::Down(_)))
            .or_else(|| all.iter().find(|link| matches!(link, Link::Blocked(_))));
        let link = worst.map_or(Link::Up, |link| (**link).clone());
        BrokerState { link, gaps: self.gaps, lapses: self.lapses }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_as_well_as_its_worst_part() {
        let status = Status::new();
        let state = status.subscribe();
        let link = || state.borrow().link.clone();
        status.set(Part::Publish, Link::Up);
        status.set(Part::Consume, Link::Up);
        assert!(matches!(link(), Link::Down(_)));
        status.set(Part::TopicQueue, Link::Up);
        assert_eq!(link(), Link::Up);
        status.set(Part::Publish, Link::Blocked("memory".to_owned()));
        assert_eq!(link(), Link::Blocked("memory".to_owned()));
        status.set(Part::Consume, Link::Down("gone".to_owned()));
        assert_eq!(link(), Link::Down("gone".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_away_once_it_was_down_without_a_break() {
        let status = Status::new();
        let since = Instant::now();
        let away = status.away(Part::Publish, 4 * LOOK);
        let back = async {
            for link in [Link::Up, Link::Down("gone".to_owned())].iter().cycle().take(6) {
                tokio::time::sleep(2 * LOOK).await;
                status.set(Part::Publish, link.clone());
            }
            Instant::now()
        };
        let ((), gone) = tokio::join!(away, back);
        assert!(since.elapsed() >= gone - since + 4 * LOOK, "{:?}", since.elapsed());
    }

    #[test]
    fn a_queue_that_is_lost_is_a_gap_and_one_of_letters_a_lapse_too() {
        let status = Status::new();
        let told = || (status.subscribe().borrow().gaps, status.subscribe().borrow().lapses);
        status.lost(Collected::Topics);
        assert_eq!(told(), (1, 0));
        status.lost(Collected::Letters);
        assert_eq!(told(), (2, 1));
    }

    #[test]
    fn a_gap_is_told_once_and_the_same_again_not_at_all() {
        let status = Status::new();
        let mut state = status.subscribe();
        status.set(Part::Publish, Link::Down("not connected to RabbitMQ yet".to_owned()));
        assert!(!state.has_changed().unwrap());
        status.gap();
        assert_eq!(state.borrow_and_update().gaps, 1);
        assert!(!state.has_changed().unwrap());
    }
}
