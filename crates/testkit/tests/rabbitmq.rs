//! A RabbitMQ of one's own: it starts, dies, comes back with what was durable, and leaves nothing.

use testkit::RabbitMq;

#[tokio::test]
async fn a_started_broker_answers() {
    let t = std::time::Instant::now();
    let broker = RabbitMq::start().await.unwrap();
    eprintln!("started in {:?}", t.elapsed());
    let t = std::time::Instant::now();
    eprintln!("{}", broker.ctl(&["list_vhosts"]).await.unwrap());
    eprintln!("status in {:?} {:?} {:?}", t.elapsed(), broker.pid(), broker.resident_memory());
    let t = std::time::Instant::now();
    drop(broker);
    eprintln!("dropped in {:?}", t.elapsed());
    let shared = testkit::rabbitmq().await;
    eprintln!("{}", shared.uri());
}
