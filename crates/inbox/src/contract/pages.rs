//! What can be asked, and what is dropped by an order.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use presence::PageRequest;

use super::{append, bodies, draft, fill, inbox_of, place, states, take, take_some, user};
use crate::{Address, Config, Draft, Inbox, PREVIEW, Purge, Settlement, State};

/// First what has its place, then what is scheduled, by its time.
pub async fn everything_is_on_one_page<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let later = |seconds| Some(SystemTime::now() + Duration::from_secs(seconds));
    let long = "x".repeat(PREVIEW + 1);
    let headers = vec![("a".into(), "b".into()), ("c".into(), "".into())];
    let last = Draft { deliver_at: later(200), headers, ..draft(&long) };
    let late = Draft { deliver_at: later(100), ..draft("late") };
    for draft in [&last, &late] {
        append(&store, &ann, draft).await;
    }
    let placed = ["1", "2", "3"].map(draft);
    for draft in &placed {
        place(&store, &ann, draft).await;
    }
    for limit in [1, 2, 3, 10] {
        let mut listed = Vec::new();
        let mut page = PageRequest::first(limit);
        loop {
            let found = store.list(&ann, &page).await.expect("an answer");
            assert!(found.items.len() <= limit);
            listed.extend(found.items);
            match found.next {
                Some(next) => page = PageRequest::after(next, limit),
                None => break,
            }
        }
        let ids: Vec<_> = listed.iter().map(|listed| listed.id).collect();
        let wanted: Vec<_> = placed.iter().chain([&late, &last]).map(|draft| draft.id).collect();
        assert_eq!(ids, wanted, "in pages of {limit}");
        let seqs: Vec<_> = listed.iter().map(|listed| listed.seq).collect();
        assert_eq!(seqs, [Some(1), Some(2), Some(3), None, None]);
        assert!(listed[3].deliver_at.is_some() && listed[0].deliver_at.is_none());
        assert!(listed.iter().all(|listed| listed.expires_at > SystemTime::now()));
        assert_eq!(listed[0].cost, placed[0].cost());
        let previews: Vec<_> = listed.iter().map(|listed| &*listed.preview).collect();
        let wanted = [&b"1"[..], b"2", b"3", b"late", &long.as_bytes()[..PREVIEW]];
        assert_eq!(previews, wanted);
    }
}

/// Each is counted by how it stands.
pub async fn what_stands_how_is_counted<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let begun = SystemTime::now() - Duration::from_secs(5);
    assert_eq!(store.count(&ann).await.expect("an answer").messages(), 0);
    fill(&store, &ann, &["1", "2", "3"]).await;
    let later = Some(SystemTime::now() + Duration::from_secs(100));
    append(&store, &ann, &Draft { deliver_at: later, ..draft("late") }).await;
    take_some(&store, &ann, None, 1).await;
    let count = store.count(&ann).await.expect("an answer");
    let counted = (count.scheduled, count.pending, count.delivered, count.failed);
    assert_eq!(counted, (1, 2, 1, 0));
    assert!(count.bytes > 4 * 128 && count.oldest.is_some_and(|oldest| oldest > begun));
}

/// Those with something in them.
pub async fn inboxes_of_a_user_are_listed<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let at = |path: &str| Address::of_user(user("ann"), path.to_owned().into());
    for path in ["/queue/b", "/queue/a", "/c"] {
        fill(&store, &at(path), &["x"]).await;
    }
    fill(&store, &inbox_of("ann2"), &["x"]).await;
    // Who looked at one has not made it.
    take(&store, &at("/queue/empty"), None).await;
    let paths = store.paths(&user("ann")).await.expect("an answer");
    assert_eq!(paths, ["/c", "/queue/a", "/queue/b"]);
    let taken = take(&store, &at("/c"), None).await;
    store.settle(&at("/c"), taken.epoch, &[(1, Settlement::Ack)]).await.expect("an answer");
    let paths = store.paths(&user("ann")).await.expect("an answer");
    assert_eq!(paths, ["/queue/a", "/queue/b"]);
}

/// These, or all.
pub async fn what_is_purged_is_dropped<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let later = Some(SystemTime::now() + Duration::from_secs(100));
    let (one, late) = (draft("1"), Draft { deliver_at: later, ..draft("late") });
    for draft in [&one, &late] {
        append(&store, &ann, draft).await;
    }
    fill(&store, &ann, &["2", "3"]).await;
    let which = Purge::Ids(vec![one.id, draft("never").id, late.id]);
    let purged = store.purge(&ann, &which).await.expect("an answer");
    assert_eq!(states(&purged.changes), [State::Dropped; 2]);
    assert_eq!(bodies(&take(&store, &ann, None).await.entries), ["2", "3"]);
    let purged = store.purge(&ann, &Purge::All).await.expect("an answer");
    assert_eq!(states(&purged.changes), [State::Dropped; 2]);
    let status = store.status(&ann, &[one.id, late.id]).await.expect("an answer");
    assert!(status.iter().all(|s| s.is_some_and(|s| s.state == State::Dropped)));
    assert_eq!(store.count(&ann).await.expect("an answer").bytes, 0);
}

/// Each on one page.
pub async fn known_users_are_listed_in_pages<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let all: BTreeSet<_> = (0..57).map(|n| user(&format!("user-{n}"))).collect();
    store.know(&all.iter().cloned().collect::<Vec<_>>()).await.expect("an answer");
    let mut known = Vec::new();
    let mut page = PageRequest::first(10);
    loop {
        let found = store.known(&page).await.expect("an answer");
        assert!(found.items.len() <= 10);
        known.extend(found.items);
        match found.next {
            Some(next) => page = PageRequest::after(next, 10),
            None => break,
        }
    }
    assert_eq!(known.len(), 57);
    assert_eq!(known.into_iter().collect::<BTreeSet<_>>(), all);
}
