//! Which bindings a queue of the node's shall have, and which it has.
//!
//! Invariants
//! - A binding is wanted as long as one subscription holds it, and is bound once however many do.
//! - What differs between wanted and bound is in `changes` or in the hands of the one who makes them;
//!   one that RabbitMQ refused is there again after the next [`retry`](Bindings::retry).
//! - What may or may not be so is made so once more: a change that was lost on its way, and, by
//!   [`doubt`](Bindings::doubt), what someone else may have undone. RabbitMQ takes it as often as one
//!   likes.
//!
//! Not here: keeping a binding for a while after its last subscription, for whoever comes back. It is
//! undone with that; the gateway keeps the subscription instead (`gateway.linger`).

use std::collections::{HashMap, HashSet, VecDeque};

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// A binding of a node's queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Binding {
    pub(crate) exchange: ByteString,
    /// The binding key: a topic, or a pattern.
    pub(crate) key: ByteString,
}

/// What to do in RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Bind(Binding),
    Unbind(Binding),
}

/// Hears once whether a binding is there, or why RabbitMQ refused it.
pub(crate) type Bound = oneshot::Receiver<Result<(), String>>;

/// The bindings of one queue.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    /// Held for a few lookups.
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: HashMap<Binding, Wanted>,
    bound: HashSet<Binding>,
    /// Those that may differ from what `bound` says.
    doubtful: HashSet<Binding>,
    /// Those that were wanted or let go lately.
    changes: VecDeque<Binding>,
    /// Those to look at when there are no changes; nobody waits for them.
    doubts: VecDeque<Binding>,
    /// What is left of the round in which all that is bound is doubted.
    round: VecDeque<Binding>,
}

#[derive(Debug, Default)]
struct Wanted {
    subscriptions: usize,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Bindings {
    /// Wants `binding`, once more. None if it is there already.
    pub(crate) fn acquire(&self, binding: &Binding) -> Option<Bound> {
        let mut state = self.state.lock();
        let is_bound = state.bound.contains(binding);
        let wanted = state.wanted.entry(binding.clone()).or_default();
        wanted.subscriptions += 1;
        if is_bound {
            return None;
        }
        let (sender, bound) = oneshot::channel();
        wanted.waiting.push(sender);
        state.changes.push_back(binding.clone());
        drop(state);
        self.changed.notify_one();
        Some(bound)
    }

    /// Wants `binding` once less.
    pub(crate) fn release(&self, binding: &Binding) {
        let mut state = self.state.lock();
        let Some(wanted) = state.wanted.get_mut(binding) else { return };
        wanted.subscriptions -= 1;
        if wanted.subscriptions == 0 {
            state.wanted.remove(binding);
            state.changes.push_back(binding.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Returns once one has been wanted.
    pub(crate) async fn wanted(&self) {
        loop {
            let changed = self.changed.notified();
            if self.changes() > 0 {
                return;
            }
            changed.await;
        }
    }

    /// How many things there are to do, at most.
    pub(crate) fn changes(&self) -> usize {
        self.state.lock().changes.len()
    }

    /// The next thing to do, once there is one. Whoever takes it makes it, or says that it was
    /// [`refused`](Self::refused) or [`lost`](Self::lost).
    pub(crate) async fn next(&self) -> Change {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            self.changed.notified().await;
        }
    }

    /// The next thing to do, if there is one.
    pub(crate) fn try_next(&self) -> Option<Change> {
        let mut state = self.state.lock();
        loop {
            let next = state.changes.pop_front().or_else(|| state.doubts.pop_front());
            let binding = next?;
            let doubtful = state.doubtful.remove(&binding);
            match (state.wanted.contains_key(&binding), state.bound.contains(&binding)) {
                (true, is_bound) if !is_bound || doubtful => return Some(Change::Bind(binding)),
                (false, is_bound) if is_bound || doubtful => {
                    // From now on whoever wants it must wait for it.
                    state.bound.remove(&binding);
                    return Some(Change::Unbind(binding));
                }
                _ => {}
            }
        }
    }

    /// `change` was made.
    pub(crate) fn made(&self, change: Change) {
        let Change::Bind(binding) = change else { return };
        let mut state = self.state.lock();
        if let Some(wanted) = state.wanted.get_mut(&binding) {
            for waiting in std::mem::take(&mut wanted.waiting) {
                let _ = waiting.send(Ok(()));
            }
        } else {
            // It was let go meanwhile.
            state.changes.push_back(binding.clone());
            self.changed.notify_one();
        }
        state.bound.insert(binding);
    }

    /// RabbitMQ refused `change`.
    pub(crate) fn refused(&self, change: Change, why: &str) {
        let Change::Bind(binding) = change else { return };
        let mut state = self.state.lock();
        state.bound.remove(&binding);
        if let Some(wanted) = state.wanted.get_mut(&binding) {
            for waiting in std::mem::take(&mut wanted.waiting) {
                let _ = waiting.send(Err(why.to_owned()));
            }
        }
    }

    /// The connection went away over `change`, which may or may not have been made.
    pub(crate) fn lost(&self, change: Change) {
        let (Change::Bind(binding) | Change::Unbind(binding)) = change;
        let mut state = self.state.lock();
        state.doubtful.insert(binding.clone());
        state.changes.push_front(binding);
    }

    /// Has all that is bound made once more. Whoever wants it meanwhile need not wait.
    pub(crate) fn doubt_all(&self) {
        let mut state = self.state.lock();
        state.doubts.clear();
        state.round.clear();
        drop(state);
        self.doubt(usize::MAX);
    }

    /// Has the next `count` of all that is bound made once more, in turn.
    pub(crate) fn doubt(&self, count: usize) {
        let mut guard = self.state.lock();
        let State { bound, doubtful, doubts, round, .. } = &mut *guard;
        // Those of before come first.
        if !doubts.is_empty() {
            return;
        }
        if round.is_empty() {
            round.extend(bound.iter().cloned());
        }
        let next = round.drain(..count.min(round.len())).filter(|binding| bound.contains(binding));
        for binding in next {
            doubtful.insert(binding.clone());
            doubts.push_back(binding);
        }
        self.changed.notify_one();
    }

    /// There is a new queue, without bindings.
    pub(crate) fn anew(&self) {
        let mut state = self.state.lock();
        state.bound.clear();
        state.doubtful.clear();
        drop(state);
        self.retry();
    }

    /// Wants again all that is wanted and not bound.
    pub(crate) fn retry(&self) {
        let mut guard = self.state.lock();
        let State { wanted, bound, changes, .. } = &mut *guard;
        changes.extend(wanted.keys().filter(|binding| !bound.contains(binding)).cloned());
        self.changed.notify_one();
    }

    /// How many are bound.
    pub(crate) fn bound(&self) -> usize {
        self.state.lock().bound.len()
    }

    /// All that is bound, to be undone; nothing is bound from now on.
    pub(crate) fn take_bound(&self) -> Vec<Binding> {
        self.state.lock().bound.drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(key: &'static str) -> Binding {
        Binding { exchange: "amq.topic".into(), key: key.into() }
    }

    fn made(bindings: &Bindings) -> Vec<Change> {
        std::iter::from_fn(|| {
            let change = bindings.try_next()?;
            bindings.made(change.clone());
            Some(change)
        })
        .collect()
    }

    #[tokio::test]
    async fn a_binding_is_made_once_and_undone_with_its_last_holder() {
        let bindings = Bindings::default();
        let a = binding("a");
        let first = bindings.acquire(&a).unwrap();
        let second = bindings.acquire(&a).unwrap();
        assert_eq!(made(&bindings), [Change::Bind(a.clone())]);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(()), Ok(())));
        assert!(bindings.acquire(&a).is_none());
        bindings.release(&a);
        bindings.release(&a);
        assert_eq!(made(&bindings), []);
        bindings.release(&a);
        assert_eq!(made(&bindings), [Change::Unbind(a)]);
    }

    #[tokio::test]
    async fn who_comes_while_it_is_undone_waits_for_it_to_be_made_again() {
        let bindings = Bindings::default();
        let a = binding("a");
        drop(bindings.acquire(&a));
        made(&bindings);
        bindings.release(&a);
        let undone = bindings.next().await;
        let again = bindings.acquire(&a).expect("it is not there now");
        bindings.made(undone);
        assert_eq!(made(&bindings), [Change::Bind(a)]);
        assert_eq!(again.await.unwrap(), Ok(()));
    }

    #[test]
    fn one_let_go_while_it_is_made_is_undone() {
        let bindings = Bindings::default();
        let a = binding("a");
        drop(bindings.acquire(&a));
        let change = bindings.try_next().unwrap();
        bindings.release(&a);
        assert_eq!(bindings.try_next(), None);
        bindings.made(change);
        assert_eq!(made(&bindings), [Change::Unbind(a)]);
    }

    #[tokio::test]
    async fn a_refused_one_is_told_and_tried_again() {
        let bindings = Bindings::default();
        let a = binding("a");
        let bound = bindings.acquire(&a).unwrap();
        bindings.refused(bindings.try_next().unwrap(), "no permission");
        assert_eq!(bound.await.unwrap(), Err("no permission".to_owned()));
        assert_eq!(bindings.try_next(), None);
        bindings.retry();
        assert_eq!(made(&bindings), [Change::Bind(a)]);
    }

    #[test]
    fn a_new_queue_gets_what_is_wanted_and_no_more() {
        let bindings = Bindings::default();
        let (a, b) = (binding("a"), binding("b"));
        drop(bindings.acquire(&a));
        drop(bindings.acquire(&b));
        assert_eq!(made(&bindings).len(), 2);
        bindings.release(&b);
        let lost = bindings.try_next().unwrap();
        bindings.lost(lost);
        bindings.anew();
        assert_eq!(made(&bindings), [Change::Bind(a)]);
    }

    #[test]
    fn what_was_lost_on_the_way_is_done_on_the_next_connection() {
        let bindings = Bindings::default();
        let a = binding("a");
        drop(bindings.acquire(&a));
        let bind = bindings.try_next().unwrap();
        bindings.lost(bind);
        assert_eq!(made(&bindings), [Change::Bind(a.clone())]);
        bindings.release(&a);
        let unbind = bindings.try_next().unwrap();
        bindings.lost(unbind);
        assert_eq!(made(&bindings), [Change::Unbind(a.clone())]);
        assert_eq!(made(&bindings), []);
        drop(bindings.acquire(&a));
        let bind = bindings.try_next().unwrap();
        bindings.lost(bind);
        bindings.release(&a);
        assert_eq!(made(&bindings), [Change::Unbind(a)], "it may have been made");
    }

    #[tokio::test]
    async fn what_is_wanted_again_after_its_undoing_was_lost_is_made_again() {
        let bindings = Bindings::default();
        let a = binding("a");
        drop(bindings.acquire(&a));
        made(&bindings);
        bindings.release(&a);
        let unbind = bindings.try_next().unwrap();
        bindings.lost(unbind);
        let bound = bindings.acquire(&a).expect("it may have been undone");
        assert_eq!(made(&bindings), [Change::Bind(a)]);
        assert_eq!(bound.await.unwrap(), Ok(()));
    }

    #[test]
    fn what_is_doubted_is_made_again_in_turn_and_never_what_was_let_go() {
        let bindings = Bindings::default();
        let keys = ["a", "b", "c"].map(binding);
        keys.iter().for_each(|key| drop(bindings.acquire(key)));
        made(&bindings);
        let mut again = Vec::new();
        for _ in 0..2 {
            bindings.doubt(2);
            assert!(keys.iter().all(|key| bindings.acquire(key).is_none()), "nobody waits");
            again.extend(made(&bindings));
        }
        assert_eq!(again.len(), 3);
        assert!(keys.iter().all(|key| again.contains(&Change::Bind(key.clone()))));
        bindings.doubt_all();
        (0..3).for_each(|_| bindings.release(&keys[0]));
        let last = made(&bindings);
        assert!(last.contains(&Change::Unbind(keys[0].clone())), "{last:?}");
        assert_eq!(last.len(), 3);
    }

    #[test]
    fn one_that_was_doubted_and_refused_is_tried_again() {
        let bindings = Bindings::default();
        let a = binding("a");
        drop(bindings.acquire(&a));
        made(&bindings);
        bindings.doubt(1);
        bindings.refused(bindings.try_next().unwrap(), "no exchange");
        bindings.retry();
        assert_eq!(made(&bindings), [Change::Bind(a)]);
    }
}
