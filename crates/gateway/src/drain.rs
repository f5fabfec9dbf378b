//! How a node takes leave of its clients: it gives notice, stops accepting, and closes its sessions in
//! batches.
//!
//! Invariants
//! - Until notice was given newcomers are let in, for whoever sent them here did not know better: turned
//!   away, they would have lost a try and waited for nothing. They are closed last, when whoever spreads
//!   clients has looked elsewhere by then.
//! - No more sessions are closed at a time than their number makes necessary, lest all their clients
//!   connect to the other nodes at once; and few sessions are closed at once, for they storm nobody.
//! - A session ends once all it has read is answered ([`session`](crate::session)), but no later than
//!   [`Schedule::finish_by`].
//!
//! Not here: what tells others that the node is not ready; what comes when the sessions are gone
//! ([`Gateway::run`](crate::Gateway::run)).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use presence::SessionId;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::mailbox::Mailbox;
use crate::node::Node;

/// How far apart batches are.
const PAUSE: Duration = Duration::from_millis(100);

/// A batch is not smaller: so many clients at a time are nothing to the other nodes.
const SMALL: usize = 20;

/// When what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Newcomers are let in until then.
    pub(crate) notice_until: Instant,
    /// The last batch is asked to close by then.
    pub(crate) ask_by: Instant,
    /// A session that waits for the broker, or the application, waits no longer.
    pub(crate) finish_by: Instant,
    /// Nobody is waited for any more.
    pub(crate) over: Instant,
}

impl Schedule {
    /// Of a drain that begins at `now`.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let (notice_until, over) = (now + config.drain_notice, now + config.drain);
        let quarter = over.saturating_duration_since(notice_until) / 4;
        Self {
            notice_until,
            ask_by: notice_until + 2 * quarter,
            finish_by: notice_until + 3 * quarter,
            over,
        }
    }
}

/// Drains the node while `accepting` goes on for as long as it shall. Returns once all sessions are gone,
/// or the time is over.
pub(crate) async fn drain(node: &Node, accepting: impl Future<Output = ()>) {
    let begun = Instant::now();
    let schedule = Schedule::new(&node.config, begun);
    // It drains once.
    let _ = node.drain.set(schedule);
    node.metrics.draining.set(1);
    node.nodes.drain();
    let residents: HashSet<_> = node.sessions.all().into_iter().map(|(id, _)| id).collect();
    tracing::info!(sessions = residents.len(), "draining");
    {
        let mut accepting = Box::pin(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = sleep_until(schedule.notice_until) => {}
        }
    }
    node.sessions.close_door();
    node.tasks.close();
    let gone = async {
        close_all(in_order(node.sessions.all(), &residents), schedule.ask_by).await;
        node.tasks.wait().await;
    };
    match tokio::time::timeout_at(schedule.over, gone).await {
        Ok(()) => tracing::info!(took = ?begun.elapsed(), "drained"),
        Err(_) => {
            tracing::warn!(sessions = node.tasks.len(), "stopping although sessions are left");
        }
    }
}

/// Those that were there before notice was given come first.
fn in_order(
    mut sessions: Vec<(SessionId, Arc<Mailbox>)>,
    residents: &HashSet<SessionId>,
) -> VecDeque<Arc<Mailbox>> {
    sessions.sort_by_key(|(id, _)| !residents.contains(id));
    sessions.into_iter().map(|(_, mailbox)| mailbox).collect()
}

/// Asks each to close, until `ask_by`.
async fn close_all(mut mailboxes: VecDeque<Arc<Mailbox>>, ask_by: Instant) {
    let mut next = Instant::now();
    let size = batch_size(mailboxes.len(), ask_by.saturating_duration_since(next));
    while !mailboxes.is_empty() {
        let mut asked = 0;
        while asked < size
            && let Some(mailbox) = mailboxes.pop_front()
        {
            // Who left meanwhile takes no place.
            asked += usize::from(mailbox.send_away());
        }
        next += PAUSE;
        if !mailboxes.is_empty() {
            sleep_until(next).await;
        }
    }
}

/// How many to close at a time, if all are to be asked within `time`.
fn batch_size(sessions: usize, time: Duration) -> usize {
    // The first batch is asked at once.
    let batches = 1 + time.as_millis() / PAUSE.as_millis();
    sessions.div_ceil(usize::try_from(batches).unwrap_or(usize::MAX)).max(SMALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn by_default_half_of_what_notice_leaves_is_for_closing_and_a_quarter_for_finishing() {
        let now = Instant::now();
        let schedule = Schedule::new(&Config::default(), now);
        assert_eq!(schedule.notice_until, now + 3 * SECOND);
        assert_eq!(schedule.ask_by, now + 14 * SECOND);
        assert_eq!(schedule.finish_by, now + Duration::from_millis(19_500));
        assert_eq!(schedule.over, now + 25 * SECOND);
    }

    #[test]
    fn a_drain_without_time_is_over_at_once() {
        let config =
            Config { drain: Duration::ZERO, drain_notice: Duration::ZERO, ..Config::default() };
        let now = Instant::now();
        let Schedule { notice_until, ask_by, finish_by, over } = Schedule::new(&config, now);
        assert_eq!([notice_until, ask_by, finish_by, over], [now; 4]);
    }

    /// How long closing so many takes, and how many are closed in a second.
    fn paced(sessions: usize, time: Duration) -> (Duration, usize) {
        let size = batch_size(sessions, time);
        let pauses = sessions.div_ceil(size).saturating_sub(1);
        (PAUSE * u32::try_from(pauses).unwrap(), size * 10)
    }

    #[test]
    fn few_are_closed_at_once_and_many_in_the_time_there_is() {
        let time = 11 * SECOND;
        assert_eq!(paced(5, time).0, Duration::ZERO);
        assert_eq!(paced(100, time), (SECOND * 4 / 10, 200));
        assert_eq!(paced(1_000, time), (SECOND * 49 / 10, 200));
        assert_eq!(paced(10_000, time), (SECOND * 109 / 10, 910));
        let (took, _) = paced(1_000_000, time);
        assert!(took <= time, "{took:?}");
        assert_eq!(paced(10_000, Duration::ZERO).0, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_came_late_are_closed_last_and_who_has_left_takes_no_place() {
        let session = |n: usize| {
            let id = SessionId::generate(presence::Boot::generate());
            (n, id, Arc::new(Mailbox::new(1000)))
        };
        let sessions: Vec<_> = (0..5 * SMALL).map(session).collect();
        // Every other was there before; of these half have left.
        let residents = sessions.iter().filter(|(n, ..)| n % 2 == 0);
        let residents: HashSet<_> = residents.map(|(_, id, _)| id.clone()).collect();
        for (_, _, mailbox) in sessions.iter().filter(|(n, ..)| n % 4 == 0) {
            mailbox.end();
        }
        let all = sessions.iter().map(|(_, id, mailbox)| (id.clone(), mailbox.clone())).collect();
        let begun = Instant::now();
        let closing = close_all(in_order(all, &residents), begun + SECOND);
        let mut closing = Box::pin(closing);
        assert!(futures_util::poll!(&mut closing).is_pending());
        let closed = |(_, _, mailbox): &(usize, SessionId, Arc<Mailbox>)| mailbox.is_closing();
        let first: Vec<_> = sessions.iter().filter(|session| closed(session)).collect();
        assert_eq!(first.len(), SMALL);
        assert!(first.iter().all(|(n, ..)| n % 4 == 2), "residents alone");
        closing.await;
        // 25 residents and 50 newcomers are four batches.
        assert_eq!(begun.elapsed(), 3 * PAUSE);
        assert_eq!(sessions.iter().filter(|session| closed(session)).count(), 75);
    }
}
