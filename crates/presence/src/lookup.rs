//! What a store says about users, with what is needed to judge it.
//!
//! Invariant: what a [`Lookup`] vouches for held during the whole of it: a node that it calls leased had
//! all its sessions in the store, in that epoch, before the first session was read and after the last.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::{Boot, Session, UserName};

/// One life of a store: another one has begun when the store may have lost what it held.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

/// An answer about some users.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookup {
    /// The store's epoch. `None` when it changed meanwhile, or no node has begun one.
    pub epoch: Option<Epoch>,
    /// The nodes whose lease stands and that are registered completely, as the store knows it.
    pub leased: HashSet<Boot>,
    /// The sessions of each user that was asked for; a user without any is absent.
    pub sessions: HashMap<UserName, Vec<Session>>,
}

impl Epoch {
    /// The epoch of that name, such as another node announced it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Lookup {
    /// The sessions of `user`; none when it was not asked for.
    #[must_use]
    pub fn sessions_of(&self, user: &UserName) -> &[Session] {
        self.sessions.get(user).map_or(&[], Vec::as_slice)
    }

    /// The nodes that hold `user`.
    pub fn boots_of(&self, user: &UserName) -> impl Iterator<Item = Boot> {
        self.sessions_of(user).iter().map(|session| session.boot)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
