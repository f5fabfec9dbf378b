//! What the judge says, for people and for assertions.

use std::fmt;
use std::time::Duration;

use super::Fault;
use super::violation::Violation;

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
    /// Messages sent, in transactions too.
    pub sent: usize,
    /// Messages receipted: by the receipt of the SEND, or of the COMMIT.
    pub receipted: usize,
    /// Messages whose ABORT was receipted.
    pub aborted: usize,
    /// Transactions whose COMMIT was receipted.
    pub committed: usize,
    /// Deliveries acknowledged: by the receipt of the ACK, or of the COMMIT.
    pub acked: usize,
    /// Deliveries whose NACK was receipted.
    pub nacked: usize,
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

impl Verdict {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many violations time may heal: messages, receipts or acknowledgements that may still come.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.violations.iter().filter(|violation| violation.is_outstanding()).count()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { sessions, closed, sent, receipted, received, .. } = self;
        let Counts { aborted, committed, acked, nacked, .. } = self;
        write!(f, "{sessions} sessions, {closed} closed; {sent} messages sent, ")?;
        write!(
            f,
            "{receipted} receipted, {aborted} aborted; {committed} transactions committed; "
        )?;
        write!(
            f,
            "{received} deliveries, {acked} acknowledged and {nacked} refused, of which repeats: "
        )?;
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
            write!(
                f,
                "nothing lost, nothing out of order, no unmarked repeat; nothing acknowledged "
            )?;
            return write!(f, "came again, nothing came without its COMMIT");
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
