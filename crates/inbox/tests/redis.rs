//! Inboxes in Redis keep the contract of all stores, and go on when Redis forgets.

mod common;

use std::time::{Duration, SystemTime};

use common::{append, bodies, draft, inbox_of, take, until};
use inbox::{Address, Config, Draft, Inbox, Position, Purge, RedisInbox, Settlement, Take, Taken};
use presence::PageRequest;

async fn take_some(
    store: &RedisInbox,
    of: &Address,
    after: Option<Position>,
    limit: usize,
) -> Taken {
    store.take(&Take { of, after, limit, max_bytes: 1 << 30 }).await.expect("an answer")
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

mod contract {
    use inbox::{Config, RedisInbox};

    use crate::common::shared;

    async fn redis(config: Config) -> RedisInbox {
        shared(config).await
    }

    inbox::contract_tests!(crate::contract::redis);
}
