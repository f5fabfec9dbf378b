//! What becomes of what was taken.

use std::time::Duration;

use super::{
    advance_until, append, bodies, draft, fill, inbox_of, state, states, take, take_some, until,
};
use crate::{Config, Inbox, Settlement, State};

/// An ACK is the end; what is given back can be had at once, before what is new.
pub async fn what_is_acknowledged_leaves_and_what_is_given_back_comes_again_first<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let (one, two) = (draft("1"), draft("2"));
    for draft in [&one, &two] {
        append(&store, &ann, draft).await;
    }
    fill(&store, &ann, &["3"]).await;
    let first = take_some(&store, &ann, None, 2).await;
    let settle = [(1, Settlement::Release), (2, Settlement::Ack)];
    let settled = store.settle(&ann, first.epoch, &settle).await.expect("an answer");
    assert_eq!(states(&settled.changes), [State::Pending, State::Acked]);
    assert_eq!(settled.changes[1].id, two.id);
    assert_eq!(state(&store, &ann, &one).await, Some(State::Pending));
    assert_eq!(state(&store, &ann, &two).await, Some(State::Acked));
    let rest = take(&store, &ann, Some(first.upto)).await;
    assert_eq!((bodies(&rest.entries), rest.upto.seq), (vec!["1".to_owned(), "3".to_owned()], 3));
    assert_eq!(rest.entries[0].attempts, 1);
    assert_eq!(rest.changes[0].status.attempts, 2);
}

/// It is left alone for a while, and who takes then has it; that it can be had is told.
pub async fn what_is_refused_comes_again_after_a_pause_that_is_told<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config { retry: Duration::from_millis(100), ..Config::default() }).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1"]).await;
    let taken = take(&store, &ann, None).await;
    let settled = store.settle(&ann, taken.epoch, &[(1, Settlement::Nack)]).await;
    assert_eq!(states(&settled.expect("an answer").changes), [State::Pending]);
    let advanced = advance_until(&store, |advanced| !advanced.due.is_empty()).await;
    assert_eq!(advanced.due, std::slice::from_ref(&ann));
    let again = take(&store, &ann, Some(taken.upto)).await;
    assert_eq!((bodies(&again.entries), again.entries[0].attempts), (vec!["1".to_owned()], 1));
    // Who begins has it in any case.
    store.settle(&ann, taken.epoch, &[(1, Settlement::Nack)]).await.expect("an answer");
    assert_eq!(bodies(&take(&store, &ann, None).await.entries), ["1"]);
}

/// Of several who have an entry the first says when it is tried again.
pub async fn what_was_refused_keeps_its_pause_whatever_others_say<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config { retry: Duration::from_secs(300), ..Config::default() }).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1"]).await;
    let taken = take(&store, &ann, None).await;
    assert_eq!(take(&store, &ann, None).await.entries.len(), 1);
    for (say, changed) in [(Settlement::Nack, 1), (Settlement::Release, 0), (Settlement::Nack, 0)] {
        let settled = store.settle(&ann, taken.epoch, &[(1, say)]).await.expect("an answer");
        assert_eq!(settled.changes.len(), changed, "{say:?}");
        assert_eq!(take(&store, &ann, Some(taken.upto)).await.entries, []);
    }
    // An ACK is late and still one.
    let settled = store.settle(&ann, taken.epoch, &[(1, Settlement::Ack)]).await;
    assert_eq!(states(&settled.expect("an answer").changes), [State::Acked]);
}

/// By a refusal or by being taken once more.
pub async fn what_was_tried_too_often_has_failed<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    fail(make, false).await;
}

/// It stays, is handed out to nobody, and is forgotten once it is buried.
pub async fn what_has_failed_waits_to_be_buried_where_that_is_wanted<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    fail(make, true).await;
}

async fn fail<S: Inbox>(make: impl AsyncFn(Config) -> S, keeps_failed: bool) {
    let retry = Duration::from_millis(10);
    let config = Config { max_attempts: 2, retry, keeps_failed, ..Config::default() };
    let store = make(config).await;
    let ann = inbox_of("ann");
    let (nacked, released, rejected) = (draft("nacked"), draft("released"), draft("rejected"));
    for draft in [&nacked, &released, &rejected] {
        append(&store, &ann, draft).await;
    }
    let taken = take(&store, &ann, None).await;
    let each = [(1, Settlement::Nack), (2, Settlement::Release), (3, Settlement::Reject)];
    let settled = store.settle(&ann, taken.epoch, &each).await.expect("an answer");
    assert_eq!(states(&settled.changes), [State::Pending, State::Pending, State::Failed]);
    let kept: Vec<_> = if keeps_failed { vec!["rejected"] } else { vec![] };
    assert_eq!(bodies(&settled.failed), kept);
    until(async || {
        take(&store, &ann, Some(taken.upto)).await;
        store.count(&ann).await.expect("an answer").delivered == 2
    })
    .await;
    let each = [(1, Settlement::Nack), (2, Settlement::Release)];
    let settled = store.settle(&ann, taken.epoch, &each).await.expect("an answer");
    assert_eq!(states(&settled.changes), [State::Failed, State::Pending]);
    // What was given back has been handed out often enough.
    let last = take(&store, &ann, Some(taken.upto)).await;
    assert_eq!((states(&last.changes), last.entries.len()), (vec![State::Failed], 0));
    let ids = [nacked.id, released.id, rejected.id];
    let status = store.status(&ann, &ids).await.expect("an answer");
    let status: Vec<_> = status.into_iter().flatten().map(|s| (s.state, s.attempts)).collect();
    assert_eq!(status, [(State::Failed, 2), (State::Failed, 2), (State::Failed, 1)]);
    let count = store.count(&ann).await.expect("an answer");
    assert_eq!((count.messages(), count.failed), if keeps_failed { (3, 3) } else { (0, 0) });
    assert_eq!(take(&store, &ann, None).await.entries, []);
    store.bury(&ann, &ids).await.expect("an answer");
    assert_eq!(store.count(&ann).await.expect("an answer").messages(), 0);
    assert_eq!(state(&store, &ann, &nacked).await, Some(State::Failed));
}

/// What is settled already, never was, or is of another epoch.
pub async fn what_is_not_there_is_left_out<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1", "2"]).await;
    let taken = take(&store, &ann, None).await;
    let elsewhere = store.settle(&ann, taken.epoch ^ 1, &[(1, Settlement::Ack)]).await;
    assert!(elsewhere.expect("an answer").changes.is_empty());
    let twice = [(1, Settlement::Ack), (1, Settlement::Nack), (9, Settlement::Ack)];
    let settled = store.settle(&ann, taken.epoch, &twice).await.expect("an answer");
    assert_eq!(states(&settled.changes), [State::Acked]);
    let settled = store.settle(&ann, taken.epoch, &twice).await.expect("an answer");
    assert!(settled.changes.is_empty());
    assert_eq!(store.count(&ann).await.expect("an answer").messages(), 1);
    assert_eq!(store.status(&ann, &[draft("x").id]).await.expect("an answer"), [None]);
}
