//! Redis goes away, comes back with and without what it had, is full, silent, or not to be trusted.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, append, bodies, draft, inbox_of, redis_config, store, store_that, take, until, user,
};
use inbox::{Address, Appended, Config, Draft, Durability, Error, Inbox, Settlement, Take};
use presence::PageRequest;
use redis_link::RedisConfig;
use testkit::{Persistence, Proxy, Redis};

/// Everything in an inbox, page by page.
async fn all(store: &inbox::RedisInbox, of: &Address) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let taken =
            store.take(&Take { of, after, limit: 500, max_bytes: 1 << 20 }).await.expect("Redis");
        all.extend(bodies(&taken.entries));
        after = Some(taken.upto);
        if !taken.more {
            return all;
        }
    }
}

/// Kill -9 in the middle of appends: each that was answered is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_that_was_answered() {
    let mut redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let roomy = Config { max_messages: 1_000_000, ..Config::default() };
    let store = Arc::new(store(roomy, redis_config(&redis.uri())).await);
    let (ends, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, ends) = (store.clone(), ends.clone());
            let answered = answered.clone();
            tokio::spawn(async move {
                let of = [inbox_of(&format!("user-{writer}")), inbox_of("all")];
                let mut stored = Vec::new();
                for n in 0.. {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = format!("{writer}-{n}");
                    match store.append(&of, &draft(&body)).await {
                        Ok(_) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                            stored.push(body);
                        }
                        // It is down.
                        Err(Error::Unknown(_) | Error::Unavailable(_)) => {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                stored
            })
        })
        .collect();
    for round in 1..=3 {
        until(async || answered.load(Ordering::Relaxed) > round * 300).await;
        redis.kill();
        redis.start_again().await.expect("Redis");
    }
    let before = answered.load(Ordering::Relaxed);
    until(async || answered.load(Ordering::Relaxed) > before).await;
    ends.store(true, Ordering::Relaxed);
    let everybody = all(&store, &inbox_of("all")).await;
    for (n, writer) in writers.into_iter().enumerate() {
        let stored = writer.await.expect("Redis");
        let own = all(&store, &inbox_of(&format!("user-{n}"))).await;
        for body in &stored {
            assert!(own.contains(body), "{body} is missed");
            assert!(everybody.contains(body), "{body} is missed by all");
        }
        // In their order, and none twice.
        let of_it: Vec<_> = own.iter().filter(|body| stored.contains(body)).collect();
        assert_eq!(of_it, stored.iter().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_begins_another_epoch_and_nothing_is_skipped() {
    let mut redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let store = store(Config::default(), redis_config(&redis.uri())).await;
    let ann = inbox_of("ann");
    for body in ["1", "2", "3"] {
        append(&store, &ann, &draft(body)).await.unwrap();
    }
    let before = take(&store, &ann, None).await.unwrap();
    redis.kill();
    redis.start_empty().await.unwrap();
    until(async || append(&store, &ann, &draft("new")).await.is_ok()).await;
    let after = take(&store, &ann, Some(before.upto)).await.unwrap();
    assert_eq!(bodies(&after.entries), ["new"]);
    assert_eq!(after.upto.seq, 1);
    assert_ne!(after.epoch, before.epoch);
    // What was taken before is another inbox's.
    let settled = store.settle(&ann, before.epoch, &[(1, Settlement::Ack)]).await.unwrap();
    assert_eq!(settled.changes, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_does_not_keep_messages_gets_none() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let config = redis_config(&redis.uri());
    let ann = inbox_of("ann");
    for (set, wanted) in [
        (vec!["appendonly", "no"], "appendonly yes"),
        (vec!["appendonly", "yes", "maxmemory-policy", "allkeys-lru"], "noeviction"),
        (vec!["maxmemory-policy", "noeviction", "appendfsync", "no"], "appendfsync everysec"),
    ] {
        redis.cli(&[vec!["config", "set"], set].concat()).await.unwrap();
        let one = store(Config::default(), config.clone()).await;
        match append(&one, &ann, &draft("x")).await {
            Err(Error::NotDurable(why)) => assert!(why.contains(wanted), "{why}"),
            other => panic!("{other:?}"),
        }
        // What is in it can be had.
        assert_eq!(take(&one, &ann, None).await.unwrap().entries, []);
        let accepted = Durability { unsafe_durability: true, ..Durability::default() };
        let one = store_that(Config::default(), redis_config(&redis.uri()), accepted).await;
        append(&one, &ann, &draft("x")).await.unwrap();
    }
    redis.cli(&["config", "set", "appendfsync", "everysec"]).await.unwrap();
    // A user who may read INFO and not CONFIG, as of some providers.
    let user = ["acl", "setuser", "limited", "on", ">secret", "~*", "+@all", "-config"];
    redis.cli(&user).await.unwrap();
    let url = redis.uri().replace("redis://", "redis://limited:secret@");
    let one = store(Config::default(), redis_config(&url)).await;
    append(&one, &ann, &draft("x")).await.unwrap();
    redis.cli(&["config", "set", "appendonly", "no"]).await.unwrap();
    let one = store(Config::default(), redis_config(&url)).await;
    let refused = append(&one, &ann, &draft("x")).await.unwrap_err();
    assert!(matches!(refused, Error::NotDurable(_)), "{refused}");
    assert!(!refused.to_string().contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_takes_nothing_more_and_hands_out_what_it_has() {
    let redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let config = Config { ack_wait: Duration::from_millis(100), ..Config::default() };
    let store = store(config, redis_config(&redis.uri())).await;
    let ann = inbox_of("ann");
    for n in 0..10 {
        append(&store, &ann, &draft(&n.to_string())).await.unwrap();
    }
    redis.cli(&["config", "set", "maxmemory", "1"]).await.unwrap();
    let refused = append(&store, &ann, &draft("more")).await.unwrap_err();
    assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
    assert!(refused.to_string().contains("maxmemory"), "{refused}");
    let refused = store.append(&[ann.clone(), inbox_of("bob")], &draft("more")).await;
    assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
    let taken = take(&store, &ann, None).await.unwrap();
    assert_eq!(taken.entries.len(), 10);
    // A second subscriber, of which nothing is counted.
    assert_eq!(take(&store, &ann, None).await.unwrap().entries.len(), 10);
    let seqs: Vec<_> = taken.entries.iter().map(|entry| entry.seq).collect();
    let as_told = [Settlement::Ack, Settlement::Nack, Settlement::Release, Settlement::Reject];
    let settlements: Vec<_> = seqs.into_iter().zip(as_told).collect();
    let settled = store.settle(&ann, taken.epoch, &settlements).await.unwrap();
    assert_eq!(settled.changes.len(), 4);
    // Its index could not be told, and so it is told by who takes next.
    until(async || !take(&store, &ann, Some(taken.upto)).await.unwrap().entries.is_empty()).await;
    store.advance().await.unwrap();
    redis.cli(&["config", "set", "maxmemory", "0"]).await.unwrap();
    append(&store, &ann, &draft("more")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_redis_is_told_in_time() {
    let redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let mut proxy = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    let quick = RedisConfig {
        command_timeout: Duration::from_millis(500),
        ..redis_config(&redis.uri_at(proxy.port()))
    };
    let store = store(Config::default(), quick).await;
    let ann = inbox_of("ann");
    append(&store, &ann, &draft("1")).await.unwrap();
    proxy.half_open();
    let since = Instant::now();
    let many: Vec<_> = (0..1_000).map(|n| inbox_of(&format!("user-{n}"))).collect();
    let unknown = store.append(&many, &draft("2")).await;
    assert!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let down = append(&store, &ann, &draft("3")).await;
    assert!(matches!(down, Err(Error::Unavailable(_) | Error::Unknown(_))), "{down:?}");
    proxy.heal().await.unwrap();
    until(async || append(&store, &ann, &draft("4")).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_waited_for() {
    let redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let primary = redis.port().to_string();
    let arguments = |_| vec!["--replicaof".to_owned(), "127.0.0.1".to_owned(), primary];
    let mut replica = Redis::start_with(Persistence::AppendOnly, arguments).await.unwrap();
    let careful = Durability { wait_replicas: 1, ..Durability::default() };
    let config =
        RedisConfig { command_timeout: Duration::from_secs(2), ..redis_config(&redis.uri()) };
    let store = store_that(Config::default(), config.clone(), careful).await;
    let ann = inbox_of("ann");
    until(async || append(&store, &ann, &draft("1")).await.is_ok()).await;
    // A replica takes no appends itself.
    let of_replica = RedisConfig { urls: vec![(&*replica.uri()).into()], ..config };
    let wrong = common::store(Config::default(), of_replica).await;
    until(async || match append(&wrong, &ann, &draft("x")).await {
        Err(Error::Unavailable(why)) => why.contains("name the primary"),
        _ => false,
    })
    .await;
    drop(wrong);
    replica.kill();
    let unknown = append(&store, &ann, &draft("2")).await;
    assert!(
        matches!(&unknown, Err(Error::Unknown(why)) if why.contains("replicas")),
        "{unknown:?}"
    );
}

/// Several processes on one Redis: each message is handed out, and acknowledged by one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stores_share_inboxes() {
    let config = redis_config(&common::redis().await.uri());
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(store(Config::default(), config.clone()).await));
    }
    let ann = inbox_of("ann");
    let writers = stores.iter().enumerate().map(|(n, store)| {
        let (store, ann) = (store.clone(), ann.clone());
        tokio::spawn(async move {
            let mut seqs = Vec::new();
            for m in 0..200 {
                match append(&store, &ann, &draft(&format!("{n}-{m}"))).await {
                    Ok(Appended::Stored { at, .. }) => seqs.push(at.seq),
                    other => panic!("{other:?}"),
                }
            }
            seqs
        })
    });
    let writers: Vec<_> = writers.collect();
    let acked = Arc::new(AtomicUsize::new(0));
    let readers = stores.iter().map(|store| {
        let (store, ann, acked) = (store.clone(), ann.clone(), acked.clone());
        tokio::spawn(async move {
            let mut after = None;
            while acked.load(Ordering::Relaxed) < 600 {
                let taken = store
                    .take(&Take { of: &ann, after, limit: 7, max_bytes: 1 << 20 })
                    .await
                    .unwrap();
                after = Some(taken.upto);
                let acks: Vec<_> =
                    taken.entries.iter().map(|entry| (entry.seq, Settlement::Ack)).collect();
                let settled = store.settle(&ann, taken.epoch, &acks).await.unwrap();
                acked.fetch_add(settled.changes.len(), Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let mut all = Vec::new();
    for writer in writers {
        let seqs = writer.await.unwrap();
        assert!(seqs.is_sorted());
        all.extend(seqs);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=600).collect::<Vec<_>>());
    for reader in readers {
        tokio::time::timeout(PATIENCE, reader).await.expect("in time").unwrap();
    }
    assert_eq!(acked.load(Ordering::Relaxed), 600);
    assert_eq!(stores[0].count(&ann).await.unwrap().messages(), 0);
}

/// Each change that time makes is told to one of those who ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_is_told_once() {
    let config = redis_config(&common::redis().await.uri());
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(store(Config::default(), config.clone()).await));
    }
    let many: Vec<_> = (0..300).map(|n| inbox_of(&format!("user-{n}"))).collect();
    let soon = std::time::SystemTime::now() + Duration::from_millis(300);
    let brief = Draft { expires_at: Some(soon), ..draft("brief") };
    stores[0].append(&many, &brief).await.unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let lookers = stores.iter().map(|store| {
        let (store, told) = (store.clone(), told.clone());
        tokio::spawn(async move {
            let deadline = Instant::now() + PATIENCE;
            while told.load(Ordering::Relaxed) < 300 && Instant::now() < deadline {
                let advanced = store.advance().await.unwrap();
                let changes: usize = advanced.changes.iter().map(|(_, all)| all.len()).sum();
                told.fetch_add(changes, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        })
    });
    for looker in lookers.collect::<Vec<_>>() {
        looker.await.unwrap();
    }
    assert_eq!(told.load(Ordering::Relaxed), 300);
    let advanced = stores[0].advance().await.unwrap();
    assert_eq!((advanced.changes.len(), advanced.more), (0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_may_be_any_text() {
    let store = store(Config::default(), redis_config(&common::redis().await.uri())).await;
    let names = ["a}:i:{b", "a b\0c", "%7D", "{}", "\u{1F600}", "*", "a\r\nPING", "[", "-", "+"];
    let mut all = Vec::new();
    for name in names {
        for path in [name, "/queue/x"] {
            all.push(Address::of_user(user(name), path.into()));
        }
        all.push(Address::Outbox { destination: name.into() });
    }
    for (n, of) in all.iter().enumerate() {
        let odd = Draft {
            key: Some(names[n % names.len()].into()),
            collapse: Some(names[n % names.len()].into()),
            headers: vec![(names[n % names.len()].into(), "\0".into())],
            ..draft(&n.to_string())
        };
        append(&store, of, &odd).await.unwrap();
    }
    for (n, of) in all.iter().enumerate() {
        assert_eq!(bodies(&take(&store, of, None).await.unwrap().entries), [n.to_string()]);
    }
    let mut known = Vec::new();
    let mut page = PageRequest::first(3);
    loop {
        let some = store.known(&page).await.unwrap();
        known.extend(some.items.iter().map(ToString::to_string));
        match some.next {
            Some(next) => page = PageRequest::after(next, 3),
            None => break,
        }
    }
    known.sort();
    let mut expected = names.map(str::to_owned);
    expected.sort();
    assert_eq!(known, expected);
    for name in names {
        let mut paths = vec![name.to_owned(), "/queue/x".to_owned()];
        paths.sort();
        assert_eq!(store.paths(&user(name)).await.unwrap(), paths);
        store.forget(&user(name)).await.unwrap();
        assert_eq!(store.paths(&user(name)).await.unwrap().len(), 0);
    }
}

/// One that refuses all writes since it could not write to its disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_a_broken_disk_is_told_and_recovered_from() {
    let redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let store = store(Config::default(), redis_config(&redis.uri())).await;
    let ann = inbox_of("ann");
    append(&store, &ann, &draft("1")).await.unwrap();
    // A snapshot cannot take the place of a directory.
    let dir = redis.cli(&["config", "get", "dir"]).await.unwrap();
    let in_the_way = std::path::Path::new(dir.lines().nth(1).unwrap()).join("dump.rdb");
    std::fs::create_dir_all(in_the_way.join("full")).unwrap();
    redis.cli(&["config", "set", "save", "3600 1"]).await.unwrap();
    redis.cli(&["bgsave"]).await.unwrap();
    let status = async || redis.cli(&["info", "persistence"]).await.unwrap();
    until(async || status().await.contains("rdb_last_bgsave_status:err")).await;
    let refused = append(&store, &ann, &draft("2")).await;
    let told = |why: &str| why.contains("cannot write to its disk");
    assert!(matches!(&refused, Err(Error::NoSpace(why)) if told(why)), "{refused:?}");
    assert_eq!(store.count(&ann).await.unwrap().messages(), 1);
    std::fs::remove_dir_all(&in_the_way).unwrap();
    redis.cli(&["bgsave"]).await.unwrap();
    until(async || status().await.contains("rdb_last_bgsave_status:ok")).await;
    append(&store, &ann, &draft("3")).await.unwrap();
    assert_eq!(bodies(&take(&store, &ann, None).await.unwrap().entries), ["1", "3"]);
}
