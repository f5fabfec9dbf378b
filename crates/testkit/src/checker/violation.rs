//! What may be wrong, one by one.

use std::fmt;
use std::time::Duration;

use super::{Destination, MessageId, SessionId, SubscriptionId, TransactionId};

/// One thing that was wrong. Times count from the start of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A receipted message did not arrive.
    Lost {
        /// The message.
        message: MessageId,
        /// The transaction that it was in, all of which was committed.
        transaction: Option<TransactionId>,
        /// Which subscription misses it; for a queue none: no consumer got it.
        subscription: Option<SubscriptionId>,
        /// When it was sent.
        sent_at: Duration,
        /// When its receipt came.
        receipted_at: Duration,
    },
    /// A SEND, COMMIT or ABORT got no receipt.
    Unanswered {
        /// Which.
        frame: Unanswered,
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
    /// A message came whose transaction was not committed.
    Uncommitted {
        /// The message.
        message: MessageId,
        /// The transaction.
        transaction: TransactionId,
        /// Whether it was aborted.
        aborted: bool,
        /// Where.
        subscription: SubscriptionId,
        /// When.
        at: Duration,
    },
    /// A message came again that was acknowledged.
    Acknowledged {
        /// The message.
        message: MessageId,
        /// Who had acknowledged it.
        by: SubscriptionId,
        /// When the receipt of that came.
        acknowledged_at: Duration,
        /// Where it came again.
        subscription: SubscriptionId,
        /// When.
        at: Duration,
    },
    /// A delivery is not acknowledged.
    Unsettled {
        /// The message.
        message: MessageId,
        /// Where it came.
        subscription: SubscriptionId,
        /// Whether an ACK or NACK was sent, so that the receipt is missing.
        answered: bool,
        /// When it came.
        at: Duration,
    },
    /// A message that a consumer gave back did not come again.
    NotAgain {
        /// The message.
        message: MessageId,
        /// Who had it.
        subscription: SubscriptionId,
        /// How it gave it back.
        given_back: GivenBack,
        /// When it had come.
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

/// A frame that asks for a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The SEND of a message.
    Send(MessageId),
    /// The COMMIT of a transaction.
    Commit(TransactionId),
    /// The ABORT of a transaction.
    Abort(TransactionId),
}

/// How a consumer gives back what it does not acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// By a NACK.
    Nacked,
    /// Its session or its subscription ended.
    Left,
}

impl Violation {
    /// Whether time may heal it.
    pub(crate) fn is_outstanding(&self) -> bool {
        matches!(
            self,
            Violation::Lost { .. }
                | Violation::Unanswered { .. }
                | Violation::Unsettled { .. }
                | Violation::NotAgain { .. }
        )
    }

    /// What it is called in a heading.
    pub(crate) fn sort(&self) -> &'static str {
        match self {
            Violation::Lost { .. } => "receipted and lost",
            Violation::Unanswered { .. } => "without a receipt",
            Violation::OutOfOrder { .. } => "out of order",
            Violation::UnmarkedRepeat { .. } => "repeated without redelivered:true",
            Violation::NeverSent { .. } => "never sent",
            Violation::NotSubscribed { .. } => "to no subscription",
            Violation::Misdirected { .. } => "to the wrong subscription",
            Violation::Uncommitted { .. } => "without a COMMIT",
            Violation::Acknowledged { .. } => "again after its acknowledgement",
            Violation::Unsettled { .. } => "not acknowledged",
            Violation::NotAgain { .. } => "given back and lost",
            Violation::Unexpected { .. } => "unexpected",
            Violation::Closed { .. } => "sessions closed",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost { message, transaction, subscription, sent_at, receipted_at } => {
                write!(f, "{message}, sent at {sent_at:.1?}")?;
                match transaction {
                    Some(transaction) => write!(f, " in {transaction}, committed ")?,
                    None => write!(f, ", receipted ")?,
                }
                match subscription {
                    Some(subscription) => {
                        write!(f, "at {receipted_at:.1?}, did not come to {subscription}")
                    }
                    None => write!(f, "at {receipted_at:.1?}, came to no consumer"),
                }
            }
            Violation::Unanswered { frame, sent_at } => write!(f, "{frame}, sent at {sent_at:.1?}"),
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
            Violation::Uncommitted { message, transaction, aborted, subscription, at } => {
                let fate = if *aborted { "aborted" } else { "open" };
                write!(f, "{message}, in {transaction}, which was {fate}, ")?;
                write!(f, "to {subscription} at {at:.1?}")
            }
            Violation::Acknowledged { message, by, acknowledged_at, subscription, at } => {
                write!(f, "{message}, acknowledged by {by} at {acknowledged_at:.1?}, ")?;
                write!(f, "to {subscription} at {at:.1?}")
            }
            Violation::Unsettled { message, subscription, answered, at } => {
                write!(f, "{message}, to {subscription} at {at:.1?}")?;
                match answered {
                    true => write!(f, ", has no receipt of its ACK or NACK"),
                    false => Ok(()),
                }
            }
            Violation::NotAgain { message, subscription, given_back, at } => {
                let how = match given_back {
                    GivenBack::Nacked => "refused",
                    GivenBack::Left => "left unacknowledged",
                };
                write!(f, "{message}, to {subscription} at {at:.1?}, {how} there")
            }
            Violation::Unexpected { session, what, at } => {
                write!(f, "{session} at {at:.1?}: {what}")
            }
            Violation::Closed { session, why, at } => write!(f, "{session} at {at:.1?}: {why}"),
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Send(message) => write!(f, "{message}"),
            Unanswered::Commit(transaction) => write!(f, "the COMMIT of {transaction}"),
            Unanswered::Abort(transaction) => write!(f, "the ABORT of {transaction}"),
        }
    }
}
