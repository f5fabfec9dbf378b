//! What the notifier's answers say, in words, and what may be watched of them.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::stored_for_user::Outcome;
use proto::v1::{DeliveryRef, PublishResponse, SendResponse, Stored};

use crate::grpc::shown;

/// Says whom a message reached.
#[expect(clippy::print_stdout, reason = "it is the answer")]
pub(super) fn show(sent: &SendResponse) {
    match &sent.stored {
        Some(stored) => println!("{}: message {}", inboxes(stored), sent.message_id),
        None => println!("{}", reach(sent)),
    }
}

/// Says that a message waits.
#[expect(clippy::print_stdout, reason = "it is the answer")]
pub(super) fn show_later(published: &PublishResponse) {
    let what = if published.known { "known" } else { "stored until then" };
    println!("{what}: message {}", published.message_id);
}

/// In how many inboxes a message is.
fn inboxes(stored: &Stored) -> String {
    let Stored { stored, scheduled, known, full, users } = stored;
    let mut said = Vec::new();
    for (count, what) in
        [(stored, "stored"), (scheduled, "scheduled"), (known, "known before"), (full, "full")]
    {
        match count {
            0 => {}
            1 => said.push(format!("{what} in 1 inbox")),
            count => said.push(format!("{what} in {count} inboxes")),
        }
    }
    let mut text = if said.is_empty() { "for nobody".to_owned() } else { said.join(", ") };
    let full = users.iter().filter(|one| one.outcome() == Outcome::Full);
    let full: Vec<_> = full.map(|one| shown(&one.user)).collect();
    if !full.is_empty() {
        text.push_str(&format!(" (of {})", full.join(", ")));
    }
    text
}

/// What may be watched of a message.
pub(super) fn kept(sent: &SendResponse, destination: &str) -> Vec<DeliveryRef> {
    let mut by_id = BTreeMap::<&str, BTreeSet<&String>>::new();
    let users = sent.stored.iter().flat_map(|stored| &stored.users);
    for one in users.filter(|one| !one.message_id.is_empty()) {
        by_id.entry(&one.message_id).or_default().insert(&one.user);
    }
    let of = |(message_id, users): (&str, BTreeSet<&String>)| DeliveryRef {
        users: users.into_iter().cloned().collect(),
        destination: destination.to_owned(),
        message_id: message_id.to_owned(),
    };
    by_id.into_iter().map(of).collect()
}

/// What may be watched of a message that was published to be delivered later: it is in a user's inbox, or in
/// nobody's.
pub(super) fn published_later(destination: &str, published: PublishResponse) -> DeliveryRef {
    let message_id = published.message_id;
    let within = destination.strip_prefix("/user/").and_then(|rest| {
        let at = rest.find('/')?;
        Some((rest.get(..at)?.to_owned(), rest.get(at..)?.to_owned()))
    });
    let (users, destination) = match within {
        Some((user, path)) => (vec![user], path),
        None => (Vec::new(), destination.to_owned()),
    };
    DeliveryRef { users, destination, message_id }
}

/// How many sessions on how many nodes, and of which target where there are several.
fn reach(sent: &SendResponse) -> String {
    let SendResponse { sessions, nodes, reached, uncertain_nodes, uncounted, .. } = sent;
    let plural = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    let mut text = match (uncounted, sessions) {
        (true, _) => "sent, and nobody could count the sessions".to_owned(),
        (false, 0) => "no session".to_owned(),
        (false, sessions) => {
            format!("{} on {}", plural(*sessions, "session"), plural((*nodes).into(), "node"))
        }
    };
    if !uncounted && reached.len() > 1 {
        let each: Vec<_> = reached
            .iter()
            .map(|reached| format!("{} {}", shown(&reached.target), reached.sessions))
            .collect();
        text.push_str(&format!(" ({})", each.join(", ")));
    }
    if *uncertain_nodes > 0 {
        let nodes = plural((*uncertain_nodes).into(), "node");
        text.push_str(&format!(", and to {nodes} whose sessions could not be counted"));
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::v1::{Reached, StoredForUser};

    use super::*;

    #[test]
    fn the_reach_of_a_message_is_told_in_words() {
        let reached = |targets: &[(&str, u64)]| {
            let reached = targets.iter();
            reached.map(|(name, n)| Reached { target: (*name).into(), sessions: *n }).collect()
        };
        let one = SendResponse {
            sessions: 1,
            nodes: 1,
            reached: reached(&[("ann", 1)]),
            ..SendResponse::default()
        };
        assert_eq!(reach(&one), "1 session on 1 node");
        let two = SendResponse {
            sessions: 3,
            nodes: 2,
            reached: reached(&[("ann", 3), ("b\x1bb", 0)]),
            uncertain_nodes: 1,
            ..SendResponse::default()
        };
        assert_eq!(
            reach(&two),
            "3 sessions on 2 nodes (ann 3, b\\u{1b}b 0), and to 1 node whose sessions could not be counted"
        );
        assert_eq!(reach(&SendResponse::default()), "no session");
        let uncounted = SendResponse { uncounted: true, ..two };
        assert!(reach(&uncounted).starts_with("sent, and nobody could count"), "{uncounted:?}");
    }

    #[test]
    fn what_is_stored_is_told_in_words_and_can_be_watched() {
        let one = |user: &str, outcome: Outcome, id: &str| StoredForUser {
            user: user.to_owned(),
            outcome: outcome.into(),
            message_id: id.to_owned(),
        };
        let users = vec![
            one("ann", Outcome::Stored, "2"),
            one("bob", Outcome::Known, "1"),
            one("cid", Outcome::Full, ""),
            one("ann", Outcome::Stored, "2"),
        ];
        let stored = Stored { stored: 2, known: 1, full: 1, users, ..Stored::default() };
        assert_eq!(
            inboxes(&stored),
            "stored in 2 inboxes, known before in 1 inbox, full in 1 inbox (of cid)"
        );
        assert_eq!(inboxes(&Stored::default()), "for nobody");
        let sent = SendResponse { stored: Some(stored), ..SendResponse::default() };
        let watched: Vec<_> = kept(&sent, "/queue/a")
            .into_iter()
            .map(|of| (of.users.join(","), of.message_id))
            .collect();
        let expected = [("bob", "1"), ("ann", "2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(watched, expected);
    }

    #[test]
    fn what_is_published_to_a_user_later_is_in_an_inbox() {
        for (destination, users, path) in
            [("/topic/a", vec![], "/topic/a"), ("/user/ann/queue/b/c", vec!["ann"], "/queue/b/c")]
        {
            let of = published_later(destination, PublishResponse::default());
            assert_eq!(
                (of.users, &*of.destination),
                (users.into_iter().map(str::to_owned).collect(), path)
            );
        }
    }
}
