//! Who may do what: principals, rules, destinations and actions against each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asked;
mod configuration;
mod containment;
mod decisions;
mod hostile;
mod who;
