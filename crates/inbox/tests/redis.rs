//! Inboxes in Redis.

mod common;

use std::time::{Duration, SystemTime};

use common::{append, bodies, draft, inbox_of, shared, take, until, user};
use inbox::{Appended, Config, Draft, Inbox, Overflow, Position, Purge, Settlement, State};
use presence::{Boot, PageRequest};

fn at(appended: Appended) -> Position {
    match appended {
        Appended::Stored { at, .. } => at,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_appended_is_taken_in_order_and_settled() {
    let store = shared(Config::default()).await;
    let ann = inbox_of("ann");
    let empty = take(&store, &ann, None).await.unwrap();
    assert_eq!((empty.entries.len(), empty.upto.seq, empty.more), (0, 0, false));
    let mut one = draft("one");
    one.headers = vec![("content-type".into(), "text/plain".into()), ("a".into(), "".into())];
    let first = at(append(&store, &ann, &one).await.unwrap());
    let second = at(append(&store, &ann, &draft("two")).await.unwrap());
    assert_eq!((first.seq, second.seq), (1, 2));
    assert_eq!(first.epoch, second.epoch);
    let taken = take(&store, &ann, None).await.unwrap();
    assert_eq!(bodies(&taken.entries), ["one", "two"]);
    assert_eq!(taken.entries[0].headers, one.headers);
    assert_eq!((taken.entries[0].id, taken.entries[0].from), (one.id, one.from));
    assert_eq!(taken.entries[0].attempts, 0);
    assert_eq!(taken.changes.len(), 2);
    assert_eq!(taken.upto, second);
    let count = store.count(&ann).await.unwrap();
    assert_eq!((count.delivered, count.pending, count.messages()), (2, 0, 2));
    let settled =
        store.settle(&ann, taken.epoch, &[(1, Settlement::Ack), (2, Settlement::Release)]).await;
    let states: Vec<_> = settled.unwrap().changes.iter().map(|c| c.status.state).collect();
    assert_eq!(states, [State::Acked, State::Pending]);
    let again = take(&store, &ann, Some(taken.upto)).await.unwrap();
    assert_eq!(bodies(&again.entries), ["two"]);
    assert_eq!(again.entries[0].attempts, 1);
    let known = store.status(&ann, &[one.id, Boot::generate().ulid()]).await.unwrap();
    assert_eq!(known[0].unwrap().state, State::Acked);
    assert_eq!(known[1], None);
    assert_eq!(store.paths(&user("ann")).await.unwrap(), ["/queue/news"]);
    store.settle(&ann, taken.epoch, &[(2, Settlement::Ack)]).await.unwrap();
    assert_eq!(store.paths(&user("ann")).await.unwrap().len(), 0);
    assert_eq!(store.count(&ann).await.unwrap().bytes, 0);
}

#[tokio::test]
async fn time_moves_entries_on() {
    let config = Config {
        ack_wait: Duration::from_millis(100),
        retry: Duration::from_millis(10),
        ..Config::default()
    };
    let store = shared(config).await;
    let ann = inbox_of("ann");
    let soon = SystemTime::now() + Duration::from_millis(50);
    let late = Draft { deliver_at: Some(soon), ..draft("late") };
    assert!(matches!(append(&store, &ann, &late).await, Ok(Appended::Scheduled { .. })));
    let brief = Draft { expires_at: Some(soon), ..draft("brief") };
    at(append(&store, &ann, &brief).await.unwrap());
    let listed = store.list(&ann, &PageRequest::first(1)).await.unwrap();
    assert_eq!(listed.items[0].id, brief.id);
    let listed = store.list(&ann, &PageRequest::after(listed.next.unwrap(), 1)).await.unwrap();
    assert_eq!((listed.items[0].id, listed.next), (late.id, None));
    let (mut due, mut changes) = (Vec::new(), Vec::new());
    until(async || {
        let advanced = store.advance().await.unwrap();
        due.extend(advanced.due);
        changes.extend(advanced.changes.into_iter().flat_map(|(_, changes)| changes));
        changes.len() == 2
    })
    .await;
    assert_eq!(due, [ann.clone()]);
    let taken = take(&store, &ann, None).await.unwrap();
    assert_eq!(bodies(&taken.entries), ["late"]);
    until(async || store.advance().await.unwrap().due == [ann.clone()]).await;
    let taken = take(&store, &ann, Some(taken.upto)).await.unwrap();
    assert_eq!((bodies(&taken.entries), taken.entries[0].attempts), (vec!["late".to_owned()], 1));
    let seq = taken.entries[0].seq;
    store.settle(&ann, taken.epoch, &[(seq, Settlement::Nack)]).await.unwrap();
    until(async || store.advance().await.unwrap().due == [ann.clone()]).await;
}

#[tokio::test]
async fn a_full_inbox_refuses_or_lets_the_oldest_go() {
    let config = Config { max_messages: 2, ..Config::default() };
    let store = shared(config.clone()).await;
    let ann = inbox_of("ann");
    for body in ["1", "2"] {
        append(&store, &ann, &draft(body)).await.unwrap();
    }
    let full = append(&store, &ann, &draft("3")).await.unwrap();
    assert!(matches!(full, Appended::Full { count } if count.pending == 2), "{full:?}");
    let store = shared(Config { overflow: Overflow::DropOldest, ..config }).await;
    for body in ["1", "2"] {
        append(&store, &ann, &draft(body)).await.unwrap();
    }
    let stored = append(&store, &ann, &draft("3")).await.unwrap();
    assert!(matches!(stored, Appended::Stored { dropped, .. } if dropped.len() == 1));
    assert_eq!(bodies(&take(&store, &ann, None).await.unwrap().entries), ["2", "3"]);
    let purged = store.purge(&ann, &Purge::All).await.unwrap();
    assert_eq!(purged.changes.len(), 2);
}

#[tokio::test]
async fn keys_and_collapse_keys() {
    let store = shared(Config::default()).await;
    let ann = inbox_of("ann");
    let once = Draft { key: Some("k".into()), ..draft("once") };
    at(append(&store, &ann, &once).await.unwrap());
    let twice = Draft { key: Some("k".into()), ..draft("twice") };
    assert_eq!(append(&store, &ann, &twice).await.unwrap(), Appended::Known { id: once.id });
    let collapsing = |body| Draft { collapse: Some("c".into()), ..draft(body) };
    at(append(&store, &ann, &collapsing("1")).await.unwrap());
    let stored = append(&store, &ann, &collapsing("2")).await.unwrap();
    assert!(matches!(stored, Appended::Stored { dropped, .. } if dropped.len() == 1));
    let taken = take(&store, &ann, None).await.unwrap();
    assert_eq!(bodies(&taken.entries), ["once", "2"]);
    let stored = append(&store, &ann, &collapsing("3")).await.unwrap();
    assert!(matches!(stored, Appended::Stored { dropped, .. } if dropped.is_empty()));
    store.forget(&user("ann")).await.unwrap();
    assert_eq!(store.known(&PageRequest::first(10)).await.unwrap().items, []);
    let other = at(append(&store, &ann, &once).await.unwrap());
    assert!(other.epoch != taken.epoch && other.seq == 1);
    assert_eq!(store.known(&PageRequest::first(10)).await.unwrap().items, [user("ann")]);
}
