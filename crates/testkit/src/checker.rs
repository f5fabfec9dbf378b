//! The checker: drives publishers and subscribers while faults happen, records what was confirmed and
//! what arrived, and judges loss, order, repeats, acknowledgements and transactions.
//!
//! A [`Plan`] is drawn from a seed; [`check`] runs it against nodes, with a [`Rig`] that the faults
//! are done to; every session records in a [`History`]; [`judge`] turns that into a [`Verdict`] and
//! says exactly what it holds a server to. The judge is a function of the history alone, so it is
//! tested with histories by hand.
//!
//! ```text
//! let seed = checker::seed();
//! eprintln!("seed {seed}");
//! let plan = Plan::new(seed, &Shape { faults: vec![Fault::RabbitMqKilled], ..Shape::default() });
//! let verdict = checker::check(plan, urls, &mut rig).await?;
//! assert!(verdict.holds(), "seed {seed}\n{verdict}");
//! ```

mod body;
mod client;
mod fault;
mod history;
mod inboxes;
mod judge;
mod plan;
mod recorder;
mod run;
mod session;
mod verdict;
mod violation;

pub use client::{Client, ClientError};
pub use fault::{Fault, FaultError, Rig};
pub use history::{DeliveryId, Destination, Event, History, Kind, MessageId};
pub use history::{SessionId, SubscriptionId, TransactionId};
pub use inboxes::{InboxEvent, InboxHistory, InboxVerdict, InboxViolation, User};
pub use judge::{Rules, judge};
pub use plan::{Ack, Fate, Part, Plan, Planned, SessionPlan, Shape, Stage, seed};
pub use recorder::Progress;
pub use run::{CheckError, Checker, check};
pub use verdict::{Counts, FaultSpan, Verdict};
pub use violation::{GivenBack, Unanswered, Violation};
