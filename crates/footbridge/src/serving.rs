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

use access::Access;
use access::rules::Otherwise;
use anyhow::Context;
use application::Routes;
use broker::{Broker, Destinations, PublisherId};
use broker_rabbitmq::RabbitMqBroker;
use gateway::BindError;
use gateway::application::Application;
use presence::Boot;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Readiness, Serving};

/// What is left for the good-bye to RabbitMQ in any case.
pub(crate) const GOOD_BYE: Duration = Duration::from_secs(3);

/// As whom a process tells who comes and goes.
pub(crate) const TELLER: PublisherId = PublisherId(u64::MAX - 1);

/// As whom a process says how it is. Sessions and callers are numbered from below.
pub(crate) const ANNOUNCER: PublisherId = PublisherId(u64::MAX);

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

/// What a gateway knows clients by; `[access]` was checked when it was read, but its files may have gone.
/// Must be called within the runtime.
pub(crate) fn access(
    config: &access::Config,
    destinations: &Destinations,
) -> anyhow::Result<Arc<Access>> {
    let access = Access::start(config, destinations).map_err(|invalid| {
        let key = format!("access.{}", invalid.key);
        anyhow::Error::new(invalid).context(key)
    })?;
    Ok(Arc::new(access))
}

/// What answers application destinations, if anything is configured; `[application]` was checked when it was
/// read, but its files may have gone. Must be called within the runtime.
pub(crate) fn application(
    config: &application::Config,
    destinations: &Destinations,
    broker: Arc<dyn Broker>,
) -> anyhow::Result<Option<Arc<dyn Application>>> {
    if config.routes.is_empty() {
        return Ok(None);
    }
    let routes = Routes::start(config, destinations, &broker).map_err(|invalid| {
        let key = format!("application.{}", invalid.key);
        anyhow::Error::new(invalid).context(key)
    })?;
    Ok(Some(Arc::new(routes)))
}

/// Which services are behind which prefixes, on one line.
pub(crate) fn routes(config: &application::Config) -> String {
    let route = |route: &application::RouteConfig| match route.queue.is_empty() {
        true => format!("{} by {}", route.prefix, route.grpc.join(" and ")),
        false => format!("{} by the queue {}", route.prefix, route.queue),
    };
    match config.routes.is_empty() {
        true => "none, so /app is refused".to_owned(),
        false => config.routes.iter().map(route).collect::<Vec<_>>().join(", "),
    }
}

/// What clients have to show, in a few words; none if nobody is let in.
pub(crate) fn wanted(access: &access::Config) -> Option<&'static str> {
    match (access.checks_tokens(), !access.users_file.as_os_str().is_empty()) {
        (true, true) => Some("a token, or login and passcode"),
        (true, false) => Some("a token"),
        (false, true) => Some("login and passcode"),
        (false, false) => None,
    }
}

/// What of `[access]` is in force, on one line.
pub(crate) fn in_force(access: &access::Config) -> String {
    let rules = match &access.rules {
        access::rules::Config::Default => "default".to_owned(),
        access::rules::Config::Open => "open".to_owned(),
        access::rules::Config::List(rules) => {
            let otherwise = match access.otherwise {
                Otherwise::Default => "default",
                Otherwise::Deny => "deny",
                Otherwise::Open => "open",
            };
            format!("{} of access.rules, otherwise {otherwise}", rules.len())
        }
    };
    let clients = match (wanted(access), access.lets_anonymous_in()) {
        (Some(wanted), true) => format!("clients show {wanted}, or are anonymous"),
        (Some(wanted), false) => format!("clients show {wanted}"),
        (None, true) => "clients are not asked who they are".to_owned(),
        (None, false) => {
            "no client is let in, for there is neither a key nor a users file".to_owned()
        }
    };
    format!("{rules}; {clients}")
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

/// Runs `serve` with RabbitMQ as its broker, and takes leave of RabbitMQ however that ended. The boot is the
/// process's own, for RabbitMQ and for all else.
pub(crate) async fn with_rabbitmq(
    config: broker_rabbitmq::Config,
    serve: impl AsyncFnOnce(Arc<RabbitMqBroker>, Boot) -> anyhow::Result<Stopped>,
) -> anyhow::Result<()> {
    let boot = Boot::generate();
    let broker = Arc::new(RabbitMqBroker::new(config, boot.ulid()));
    let stopped = serve(broker.clone(), boot).await;
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
/// STOMP without WebSocket, `cluster` where other nodes are served.
pub(crate) fn taken(
    taken: BindError,
    config: &gateway::Config,
    cluster: Option<SocketAddr>,
    stomp: &str,
) -> anyhow::Error {
    if cluster == Some(taken.address) && config.listen != taken.address {
        let how = "choose another address for other nodes as cluster.listen";
        return anyhow::Error::new(taken).context(how);
    }
    let how = if config.stomp_listen == Some(taken.address) { stomp } else { "with --listen" };
    anyhow::Error::new(taken).context(format!("choose another address for clients {how}"))
}

/// What to do about a notifier that cannot serve; `option` chooses another address.
pub(crate) fn unbound(error: notifier::BindError, option: &str) -> anyhow::Error {
    match error {
        error @ notifier::BindError::Listen { .. } => anyhow::Error::new(error).context(format!(
            "choose another address for services, which speak gRPC, with {option}"
        )),
        error => error.into(),
    }
}

/// URIs with a comma between, without their passwords.
pub(crate) fn listed(uris: &[impl fmt::Display]) -> String {
    uris.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_who_is_let_in_and_by_which_rules() {
        let said = |text: &str| in_force(&toml::from_str(text).unwrap());
        let secret = "jwt_secret = 'a secret that is long enough: 32 bytes'";
        assert_eq!(said(""), "default; clients are not asked who they are");
        assert_eq!(said(&format!("rules = 'open'\n{secret}")), "open; clients show a token");
        assert_eq!(
            said("anonymous = 'allow'\nusers_file = 'users.toml'"),
            "default; clients show login and passcode, or are anonymous"
        );
        let rule = "[[rules]]\nallow = 'send'\ndestination = '/topic/a'\nwho = 'everyone'";
        assert_eq!(
            said(&format!("otherwise = 'deny'\n{secret}\nusers_file = 'u'\n{rule}")),
            "1 of access.rules, otherwise deny; clients show a token, or login and passcode"
        );
        assert!(said("anonymous = 'refuse'").contains("no client is let in"));
    }
}
