//! What the processes that serve have in common: where the configuration comes from, how they begin,
//! what they say, how they end.
//!
//! Invariant: from the first line that is printed, SIGTERM and SIGINT end the process with exit code
//! 0 and within its bounds.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use broker_rabbitmq::RabbitMqBroker;
use gateway::BindError;
use gateway::authorise::Rules;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::admin::{Readiness, Serving};

/// What is left for the good-bye to RabbitMQ in any case.
const GOOD_BYE: Duration = Duration::from_secs(3);

/// The command line of every process that serves.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Configuration file; the environment and the command line win over it.
    #[arg(long, env = "FOOTBRIDGE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address and port to serve at; wins over the configuration.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address and port for metrics and health; wins over the configuration.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
}

/// How a process came to its end.
pub(crate) struct Stopped {
    /// When everything shall be over.
    pub(crate) deadline: Instant,
    /// Says until then that the process is draining.
    pub(crate) admin: Serving,
}

/// The rules of a gateway that tells no clients apart.
///
/// # Errors
/// The configuration says more, which such a gateway would not heed.
pub(crate) fn rules(access: &access::Config) -> anyhow::Result<Rules> {
    let plain = access::Config { rules: access.rules.clone(), ..access::Config::default() };
    match access.rules {
        access::rules::Config::Default if *access == plain => Ok(Rules::Default),
        access::rules::Config::Open if *access == plain => Ok(Rules::Open),
        _ => bail!(
            "this gateway heeds of [access] only rules = \"default\" or \"open\"; it would ignore what \
             else is configured there, and let in whom it should not"
        ),
    }
}

/// Sees to it that nobody believes a notifier to ask its callers who they are.
///
/// # Errors
/// The configuration says who may call what, which such a notifier would not heed.
pub(crate) fn callers(access: &access::Config) -> anyhow::Result<()> {
    if access.grpc_roles.is_empty() {
        return Ok(());
    }
    bail!("this notifier does not heed access.grpc_roles: it would let everybody call everything")
}

/// Runs `serve` to its end.
pub(crate) fn block_on(serve: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve);
    // It ends with the process. Dropped before, it would take from lapin's own threads, where they
    // are about to connect, the tasks they wait for, and they would say so with a panic.
    std::mem::forget(runtime);
    served
}

/// Runs `serve` with RabbitMQ as its broker, and takes leave of RabbitMQ however that ended.
pub(crate) async fn with_rabbitmq(
    config: broker_rabbitmq::Config,
    serve: impl AsyncFnOnce(Arc<RabbitMqBroker>) -> anyhow::Result<Stopped>,
) -> anyhow::Result<()> {
    let broker = Arc::new(RabbitMqBroker::new(config, Ulid::generate()));
    let stopped = serve(broker.clone()).await;
    let deadline = stopped.as_ref().map_or_else(|_| Instant::now(), |stopped| stopped.deadline);
    leave(&broker, deadline).await;
    stopped.map(|stopped| drop(stopped.admin))
}

/// Fires with the first SIGTERM or SIGINT; by then `readiness` says that the process is draining.
pub(crate) fn on_signal(readiness: &Arc<Readiness>) -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stopping, readiness) = (CancellationToken::new(), Arc::clone(readiness));
    let stop = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        readiness.drain();
        stop.cancel();
    });
    Ok(stopping)
}

/// Takes leave of RabbitMQ until `deadline`, or for a moment at least: confirms that are due are
/// waited for, and what is ours there is deleted.
async fn leave(broker: &RabbitMqBroker, deadline: Instant) {
    let deadline = deadline.max(Instant::now() + GOOD_BYE);
    if tokio::time::timeout_at(deadline, broker.close()).await.is_err() {
        match broker.unconfirmed_bytes() {
            0 => tracing::warn!("stopping without a good-bye to RabbitMQ"),
            bytes => tracing::warn!(
                bytes,
                "stopping although RabbitMQ did not confirm everything: what was not confirmed may be \
                 lost"
            ),
        }
    }
}

/// Prints what runs here and where it listens, a line each. That nobody reads it is no reason not to
/// serve.
pub(crate) fn announce(what: &str, lines: &[(&str, &dyn fmt::Display)]) {
    let mut text = format!("Footbridge {}: {what}\n\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in lines {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {name:<11} {value}");
    }
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What to do about a port that clients cannot be served at; `stomp` is how to choose another for
/// STOMP without WebSocket.
pub(crate) fn taken(taken: BindError, config: &gateway::Config, stomp: &str) -> anyhow::Error {
    let how = if config.stomp_listen == Some(taken.address) { stomp } else { "with --listen" };
    anyhow::Error::new(taken).context(format!("choose another address for clients {how}"))
}

/// URIs with a comma between, without their passwords.
pub(crate) fn listed(uris: &[broker_rabbitmq::Uri]) -> String {
    uris.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
