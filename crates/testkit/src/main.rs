//! A server to play with: `testkit rabbitmq` or `testkit redis` prints its URI and its process id,
//! and ends it with its own end, whatever that is.

use std::io::Write;

use anyhow::bail;
use testkit::{Persistence, RabbitMq, Redis};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = std::env::args().nth(1);
    match server.as_deref() {
        Some("rabbitmq") => {
            let broker = RabbitMq::start().await?;
            show(&broker.uri(), broker.pid())?;
            tokio::signal::ctrl_c().await?;
        }
        Some("redis") => {
            let redis = Redis::start(Persistence::Memory).await?;
            show(&redis.uri(), redis.pid())?;
            tokio::signal::ctrl_c().await?;
        }
        _ => bail!("usage: testkit rabbitmq|redis"),
    }
    Ok(())
}

fn show(uri: &str, pid: Option<u32>) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{uri} {}", pid.unwrap_or_default())
}
