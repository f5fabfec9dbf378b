//! A Redis of one's own: it starts, dies, and comes back with what it was to keep.

use testkit::{Persistence, Redis, StartError};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_append_only_redis_keeps_its_data_through_a_kill() {
    let mut redis = Redis::start(Persistence::AppendOnly).await.unwrap();
    assert!(matches!(redis.start_again().await, Err(StartError::Running { .. })));
    let uri = redis.uri();
    assert_eq!(redis.cli(&["set", "k", "v"]).await.unwrap(), "OK\n");
    assert!(redis.resident_memory().unwrap() > 1024 * 1024);

    redis.kill();
    assert_eq!(redis.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", redis.port())).await.is_err());

    redis.start_again().await.unwrap();
    assert_eq!(redis.uri(), uri);
    assert_eq!(redis.cli(&["get", "k"]).await.unwrap(), "v\n");

    redis.stop().await;
    redis.start_again().await.unwrap();
    assert_eq!(redis.cli(&["get", "k"]).await.unwrap(), "v\n");

    redis.kill();
    redis.start_empty().await.unwrap();
    assert_eq!(redis.cli(&["dbsize"]).await.unwrap(), "0\n");
}

#[tokio::test]
async fn a_redis_in_memory_comes_back_empty() {
    let mut redis = Redis::start(Persistence::Memory).await.unwrap();
    redis.cli(&["set", "k", "v"]).await.unwrap();
    redis.stop().await;
    redis.start_again().await.unwrap();
    assert_eq!(redis.cli(&["dbsize"]).await.unwrap(), "0\n");
}

#[tokio::test]
async fn the_shared_redis_is_one() {
    let (first, second) = (testkit::redis().await, testkit::redis().await);
    assert_eq!(first.pid().unwrap(), second.pid().unwrap());
    let error = first.cli(&["no-such-command"]).await.unwrap_err();
    assert!(error.to_string().contains("unknown command"), "{error}");
}
