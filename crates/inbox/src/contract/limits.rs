//! How much an inbox holds and remembers.

use bytesize::ByteSize;

use super::{append, bodies, draft, fill, inbox_of, place, states, take};
use crate::{Appended, Config, Draft, Inbox, Overflow, Position, Settlement, State};

/// Once there is room again it takes more.
pub async fn a_full_inbox_refuses<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config { max_messages: 2, ..Config::default() }).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1", "2"]).await;
    let full = append(&store, &ann, &draft("3")).await;
    assert!(matches!(full, Appended::Full { count } if count.pending == 2), "{full:?}");
    let taken = take(&store, &ann, None).await;
    let ack = store.settle(&ann, taken.epoch, &[(1, Settlement::Ack)]).await;
    ack.expect("an answer");
    assert_eq!(place(&store, &ann, &draft("4")).await.seq, 3);
}

/// And says which.
pub async fn a_full_inbox_lets_the_oldest_go<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let overflow = Overflow::DropOldest;
    let store = make(Config { max_messages: 2, overflow, ..Config::default() }).await;
    let ann = inbox_of("ann");
    let oldest = draft("1");
    place(&store, &ann, &oldest).await;
    fill(&store, &ann, &["2"]).await;
    let Appended::Stored { dropped, .. } = append(&store, &ann, &draft("3")).await else {
        panic!("it is not stored");
    };
    assert_eq!((states(&dropped), dropped[0].id), (vec![State::Dropped], oldest.id));
    assert_eq!(bodies(&take(&store, &ann, None).await.entries), ["2", "3"]);
}

/// Bodies and headers, and something for each message.
pub async fn bytes_are_counted<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config { max_bytes: ByteSize::kib(1), ..Config::default() }).await;
    let ann = inbox_of("ann");
    let mut long = draft(&"x".repeat(500));
    long.headers = vec![("name".into(), "value".into())];
    place(&store, &ann, &long).await;
    let count = store.count(&ann).await.expect("an answer");
    assert_eq!((count.bytes, long.cost()), (long.cost(), 500 + 9 + 128));
    let full = append(&store, &ann, &draft(&"x".repeat(500))).await;
    assert!(matches!(full, Appended::Full { .. }), "{full:?}");
    place(&store, &ann, &draft("short")).await;
}

/// Nor does anything give way to it, neither the oldest nor what it would have replaced.
pub async fn what_does_not_fit_takes_nobodys_place<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let store =
            make(Config { max_bytes: ByteSize::kib(1), overflow, ..Config::default() }).await;
        let ann = inbox_of("ann");
        let score = |body: &str| Draft { collapse: Some("score".into()), ..draft(body) };
        fill(&store, &ann, &["old"]).await;
        place(&store, &ann, &score("1:0")).await;
        for long in [draft(&"x".repeat(1_000)), score(&"x".repeat(1_000))] {
            let full = append(&store, &ann, &long).await;
            assert!(matches!(full, Appended::Full { count } if count.pending == 2), "{full:?}");
        }
        if overflow == Overflow::Refuse {
            let full = append(&store, &ann, &score(&"x".repeat(850))).await;
            assert!(matches!(full, Appended::Full { count } if count.pending == 2), "{full:?}");
        }
        // It fits, but only in the place of the last.
        let longer = append(&store, &ann, &score(&"x".repeat(740))).await;
        assert!(matches!(longer, Appended::Stored { .. }), "{longer:?}");
        let all = bodies(&take(&store, &ann, None).await.entries);
        assert_eq!((all[0].as_str(), all.len()), ("old", 2));
    }
}

/// The last that left.
pub async fn so_many_are_remembered<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config { remembered: 2, ..Config::default() }).await;
    let ann = inbox_of("ann");
    let all = ["1", "2", "3"].map(draft);
    for one in &all {
        place(&store, &ann, one).await;
    }
    let taken = take(&store, &ann, None).await;
    let acks = [1, 2, 3].map(|seq| (seq, Settlement::Ack));
    store.settle(&ann, taken.epoch, &acks).await.expect("an answer");
    let status = store.status(&ann, &all.map(|one| one.id)).await.expect("an answer");
    let states: Vec<_> = status.iter().map(|s| s.map(|s| s.state)).collect();
    assert_eq!(states, [None, Some(State::Acked), Some(State::Acked)]);
    // The numbers go on.
    let next = place(&store, &ann, &draft("4")).await;
    assert_eq!(next, Position { epoch: taken.epoch, seq: 4 });
    assert_eq!(bodies(&take(&store, &ann, Some(taken.upto)).await.entries), ["4"]);
}
