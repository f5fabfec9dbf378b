//! What the scripts refuse: writes that come late, of a term that is over, and removals that are not for
//! them. The order in which that happens is not to be had from outside.

use redis::aio::MultiplexedConnection;
use redis::{Client, Script};

const LEASE_TAKE: &str = include_str!("../src/redis/lease_take.lua");
const LEASE_KEEP: &str = include_str!("../src/redis/lease_keep.lua");
const REAP_CLAIM: &str = include_str!("../src/redis/reap_claim.lua");
const REAP_FINISH: &str = include_str!("../src/redis/reap_finish.lua");
const FACTS: &str = include_str!("../src/redis/facts.lua");
const REGISTER: &str = include_str!("../src/redis/register.lua");
const UNREGISTER: &str = include_str!("../src/redis/unregister.lua");
const SESSIONS: &str = include_str!("../src/redis/sessions.lua");
const OFFLINE: &str = include_str!("../src/redis/offline.lua");
const LINGER_ADD: &str = include_str!("../src/redis/linger_add.lua");
const LINGER_CLAIM: &str = include_str!("../src/redis/linger_claim.lua");
const LINGER_DONE: &str = include_str!("../src/redis/linger_done.lua");

const LONG: &str = "600000";

/// A connection, and a word that begins the keys of one test.
struct Keys {
    connection: MultiplexedConnection,
    word: String,
}

impl Keys {
    async fn new() -> Self {
        let client = Client::open(testkit::redis().await.uri()).expect("a URL");
        let connection = client.get_multiplexed_async_connection().await.expect("Redis");
        Self { connection, word: format!("{{{}}}", ulid::Ulid::generate()) }
    }

    async fn call<T: redis::FromRedisValue>(
        &mut self,
        script: &str,
        keys: &[&str],
        arguments: &[&str],
    ) -> T {
        let script = Script::new(script);
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(format!("{}:{key}", self.word));
        }
        for argument in arguments {
            call.arg(argument);
        }
        call.invoke_async(&mut self.connection).await.expect("an answer")
    }

    async fn register(&mut self, session: &str, term: &str) -> (u64, bool, bool) {
        let arguments = [session, term, "boot", "{}", LONG, "1"];
        self.call(REGISTER, &["s", "on", "ban"], &arguments).await
    }

    async fn unregister(&mut self, session: &str, term: &str, owed: &str) -> (bool, bool) {
        self.call(UNREGISTER, &["s", "on"], &[session, term, LONG, owed]).await
    }

    async fn terms(&mut self) -> Vec<String> {
        let sessions: Vec<(String, String)> = self.call(SESSIONS, &["s"], &[LONG]).await;
        let term = |value: String| value.split(' ').next().unwrap_or_default().to_owned();
        sessions.into_iter().map(|(_, value)| term(value)).collect()
    }

    async fn take(&mut self, term: &str, length: &str) -> (String, bool) {
        let keys = ["epoch", "leases", "standing", "reaped"];
        self.call(LEASE_TAKE, &keys, &["boot", term, length, &format!("epoch-{term}")]).await
    }

    async fn keep(&mut self, term: &str, standing: &str) -> Option<String> {
        let keys = ["epoch", "leases", "standing"];
        self.call(LEASE_KEEP, &keys, &["boot", term, LONG, standing]).await
    }

    async fn claim(&mut self, reaper: &str) -> Option<u64> {
        let keys = ["leases", "standing", "reap"];
        self.call(REAP_CLAIM, &keys, &["boot", reaper, "10000"]).await
    }

    async fn finish(&mut self, term: &str) -> bool {
        let keys = ["leases", "standing", "reaped", "reap"];
        self.call(REAP_FINISH, &keys, &["boot", term, LONG]).await
    }

    async fn full(&mut self) -> Vec<(String, u64)> {
        let facts: (Option<String>, Vec<(String, u64)>, u64) =
            self.call(FACTS, &["epoch", "leases", "standing"], &[]).await;
        facts.1
    }
}

#[tokio::test]
async fn a_late_write_of_an_earlier_term_overwrites_nothing() {
    let mut keys = Keys::new().await;
    assert_eq!(keys.register("a", "10").await, (0, true, true));
    // As a number, not as text.
    assert_eq!(keys.register("a", "9").await, (0, false, false));
    assert_eq!(keys.terms().await, ["10"]);
    assert_eq!(keys.register("a", "11").await, (0, false, false));
    assert_eq!(keys.terms().await, ["11"]);
}

#[tokio::test]
async fn a_reaper_removes_nothing_of_a_later_term_and_each_thing_once() {
    let mut keys = Keys::new().await;
    keys.register("a", "2").await;
    assert_eq!(keys.unregister("a", "1", "0").await, (false, false));
    assert_eq!(keys.unregister("a", "2", "0").await, (true, true));
    assert_eq!(keys.unregister("a", "2", "0").await, (false, true));
}

#[tokio::test]
async fn a_lease_that_ran_out_is_not_renewed() {
    let mut keys = Keys::new().await;
    assert_eq!(keys.take("1", LONG).await, ("epoch-1".to_owned(), false));
    assert_eq!(keys.full().await, []);
    assert_eq!(keys.keep("1", "full").await.as_deref(), Some("epoch-1"));
    assert_eq!(keys.full().await, [("boot".to_owned(), 1)]);
    // The epoch stays, and a new term is not complete.
    assert_eq!(keys.take("2", "0").await, ("epoch-1".to_owned(), false));
    assert_eq!(keys.full().await, []);
    assert_eq!(keys.keep("2", "full").await, None);
    assert_eq!(keys.keep("1", "full").await, None);
}

#[tokio::test]
async fn a_lease_is_not_renewed_in_another_term() {
    let mut keys = Keys::new().await;
    keys.take("1", LONG).await;
    keys.take("2", LONG).await;
    assert_eq!(keys.keep("1", "full").await, None);
    assert_eq!(keys.full().await, []);
}

#[tokio::test]
async fn one_reaper_has_a_dead_node_and_none_a_live_one() {
    let mut keys = Keys::new().await;
    assert_eq!(keys.claim("one").await, None);
    keys.take("1", LONG).await;
    assert_eq!(keys.claim("one").await, None);
    keys.take("2", "0").await;
    assert_eq!(keys.claim("one").await, Some(2));
    assert_eq!(keys.claim("other").await, None);
    assert!(keys.finish("2").await);
    // It is gone, and learns that it was cleared away when it comes back.
    assert_eq!(keys.claim("other").await, None);
    assert_eq!(keys.take("3", LONG).await, ("epoch-1".to_owned(), true));
    assert_eq!(keys.take("4", LONG).await, ("epoch-1".to_owned(), false));
}

#[tokio::test]
async fn a_node_that_came_back_while_it_was_cleared_away_is_not_struck() {
    let mut keys = Keys::new().await;
    keys.take("1", "0").await;
    assert_eq!(keys.claim("one").await, Some(1));
    keys.take("2", LONG).await;
    keys.keep("2", "full").await;
    assert!(!keys.finish("1").await);
    assert_eq!(keys.full().await, [("boot".to_owned(), 2)]);
}

#[tokio::test]
async fn what_is_not_written_again_is_a_remnant() {
    let mut keys = Keys::new().await;
    keys.register("a", "1").await;
    let none: Vec<(String, String)> = keys.call(SESSIONS, &["s"], &["-1"]).await;
    assert_eq!(none, []);
    assert_eq!(keys.terms().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_user_is_told_offline_once() {
    let mut keys = Keys::new().await;
    keys.register("a", "1").await;
    assert_eq!(keys.call::<u8>(OFFLINE, &["s", "on"], &[]).await, 2);
    keys.unregister("a", "1", "0").await;
    assert_eq!(keys.call::<u8>(OFFLINE, &["s", "on"], &[]).await, 1);
    assert_eq!(keys.call::<u8>(OFFLINE, &["s", "on"], &[]).await, 0);
    // Unless it is owed to the user, whom Redis forgot.
    keys.unregister("a", "1", "1").await;
    assert_eq!(keys.call::<u8>(OFFLINE, &["s", "on"], &[]).await, 1);
}

#[tokio::test]
async fn a_user_who_leaves_again_while_it_is_looked_at_is_looked_at_again() {
    let mut keys = Keys::new().await;
    keys.call::<u64>(LINGER_ADD, &["lingering"], &["0", "GT", "ann", "bob"]).await;
    let taken: Vec<String> = keys.call(LINGER_CLAIM, &["lingering"], &["10", LONG]).await;
    assert_eq!(taken[1..], ["ann", "bob"]);
    // Nobody else has them meanwhile, and a glance from elsewhere changes nothing.
    let none: Vec<String> = keys.call(LINGER_CLAIM, &["lingering"], &["10", LONG]).await;
    assert_eq!(none.len(), 1);
    keys.call::<u64>(LINGER_ADD, &["lingering"], &["0", "NX", "bob"]).await;
    keys.call::<u64>(LINGER_ADD, &["lingering"], &["700000", "GT", "ann"]).await;
    let done = keys.call::<u64>(LINGER_DONE, &["lingering"], &[&taken[0], "ann", "bob"]).await;
    assert_eq!(done, 1);
}
