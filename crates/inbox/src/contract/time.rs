//! What time moves on.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;

use super::{
    advance_until, append, bodies, draft, fill, inbox_of, place, state, states, take, until,
};
use crate::{Appended, Change, Config, Draft, Inbox, State};

fn soon(millis: u64) -> Option<SystemTime> {
    Some(SystemTime::now() + Duration::from_millis(millis))
}

/// Not before, and behind what came meanwhile.
pub async fn what_is_scheduled_takes_its_place_when_it_is_due<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let at = soon(300);
    let late = Draft { deliver_at: at, ..draft("late") };
    let appended = append(&store, &ann, &late).await;
    assert!(matches!(appended, Appended::Scheduled { .. }), "{appended:?}");
    assert_eq!(state(&store, &ann, &late).await, Some(State::Scheduled));
    fill(&store, &ann, &["now"]).await;
    // What is past is for now.
    let past = Draft { deliver_at: Some(SystemTime::UNIX_EPOCH), ..draft("past") };
    place(&store, &ann, &past).await;
    let taken = take(&store, &ann, None).await;
    assert_eq!(bodies(&taken.entries), ["now", "past"]);
    let advanced = advance_until(&store, |advanced| !advanced.due.is_empty()).await;
    assert!(Some(SystemTime::now()) >= at);
    assert_eq!(advanced.due, std::slice::from_ref(&ann));
    let changes: Vec<Change> =
        advanced.changes.into_iter().flat_map(|(_, changes)| changes).collect();
    assert_eq!((states(&changes), changes[0].id), (vec![State::Pending], late.id));
    assert_eq!(bodies(&take(&store, &ann, Some(taken.upto)).await.entries), ["late"]);
}

/// Of several that ask at once.
pub async fn what_is_due_is_told_to_one<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    for n in 0..20 {
        let late = Draft { deliver_at: soon(50), ..draft("late") };
        append(&store, &inbox_of(&format!("user-{n}")), &late).await;
    }
    let mut told = Vec::new();
    until(async || {
        for advanced in join_all((0..4).map(|_| store.advance())).await {
            let changes = advanced.expect("an answer").changes;
            told.extend(changes.into_iter().map(|(of, changes)| (of, changes.len())));
        }
        told.len() >= 20
    })
    .await;
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 20, "none twice");
    assert!(told.iter().all(|(_, changes)| *changes == 1));
}

/// Neither before it is told nor after.
pub async fn what_has_expired_is_told_once_and_handed_out_to_nobody<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config::default()).await;
    let ann = inbox_of("ann");
    let at = soon(150);
    let brief = Draft { expires_at: at, ..draft("brief") };
    place(&store, &ann, &brief).await;
    let scheduled = Draft { expires_at: at, deliver_at: soon(60_000), ..draft("scheduled") };
    append(&store, &ann, &scheduled).await;
    fill(&store, &ann, &["stays"]).await;
    until(async || Some(SystemTime::now()) > at).await;
    // A clock of the store's own may be a little behind.
    until(async || bodies(&take(&store, &ann, None).await.entries) == ["stays"]).await;
    let count = |changes: &[(crate::Address, Vec<Change>)]| {
        changes.iter().map(|(_, changes)| changes.len()).sum::<usize>()
    };
    let advanced = advance_until(&store, |advanced| count(&advanced.changes) >= 2).await;
    let changes: Vec<_> = advanced.changes.into_iter().flat_map(|(_, changes)| changes).collect();
    assert_eq!(states(&changes), [State::Expired; 2]);
    assert_eq!(state(&store, &ann, &brief).await, Some(State::Expired));
    assert_eq!(store.count(&ann).await.expect("an answer").messages(), 1);
}

/// After `ack_wait`, and that is told.
pub async fn what_is_held_for_too_long_is_free_again<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config { ack_wait: Duration::from_millis(100), ..Config::default() }).await;
    let ann = inbox_of("ann");
    fill(&store, &ann, &["1"]).await;
    let taken = take(&store, &ann, None).await;
    let advanced = advance_until(&store, |advanced| !advanced.due.is_empty()).await;
    assert_eq!(advanced.due, std::slice::from_ref(&ann));
    let again = take(&store, &ann, Some(taken.upto)).await;
    assert_eq!((bodies(&again.entries), again.entries[0].attempts), (vec!["1".to_owned()], 1));
}

/// Inboxes in which nothing happens are no news.
pub async fn nothing_is_due_where_nothing_is<S: Inbox>(make: impl AsyncFn(Config) -> S) {
    let store = make(Config::default()).await;
    fill(&store, &inbox_of("ann"), &["1"]).await;
    let late = Draft { deliver_at: soon(100), ..draft("late") };
    append(&store, &inbox_of("bob"), &late).await;
    let advanced = advance_until(&store, |advanced| !advanced.due.is_empty()).await;
    assert_eq!(advanced.due, [inbox_of("bob")]);
}

/// Nobody else would look into it.
pub async fn an_outbox_is_told_until_somebody_takes_from_it<S: Inbox>(
    make: impl AsyncFn(Config) -> S,
) {
    let store = make(Config { ack_wait: Duration::from_millis(100), ..Config::default() }).await;
    let outbox = crate::Address::Outbox { destination: "/topic/x".into() };
    place(&store, &outbox, &draft("now")).await;
    let late = Draft { deliver_at: soon(50), ..draft("late") };
    append(&store, &outbox, &late).await;
    let advanced = advance_until(&store, |advanced| advanced.due.len() >= 3).await;
    assert!(advanced.due.iter().all(|due| *due == outbox));
    let taken = take(&store, &outbox, Some(crate::Position::END)).await;
    assert_eq!(bodies(&taken.entries), ["now", "late"]);
    let acks: Vec<_> =
        taken.entries.iter().map(|entry| (entry.seq, crate::Settlement::Ack)).collect();
    store.settle(&outbox, taken.epoch, &acks).await.expect("an answer");
    // What would be told of it would come before this.
    fill(&store, &inbox_of("ann"), &["1"]).await;
    take(&store, &inbox_of("ann"), None).await;
    let advanced = advance_until(&store, |advanced| advanced.due.contains(&inbox_of("ann"))).await;
    let others = advanced.due.iter().filter(|due| **due == outbox).count();
    assert!(others <= 1, "one look may be due yet: {others}");
}
