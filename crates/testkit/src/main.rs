//! What tests use, by hand: a server to play with, or the checker against running nodes.

mod check;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testkit::{Persistence, RabbitMq, Redis};

/// Servers to play with, and a checker of running nodes.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a RabbitMQ, print its URI and process id, and end it with this process.
    Rabbitmq,
    /// Start a Redis that keeps what it has answered, print its URI and process id, and end it with this process.
    Redis,
    /// Exchange messages through running nodes, alone and in transactions, acknowledge them, and judge
    /// loss, order, repeats, acknowledgements and transactions. Meanwhile kill what you like. Ends
    /// with 1 if anything was wrong.
    Check(check::Command),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Rabbitmq => {
            let broker = RabbitMq::start().await?;
            show(&broker.uri(), broker.pid())?;
            tokio::signal::ctrl_c().await?;
        }
        Command::Redis => {
            let redis = Redis::start(Persistence::AppendOnly).await?;
            show(&redis.uri(), redis.pid())?;
            tokio::signal::ctrl_c().await?;
        }
        Command::Check(command) => return command.run().await,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(uri: &str, pid: Option<u32>) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{uri} {}", pid.unwrap_or_default())
}
