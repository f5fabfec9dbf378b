//! Redis goes away, comes back with and without what it had, and is out of reach.
//!
//! The rule that all of these show: whatever happens, the targets of a send contain every node that holds
//! the user.

mod common;

use std::time::{Duration, Instant};

use common::{
    PATIENCE, config, events_until, found, node, redis_config, register, registered, session, soon,
    until, until_state, user,
};
use presence::{
    Announcement, Config, Ending, Event, Groups, Link, Lookup, Member, Presence, RedisConfig,
    RedisPresence, RegisterError, targets,
};
use testkit::{Persistence, Proxy, Redis};

/// What the node would announce.
fn announcement(node: &RedisPresence) -> Announcement {
    let registered = node.state().borrow().registered.clone();
    Announcement { boot: node.boot(), registered, draining: false, forward: None }
}

/// Whether a message to that user, sent from `sender`, reaches `holder`.
async fn is_reached(sender: &RedisPresence, holder: &RedisPresence, name: &str) -> bool {
    let (user, announced) = (user(name), announcement(holder));
    let answer: Option<Lookup> = sender.lookup(std::slice::from_ref(&user)).await.ok();
    targets(&user, answer.as_ref(), [&announced]).contains(&holder.boot())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_has_another_epoch_and_gets_everything_again() {
    let mut redis = Redis::start(Persistence::Memory).await.unwrap();
    let shared = redis_config(&redis.uri());
    let (one, other) = (node(config(), shared.clone()).await, node(config(), shared).await);
    let mut events = one.events();
    let mut sessions = Vec::new();
    for n in 0..20 {
        sessions.push(register(&one, &format!("user-{n}")).await);
    }
    let before = one.state().borrow().registered.clone();
    assert_eq!(before, other.state().borrow().registered);

    redis.kill();
    until_state(&one, |state| matches!(state.link, Link::Down(_))).await;
    // One that comes and one that goes meanwhile.
    let late = session(&one, "late");
    let refused = one.register(late.clone()).await;
    assert!(matches!(refused, Err(RegisterError::Unavailable(_))), "{refused:?}");
    assert_eq!(one.state().borrow().registered, None);
    let gone = sessions.pop().unwrap();
    assert!(one.unregister(&gone.id).await.is_err());
    assert!(is_reached(&other, &one, "late").await);

    redis.start_empty().await.unwrap();
    // At every moment until it is all there.
    let whole = async {
        registered(&one).await;
        registered(&other).await;
    };
    tokio::pin!(whole);
    loop {
        tokio::select! {
            () = &mut whole => break,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                for name in ["late", "user-0", "user-18"] {
                    assert!(is_reached(&other, &one, name).await, "{name} is missed");
                }
            }
        }
    }
    let after = one.state().borrow().registered.clone();
    assert_ne!(after, before);
    until(async || other.state().borrow().registered == after).await;
    let answer = other.lookup(&[]).await.unwrap();
    assert_eq!(answer.epoch, after);
    for session in &sessions {
        assert_eq!(found(&other, session.user.as_str()).await, std::slice::from_ref(&session.id));
    }
    assert_eq!(found(&other, "late").await, std::slice::from_ref(&late.id));
    assert_eq!(found(&other, gone.user.as_str()).await, []);

    // Nothing is told twice, and what happened meanwhile is told.
    one.unregister(&late.id).await.unwrap();
    let is_last =
        |event: &Event| matches!(event, Event::SessionClosed { id, .. } if *id == late.id);
    let told = events_until(&mut events, is_last).await;
    let count = |wanted: &dyn Fn(&Event) -> bool| told.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(&|event| matches!(event, Event::SessionOpened { .. })), 21);
    assert_eq!(count(&|event| matches!(event, Event::UserOnline(_))), 21);
    assert_eq!(count(&|event| matches!(event, Event::SessionClosed { .. })), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_left_while_redis_was_away_is_told_offline() {
    let mut redis = Redis::start(Persistence::Memory).await.unwrap();
    let node = node(config(), redis_config(&redis.uri())).await;
    let mut events = node.events();
    let session = register(&node, "ann").await;
    redis.kill();
    until_state(&node, |state| state.link != Link::Up).await;
    assert!(node.unregister(&session.id).await.is_err());
    redis.start_empty().await.unwrap();
    let is_last = |event: &Event| *event == Event::UserOffline(user("ann"));
    assert_eq!(events_until(&mut events, is_last).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_what_it_had_is_another_run_and_not_believed_at_once() {
    let mut redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let node = node(config(), redis_config(&redis.uri())).await;
    let session = register(&node, "ann").await;
    let before = node.state().borrow().registered.clone();
    redis.kill();
    redis.start_again().await.unwrap();
    until_state(&node, |state| state.registered.is_some() && state.registered != before).await;
    assert_eq!(found(&node, "ann").await, [session.id]);
}

/// `FLUSHALL` breaks no connection, so the lease tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_under_way_gets_everything_again() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let node = node(config(), redis_config(&redis.uri())).await;
    let session = register(&node, "ann").await;
    let before = node.state().borrow().registered.clone();
    redis.cli(&["flushall"]).await.unwrap();
    assert!(is_reached(&node, &node, "ann").await);
    until_state(&node, |state| state.registered.is_some() && state.registered != before).await;
    assert_eq!(found(&node, "ann").await, [session.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_node_is_reached_all_the_time_and_comes_back() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let mut proxy = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    let there = redis_config(&redis.uri());
    let through =
        RedisConfig { urls: vec![(&*redis.uri_at(proxy.port())).into()], ..there.clone() };
    let (cut, other) = (node(config(), through).await, node(config(), there).await);
    let mut events = other.events();
    let session = register(&cut, "ann").await;
    let team = presence::GroupName::new("team").unwrap();
    let member = [Member::Session(session.id.clone())];
    cut.add(&team, &member, None).await.unwrap();

    proxy.cut().await;
    let late = common::session(&cut, "late");
    until(async || cut.state().borrow().link != Link::Up).await;
    assert!(cut.register(late.clone()).await.is_err());
    assert!(is_reached(&other, &cut, "late").await);
    // The other takes it for dead, clears it away, and still reaches it.
    let is_closed = |event: &Event| matches!(event, Event::SessionClosed { .. });
    let told = events_until(&mut events, is_closed).await;
    let (id, ann, boot) = (session.id.clone(), user("ann"), cut.boot());
    let closed = Event::SessionClosed { id, user: ann, boot, ending: Ending::NodeDied };
    assert_eq!(told.last(), Some(&closed));
    assert!(is_reached(&other, &cut, "ann").await);

    let mut events = cut.events();
    proxy.heal().await.unwrap();
    registered(&cut).await;
    assert_eq!(found(&other, "ann").await, std::slice::from_ref(&session.id));
    assert_eq!(found(&other, "late").await, std::slice::from_ref(&late.id));
    // As others were told that it is gone, it is told that it is back; and it is in its group for good.
    let is_back =
        |event: &Event| matches!(event, Event::SessionOpened { id, .. } if *id == session.id);
    events_until(&mut events, is_back).await;
    assert_eq!(other.size(&team).await, Ok(1));
    let ends = redis.cli(&["--scan", "--pattern", "*:x"]).await.unwrap();
    assert_eq!(ends.trim(), "");
}

/// Nothing is answered and nothing is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_redis_holds_nobody_up_for_long() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let mut proxy = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    let bound = Duration::from_secs(2);
    let config_through = RedisConfig {
        command_timeout: bound,
        connect_timeout: bound,
        ..redis_config(&redis.uri_at(proxy.port()))
    };
    let node = node(config(), config_through).await;
    let kept = register(&node, "ann").await;
    let ended = register(&node, "bob").await;

    proxy.half_open();
    let began = Instant::now();
    let calls = async {
        let user = user("ann");
        let late = node.register(session(&node, "late"));
        tokio::join!(node.lookup(std::slice::from_ref(&user)), late, node.unregister(&ended.id))
    };
    let (lookup, registered_late, unregistered) = soon(calls).await;
    assert!(lookup.is_err() && unregistered.is_err());
    assert!(matches!(registered_late, Err(RegisterError::Unavailable(_))));
    // Three times the timeout, and what a starved machine adds.
    assert!(began.elapsed() < bound * 3 + PATIENCE / 4, "{:?}", began.elapsed());
    assert_eq!(node.state().borrow().registered, None);
    let down = until_state(&node, |state| state.link != Link::Up).await;
    assert!(matches!(down.link, Link::Down(why) if !why.is_empty()));

    // What was on its way arrives now, late, and does no harm.
    proxy.heal().await.unwrap();
    registered(&node).await;
    assert_eq!(found(&node, "ann").await, [kept.id]);
    assert_eq!(found(&node, "late").await.len(), 1);
    until(async || found(&node, "bob").await.is_empty()).await;
}

/// A write that comes after the end of its session leaves a stray, as nobody takes it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stray_is_cleared_away() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let redis_config = redis_config(&redis.uri());
    let namespace = redis_config.namespace.clone();
    let quick = Config { reassert: Duration::from_millis(500), ..config() };
    let node = node(quick, redis_config).await;
    let kept = register(&node, "ann").await;
    let (stray, boot) = (session(&node, "ann"), node.boot());
    let index = format!("{namespace}:{{n:{boot}}}:s");
    let of_user = format!("{namespace}:{{u:ann}}:s");
    let value = redis.cli(&["hget", &of_user, kept.id.as_str()]).await.unwrap();
    // It will never look old.
    let mut value: Vec<_> = value.trim().splitn(4, ' ').collect();
    value[1] = "9999999999999";
    let value = value.join(" ");
    redis.cli(&["hset", &index, stray.id.as_str(), "1 ann"]).await.unwrap();
    redis.cli(&["hset", &of_user, stray.id.as_str(), &value]).await.unwrap();
    assert_eq!(found(&node, "ann").await.len(), 2);
    until(async || found(&node, "ann").await == [kept.id.clone()]).await;
}

/// What nobody noticed, such as a write that a failover lost, is there again with the next round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sessions_are_told_again_and_again() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let redis_config = redis_config(&redis.uri());
    let of_user = format!("{}:{{u:ann}}:s", redis_config.namespace);
    let quick = Config { reassert: Duration::from_millis(500), ..config() };
    let node = node(quick, redis_config).await;
    let session = register(&node, "ann").await;
    redis.cli(&["del", &of_user]).await.unwrap();
    until(async || found(&node, "ann").await == [session.id.clone()]).await;
}

/// A connection that was made again may lead to a Redis that lost something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_is_reason_enough_to_tell_all_again() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let mut proxy = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    let through = redis_config(&redis.uri_at(proxy.port()));
    let of_user = format!("{}:{{u:ann}}:s", through.namespace);
    let slow = Config { reassert: Duration::from_secs(600), ..config() };
    let node = node(slow, through).await;
    let session = register(&node, "ann").await;
    redis.cli(&["del", &of_user]).await.unwrap();
    assert_eq!(found(&node, "ann").await, []);
    proxy.drop_connections().await;
    let users = [user("ann")];
    until(async || {
        let answer = node.lookup(&users).await;
        answer.is_ok_and(|answer| answer.sessions_of(&users[0]) == std::slice::from_ref(&session))
    })
    .await;
}

/// A full Redis refuses writes and goes on to answer, so the connection is kept and reads go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_told_and_recovered_from() {
    let redis = Redis::start(Persistence::Memory).await.unwrap();
    let proxy = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    let node = node(config(), redis_config(&redis.uri_at(proxy.port()))).await;
    let session = register(&node, "ann").await;
    redis.cli(&["config", "set", "maxmemory", "1"]).await.unwrap();
    let late = common::session(&node, "late");
    let refused = node.register(late.clone()).await;
    assert!(matches!(refused, Err(RegisterError::Unavailable(_))), "{refused:?}");
    let state = node.state().borrow().clone();
    assert_eq!((state.link, state.registered), (Link::Up, None));
    assert!(is_reached(&node, &node, "late").await);
    redis.cli(&["config", "set", "maxmemory", "0"]).await.unwrap();
    registered(&node).await;
    assert_eq!(found(&node, "ann").await, [session.id]);
    assert_eq!(found(&node, "late").await, [late.id]);
    assert_eq!(proxy.counts().accepted, 1);
}

/// Faults in a random order, and between them sessions that come and go: whoever was let in is reached,
/// at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_holder_is_missed() {
    let seed = ulid::Ulid::generate().random() as u64;
    let mut random = SmallRandom(seed | 1);
    let mut redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    let mut proxy = Proxy::start(([127, 0, 0, 1], redis.port())).await.unwrap();
    let there =
        RedisConfig { command_timeout: Duration::from_secs(1), ..redis_config(&redis.uri()) };
    let through =
        RedisConfig { urls: vec![(&*redis.uri_at(proxy.port())).into()], ..there.clone() };
    let times =
        Config { lease: Duration::from_secs(1), reassert: Duration::from_secs(1), ..config() };
    let (holder, sender) = (node(times.clone(), through).await, node(times, there).await);
    let mut here: Vec<presence::Session> = Vec::new();
    for n in 0..60 {
        let what = match n % 5 {
            4 => Some(random.below(7)),
            _ => None,
        };
        match what {
            Some(0) => proxy.cut().await,
            Some(1) => proxy.half_open(),
            Some(2) => _ = redis.cli(&["flushall"]).await,
            Some(3) => {
                redis.kill();
                redis.start_empty().await.unwrap();
            }
            Some(4) => {
                redis.kill();
                redis.start_again().await.unwrap();
            }
            Some(_) => proxy.heal().await.unwrap(),
            None => {}
        }
        let came = session(&holder, &format!("user-{}", random.below(10)));
        match soon(holder.register(came.clone())).await {
            Ok(()) => here.push(came),
            // It is let in once the node has said that it is not complete.
            Err(RegisterError::Unavailable(_)) => here.push(came),
            Err(other) => panic!("{other}"),
        }
        if here.len() > 12 {
            let gone = here.swap_remove(random.below(here.len() as u64) as usize);
            let _ = soon(holder.unregister(&gone.id)).await;
        }
        for _ in 0..3 {
            let announced = announcement(&holder);
            let users: Vec<_> = here.iter().map(|session| session.user.clone()).collect();
            let answer = soon(sender.lookup(&users)).await.ok();
            for user in &users {
                let targets = targets(user, answer.as_ref(), [&announced]);
                assert!(
                    targets.contains(&holder.boot()),
                    "seed {seed}, step {n}: {user} is missed by {answer:?} and {announced:?}"
                );
            }
            tokio::time::sleep(Duration::from_millis(random.below(40))).await;
        }
    }
    // In the end everything is as it is.
    proxy.heal().await.unwrap();
    let users: Vec<_> = (0..10).map(|n| user(&format!("user-{n}"))).collect();
    let mut expected: Vec<_> = here.iter().map(|session| session.id.clone()).collect();
    expected.sort();
    until(async || {
        let Ok(answer) = sender.lookup(&users).await else { return false };
        let all = answer.sessions.values().flatten();
        let mut ids: Vec<_> = all.map(|session| session.id.clone()).collect();
        ids.sort();
        answer.epoch == holder.state().borrow().registered
            && answer.leased.contains(&holder.boot())
            && ids == expected
    })
    .await;
}

/// Xorshift: all that is random here is named by the seed.
struct SmallRandom(u64);

impl SmallRandom {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
