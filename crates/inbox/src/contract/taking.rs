//! What is taken, by whom.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{bodies, draft, fill, inbox_of, place, states, take, take_some};
use crate::{Config, Inbox, Position, Settlement, State, Take};

/// What comes out is what was put in.
pub async fn what_is_appended_is_taken_in_order_whole<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let empty = take(&store, &ann, None).await;
    assert_eq!((empty.entries.len(), empty.upto.seq, empty.more), (0, 0, false));
    let mut one = draft("one");
    one.headers = vec![("content-type".into(), "text/plain".into()), ("a".into(), "".into())];
    place(&store, &ann, &one).await;
    let mut two = draft("");
    two.body = bytes::Bytes::from_static(&[0, 255, 10]);
    let last = place(&store, &ann, &two).await;
    let taken = take(&store, &ann, None).await;
    assert_eq!(taken.entries[0].headers, one.headers);
    assert_eq!((taken.entries[0].id, taken.entries[0].from), (one.id, one.from));
    assert_eq!((&taken.entries[0].body, &taken.entries[1].body), (&one.body, &two.body));
    assert!(taken.entries.iter().all(|entry| entry.attempts == 0));
    assert_eq!(states(&taken.changes), [State::Delivered; 2]);
    assert_eq!((taken.upto, taken.epoch, taken.more), (last, last.epoch, false));
}

/// From the beginning, and then what came since.
pub async fn whoever_begins_gets_everything_and_goes_on_behind_it<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1", "2"]).await;
    let first = take(&store, &ann, None).await;
    let nothing = take(&store, &ann, Some(first.upto)).await;
    assert_eq!((nothing.entries.len(), nothing.upto, nothing.more), (0, first.upto, false));
    fill(&store, &ann, &["3"]).await;
    assert_eq!(bodies(&take(&store, &ann, Some(nothing.upto)).await.entries), ["3"]);
    let again = take(&store, &ann, None).await;
    assert_eq!(bodies(&again.entries), ["1", "2", "3"]);
}

/// What one holds the other gets, too, and it counts as one attempt.
pub async fn each_subscriber_gets_each_entry_and_attempts_count_once<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1", "2", "3"]).await;
    let first = take_some(&store, &ann, None, 2).await;
    assert_eq!((bodies(&first.entries), first.more), (vec!["1".to_owned(), "2".to_owned()], true));
    let second = take(&store, &ann, None).await;
    let attempts: Vec<_> = second.entries.iter().map(|entry| entry.attempts).collect();
    assert_eq!((bodies(&second.entries).len(), attempts), (3, vec![1, 1, 0]));
    assert_eq!(second.changes.len(), 1, "two were delivered before");
    let third = take(&store, &ann, None).await;
    assert!(third.entries.iter().all(|entry| entry.attempts == 1));
}

/// Whoever comes with a place that means nothing here misses nothing.
pub async fn a_place_of_another_epoch_is_the_beginning<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let at = place(&store, &ann, &draft("1")).await;
    let elsewhere = Position { epoch: at.epoch ^ 1, seq: 7 };
    let taken = take(&store, &ann, Some(elsewhere)).await;
    assert_eq!((bodies(&taken.entries), taken.upto), (vec!["1".to_owned()], at));
}

/// Both limits hold, and one entry is always given.
pub async fn a_page_has_so_many_entries_and_bytes_but_for_its_first<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    for length in [300, 100, 100, 1, 1] {
        place(&store, &ann, &draft(&"x".repeat(length))).await;
    }
    let mut lengths = Vec::new();
    let mut after = None;
    loop {
        let take = Take { of: &ann, after, limit: 3, max_bytes: 200 };
        let taken = store.take(&take).await.expect("an answer");
        lengths.push(taken.entries.len());
        after = Some(taken.upto);
        if !taken.more {
            break;
        }
    }
    assert_eq!(lengths, [1, 2, 2]);
}

/// From behind everything there is what nobody has.
pub async fn the_end_gets_what_nobody_holds<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1", "2", "3", "4", "5"]).await;
    let held = take_some(&store, &ann, None, 2).await;
    let taken = take_some(&store, &ann, Some(Position::END), 2).await;
    assert_eq!((bodies(&taken.entries), taken.more), (vec!["3".to_owned(), "4".to_owned()], true));
    assert_eq!((taken.upto, taken.epoch), (Position::END, held.epoch));
    let taken = take_some(&store, &ann, Some(Position::END), 2).await;
    assert_eq!((bodies(&taken.entries), taken.more), (vec!["5".to_owned()], false));
    assert_eq!(take(&store, &ann, Some(Position::END)).await.entries, []);
    store.settle(&ann, held.epoch, &[(2, Settlement::Release)]).await.expect("an answer");
    assert_eq!(bodies(&take(&store, &ann, Some(Position::END)).await.entries), ["2"]);
}

/// None of what several take there at once is taken twice.
pub async fn takers_at_the_end_share<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let outbox = crate::Address::Outbox { destination: "/topic/x".into() };
    let all: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    for body in &all {
        place(&store, &outbox, &draft(body)).await;
    }
    let takers = (0..10).map(|_| take_some(&store, &outbox, Some(Position::END), 5));
    let taken: Vec<_> =
        join_all(takers).await.iter().flat_map(|taken| bodies(&taken.entries)).collect();
    assert_eq!(taken.len(), 50);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), all.into_iter().collect());
}
