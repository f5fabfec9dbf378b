//! Whether a load balancer should send clients here.
//!
//! Ready once there was contact with the broker; a later outage leaves the node ready but says so,
//! lest a blink of the broker empties the load balancer. Presence that is away is said alike. Not ready
//! again from the drain on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker::{BrokerState, Link};
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub(crate) struct Readiness {
    broker: watch::Receiver<BrokerState>,
    presence: watch::Receiver<presence::State>,
    /// Whether the broker was there once.
    contacted: AtomicBool,
    draining: AtomicBool,
}

/// How ready a node is, in the words that operators see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It is.
    Ready,
    /// It is, although the broker is away, or takes no publishes, or presence is away, for these reasons.
    Degraded(String),
    /// There was no contact with the broker yet, for this reason.
    NotYet(String),
    /// It is about to stop.
    Draining,
}

impl Readiness {
    /// Watches for the first contact from here on, whether or not anybody asks.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn follow(
        broker: watch::Receiver<BrokerState>,
        presence: watch::Receiver<presence::State>,
    ) -> Arc<Self> {
        let contacted = AtomicBool::new(has_contact(&broker.borrow().link));
        let waiting = !contacted.load(Ordering::Relaxed);
        let readiness =
            Arc::new(Self { broker, presence, contacted, draining: AtomicBool::new(false) });
        let (mut broker, followed) = (readiness.broker.clone(), Arc::clone(&readiness));
        tokio::spawn(async move {
            // An error says that the broker is gone, and the process about to be.
            if broker.wait_for(|state| has_contact(&state.link)).await.is_ok() {
                followed.contacted.store(true, Ordering::Relaxed);
                if waiting {
                    tracing::info!("ready: the broker is there");
                }
            }
        });
        readiness
    }

    /// Not ready from here on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> State {
        if self.draining.load(Ordering::Relaxed) {
            return State::Draining;
        }
        let link = self.broker.borrow().link.clone();
        let broker = match link {
            Link::Up => None,
            Link::Down(why) if !self.contacted.load(Ordering::Relaxed) => {
                return State::NotYet(why);
            }
            Link::Blocked(why) | Link::Down(why) => Some(format!("broker: {why}")),
        };
        let presence = match &self.presence.borrow().link {
            presence::Link::Up => None,
            presence::Link::Down(why) => Some(format!("presence: {why}")),
        };
        match (broker, presence) {
            (None, None) => State::Ready,
            (Some(why), None) | (None, Some(why)) => State::Degraded(why),
            (Some(broker), Some(presence)) => State::Degraded(format!("{broker}; {presence}")),
        }
    }

    /// What it watches, too.
    pub(super) fn presence(&self) -> watch::Receiver<presence::State> {
        self.presence.clone()
    }

    /// What it watches.
    pub(super) fn broker(&self) -> watch::Receiver<BrokerState> {
        self.broker.clone()
    }
}

impl State {
    /// Whether clients may be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded(_))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Degraded(why) => write!(f, "degraded: {why}"),
            Self::NotYet(why) => write!(f, "not ready: broker: {why}"),
            Self::Draining => f.write_str("draining"),
        }
    }
}

/// A broker that takes no publishes just now is there all the same.
fn has_contact(link: &Link) -> bool {
    !matches!(link, Link::Down(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(why: &str) -> BrokerState {
        BrokerState { link: Link::Down(why.to_owned()), gaps: 0, lapses: 0 }
    }

    /// Presence that is there.
    fn online() -> watch::Receiver<presence::State> {
        watch::channel(presence::State { link: presence::Link::Up, registered: None }).1
    }

    /// Lets the watcher run.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_contact_counts_although_nobody_asked_meanwhile() {
        let (broker, state) = watch::channel(down("refused"));
        let readiness = Readiness::follow(state, online());
        assert_eq!(readiness.now().to_string(), "not ready: broker: refused");
        assert!(!readiness.now().is_ready());
        broker.send_replace(BrokerState::up());
        settle().await;
        broker.send_replace(down("gone"));
        assert_eq!(readiness.now().to_string(), "degraded: broker: gone");
        assert!(readiness.now().is_ready());
        broker.send_replace(BrokerState::up());
        assert_eq!(readiness.now(), State::Ready);
    }

    #[tokio::test]
    async fn a_broker_that_takes_no_publishes_is_there() {
        let blocked = BrokerState { link: Link::Blocked("memory".to_owned()), gaps: 0, lapses: 0 };
        let (broker, state) = watch::channel(blocked);
        let readiness = Readiness::follow(state, online());
        assert_eq!(readiness.now().to_string(), "degraded: broker: memory");
        broker.send_replace(down("gone"));
        assert!(readiness.now().is_ready());
    }

    #[tokio::test]
    async fn presence_that_is_away_is_said_and_no_reason_not_to_be_ready() {
        let (broker, state) = watch::channel(BrokerState::up());
        let link = presence::Link::Down("timed out".to_owned());
        let (presence, presence_state) = watch::channel(presence::State { link, registered: None });
        let readiness = Readiness::follow(state, presence_state);
        assert_eq!(readiness.now().to_string(), "degraded: presence: timed out");
        assert!(readiness.now().is_ready());
        broker.send_replace(down("gone"));
        assert_eq!(readiness.now().to_string(), "degraded: broker: gone; presence: timed out");
        let up = presence::State { link: presence::Link::Up, registered: None };
        presence.send_replace(up);
        broker.send_replace(BrokerState::up());
        assert_eq!(readiness.now(), State::Ready);
    }

    #[tokio::test]
    async fn nothing_is_ready_that_is_about_to_stop() {
        let (_broker, state) = watch::channel(BrokerState::up());
        let readiness = Readiness::follow(state, online());
        readiness.drain();
        assert_eq!(readiness.now().to_string(), "draining");
        assert!(!readiness.now().is_ready());
    }
}
