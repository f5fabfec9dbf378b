//! The `footbridge` command.
//!
//! The only place that names concrete brokers and stores, and the only one that uses `anyhow`.

mod admin;
mod bench;
mod check_config;
mod client;
mod config;
mod deliveries;
mod dev;
mod example;
mod file_limit;
mod grpc;
mod inbox;
mod inboxes;
mod listen;
mod log;
mod send;
mod serve_gateway;
mod serve_notifier;
mod serving;
mod token;
mod users;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sessions are many small, long-lived allocations: glibc's allocator kept half as much again after
/// bursts when measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Carries STOMP between browsers and a message broker.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node with everything inside, for development: no other server, no configuration.
    Dev(dev::Command),
    /// Run a node that clients connect to. RabbitMQ carries messages between nodes.
    Gateway(serve_gateway::Command),
    /// Run the gRPC service by which other services send to clients, on whichever node they are.
    Notifier(serve_notifier::Command),
    /// Send a message, or one for each line of standard input.
    Send(send::Command),
    /// Print the messages that arrive at destinations.
    Listen(listen::Command),
    /// List who is online: every session, or those of some users.
    Users(users::Command),
    /// Show what waits for users who have not had it yet, and take it out.
    Inbox(inbox::Command),
    /// Measure a STOMP-over-WebSocket server, this one or any other.
    Bench(bench::Command),
    /// Make a token, or say what is in one and whether it would be accepted.
    Token(token::Command),
    /// Check a configuration and print the effective one.
    CheckConfig(check_config::Command),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dev(command) => command.run(),
        Command::Gateway(command) => command.run(),
        Command::Notifier(command) => command.run(),
        Command::Send(command) => command.run(),
        Command::Listen(command) => command.run(),
        Command::Users(command) => command.run(),
        Command::Inbox(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::CheckConfig(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where the command says why it failed")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
