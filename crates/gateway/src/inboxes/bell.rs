//! What a doorbell rings: each subscription to an inbox has a bell.
//!
//! Invariants
//! - A ring is heard, however many come before the session looks.
//! - What doorbells carry along is kept up to [`CARRIED`] messages; beyond that the store is read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker::Message;
use bytestring::ByteString;
use inbox::Position;
use parking_lot::Mutex;

use crate::mailbox::Mailbox;

/// How many messages that doorbells carried along may wait for one subscription.
const CARRIED: usize = 16;

/// How many destinations may wait to be opened for a session that hears all.
const UNOPENED: usize = 64;

/// The bells of one session.
#[derive(Default)]
pub(crate) struct Bells(Mutex<Hung>);

#[derive(Default)]
struct Hung {
    bells: Vec<Arc<Bell>>,
    /// For a session that hears all destinations of its user: those that have rung and have no bell yet, and
    /// whether there were too many.
    unopened: Option<Unopened>,
}

#[derive(Default)]
struct Unopened {
    paths: Vec<ByteString>,
    missed: bool,
}

/// One bell. It is one subscription's.
pub(crate) struct Bell {
    path: ByteString,
    rung: AtomicBool,
    /// What came along, in the order of the inbox. Held for a push or to take all.
    carried: Mutex<VecDeque<(Position, Arc<Message>)>>,
}

impl Bells {
    /// Hangs a bell, which is rung once already.
    pub(super) fn hang(&self, path: ByteString) -> Arc<Bell> {
        let bell = Arc::new(Bell { path, rung: AtomicBool::new(true), carried: Mutex::default() });
        self.0.lock().bells.push(Arc::clone(&bell));
        bell
    }

    pub(super) fn take_down(&self, bell: &Arc<Bell>) {
        let mut hung = self.0.lock();
        hung.bells.retain(|other| !Arc::ptr_eq(bell, other));
        if hung.bells.is_empty() {
            hung.bells = Vec::new();
        }
    }

    /// From now on remembers destinations that ring and have no bell.
    pub(crate) fn hear_all(&self) {
        self.0.lock().unopened = Some(Unopened::default());
    }

    /// The destinations that rang without having a bell; none if there were too many to say.
    pub(crate) fn unopened(&self) -> Option<Vec<ByteString>> {
        let mut hung = self.0.lock();
        let Some(unopened) = &mut hung.unopened else { return Some(Vec::new()) };
        match std::mem::take(&mut unopened.missed) {
            true => {
                unopened.paths.clear();
                None
            }
            false => Some(std::mem::take(&mut unopened.paths)),
        }
    }

    /// Whether there is a bell at `path`.
    pub(crate) fn has(&self, path: &ByteString) -> bool {
        self.0.lock().bells.iter().any(|bell| bell.path == *path)
    }

    /// Something came to `path`, at that place.
    pub(super) fn ring(
        &self,
        path: &ByteString,
        at: Position,
        message: Option<&Arc<Message>>,
        mailbox: &Mailbox,
    ) {
        let mut hung = self.0.lock();
        let mut is_rung = false;
        for bell in hung.bells.iter().filter(|bell| bell.path == *path) {
            bell.ring(at, message);
            is_rung = true;
        }
        if !is_rung && let Some(unopened) = &mut hung.unopened {
            is_rung = true;
            if unopened.paths.len() == UNOPENED {
                unopened.missed = true;
            } else if !unopened.paths.contains(path) {
                unopened.paths.push(path.clone());
            }
        }
        drop(hung);
        if is_rung {
            mailbox.ring();
        }
    }

    /// Has every subscription look whether something came.
    pub(crate) fn look(&self, mailbox: &Mailbox) {
        let hung = self.0.lock();
        if hung.bells.is_empty() && hung.unopened.is_none() {
            return;
        }
        hung.bells.iter().for_each(|bell| bell.rung.store(true, Ordering::Release));
        drop(hung);
        mailbox.ring();
    }
}

impl Bell {
    fn ring(&self, at: Position, message: Option<&Arc<Message>>) {
        if let Some(message) = message {
            let mut carried = self.carried.lock();
            if carried.len() < CARRIED {
                carried.push_back((at, Arc::clone(message)));
            }
        }
        self.rung.store(true, Ordering::Release);
    }

    /// Whether it rang since it was asked last.
    pub(super) fn has_rung(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// What came along with rings.
    pub(super) fn carried(&self) -> VecDeque<(Position, Arc<Message>)> {
        std::mem::take(&mut self.carried.lock())
    }

    /// Puts back what came along too early. That does not ring: what is there rang when it came, and a store that
    /// has lost it would be asked for it without end.
    pub(super) fn put_back(&self, early: VecDeque<(Position, Arc<Message>)>) {
        if early.is_empty() {
            return;
        }
        let mut carried = self.carried.lock();
        let later = std::mem::replace(&mut *carried, early);
        carried.extend(later);
        carried.truncate(CARRIED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Position {
        Position { epoch: 1, seq }
    }

    #[test]
    fn a_bell_rings_for_its_destination_alone() {
        let (bells, mailbox) = (Bells::default(), Mailbox::new(1000));
        let bell = bells.hang("/queue/a".into());
        assert!(bell.has_rung(), "what was there before is to be looked for");
        bells.ring(&"/queue/b".into(), at(1), None, &mailbox);
        assert!(!bell.has_rung());
        bells.ring(&"/queue/a".into(), at(1), None, &mailbox);
        assert!(bell.has_rung() && !bell.has_rung());
        bells.take_down(&bell);
        assert!(!bells.has(&"/queue/a".into()));
    }

    #[test]
    fn who_hears_all_is_told_of_destinations_without_a_bell() {
        let (bells, mailbox) = (Bells::default(), Mailbox::new(1000));
        bells.hear_all();
        for path in ["/queue/a", "/queue/b", "/queue/a"] {
            bells.ring(&path.into(), at(1), None, &mailbox);
        }
        assert_eq!(bells.unopened(), Some(vec!["/queue/a".into(), "/queue/b".into()]));
        assert_eq!(bells.unopened(), Some(Vec::new()));
        for n in 0..=UNOPENED {
            bells.ring(&format!("/queue/{n}").into(), at(1), None, &mailbox);
        }
        assert_eq!(bells.unopened(), None, "too many to say which");
    }

    fn message() -> Arc<Message> {
        let content = cluster::Content {
            id: broker::MessageId::new(),
            headers: Vec::new(),
            body: bytes::Bytes::new(),
        };
        super::super::message(&"/queue/a".into(), &content)
    }

    #[test]
    fn what_comes_along_is_bounded() {
        let (bell, message) = (Bells::default().hang("/queue/a".into()), message());
        for seq in 1..100 {
            bell.ring(at(seq), Some(&message));
        }
        let carried: Vec<_> = bell.carried().into_iter().map(|(at, _)| at.seq).collect();
        assert_eq!(carried, (1..=CARRIED as u64).collect::<Vec<_>>());
    }

    #[test]
    fn what_came_too_early_is_kept_and_rings_no_more() {
        let (bell, message) = (Bells::default().hang("/queue/a".into()), message());
        bell.ring(at(1), Some(&message));
        assert!(bell.has_rung());
        let early = bell.carried();
        for seq in 2..100 {
            bell.ring(at(seq), Some(&message));
        }
        assert!(bell.has_rung(), "what came meanwhile rang by itself");
        bell.put_back(early);
        assert!(!bell.has_rung());
        let carried: Vec<_> = bell.carried().into_iter().map(|(at, _)| at.seq).collect();
        assert_eq!(carried, (1..=CARRIED as u64).collect::<Vec<_>>());
    }
}
