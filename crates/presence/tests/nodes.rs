//! Several nodes on one Redis: nodes that die, reapers that meet, arrivals in crowds.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{config, events_until, found, node, redis_config, register, session, until, user};
use futures_util::future::join_all;
use presence::{Config, Ending, Event, Presence, RedisConfig, UserName};
use testkit::{Persistence, Proxy, Redis};

async fn shared() -> RedisConfig {
    redis_config(&testkit::redis().await.uri())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_found_by_every_node() {
    let redis = shared().await;
    let (one, other) = (node(config(), redis.clone()).await, node(config(), redis).await);
    let (here, there) = (register(&one, "ann").await, register(&other, "ann").await);
    let mut both = [here.id.clone(), there.id.clone()];
    both.sort();
    assert_eq!(
        (found(&one, "ann").await, found(&other, "ann").await),
        (both.to_vec(), both.to_vec())
    );
    assert_eq!(one.session(&there.id).await, Ok(Some(there.clone())));
    let count = one.count().await.unwrap();
    assert_eq!((count.users, count.sessions()), (1, 2));
    let mut nodes = [(one.boot(), 1), (other.boot(), 1)];
    nodes.sort();
    assert_eq!(count.nodes, nodes);
    let answer = one.lookup(&[]).await.unwrap();
    assert!(answer.leased.contains(&one.boot()) && answer.leased.contains(&other.boot()));
    // A ban is a ban everywhere.
    other.ban_for(&user("ann"), Duration::from_secs(60)).await.unwrap();
    assert!(one.register(session(&one, "ann")).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_cleared_away_within_its_lease_and_each_event_is_told_once() {
    let redis = shared().await;
    let times = config();
    let dying = node(times.clone(), redis.clone()).await;
    let (one, other) = (node(times.clone(), redis.clone()).await, node(times.clone(), redis).await);
    let mut events = [one.events(), other.events()];
    let names: Vec<_> = (0..50).map(|n| format!("user-{n}")).collect();
    let sessions = join_all(names.iter().map(|name| register(&dying, name))).await;
    // One of the users is elsewhere, too.
    let kept = register(&one, "user-0").await;
    let boot = dying.boot();

    drop(dying);
    let died = Instant::now();
    until(async || found(&other, "user-1").await.is_empty()).await;
    let after = died.elapsed();
    until(async || one.count().await.unwrap().nodes.iter().all(|(node, _)| *node != boot)).await;
    // Its lease, a round, and what a starved machine adds.
    let bound = times.lease + times.refresh + Duration::from_secs(20);
    assert!(after < bound, "{after:?}");
    assert!(after > Duration::from_secs(2), "it was cleared away with its lease: {after:?}");
    assert_eq!(found(&other, "user-0").await, std::slice::from_ref(&kept.id));
    assert!(!one.lookup(&[]).await.unwrap().leased.contains(&boot));

    // Those who linger count as users, so all are told offline.
    let mut closed: HashMap<_, usize> = HashMap::new();
    let mut offline: HashMap<UserName, usize> = HashMap::new();
    until(async || one.count().await.unwrap().users == 1).await;
    for (node, events) in [&one, &other].into_iter().zip(&mut events) {
        let end = register(node, "end").await;
        let is_end =
            |event: &Event| matches!(event, Event::SessionOpened { id, .. } if *id == end.id);
        for event in events_until(events, is_end).await {
            match event {
                Event::SessionClosed { id, ending: Ending::NodeDied, .. } => {
                    *closed.entry(id).or_default() += 1;
                }
                Event::UserOffline(user) if user.as_str().starts_with("user") => {
                    *offline.entry(user).or_default() += 1;
                }
                _ => {}
            }
        }
    }
    assert_eq!(closed, sessions.iter().map(|session| (session.id.clone(), 1)).collect());
    let gone = sessions.iter().filter(|session| session.user != kept.user);
    assert_eq!(offline, gone.map(|session| (session.user.clone(), 1)).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remnant_is_not_found_and_does_not_stay() {
    let server = testkit::redis().await;
    let redis = redis_config(&server.uri());
    let key = format!("{}:{{u:ann}}:s", redis.namespace);
    let (one, other) = (node(config(), redis.clone()).await, node(config(), redis).await);
    let live = register(&one, "ann").await;
    // As a node that died long ago has left it, and nobody cleared away.
    let stored = server.cli(&["hget", &key, live.id.as_str()]).await.unwrap();
    let mut parts: Vec<_> = stored.trim_end().splitn(4, ' ').collect();
    assert_eq!(parts.len(), 4, "<term> <stamp> <boot> <json>: {stored}");
    (parts[0], parts[1]) = ("1", "1");
    let remnant = session(&one, "ann").id;
    server.cli(&["hset", &key, remnant.as_str(), &parts.join(" ")]).await.unwrap();
    let length = async || server.cli(&["hlen", &key]).await.unwrap().trim_end().to_owned();
    assert_eq!(length().await, "2");
    assert_eq!(found(&other, "ann").await, [live.id]);
    assert_eq!(length().await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_changes_nodes_is_online_all_the_time() {
    let redis = shared().await;
    let (one, other) = (node(config(), redis.clone()).await, node(config(), redis).await);
    let mut events = [one.events(), other.events()];
    let before = register(&one, "ann").await;
    one.unregister(&before.id).await.unwrap();
    let after = register(&other, "ann").await;
    // Bob leaves later, so when he is offline Ann would have been.
    let bob = register(&one, "bob").await;
    one.unregister(&bob.id).await.unwrap();
    until(async || {
        let users = one.users(&presence::PageRequest::first(10)).await.unwrap().items;
        let names: Vec<_> = users.iter().map(|online| online.user.as_str()).collect();
        names == ["ann"] && one.count().await.unwrap().users == 1
    })
    .await;
    other.unregister(&after.id).await.unwrap();
    let is_end = |event: &Event| {
        *event
            == Event::SessionOpened { id: after.id.clone(), user: user("ann"), boot: other.boot() }
    };
    let told = events_until(&mut events[1], is_end).await;
    assert!(!told.contains(&Event::UserOnline(user("ann"))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_is_no_death() {
    let redis = shared().await;
    let (leaving, other) = (node(config(), redis.clone()).await, node(config(), redis).await);
    let session = register(&leaving, "ann").await;
    leaving.leave().await.unwrap();
    assert_eq!(found(&other, "ann").await, []);
    assert_eq!(other.session(&session.id).await, Ok(None));
    let nodes = other.count().await.unwrap().nodes;
    assert_eq!(nodes, [(other.boot(), 0)]);
}

/// A Redis of its own, as all that it does is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_arrivals_share_their_way() {
    const ARRIVALS: usize = 10_000;
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let patient =
        RedisConfig { command_timeout: Duration::from_secs(60), ..redis_config(&redis.uri()) };
    let node = node(config(), patient).await;
    let info = async |section: &str, key: &str| {
        let info = redis.cli(&["info", section]).await.unwrap();
        info.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
    };
    let reads = async || info("stats", "total_reads_processed:").await.parse::<u64>().unwrap();
    let bytes = async || info("stats", "total_net_input_bytes:").await.parse::<u64>().unwrap();
    let sessions: Vec<_> = (0..ARRIVALS).map(|n| session(&node, &format!("user-{n}"))).collect();
    let (trips, reads_before, bytes_before) = (node.round_trips(), reads().await, bytes().await);
    let began = Instant::now();
    let arrivals = join_all(sessions.iter().map(|session| node.register(session.clone()))).await;
    let took = began.elapsed();
    let (trips, reads, bytes) =
        (node.round_trips() - trips, reads().await - reads_before, bytes().await - bytes_before);
    assert!(arrivals.iter().all(Result::is_ok));
    // In batches of 512, and the first ones smaller; a lease and a look now and then besides.
    let others = 20 + 20 * took.as_secs();
    assert!(trips <= (ARRIVALS / 512) as u64 + 5 + others, "{trips} round trips");
    // Redis itself says how often it had to read: by its buffer of 16 KiB, not once for each arrival.
    assert!(reads <= bytes / (4 * 1024) + trips + others, "{reads} reads of {bytes} bytes");
    assert!(reads < ARRIVALS as u64 / 4, "{reads} reads");
    eprintln!("{ARRIVALS} in {took:?}: {trips} round trips, {reads} reads, {bytes} bytes");
    // Each script was called once for each of them.
    let calls = info("commandstats", "cmdstat_evalsha:calls=").await;
    let calls: u64 = calls.split(',').next().unwrap().parse().unwrap();
    assert!(calls >= ARRIVALS as u64 && calls < (ARRIVALS + ARRIVALS / 2) as u64, "{calls} calls");
    assert_eq!(node.count().await.unwrap().users, ARRIVALS as u64);

    // They leave as they came.
    let (before, began) = (node.round_trips(), Instant::now());
    join_all(sessions.iter().map(|session| node.unregister(&session.id))).await;
    let trips = node.round_trips() - before;
    assert!(trips <= 2 * ((ARRIVALS / 512) as u64 + 5) + 200 + 20 * began.elapsed().as_secs());
    assert_eq!(node.count().await.unwrap().sessions(), 0);
}

/// The claim that keeps reapers apart is taken away again and again, so both work on the same node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_reapers_at_once_tell_each_event_once() {
    let own = Redis::start(Persistence::Memory).await.unwrap();
    let redis = redis_config(&own.uri());
    let times = config();
    let dying = node(times.clone(), redis.clone()).await;
    let names: Vec<_> = (0..400).map(|n| format!("user-{n}")).collect();
    let sessions = join_all(names.iter().map(|name| register(&dying, name))).await;
    let boot = dying.boot();
    let claim = format!("{}:{{nodes}}:reap:{boot}", redis.namespace);
    drop(dying);
    // One takes a session at a time over a long way, so the other overtakes it.
    let mut proxy = Proxy::start(([127, 0, 0, 1], own.port())).await.unwrap();
    proxy.delay(Duration::from_millis(5));
    let far = RedisConfig { urls: vec![(&*own.uri_at(proxy.port())).into()], ..redis.clone() };
    let slow = node(Config { batch: 1, ..times.clone() }, far).await;
    let mut by_slow = slow.events();
    let is_closed = |event: &Event| matches!(event, Event::SessionClosed { .. });
    let mut told = vec![events_until(&mut by_slow, is_closed).await];
    let quick = node(Config { batch: 16, ..times }, redis).await;
    let mut by_quick = quick.events();
    until(async || {
        own.cli(&["del", &claim]).await.unwrap();
        quick.count().await.unwrap().nodes.iter().all(|(node, _)| *node != boot)
    })
    .await;
    for (node, events) in [(&slow, &mut by_slow), (&quick, &mut by_quick)] {
        let end = register(node, "end").await;
        let is_end =
            |event: &Event| matches!(event, Event::SessionOpened { id, .. } if *id == end.id);
        told.push(events_until(events, is_end).await);
    }
    assert!(told[2].iter().any(is_closed), "the second took no part");
    let mut closed: HashMap<_, usize> = HashMap::new();
    for event in told.into_iter().flatten() {
        if let Event::SessionClosed { id, ending: Ending::NodeDied, .. } = event {
            *closed.entry(id).or_default() += 1;
        }
    }
    assert_eq!(closed, sessions.iter().map(|session| (session.id.clone(), 1)).collect());
}
