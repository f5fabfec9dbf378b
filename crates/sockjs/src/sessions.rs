//! The sessions over HTTP of an endpoint, by the ids that clients chose.
//!
//! An id is taken from its first request until its session is over and nobody has asked for it for the
//! disconnect delay.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::session::Session;

/// See the module.
pub(crate) struct Sessions<O> {
    limit: usize,
    /// At most `limit`; one more is refused. Held for a few instructions.
    by_id: Mutex<HashMap<Box<str>, Named<O>>>,
}

/// A session and whose it is.
pub(crate) struct Named<O> {
    pub(crate) session: Arc<Session>,
    pub(crate) owner: Arc<O>,
}

impl<O> Clone for Named<O> {
    fn clone(&self) -> Self {
        Self { session: Arc::clone(&self.session), owner: Arc::clone(&self.owner) }
    }
}

/// Why an id could not be taken.
pub(crate) enum NotTaken<O> {
    /// It was taken meanwhile.
    ByAnother(Named<O>),
    /// There is no room for another session.
    Full,
}

impl<O> Sessions<O> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, by_id: Mutex::default() }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Named<O>> {
        self.by_id.lock().get(id).cloned()
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.by_id.lock().contains_key(id)
    }

    pub(crate) fn insert(&self, id: &str, named: Named<O>) -> Result<(), NotTaken<O>> {
        let mut by_id = self.by_id.lock();
        if by_id.len() >= self.limit && !by_id.contains_key(id) {
            return Err(NotTaken::Full);
        }
        match by_id.entry(id.into()) {
            Entry::Occupied(taken) => Err(NotTaken::ByAnother(taken.get().clone())),
            Entry::Vacant(free) => {
                free.insert(named);
                Ok(())
            }
        }
    }

    pub(crate) fn remove(&self, id: &str) {
        self.by_id.lock().remove(id);
    }
}
