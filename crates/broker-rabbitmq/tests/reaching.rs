//! The ways to RabbitMQ: several addresses, TLS, and a leg that goes silent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::{Broker, Link};
use broker_rabbitmq::{Config, RabbitMqBroker, Uri};
use common::{body, broker_up, config, publish, queue, soon, subscribe, take, topic, until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use testkit::{Proxy, RabbitMq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use ulid::Ulid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_addresses_one_that_answers_is_enough() {
    let rabbitmq = testkit::rabbitmq().await;
    // Ours, so that nobody listens there.
    let mut dead = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.unwrap();
    dead.cut().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    let ports = [dead.port(), silent, rabbitmq.port()];
    let uris = ports.map(|port| Uri::from(&*rabbitmq.uri_at(port))).to_vec();
    let connect_timeout = Duration::from_secs(2);
    let config = Config { uris, connect_timeout, ..config(&rabbitmq.uri()) };
    // In random order: several nodes have begun with each.
    for _ in 0..4 {
        let broker = broker_up(config.clone()).await;
        let topic = topic();
        let mut subscription = subscribe(&broker, &topic).await;
        assert_eq!(soon(publish(&broker, 1, &topic, "hi").await).await, Ok(()));
        assert_eq!(body(&take(&mut subscription).await), "hi");
    }
}

/// What a connection had yet to send must not come after what is published again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_given_up_is_reset() {
    let rabbitmq = testkit::rabbitmq().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _broker = RabbitMqBroker::new(config(&rabbitmq.uri_at(port)), Ulid::generate());
    let (mut socket, _) = soon(listener.accept()).await.unwrap();
    let mut greeting = [0; 8];
    soon(socket.read_exact(&mut greeting)).await.unwrap();
    soon(socket.write_all(b"no AMQP at all, whatever is read of it")).await.unwrap();
    let end = soon(socket.read(&mut greeting)).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// The files of an authority's certificate, and of a certificate and key for 127.0.0.1.
fn certificates(directory: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certified = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, pem: String| {
        let path = directory.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    (
        write("ca.pem", certified.pem()),
        write("server.pem", server.pem()),
        write("server.key", key.serialize_pem()),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_takes_an_authority_of_ones_own_and_nobody_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, certificate, key) = certificates(directory.path());
    let rabbitmq = RabbitMq::options().tls(&certificate, &key).start().await.unwrap();
    let uri = format!("amqps://guest:guest@localhost:{}/%2f", rabbitmq.tls_port());
    let known = Config { ca_file: authority, ..config(&uri) };
    let broker = broker_up(known).await;
    let queue = queue();
    assert_eq!(soon(publish(&broker, 1, &queue, "secret").await).await, Ok(()));
    let mut subscription = subscribe(&broker, &queue).await;
    assert_eq!(body(&take(&mut subscription).await), "secret");

    let unknown = RabbitMqBroker::new(config(&uri), Ulid::generate());
    let refused = |link: &Link| match link {
        Link::Down(why) => why.contains("certificate") || why.contains("CA"),
        _ => false,
    };
    until(&unknown, refused).await;
}

/// RabbitMQ would learn of it no sooner than we do: nothing is lost, repeated unmarked or misplaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_given_up_within_a_few_heart_beats() {
    let rabbitmq = testkit::rabbitmq().await;
    let mut proxy = Proxy::start(([127, 0, 0, 1], rabbitmq.port())).await.unwrap();
    let heart_beat = Duration::from_secs(3);
    let connect_timeout = Duration::from_secs(3);
    let impatient =
        Config { heart_beat, connect_timeout, ..config(&rabbitmq.uri_at(proxy.port())) };
    let sender = broker_up(impatient).await;
    let receiver = broker_up(config(&rabbitmq.uri())).await;
    let (topic, queue) = (topic(), queue());
    let mut topics = subscribe(&receiver, &topic).await;
    let mut queues = subscribe(&receiver, &queue).await;
    let mut confirms = Vec::new();
    for n in 0..100 {
        for to in [&topic, &queue] {
            confirms.push(publish(&sender, 1, to, n.to_string()).await);
        }
        if n == 50 {
            proxy.half_open();
        }
    }
    let silent = Instant::now();
    until(&sender, |link| matches!(link, Link::Down(_))).await;
    // lapin gives up after two heart-beats; a busy machine adds to it.
    let taken = silent.elapsed();
    assert!(taken < 5 * heart_beat, "{taken:?}");
    proxy.heal().await.unwrap();
    for confirm in confirms {
        assert_eq!(soon(confirm).await, Ok(()));
    }
    for (subscription, repeats) in [(&mut topics, false), (&mut queues, true)] {
        let mut next = 0;
        while next < 100 {
            let delivery = take(subscription).await;
            let n: usize = body(&delivery).parse().unwrap();
            let redelivered = delivery.redelivered;
            delivery.settle(broker::Outcome::Ack);
            assert!(n == next || (n < next && repeats && redelivered), "{n} instead of {next}");
            next = next.max(n + 1);
        }
    }
    soon(receiver.delete(&queue)).await.unwrap();
}
