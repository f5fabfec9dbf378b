//! Each fault of the proxy, in front of a plain TCP echo.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use testkit::{Counts, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Long enough for loopback to deliver anything that would be delivered.
const SILENCE: Duration = Duration::from_millis(200);

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn proxied() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

async fn round_trip(client: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    client.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    client.read_exact(&mut answer).await?;
    assert_eq!(answer, bytes);
    Ok(())
}

async fn is_silent(client: &mut TcpStream) -> bool {
    timeout(SILENCE, client.read(&mut [0])).await.is_err()
}

/// Whether the other side ended the connection, in either way.
async fn is_closed(client: &mut TcpStream) -> bool {
    matches!(client.read(&mut [0]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn bytes_and_ends_pass_and_are_counted() {
    let (proxy, mut client) = proxied().await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = client.split();
    let mut received = Vec::new();
    let (written, read) = tokio::join!(
        async {
            to.write_all(&sent).await?;
            to.shutdown().await
        },
        from.read_to_end(&mut received),
    );
    written.unwrap();
    read.unwrap();
    assert!(received == sent);

    // The connection is counted as closed a moment after its last byte.
    timeout(Duration::from_secs(10), async {
        while proxy.counts().open > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let length = sent.len() as u64;
    let expected = Counts { accepted: 1, open: 0, to_target: length, to_clients: length };
    assert_eq!(proxy.counts(), expected);
}

#[tokio::test]
async fn a_cut_closes_connections_and_refuses_new_ones_until_healed() {
    let (mut proxy, mut client) = proxied().await;
    round_trip(&mut client, b"before").await.unwrap();

    proxy.cut().await;
    assert_eq!(proxy.counts().open, 0);
    assert!(is_closed(&mut client).await);
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    proxy.heal().await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut client, b"after").await.unwrap();
}

#[tokio::test]
async fn half_open_holds_everything_and_healing_delivers_it() {
    let (mut proxy, mut client) = proxied().await;
    round_trip(&mut client, b"before").await.unwrap();

    proxy.half_open();
    let before = proxy.counts();
    client.write_all(b"held").await.unwrap();
    assert!(is_silent(&mut client).await);
    let mut late = TcpStream::connect(proxy.address()).await.unwrap();
    late.write_all(b"late").await.unwrap();
    assert!(is_silent(&mut late).await);
    assert_eq!(proxy.counts(), Counts { accepted: 2, open: 2, ..before });

    proxy.heal().await.unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"held");
    late.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"late");
}

#[tokio::test]
async fn half_open_hides_that_one_side_went_away() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = Proxy::start(target.local_addr().unwrap()).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = target.accept().await.unwrap();

    proxy.half_open();
    drop(client);
    assert!(is_silent(&mut server).await);
    proxy.heal().await.unwrap();
    assert!(is_closed(&mut server).await);
}

#[tokio::test]
async fn a_delay_is_added_both_ways_and_not_to_the_throughput() {
    let (mut proxy, mut client) = proxied().await;
    let delay = Duration::from_millis(400);
    proxy.delay(delay);

    let start = Instant::now();
    round_trip(&mut client, b"x").await.unwrap();
    assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());

    // Chunks travel together: one after the other, the 40 of them would take 32 s.
    let start = Instant::now();
    round_trip(&mut client, &vec![7; 40 * 16 * 1024]).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(16), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_trickle_bounds_the_rate_until_healed() {
    let (mut proxy, mut client) = proxied().await;
    proxy.trickle(NonZeroU64::new(4_000).unwrap());
    let start = Instant::now();
    round_trip(&mut client, &[7; 2_000]).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());

    // At that rate it would take minutes.
    proxy.heal().await.unwrap();
    let healed = round_trip(&mut client, &[7; 1_000_000]);
    timeout(Duration::from_secs(30), healed).await.unwrap().unwrap();
}

#[tokio::test]
async fn dropped_connections_can_be_made_anew() {
    let (mut proxy, mut client) = proxied().await;
    round_trip(&mut client, b"before").await.unwrap();
    proxy.drop_connections().await;
    assert!(is_closed(&mut client).await);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut client, b"after").await.unwrap();
    assert_eq!(proxy.counts().accepted, 2);
}

#[tokio::test]
async fn a_sender_feels_a_receiver_that_does_not_read() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(target.local_addr().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let _unread = target.accept().await.unwrap();
    let (chunk, mut sent) = (vec![0; 64 * 1024], 0);
    while let Ok(written) = timeout(Duration::from_secs(1), client.write(&chunk)).await {
        sent += written.unwrap();
        // Twice what the proxy and four socket buffers hold.
        assert!(sent < 64 * 1024 * 1024);
    }
}

#[tokio::test]
async fn a_client_whose_target_is_away_is_closed() {
    // A port that is taken and refuses.
    let mut away = Proxy::start(echo().await).await.unwrap();
    away.cut().await;
    let proxy = Proxy::start(away.address()).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(is_closed(&mut client).await);
}
