//! To which nodes a message to a user goes.
//!
//! The rule: those that hold the user, as the store says, and every announced node that the store cannot
//! vouch for. A store that lost or never had a session says nothing about it; so its silence counts only
//! for nodes that are known to be in it completely.
//!
//! Invariant: a node that announced itself is left out only if it says that it is registered completely in
//! the epoch that the store is in, and the store says that its lease stands.

use std::collections::BTreeSet;

use crate::{Announcement, Boot, Lookup, UserName};

/// The nodes that a message to `user` goes to, each once, in order.
///
/// `answer` is `None` when the store did not answer: then it goes to all that are announced. A node that
/// drains is no exception, it holds its sessions to their end. One without a session of the user drops the
/// message.
pub fn targets<'a>(
    user: &UserName,
    answer: Option<&Lookup>,
    announced: impl IntoIterator<Item = &'a Announcement>,
) -> BTreeSet<Boot> {
    let held = answer.into_iter().flat_map(|answer| answer.boots_of(user));
    let doubtful = announced.into_iter().filter(|node| !vouched_for(node, answer));
    held.chain(doubtful.map(|node| node.boot)).collect()
}

/// Whether the store would know if that node held the user.
fn vouched_for(node: &Announcement, answer: Option<&Lookup>) -> bool {
    let Some(answer) = answer else { return false };
    match (&node.registered, &answer.epoch) {
        (Some(registered), Some(epoch)) => {
            registered == epoch && answer.leased.contains(&node.boot)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;
    use crate::{Epoch, Session, SessionId};

    fn boot(n: u8) -> Boot {
        Boot::new(Ulid::from_parts(1, n.into()))
    }

    fn ann() -> UserName {
        UserName::new("ann").unwrap()
    }

    fn lookup(epoch: Option<&str>, leased: &[u8], holding: &[u8]) -> Lookup {
        let session = |&n: &u8| Session::new(SessionId::generate(boot(n)), ann(), boot(n));
        Lookup {
            epoch: epoch.map(Epoch::new),
            leased: leased.iter().copied().map(boot).collect(),
            sessions: HashMap::from([(ann(), holding.iter().map(session).collect())]),
        }
    }

    fn announced(n: u8, registered: Option<&str>) -> Announcement {
        Announcement {
            boot: boot(n),
            registered: registered.map(Epoch::new),
            draining: false,
            forward: None,
        }
    }

    fn boots(of: &[u8]) -> BTreeSet<Boot> {
        of.iter().copied().map(boot).collect()
    }

    #[track_caller]
    fn check(answer: Option<&Lookup>, nodes: &[Announcement], expected: &[u8]) {
        assert_eq!(targets(&ann(), answer, nodes), boots(expected));
    }

    #[test]
    fn a_trusted_node_gets_it_only_if_it_holds_the_user() {
        let nodes = [announced(1, Some("e")), announced(2, Some("e"))];
        check(Some(&lookup(Some("e"), &[1, 2], &[2])), &nodes, &[2]);
        check(Some(&lookup(Some("e"), &[1, 2], &[])), &nodes, &[]);
    }

    #[test]
    fn a_node_that_may_not_be_in_the_store_gets_it_too() {
        let answer = lookup(Some("e"), &[1, 2, 3], &[1]);
        // In an epoch before, and in none.
        let nodes = [announced(1, Some("e")), announced(2, Some("d")), announced(3, None)];
        check(Some(&answer), &nodes, &[1, 2, 3]);
    }

    #[test]
    fn a_node_without_a_lease_gets_it_too() {
        let nodes = [announced(1, Some("e")), announced(2, Some("e"))];
        check(Some(&lookup(Some("e"), &[1], &[])), &nodes, &[2]);
    }

    #[test]
    fn a_store_without_an_epoch_vouches_for_nobody() {
        let nodes = [announced(1, Some("e")), announced(2, None)];
        check(Some(&lookup(None, &[1, 2], &[])), &nodes, &[1, 2]);
    }

    #[test]
    fn without_an_answer_all_that_are_announced_get_it() {
        check(None, &[announced(1, Some("e")), announced(2, None)], &[1, 2]);
    }

    #[test]
    fn a_holder_gets_it_though_nobody_heard_of_it() {
        check(Some(&lookup(Some("e"), &[], &[7])), &[], &[7]);
    }

    #[test]
    fn a_draining_node_is_no_exception() {
        let draining = Announcement { draining: true, ..announced(1, Some("e")) };
        let doubtful = Announcement { draining: true, ..announced(2, None) };
        check(Some(&lookup(Some("e"), &[1, 2], &[1])), &[draining, doubtful], &[1, 2]);
    }

    proptest! {
        /// Whatever the store and the nodes say: a node that holds the user is missed only if all three
        /// of its word, the store's epoch and the store's lease vouch for the store's silence.
        #[test]
        fn no_node_is_missed_but_on_three_words(
            epoch in prop::option::of("[de]"),
            leased in prop::collection::vec(0u8..6, 0..6),
            holding in prop::collection::vec(0u8..6, 0..4),
            words in prop::collection::vec(prop::option::of("[de]"), 6),
        ) {
            let answer = lookup(epoch.as_deref(), &leased, &holding);
            let nodes: Vec<_> =
                (0..6).zip(&words).map(|(n, word)| announced(n, word.as_deref())).collect();
            let targets = targets(&ann(), Some(&answer), &nodes);
            for (n, word) in (0..6).zip(&words) {
                let vouched = word.is_some() && *word == epoch && leased.contains(&n);
                prop_assert_eq!(targets.contains(&boot(n)), holding.contains(&n) || !vouched);
            }
        }
    }
}
