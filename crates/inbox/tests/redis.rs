//! Inboxes in Redis.

mod common;

use std::time::{Duration, SystemTime};

use common::{append, bodies, draft, inbox_of, shared, take, until, user};
use inbox::{
    Address, Appended, Config, Draft, Inbox, Overflow, Position, Purge, RedisInbox, Settlement,
    State, Take, Taken,
};
use presence::{Boot, PageRequest};

fn at(appended: Appended) -> Position {
    match appended {
        Appended::Stored { at, .. } => at,
        other => panic!("{other:?}"),
    }
}

async fn take_some(
    store: &RedisInbox,
    of: &Address,
    after: Option<Position>,
    limit: usize,
) -> Taken {
    store.take(&Take { of, after, limit, max_bytes: 1 << 30 }).await.expect("an answer")
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
    assert_eq!(due, std::slice::from_ref(&ann));
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

#[tokio::test]
async fn each_subscriber_gets_each_entry_and_attempts_count_once() {
    let store = shared(Config::default()).await;
    let ann = inbox_of("ann");
    for body in ["1", "2", "3"] {
        append(&store, &ann, &draft(body)).await.unwrap();
    }
    let first = take_some(&store, &ann, None, 2).await;
    assert_eq!((bodies(&first.entries), first.more), (vec!["1".to_owned(), "2".to_owned()], true));
    let second = take(&store, &ann, None).await.unwrap();
    let attempts: Vec<_> = second.entries.iter().map(|entry| entry.attempts).collect();
    assert_eq!((bodies(&second.entries).len(), attempts), (3, vec![1, 1, 0]));
    assert_eq!(second.changes.len(), 1);
    // The first goes on where it was, and what was given back meanwhile comes first.
    let settle = [(1, Settlement::Release), (2, Settlement::Ack)];
    store.settle(&ann, first.epoch, &settle).await.unwrap();
    let rest = take(&store, &ann, Some(first.upto)).await.unwrap();
    assert_eq!((bodies(&rest.entries), rest.upto.seq), (vec!["1".to_owned(), "3".to_owned()], 3));
    assert_eq!(rest.entries[0].attempts, 1);
    assert_eq!(rest.changes[0].status.attempts, 2);
    // A place of another epoch is the beginning.
    let elsewhere = Position { epoch: first.epoch ^ 1, seq: 3 };
    assert_eq!(take(&store, &ann, Some(elsewhere)).await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn the_end_gets_what_nobody_holds() {
    let store = shared(Config::default()).await;
    let ann = inbox_of("ann");
    for body in ["1", "2", "3", "4", "5"] {
        append(&store, &ann, &draft(body)).await.unwrap();
    }
    let held = take_some(&store, &ann, None, 2).await;
    let taken = take_some(&store, &ann, Some(Position::END), 2).await;
    assert_eq!((bodies(&taken.entries), taken.more), (vec!["3".to_owned(), "4".to_owned()], true));
    assert_eq!((taken.upto, taken.epoch), (Position::END, held.epoch));
    let taken = take_some(&store, &ann, Some(Position::END), 2).await;
    assert_eq!((bodies(&taken.entries), taken.more), (vec!["5".to_owned()], false));
    assert_eq!(take(&store, &ann, Some(Position::END)).await.unwrap().entries, []);
}

#[tokio::test]
async fn a_page_has_so_many_bytes_but_for_its_first() {
    let store = shared(Config::default()).await;
    let ann = inbox_of("ann");
    for length in [300, 100, 100] {
        append(&store, &ann, &draft(&"x".repeat(length))).await.unwrap();
    }
    let mut lengths = Vec::new();
    let mut after = None;
    loop {
        let taken = store.take(&Take { of: &ann, after, limit: 10, max_bytes: 200 }).await.unwrap();
        lengths.push(taken.entries.len());
        after = Some(taken.upto);
        if !taken.more {
            break;
        }
    }
    assert_eq!(lengths, [1, 2]);
}

#[tokio::test]
async fn what_was_tried_too_often_has_failed_and_waits_to_be_buried() {
    for keeps_failed in [false, true] {
        let retry = Duration::from_millis(10);
        let config = Config { max_attempts: 2, retry, keeps_failed, ..Config::default() };
        let store = shared(config).await;
        let ann = inbox_of("ann");
        let (nacked, released, rejected) = (draft("nacked"), draft("released"), draft("rejected"));
        for draft in [&nacked, &released, &rejected] {
            append(&store, &ann, draft).await.unwrap();
        }
        let taken = take(&store, &ann, None).await.unwrap();
        let each = [(1, Settlement::Nack), (2, Settlement::Release), (3, Settlement::Reject)];
        let settled = store.settle(&ann, taken.epoch, &each).await.unwrap();
        let states: Vec<_> = settled.changes.iter().map(|c| c.status.state).collect();
        assert_eq!(states, [State::Pending, State::Pending, State::Failed]);
        let kept: Vec<_> = if keeps_failed { vec!["rejected"] } else { vec![] };
        assert_eq!(bodies(&settled.failed), kept);
        until(async || {
            take(&store, &ann, Some(taken.upto)).await.unwrap();
            store.count(&ann).await.unwrap().delivered == 2
        })
        .await;
        let each = [(1, Settlement::Nack), (2, Settlement::Release)];
        let settled = store.settle(&ann, taken.epoch, &each).await.unwrap();
        let states: Vec<_> = settled.changes.iter().map(|c| c.status.state).collect();
        assert_eq!(states, [State::Failed, State::Pending]);
        // What was given back has been handed out often enough.
        let last = take(&store, &ann, Some(taken.upto)).await.unwrap();
        assert_eq!((bodies(&last.failed), last.entries.len()), (vec!["released".to_owned()], 0));
        let count = store.count(&ann).await.unwrap();
        assert_eq!(count.messages(), if keeps_failed { 3 } else { 0 });
        let ids = [nacked.id, released.id, rejected.id];
        let status = store.status(&ann, &ids).await.unwrap();
        let status: Vec<_> = status.into_iter().flatten().map(|s| (s.state, s.attempts)).collect();
        assert_eq!(status, [(State::Failed, 2), (State::Failed, 2), (State::Failed, 1)]);
        let listed = store.list(&ann, &PageRequest::first(10)).await.unwrap();
        let seqs: Vec<_> = listed.items.iter().map(|listed| listed.seq).collect();
        assert_eq!(seqs, if keeps_failed { vec![Some(1), Some(2), Some(3)] } else { vec![] });
        assert!(listed.items.iter().all(|listed| listed.expires_at > SystemTime::now()));
        store.bury(&ann, &ids).await.unwrap();
        assert_eq!(store.count(&ann).await.unwrap().messages(), 0);
        assert_eq!(store.status(&ann, &ids).await.unwrap()[0].unwrap().state, State::Failed);
    }
}

#[tokio::test]
async fn the_same_message_twice_is_one() {
    let store = shared(Config::default()).await;
    let ann = inbox_of("ann");
    let one = draft("one");
    let first = append(&store, &ann, &one).await.unwrap();
    assert_eq!(append(&store, &ann, &one).await.unwrap(), first);
    assert_eq!(store.count(&ann).await.unwrap().messages(), 1);
}

#[tokio::test]
async fn so_many_are_remembered() {
    let store = shared(Config { remembered: 2, ..Config::default() }).await;
    let ann = inbox_of("ann");
    let all = ["1", "2", "3"].map(draft);
    for one in &all {
        append(&store, &ann, one).await.unwrap();
    }
    let taken = take(&store, &ann, None).await.unwrap();
    let acks = [1, 2, 3].map(|seq| (seq, Settlement::Ack));
    store.settle(&ann, taken.epoch, &acks).await.unwrap();
    let status = store.status(&ann, &all.map(|one| one.id)).await.unwrap();
    let states: Vec<_> = status.iter().map(|s| s.map(|s| s.state)).collect();
    assert_eq!(states, [None, Some(State::Acked), Some(State::Acked)]);
    // The numbers go on.
    let next = at(append(&store, &ann, &draft("4")).await.unwrap());
    assert_eq!(next, Position { epoch: taken.epoch, seq: 4 });
    assert_eq!(bodies(&take(&store, &ann, Some(taken.upto)).await.unwrap().entries), ["4"]);
}

/// Of a Redis that may forget a part, nothing comes twice and nothing is skipped.
#[tokio::test]
async fn what_is_left_of_an_inbox_is_handed_out() {
    let config = common::redis_config(&common::redis().await.uri());
    let store = common::store(Config::default(), config.clone()).await;
    let ann = inbox_of("ann");
    for body in ["1", "2"] {
        append(&store, &ann, &draft(body)).await.unwrap();
    }
    let before = take(&store, &ann, None).await.unwrap();
    let about = format!("{}:{{u:ann}}:i:/queue/news:x", config.namespace);
    common::redis().await.cli(&["del", &about]).await.unwrap();
    append(&store, &ann, &draft("3")).await.unwrap();
    let after = take(&store, &ann, Some(before.upto)).await.unwrap();
    assert_eq!((bodies(&after.entries).len(), after.upto.seq), (3, 3));
    assert_ne!(after.epoch, before.epoch);
}

/// One that was let forget things at random.
#[tokio::test]
async fn whatever_is_forgotten_of_an_inbox_it_goes_on() {
    let redis = common::redis().await;
    let config = common::redis_config(&redis.uri());
    let short = Config {
        ack_wait: Duration::from_millis(100),
        retry: Duration::from_millis(10),
        keeps_failed: true,
        ..Config::default()
    };
    let store = common::store(short, config.clone()).await;
    for part in ["x", "e", "q", "w", "h", "b", "a", "t", "s", "y", "f", "c", "r"] {
        let ann = inbox_of(&format!("ann-{part}"));
        let soon = SystemTime::now() + Duration::from_millis(50);
        for (n, deliver_at) in [None, None, None, Some(soon)].into_iter().enumerate() {
            let one = Draft { deliver_at, collapse: Some(n.to_string().into()), ..draft("x") };
            append(&store, &ann, &one).await.unwrap();
        }
        let taken = take_some(&store, &ann, None, 3).await;
        let each = [(1, Settlement::Nack), (2, Settlement::Reject)];
        store.settle(&ann, taken.epoch, &each).await.unwrap();
        let key = format!("{}:{{u:ann-{part}}}:i:/queue/news:{part}", config.namespace);
        redis.cli(&["del", &key]).await.unwrap();
    }
    let soon = SystemTime::now() + Duration::from_millis(200);
    until(async || !store.advance().await.unwrap().more && SystemTime::now() > soon).await;
    for part in ["x", "e", "q", "w", "h", "b", "a", "t", "s", "y", "f", "c", "r"] {
        let ann = inbox_of(&format!("ann-{part}"));
        let last = draft("last");
        append(&store, &ann, &last).await.unwrap();
        let taken = take(&store, &ann, None).await.unwrap();
        assert_eq!(taken.entries.last().unwrap().id, last.id, "{part}");
        let acks: Vec<_> = taken.entries.iter().map(|entry| (entry.seq, Settlement::Ack)).collect();
        store.settle(&ann, taken.epoch, &acks).await.unwrap();
        store.list(&ann, &PageRequest::first(10)).await.unwrap();
        store.purge(&ann, &Purge::All).await.unwrap();
        assert_eq!(store.count(&ann).await.unwrap().messages(), 0, "{part}");
    }
    assert!(!store.advance().await.unwrap().more);
}
