//! What is appended, and to which inboxes.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use presence::PageRequest;

use super::{append, bodies, draft, fill, inbox_of, place, take, user};
use crate::{Address, Appended, Config, Draft, Inbox};

/// Numbers begin with 1 and rise by 1.
pub async fn entries_have_rising_numbers_from_one_on<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let mut places = Vec::new();
    for n in 0..5 {
        places.push(place(&store, &ann, &draft(&n.to_string())).await);
    }
    let seqs: Vec<_> = places.iter().map(|at| at.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert!(places.iter().all(|at| at.epoch == places[0].epoch));
    let epoch = store.epoch(&ann).await.expect("an answer");
    assert_eq!(epoch, places[0].epoch);
}

/// One call, an outcome for each inbox, in their order.
pub async fn many_inboxes_are_appended_to_at_once<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config { max_messages: 1, ..Config::default() }).await;
    fill(&store, &inbox_of("user-3"), &["first"]).await;
    let to: Vec<_> = (0..200).map(|n| inbox_of(&format!("user-{n}"))).collect();
    let appended = store.append(&to, &draft("to all")).await.expect("an answer");
    assert_eq!(appended.len(), 200);
    for (n, appended) in appended.iter().enumerate() {
        let is_full = matches!(appended, Appended::Full { .. });
        assert_eq!(is_full, n == 3, "{n}: {appended:?}");
    }
    for n in [0, 199] {
        assert_eq!(bodies(&take(&store, &to[n], None).await.entries), ["to all"]);
    }
    assert_eq!(bodies(&take(&store, &to[3], None).await.entries), ["first"]);
}

/// However many append, none is lost and each has its number.
pub async fn many_may_append_at_once<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let drafts: Vec<_> = (0..100).map(|n| draft(&n.to_string())).collect();
    let places = join_all(drafts.iter().map(|draft| place(&store, &ann, draft))).await;
    let seqs: BTreeSet<_> = places.iter().map(|at| at.seq).collect();
    assert_eq!(seqs, (1..=100).collect());
    let taken = take(&store, &ann, None).await;
    for (draft, at) in drafts.iter().zip(places) {
        let entry = taken.entries.iter().find(|entry| entry.seq == at.seq);
        assert_eq!(entry.map(|entry| entry.id), Some(draft.id));
    }
}

/// A message is known by its id: who says it again is answered as before.
pub async fn the_same_message_twice_is_one<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let one = draft("one");
    let first = append(&store, &ann, &one).await;
    assert_eq!(append(&store, &ann, &one).await, first);
    assert_eq!(store.count(&ann).await.expect("an answer").messages(), 1);
}

/// A key that came before is answered with the message that it came with, whatever came of that.
pub async fn a_key_is_known<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let (ann, bob) = (inbox_of("ann"), inbox_of("bob"));
    let keyed = |body| Draft { key: Some("k".into()), ..draft(body) };
    let once = keyed("once");
    place(&store, &ann, &once).await;
    assert_eq!(append(&store, &ann, &keyed("twice")).await, Appended::Known { id: once.id });
    let taken = take(&store, &ann, None).await;
    assert_eq!(bodies(&taken.entries), ["once"]);
    let ack = [(taken.entries[0].seq, crate::Settlement::Ack)];
    store.settle(&ann, taken.epoch, &ack).await.expect("an answer");
    assert_eq!(append(&store, &ann, &keyed("later")).await, Appended::Known { id: once.id });
    // Another inbox knows nothing of it, and neither does one at another path.
    place(&store, &bob, &keyed("to bob")).await;
    let other = Address::of_user(user("ann"), "/queue/other".into());
    place(&store, &other, &keyed("elsewhere")).await;
}

/// One of many at once is stored.
pub async fn a_key_is_known_however_many_say_it_at_once<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let drafts: Vec<_> = (0..30).map(|_| Draft { key: Some("k".into()), ..draft("x") }).collect();
    let appended = join_all(drafts.iter().map(|draft| append(&store, &ann, draft))).await;
    let stored: Vec<_> = drafts
        .iter()
        .zip(&appended)
        .filter(|(_, appended)| matches!(appended, Appended::Stored { .. }))
        .map(|(draft, _)| draft.id)
        .collect();
    assert_eq!(stored.len(), 1, "{appended:?}");
    let known = Appended::Known { id: stored[0] };
    assert_eq!(appended.iter().filter(|appended| **appended == known).count(), 29);
}

/// The last of a collapse key waits, and what somebody was given stays.
pub async fn a_collapse_key_replaces_what_nobody_was_given<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let collapsing = |body| Draft { collapse: Some("c".into()), ..draft(body) };
    let first = collapsing("1");
    place(&store, &ann, &first).await;
    fill(&store, &ann, &["between"]).await;
    let Appended::Stored { dropped, .. } = append(&store, &ann, &collapsing("2")).await else {
        panic!("it is not stored");
    };
    assert_eq!((dropped.len(), dropped[0].id), (1, first.id));
    assert_eq!(bodies(&take(&store, &ann, None).await.entries), ["between", "2"]);
    let Appended::Stored { dropped, .. } = append(&store, &ann, &collapsing("3")).await else {
        panic!("it is not stored");
    };
    assert_eq!(dropped, [], "somebody has it");
    assert_eq!(bodies(&take(&store, &ann, None).await.entries), ["between", "2", "3"]);
}

/// Different inboxes are different, however their names are cut and whatever is in them.
pub async fn names_do_not_meet_whatever_they_are<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let long = "x".repeat(512);
    let names = ["a", "a/b", "a\0b", "{a}", "a}:i:{b", "%41", "A", "é", " ", "a:i:/b", &*long];
    let paths = ["/b", "/b/c", "/{b}", "/b\0c", "/%2F", "/:x", "/é", &*long];
    let mut all = Vec::new();
    for name in names {
        for path in paths {
            all.push(Address::of_user(user(name), path.to_owned().into()));
        }
    }
    all.extend(paths.map(|path| Address::Outbox { destination: path.to_owned().into() }));
    for (n, of) in all.iter().enumerate() {
        place(&store, of, &draft(&n.to_string())).await;
    }
    for (n, of) in all.iter().enumerate() {
        assert_eq!(bodies(&take(&store, of, None).await.entries), [n.to_string()], "{of:?}");
    }
    for name in names {
        let mut wanted = paths.map(str::to_owned);
        wanted.sort();
        let found = store.paths(&user(name)).await.expect("an answer");
        assert_eq!(found, wanted.map(bytestring::ByteString::from), "{name:?}");
    }
}

/// Whoever has an inbox is known, and whoever is told.
pub async fn users_are_known_by_what_is_stored_for_them_or_by_being_told<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    fill(&store, &inbox_of("ann"), &["x"]).await;
    let outbox = Address::Outbox { destination: "/topic/x".into() };
    fill(&store, &outbox, &["x"]).await;
    store.know(&[user("bob"), user("ann")]).await.expect("an answer");
    let known = store.known(&PageRequest::first(10)).await.expect("an answer");
    let known: BTreeSet<_> = known.items.into_iter().collect();
    assert_eq!(known, BTreeSet::from([user("ann"), user("bob")]));
}

/// All that was a user's is gone, and begins anew.
pub async fn a_forgotten_user_has_nothing<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let once = Draft { key: Some("k".into()), ..draft("once") };
    let before = place(&store, &ann, &once).await;
    fill(&store, &Address::of_user(user("ann"), "/queue/other".into()), &["x"]).await;
    fill(&store, &inbox_of("bob"), &["x"]).await;
    store.forget(&user("ann")).await.expect("an answer");
    assert_eq!(take(&store, &ann, None).await.entries, []);
    assert!(store.paths(&user("ann")).await.expect("an answer").is_empty());
    let known = store.known(&PageRequest::first(10)).await.expect("an answer");
    assert_eq!(known.items, [user("bob")]);
    let again = place(&store, &ann, &Draft { key: Some("k".into()), ..draft("again") }).await;
    assert!(again.epoch != before.epoch && again.seq == 1, "{again:?}");
    assert_eq!(bodies(&take(&store, &ann, Some(before)).await.entries), ["again"]);
}
