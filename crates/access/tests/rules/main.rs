//! Who may do what: principals, rules, destinations and actions against each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod any_rules;
mod asked;
mod compared;
mod configuration;
mod containment;
mod decisions;
mod hostile;
mod matrix;
mod oracle;
mod who;
