//! The behaviour that every [`Broker`](crate::Broker) shows, as tests.
