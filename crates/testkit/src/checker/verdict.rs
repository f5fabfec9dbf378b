//! What the judge says, for people and for assertions.

use std::fmt;
use std::time::Duration;

use super::{Destination, Fault, MessageId, SessionId, SubscriptionId};

/// How many violations of one sort are shown.
const SHOWN: usize = 20;

/// What was wrong with a history, and what it amounts to. `Display` shows both, for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Everything that was wrong.
    pub violations: Vec<Violation>,
    /// What there was.
    pub counts: Counts,
}

/// What a history amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that were opened.
    pub sessions: usize,
    /// Sessions that ended otherwise than by DISCONNECT.
    pub closed: usize,
    /// Messages sent.
    pub sent: usize,
    /// Messages receipted.
    pub receipted: usize,
    /// Deliveries, repeats included, strays not.
    pub received: usize,
    /// Deliveries of a topic's message to a subscription that had it already, marked or not.
    pub topic_repeats: usize,
    /// Deliveries of a queue's message to a subscription that had it already, marked or not.
    pub queue_repeats: usize,
    /// Deliveries of what an earlier run has left in a queue.
    pub strays: usize,
    /// The faults in order.
    pub faults: Vec<FaultSpan>,
}

/// What went on while a fault was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSpan {
    /// The fault.
    pub fault: Fault,
    /// When it began.
    pub begun: Duration,
    /// When it had ended; `None` if it has not.
    pub ended: Option<Duration>,
    /// Messages sent meanwhile.
    pub sent: usize,
    /// Messages receipted meanwhile.
    pub receipted: usize,
}

/// One thing that was wrong. Times count from the start of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A receipted message did not arrive.
    Lost {
        /// The message.
        message: MessageId,
        /// Which subscription misses it; for a queue none: no consumer got it.
        subscription: Option<SubscriptionId>,
        /// When it was sent.
        sent_at: Duration,
        /// When its receipt came.
        receipted_at: Duration,
    },
    /// A SEND got no receipt.
    Unanswered {
        /// The message.
        message: MessageId,
        /// When it was sent.
        sent_at: Duration,
    },
    /// A message came after a later one of the same sender.
    OutOfOrder {
        /// The message.
        message: MessageId,
        /// The later one that was there before it.
        after: MessageId,
        /// Where.
        subscription: SubscriptionId,
        /// When.
        at: Duration,
    },
    /// A message came again without `redelivered:true`.
    UnmarkedRepeat {
        /// The message.
        message: MessageId,
        /// Where it came again, or for a queue, perhaps, for the first time.
        subscription: SubscriptionId,
        /// When.
        at: Duration,
    },
    /// A message came that nobody had sent.
    NeverSent {
        /// What it says it is.
        message: MessageId,
        /// Where.
        subscription: SubscriptionId,
        /// When.
        at: Duration,
    },
    /// A message came to a subscription that was not made yet, or was gone.
    NotSubscribed {
        /// The message.
        message: MessageId,
        /// The subscription that it names.
        subscription: SubscriptionId,
        /// When.
        at: Duration,
    },
    /// A message came to a subscription to another destination.
    Misdirected {
        /// The message.
        message: MessageId,
        /// The subscription's destination.
        destination: Destination,
        /// When.
        at: Duration,
    },
    /// A frame that nothing accounts for.
    Unexpected {
        /// The session that got it.
        session: SessionId,
        /// What it was.
        what: String,
        /// When.
        at: Duration,
    },
    /// A session was closed.
    Closed {
        /// The session.
        session: SessionId,
        /// What the server or the socket said.
        why: String,
        /// When.
        at: Duration,
    },
}

impl Verdict {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many violations time may heal: messages or receipts that may still come.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.violations.iter().filter(|violation| violation.is_outstanding()).count()
    }
}

impl Violation {
    fn is_outstanding(&self) -> bool {
        matches!(self, Violation::Lost { .. } | Violation::Unanswered { .. })
    }

    /// What it is called in a heading.
    fn sort(&self) -> &'static str {
        match self {
            Violation::Lost { .. } => "receipted and lost",
            Violation::Unanswered { .. } => "without a receipt",
            Violation::OutOfOrder { .. } => "out of order",
            Violation::UnmarkedRepeat { .. } => "repeated without redelivered:true",
            Violation::NeverSent { .. } => "never sent",
            Violation::NotSubscribed { .. } => "to no subscription",
            Violation::Misdirected { .. } => "to the wrong subscription",
            Violation::Unexpected { .. } => "unexpected",
            Violation::Closed { .. } => "sessions closed",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost { message, subscription, sent_at, receipted_at } => {
                write!(f, "{message}, sent at {sent_at:.1?}, receipted at {receipted_at:.1?}, ")?;
                match subscription {
                    Some(subscription) => write!(f, "did not come to {subscription}"),
                    None => write!(f, "came to no consumer"),
                }
            }
            Violation::Unanswered { message, sent_at } => {
                write!(f, "{message}, sent at {sent_at:.1?}")
            }
            Violation::OutOfOrder { message, after, subscription, at } => {
                write!(f, "{message} came after message {}, to {subscription}", after.number)?;
                write!(f, " at {at:.1?}")
            }
            Violation::UnmarkedRepeat { message, subscription, at } => {
                write!(f, "{message}, to {subscription} at {at:.1?}")
            }
            Violation::NeverSent { message, subscription, at } => {
                write!(f, "{message}, to {subscription} at {at:.1?}")
            }
            Violation::NotSubscribed { message, subscription, at } => {
                write!(f, "{message}, to {subscription} at {at:.1?}")
            }
            Violation::Misdirected { message, destination, at } => {
                write!(f, "{message} came to a subscription of {destination} at {at:.1?}")
            }
            Violation::Unexpected { session, what, at } => {
                write!(f, "{session} at {at:.1?}: {what}")
            }
            Violation::Closed { session, why, at } => write!(f, "{session} at {at:.1?}: {why}"),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { sessions, closed, sent, receipted, received, .. } = self;
        write!(f, "{sessions} sessions, {closed} closed; {sent} messages sent, ")?;
        write!(f, "{receipted} receipted; {received} deliveries, of which repeats: ")?;
        write!(f, "{} of topics, {} of queues", self.topic_repeats, self.queue_repeats)?;
        if self.strays > 0 {
            write!(f, "; {} left over from an earlier run", self.strays)?;
        }
        for FaultSpan { fault, begun, ended, sent, receipted } in &self.faults {
            write!(f, "\n  {begun:.1?} to ")?;
            match ended {
                Some(ended) => write!(f, "{ended:.1?}")?,
                None => write!(f, "the end")?,
            }
            write!(f, ": {fault}; {sent} sent and {receipted} receipted meanwhile")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.counts)?;
        if self.holds() {
            return write!(f, "nothing lost, nothing out of order, no unmarked repeat");
        }
        let mut sorts: Vec<(&str, Vec<&Violation>)> = Vec::new();
        for violation in &self.violations {
            match sorts.iter_mut().find(|(sort, _)| *sort == violation.sort()) {
                Some((_, violations)) => violations.push(violation),
                None => sorts.push((violation.sort(), vec![violation])),
            }
        }
        write!(f, "VIOLATIONS: {}", self.violations.len())?;
        for (sort, violations) in sorts {
            write!(f, "\n  {sort}: {}", violations.len())?;
            for violation in violations.iter().take(SHOWN) {
                write!(f, "\n    {violation}")?;
            }
            if violations.len() > SHOWN {
                write!(f, "\n    and {} more", violations.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}
